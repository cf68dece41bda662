//! What one decision costs in the core alone: submit, start, settle and release, beside governor's check of a keyed
//! quota in the same run.
//!
//! A lane does far more than a quota (queue, deadline, law, measure), so a ratio of a few is expected; one lane and a
//! thousand must cost about the same.

use crate::report::Report;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};
use tidegate::control::{LaneKey, Lanes, LanesSettings, Outcome, Rate, Report as Told, Step, Ticket};

pub(crate) fn run(quick: bool, report: &mut Report) {
    let requests: u32 = if quick { 2_000 } else { 200_000 };
    let rounds = if quick { 1 } else { 15 };
    report.table("A decision in the core, not paced", &["ns/request", "governor ns", "ratio"]);
    for lanes in [1_u64, 100, 1_000] {
        // Interleaved, so that both meet the same noise; the round in the middle of the ratios.
        let mut pairs: Vec<(f64, f64)> =
            (0..rounds).map(|_| (decide(lanes, requests), check(lanes, requests))).collect();
        pairs.sort_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
        let Some((ours, theirs)) = pairs.get(pairs.len() / 2).copied() else { continue };
        report.row(format!("{lanes} lanes"), vec![ours, theirs, ours / theirs]);
    }
}

/// Nanoseconds a request, from submit to release, in lanes whose pace is far away.
fn decide(lanes: u64, requests: u32) -> f64 {
    let epoch = Instant::now();
    let mut settings = LanesSettings::default();
    settings.queue.lanes_max = 2_000;
    settings.law.start_rate = Rate::FASTEST;
    let mut machine = Lanes::new(settings, epoch);
    let keys: Vec<LaneKey> = (0..lanes).map(crate::key).collect();
    // The first round makes the lanes, which is not what is measured.
    let (mut now, mut begin) = (epoch, epoch);
    for (place, key) in keys.iter().cycle().take(requests as usize + keys.len()).enumerate() {
        if place == keys.len() {
            begin = Instant::now();
        }
        now += Duration::from_micros(1);
        let ticket = Ticket::until(now + Duration::from_mins(2));
        if machine.submit(now, key, ticket).is_err() {
            continue;
        }
        while let Step::Start(id) = machine.poll(now) {
            black_box(machine.settle(now, id, &Told::new(Outcome::Accepted, true)));
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
    let keys: Vec<LaneKey> = (0..keys).map(crate::key).collect();
    let begin = Instant::now();
    for key in keys.iter().cycle().take(requests as usize) {
        black_box(limiter.check_key(key).is_ok());
    }
    begin.elapsed().as_nanos() as f64 / f64::from(requests)
}
