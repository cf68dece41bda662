//! Real clients are the judges: curl, h2load, Python, Node, nginx, slowhttptest, Prometheus and JMeter drive the built
//! program, and Grafana's own types read its dashboard.
//!
//! `cargo test` runs the cases of every client that it finds on this machine. A client that is missing is named at
//! the end, with the way to get it; with `REQUIRE_CLIENTS=1` (as CI has it) it is a failure. To run some cases only:
//! `cargo test --test with_real_clients -- curl`.
//!
//! It has a `main` of its own, because the usual harness hides what a passing test prints, and its name makes it
//! the last test binary, so that the list of missing clients stands at the end of `cargo test`.

#![expect(clippy::print_stdout, reason = "the report is what this program is for")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a case fails")]
#![expect(
    clippy::disallowed_methods,
    reason = "it drives real programs in real time, and finds them by PATH"
)]

mod curl;
#[path = "../support/foreign.rs"]
mod foreign;
mod grafana;
mod h2load;
mod jmeter;
mod nginx;
mod node;
mod origin;
mod plain;
#[path = "../support/process.rs"]
#[expect(dead_code, reason = "tests/run uses all of it")]
mod process;
mod prometheus;
mod promtool;
mod python;
mod slowhttptest;

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// A foreign program: how to find it, how to get it, and what it must see.
struct Client {
    name: &'static str,
    /// Where it is on this machine.
    find: fn() -> Option<PathBuf>,
    /// How a person gets it when it is missing.
    get: &'static str,
    cases: &'static [Case],
}

/// A name, and a function that panics when the program does not behave.
type Case = (&'static str, fn(&Path));

const CLIENTS: &[Client] = &[
    curl::CLIENT,
    h2load::CLIENT,
    python::CLIENT,
    node::CLIENT,
    nginx::CLIENT,
    slowhttptest::CLIENT,
    promtool::CLIENT,
    prometheus::CLIENT,
    grafana::CLIENT,
    jmeter::CLIENT,
];

#[derive(Default)]
struct Tally {
    passed: Vec<String>,
    failed: Vec<String>,
    skipped: Vec<String>,
    missing: Vec<&'static Client>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let listing = arguments.iter().any(|argument| argument == "--list");
    // Nothing here is #[ignore]d, and no case is a benchmark.
    let nothing = arguments.iter().any(|argument| argument == "--ignored" || argument == "--bench");
    let filters: Vec<&str> =
        arguments.iter().filter(|argument| !argument.starts_with('-')).map(String::as_str).collect();
    let wanted =
        |name: &str| !nothing && (filters.is_empty() || filters.iter().any(|filter| name.contains(filter)));
    if listing {
        for name in CLIENTS.iter().flat_map(names).filter(|name| wanted(name)) {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let mut tally = Tally::default();
    for client in CLIENTS {
        judge(client, &wanted, &mut tally);
    }
    report(&tally, std::env::var("REQUIRE_CLIENTS").is_ok_and(|value| !value.is_empty() && value != "0"))
}

fn names(client: &Client) -> impl Iterator<Item = String> + '_ {
    client.cases.iter().map(|(case, _)| format!("{}::{case}", client.name))
}

fn judge(client: &'static Client, wanted: &dyn Fn(&str) -> bool, tally: &mut Tally) {
    let cases: Vec<_> = names(client).zip(client.cases).filter(|(name, _)| wanted(name)).collect();
    if cases.is_empty() {
        return;
    }
    let Some(path) = (client.find)() else {
        tally.skipped.extend(cases.into_iter().map(|(name, _)| name));
        tally.missing.push(client);
        return;
    };
    println!("\n{} ({})", client.name, path.display());
    for (name, (_, case)) in cases {
        let start = Instant::now();
        let outcome = catch_unwind(|| case(&path));
        let word = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!("  {name} ... {word} ({:.1} s)", start.elapsed().as_secs_f64());
        if outcome.is_ok() { &mut tally.passed } else { &mut tally.failed }.push(name);
    }
}

fn report(tally: &Tally, required: bool) -> ExitCode {
    if !tally.missing.is_empty() {
        println!("\nNot found on this machine, so their cases were skipped:");
        for client in &tally.missing {
            println!("  {:<10} {}", client.name, client.get);
        }
        if required {
            println!("REQUIRE_CLIENTS is set: a missing client is a failure.");
        }
    }
    if !tally.failed.is_empty() {
        println!("\nFailed (the reasons stand above):");
        for name in &tally.failed {
            println!("  {name}");
        }
    }
    let Tally { passed, failed, skipped, missing } = tally;
    println!("\nconformance: {} passed, {} failed, {} skipped\n", passed.len(), failed.len(), skipped.len());
    let good = failed.is_empty() && (missing.is_empty() || !required);
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
