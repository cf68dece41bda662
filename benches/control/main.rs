//! What the gate costs, and how exact it is: decisions, contention, memory and the jitter of releases.
//!
//! `cargo bench --bench control` prints its tables and writes them as target/control.md and target/control.json; after
//! `--` it takes the parts that are wanted: decide, contended, allocated, queued, waiting, release. `cargo test --benches`
//! runs it briefly. Absolute times are the machine's: what to watch are the ratios, and what a hundred thousand waiting
//! ones change.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench reads the clock, starts its threads, may panic, and prints its tables"
)]

mod allocated;
mod contended;
mod decide;
mod queued;
mod release;
mod report;
mod waiting;

use report::Report;
use tidegate::control::{CredentialHash, LaneKey};

/// Fills its tables; with `true` it only shows that it runs.
type Part = fn(bool, &mut Report);

fn main() {
    // Under `cargo test` only: does it run?
    let quick = !std::env::args().any(|argument| argument == "--bench");
    let parts: [(&str, Part); 6] = [
        ("decide", decide::run),
        ("contended", contended::run),
        ("allocated", allocated::run),
        ("queued", queued::run),
        ("waiting", waiting::run),
        ("release", release::run),
    ];
    let is_named = |part: &str| std::env::args().any(|argument| argument == part);
    let all = !parts.iter().any(|(part, _)| is_named(part));
    let mut report = Report::default();
    for (part, run) in parts {
        if all || is_named(part) {
            run(quick, &mut report);
        }
    }
    println!("{}", report.markdown());
    if !quick {
        report.write();
    }
}

/// The key of a credential's lane.
fn key(number: u64) -> LaneKey {
    LaneKey {
        upstream: "api:443".into(),
        credential: Some(CredentialHash(number)),
        route: "/messages".into(),
    }
}

/// The middle of `values`.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
