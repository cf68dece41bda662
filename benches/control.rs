//! What one decision costs: submit, start, settle and release of a request in the core, beside governor's check of a
//! keyed quota in the same run. `cargo bench --bench control`; `cargo test --benches` runs it briefly.
//!
//! The figure to watch is the ratio: absolute times are the machine's. A lane does far more than a quota (queue,
//! deadline, law, measure), so a ratio of a few is expected; ten lanes and a thousand must cost about the same.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a bench reads the clock and prints its table"
)]

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};
use tidegate::control::{CredentialHash, LaneKey, Lanes, LanesSettings, Outcome, Report, Step, Ticket};

fn main() {
    // Under `cargo test` only: does it run?
    let quick = !std::env::args().any(|argument| argument == "--bench");
    let requests: u32 = if quick { 2_000 } else { 200_000 };
    let rounds = if quick { 1 } else { 9 };
    println!("{:<28} {:>12} {:>12} {:>8}", "", "ns/request", "governor ns", "ratio");
    for lanes in [1_u64, 10, 1_000] {
        let mut pairs: Vec<(f64, f64)> =
            (0..rounds).map(|_| (decide(lanes, requests), check(lanes, requests))).collect();
        pairs.sort_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
        let Some((ours, theirs)) = pairs.get(pairs.len() / 2).copied() else { continue };
        println!(
            "{:<28} {ours:>12.0} {theirs:>12.0} {:>8.1}",
            format!("{lanes} lanes, not paced"),
            ours / theirs
        );
    }
}

fn key(number: u64) -> LaneKey {
    LaneKey {
        upstream: "api:443".into(),
        credential: Some(CredentialHash(number)),
        route: "/messages".into(),
    }
}

/// Nanoseconds a request, from submit to release, in lanes whose pace is far away.
fn decide(lanes: u64, requests: u32) -> f64 {
    let epoch = Instant::now();
    let mut settings = LanesSettings::default();
    settings.queue.lanes_max = 2_000;
    settings.law.start_rate = tidegate::control::Rate::FASTEST;
    let mut machine = Lanes::new(settings, epoch);
    let keys: Vec<LaneKey> = (0..lanes).map(key).collect();
    let begin = Instant::now();
    let mut now = epoch;
    for key in keys.iter().cycle().take(requests as usize) {
        now += Duration::from_micros(1);
        let ticket = Ticket::until(now + Duration::from_mins(2));
        if machine.submit(now, key, ticket).is_err() {
            continue;
        }
        while let Step::Start(id) = machine.poll(now) {
            black_box(machine.settle(now, id, &Report::new(Outcome::Accepted, true)));
            machine.release(now, id);
        }
        while machine.next_event().is_some() {}
    }
    begin.elapsed().as_nanos() as f64 / f64::from(requests)
}

/// Nanoseconds a check of a keyed quota.
fn check(keys: u64, requests: u32) -> f64 {
    let quota = Quota::per_second(NonZeroU32::MAX);
    let limiter: DefaultKeyedRateLimiter<LaneKey> = RateLimiter::keyed(quota);
    let keys: Vec<LaneKey> = (0..keys).map(key).collect();
    let begin = Instant::now();
    for key in keys.iter().cycle().take(requests as usize) {
        black_box(limiter.check_key(key).is_ok());
    }
    begin.elapsed().as_nanos() as f64 / f64::from(requests)
}
