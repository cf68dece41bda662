//! Tidegate beside nginx, `HAProxy` and a direct connection, on the same origin, in interleaved rounds.
//!
//! `cargo bench --bench proxy` prints the tables and writes them as target/proxy.md and target/proxy.json; `-- --rounds N`
//! and `-- --seconds N` make it shorter or surer. `cargo test --benches` plays one short case, or says which program it
//! did not find; with `REQUIRE_CLIENTS=1` that is a failure. Linux only: it reads /proc.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench may panic and wait, its numbers are small, and it prints its table"
)]

mod measure;
mod peers;
mod report;

use measure::{Case, Over};
use peers::{OURS, Peers};
use report::Report;
use std::process::{Command, Stdio};

const fn case(name: &'static str, path: &'static str, connections: usize, over: Over) -> Case {
    Case { name, path, connections, over, post: false }
}

const CASES: [Case; 9] = [
    case("GET 256 B, 100 connections", "/", 100, Over::Http1),
    case("GET 256 B, 1 connection", "/", 1, Over::Http1),
    case("GET 16 KiB, 100 connections", "/16k", 100, Over::Http1),
    case("GET 1 MiB, 20 connections", "/1m", 20, Over::Http1),
    Case { post: true, ..case("POST 1 KiB, 100 connections", "/", 100, Over::Http1) },
    case("GET 256 B, TLS, 100 connections", "/", 100, Over::Http1Tls),
    case("GET 256 B, h2, 10 × 10", "/", 10, Over::Http2),
    case("GET 256 B, h2 + TLS, 10 × 10", "/", 10, Over::Http2Tls),
    case("GET 16 KiB, h2 + TLS, 10 × 10", "/16k", 10, Over::Http2Tls),
];

/// A lane of ours begins with a few requests a second and goes up fourfold with each second that it is used (measured);
/// after this, nothing holds it back.
const WARM_SECONDS: u32 = 12;
/// Connections whose memory is measured.
const IDLE: usize = 2_000;

fn main() {
    let quick = !std::env::args().any(|argument| argument == "--bench");
    let missing: Vec<&str> = ["nginx", "haproxy", "wrk", "h2load", "strace"]
        .into_iter()
        .filter(|program| {
            Command::new(program).arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err()
        })
        .collect();
    if !missing.is_empty() {
        let required = std::env::var("REQUIRE_CLIENTS").is_ok_and(|value| value == "1");
        assert!(!required, "REQUIRE_CLIENTS=1, and there is no {}", missing.join(", no "));
        println!("proxy: skipped, there is no {}", missing.join(", no "));
        return;
    }
    let rounds = if quick { 1 } else { option("--rounds").unwrap_or(9) };
    let seconds = if quick { 1 } else { option("--seconds").unwrap_or(1) };
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let peers = Peers::start(cores);
    let directory = tempfile::TempDir::new().unwrap();
    let cases = if quick { &CASES[..1] } else { &CASES[..] };
    // First of all: what a load has freed would hide what connections need.
    let idle: Vec<_> = peers
        .all
        .iter()
        .map(|peer| if quick || peer.processes().is_empty() { None } else { measure::bytes_idle(peer, IDLE) })
        .collect();
    if !quick {
        warm(&peers, directory.path());
    }
    let mut runs: Vec<_> = cases.iter().map(|case| (*case, vec![Vec::new(); peers.all.len()])).collect();
    for round in 0..rounds {
        for (case, by_peer) in &mut runs {
            eprint!("\rround {} of {rounds}: {:<40}", round + 1, case.name);
            for step in 0..peers.all.len() {
                let place = (step + round as usize) % peers.all.len();
                let peer = &peers.all[place];
                if case.port(peer).is_some() {
                    by_peer[place].push(measure::run(peer, case, seconds, directory.path()).unwrap());
                }
            }
        }
    }
    eprintln!();
    if quick {
        println!("proxy: every program answered; figures come from cargo bench --bench proxy");
        return;
    }
    let costs = peers.all.iter().zip(idle).map(|(peer, idle)| {
        if peer.processes().is_empty() {
            return [None; 3];
        }
        let calls = measure::system_calls(peer, &CASES[0], directory.path());
        [calls, idle, Some(measure::resident(peer))]
    });
    let report =
        Report { peers: peers.all.iter().map(|peer| peer.name).collect(), costs: costs.collect(), runs };
    println!("{}", report.markdown());
    let target = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    std::fs::create_dir_all(&target).unwrap();
    std::fs::write(target.join("proxy.md"), report.markdown()).unwrap();
    std::fs::write(target.join("proxy.json"), report.json()).unwrap();
}

fn warm(peers: &Peers, directory: &std::path::Path) {
    for peer in &peers.all {
        let seconds = if peer.name == OURS { WARM_SECONDS } else { 1 };
        // Each path is a lane of its own, which starts slowly: one that is not warm would be all that is measured.
        let mut warm = Vec::new();
        for case in &CASES {
            let Some(port) = case.port(peer) else { continue };
            let first = !warm.contains(&(port, case.path));
            warm.push((port, case.path));
            eprint!("\rwarming {}: {:<40}", peer.name, case.name);
            measure::run(peer, case, if first { seconds } else { 1 }, directory).unwrap();
        }
    }
}

/// The number after `name` on the command line.
fn option(name: &str) -> Option<u32> {
    std::env::args().skip_while(|argument| argument != name).nth(1)?.parse().ok()
}
