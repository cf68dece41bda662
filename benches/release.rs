//! How late a pass is handed out: the kernel's timer beside the runtime's, in the same run.
//! `cargo bench --bench release`; `cargo test --benches` runs it briefly.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench reads the clock, spawns its driver and prints its table"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate::control::{LaneKey, Lanes, LanesSettings, LawName, Rate, Ticket};
use tidegate::gate::{Gate, Timer};
use tidegate::observe::NullObserver;

fn main() {
    let quick = !std::env::args().any(|argument| argument == "--bench");
    let seconds = if quick { 0.2 } else { 3.0 };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    println!("{:<12} {:<10} {:>10} {:>10}", "pace", "timer", "p50 ms", "p99 ms");
    for rate in [10.0, 100.0, 1_000.0] {
        for (name, precise) in [("kernel", true), ("runtime", false)] {
            let mut late = runtime.block_on(lateness(rate, seconds, precise));
            late.sort_by(f64::total_cmp);
            let percentile =
                |percent: usize| late.get(late.len() * percent / 100).copied().unwrap_or(0.0) * 1e3;
            println!(
                "{:<12} {name:<10} {:>10.3} {:>10.3}",
                format!("{rate}/s"),
                percentile(50),
                percentile(99)
            );
        }
    }
}

/// Seconds that each of the passes of `seconds` at `rate` was late against its grid.
async fn lateness(rate: f64, seconds: f64, precise: bool) -> Vec<f64> {
    let mut settings = LanesSettings::default();
    settings.law.name = LawName::Fixed;
    settings.law.fixed_rate = Rate::new(rate);
    let gate = Gate::new(Lanes::new(settings, Instant::now()), Arc::new(NullObserver));
    let timer = if precise { Timer::precise().unwrap() } else { Timer::runtime() };
    let handle = gate.clone();
    let driver = tokio::spawn(async move { handle.drive(timer).await });
    let key = LaneKey { upstream: "api:443".into(), credential: None, route: "/messages".into() };
    let ticket = Ticket::until(Instant::now() + Duration::from_mins(1));
    let mut first = None;
    let mut deviations = Vec::new();
    let begin = Instant::now();
    while begin.elapsed().as_secs_f64() < seconds {
        let pass = gate.enter(&key, ticket).unwrap().turn().await.unwrap();
        let now = Instant::now();
        drop(pass);
        let first = *first.get_or_insert(now);
        let slots = now.duration_since(first).as_secs_f64() * rate;
        deviations.push((slots - slots.round()) / rate);
    }
    driver.abort();
    // The earliest are taken to be on time; one that is late by more than half an interval seems early, so not the first.
    deviations.sort_by(f64::total_cmp);
    let on_time = deviations.get(deviations.len() / 20).copied().unwrap_or(0.0);
    deviations.into_iter().map(|deviation| (deviation - on_time).max(0.0)).collect()
}
