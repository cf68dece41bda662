//! How late passes are handed out, what that costs, and whether the pace is kept: with few and with many that wait.
//!
//! Lateness is that of a waiting task that runs, against the grid of the earliest. CPU is that of the whole process while
//! it hands out, from `/proc`, its waiting tasks' share included: as in the program, they live in two threads of their own,
//! and the gate's driver in another.

use crate::report::Report;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tidegate::control::{Lanes, LanesSettings, LawName, Rate, Ticket};
use tidegate::gate::{Gate, Timer};
use tidegate::observe::NullObserver;

pub(crate) fn run(quick: bool, report: &mut Report) {
    report.table(
        "A release, by pace, those that wait, and timer",
        &["p50 ms late", "p99 ms late", "us CPU", "mean rate off", "most in a second / (1.002 × rate + 1)"],
    );
    let cases: &[(f64, usize)] = if quick {
        &[(1_000.0, 100)]
    } else {
        &[(10.0, 100_000), (1_000.0, 100_000), (10_000.0, 20_000), (10_000.0, 100_000)]
    };
    let rounds = if quick { 1 } else { 3 };
    for (rate, waiting) in cases {
        for (name, precise) in [("kernel's", true), ("runtime's", false)] {
            let seconds = if quick { 0.2 } else { 2.0 };
            let all: Vec<Vec<f64>> =
                (0..rounds).map(|_| released(*rate, *waiting, seconds, precise)).collect();
            let columns = all.first().map_or(0, Vec::len);
            let figure = |column: usize| {
                crate::median(all.iter().filter_map(|one| one.get(column)).copied().collect())
            };
            let name = format!("{rate}/s, {waiting} waiting, {name} timer");
            report.row(name, (0..columns).map(figure).collect());
        }
    }
}

/// The figures of so many seconds at `rate`, with so many waiting at the end.
fn released(rate: f64, waiting: usize, seconds: f64, precise: bool) -> Vec<f64> {
    let shards = [shard(), shard()];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let expected = Duration::from_secs_f64(rate * seconds).as_secs();
    let count = waiting + usize::try_from(expected).unwrap();
    let mut settings = LanesSettings::default();
    settings.law.name = LawName::Fixed;
    settings.law.fixed_rate = Rate::new(rate);
    settings.queue.lane_tickets_max = count + 1;
    let gate = Gate::new(Lanes::new(settings, Instant::now()), Arc::new(NullObserver));
    let moments = Arc::new(Mutex::new(Vec::with_capacity(count)));
    let spent = runtime.block_on(async {
        let ticket = Ticket::until(Instant::now() + Duration::from_hours(1_000_000));
        let key = crate::key(1);
        for shard in shards.iter().cycle().take(count) {
            let (entered, moments) = (gate.enter(&key, ticket).unwrap(), Arc::clone(&moments));
            shard.spawn(async move {
                let pass = entered.turn().await;
                moments.lock().unwrap().push(Instant::now());
                drop(pass);
            });
        }
        let timer = if precise { Timer::precise().unwrap() } else { Timer::runtime() };
        let handle = gate.clone();
        let driver = tokio::spawn(async move { handle.drive(timer).await });
        // Until everyone waits.
        tokio::time::sleep(Duration::from_millis(if count > 1_000 { 500 } else { 20 })).await;
        moments.lock().unwrap().clear();
        let before = processor_seconds();
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        let spent = processor_seconds() - before;
        driver.abort();
        spent
    });
    let mut moments = std::mem::take(&mut *moments.lock().unwrap());
    // Those that wait leave one by one when they are dropped, which nobody needs to wait for.
    std::mem::forget(gate);
    runtime.shutdown_background();
    drop(shards);
    moments.sort();
    let Some(first) = moments.first().copied() else { return vec![f64::NAN; 5] };
    let at: Vec<f64> = moments.iter().map(|moment| moment.duration_since(first).as_secs_f64()).collect();
    let (last, count) = (at.last().copied().unwrap_or(0.0), at.len() as f64);
    let slot = |place: usize, at: f64| at - place as f64 / rate;
    // The earliest are taken to be on time.
    let mut late: Vec<f64> = at.iter().enumerate().map(|(place, at)| slot(place, *at)).collect();
    late.sort_by(f64::total_cmp);
    let on_time = late.get(late.len() / 100).copied().unwrap_or(0.0);
    let percentile = |percent: usize| {
        late.get(late.len() * percent / 100).map_or(f64::NAN, |late| (late - on_time).max(0.0) * 1e3)
    };
    let most = at.iter().enumerate().map(|(place, end)| {
        let since = at.partition_point(|other| *other < end - 1.0);
        place + 1 - since
    });
    let most = most.max().unwrap_or(0) as f64;
    // Of the rate: the lateness of the first and of the last are no part of it.
    let off = ((count - 1.0) / last / rate - 1.0).abs();
    vec![percentile(50), percentile(99), spent * 1e6 / count, off, most / (1.002 * rate + 1.0)]
}

/// A runtime in a thread of its own, as connections have it.
fn shard() -> tokio::runtime::Handle {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let handle = runtime.handle().clone();
    std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    handle
}

/// What the process's threads have run, in seconds.
fn processor_seconds() -> f64 {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return f64::NAN };
    let run = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(path.join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    };
    threads.filter_map(|thread| run(thread.ok()?.path())).sum::<f64>() * 1e-9
}
