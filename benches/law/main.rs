//! The laws side by side: ours and its rivals at the benchmarks P1 to P13, in the closed loop of `tests/scenarios`.
//!
//! `cargo bench --bench law` prints the table and writes it as target/law.md and target/law.json. It is virtual time: the
//! same figures on every machine. `cargo test --benches` plays a few seconds of each, to see that it runs.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a bench may panic, its numbers are small, and it prints its table"
)]

#[path = "../../tests/support/closed_loop/mod.rs"]
mod closed_loop;
mod laws;
mod report;
mod rival;
#[path = "../../tests/support/scenario/mod.rs"]
#[expect(dead_code, reason = "goals are judged by the tests")]
mod scenario;

use closed_loop::Machine;
use laws::{Aimd, Cubic, Gradient2, Sre, Told};
use report::Table;
use rival::{Rival, Spacing};
use scenario::Scenario;
use scenario::figures::{Figures, figures};
use scenario::play::{Make, ours, play, rate_at};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs of each, with another phase of the API's window.
const SEEDS: u64 = 5;

/// The laws, by the names of the table's columns.
const LAWS: [(&str, Make<'_>); 8] = [
    ("Tidegate", &ours),
    ("AIMD 0.5", &|_| Box::new(Rival::new(Aimd::new(0.5)))),
    ("AIMD 0.9", &|_| Box::new(Rival::new(Aimd::new(0.9)))),
    ("AIMD 0.95", &|_| Box::new(Rival::new(Aimd::new(0.95)))),
    ("AWS CUBIC", &|_| Box::new(Rival::new(Cubic::default()))),
    ("SRE K=2", &|_| Box::new(Rival::new(Sre::new()))),
    ("Gradient2", &|_| Box::new(Rival::new(Gradient2::new()))),
    ("the limit, told", &told),
];

/// The oracle of a scenario.
fn told(scenario: &Scenario) -> Box<dyn Machine> {
    let proxies = scenario.proxies.map_or(1, |proxies| proxies.count) as f64;
    let moments = std::iter::once(0.0).chain(scenario.change.iter().map(|moved| moved.at));
    let rates: Vec<(f64, f64)> = moments.map(|at| (at, rate_at(scenario, at) / proxies)).collect();
    let rate = move |now: f64| rates.iter().rfind(|(at, _)| *at <= now).map_or(1.0, |(_, rate)| *rate);
    let at_once = scenario.server.model == "concurrency";
    let in_flight_max = if at_once { most_at_once(scenario) } else { usize::MAX };
    let rate: Box<dyn Fn(f64) -> f64> = if at_once { Box::new(|_| 1e6) } else { Box::new(rate) };
    Box::new(Rival::new(Told { rate, in_flight_max, spacing: Spacing::default() }))
}

fn most_at_once(scenario: &Scenario) -> usize {
    let quota: tidegate::control::Quota = scenario.server.limits[0].parse().unwrap();
    quota.requests as usize
}

fn main() {
    let quick = !std::env::args().any(|argument| argument == "--bench");
    let mut scenarios: Vec<Scenario> = scenario::all().into_iter().map(|(_, scenario)| scenario).collect();
    scenarios.retain(|scenario| scenario.id.is_some());
    scenarios.sort_by_key(number);
    for scenario in &mut scenarios {
        scenario.run.seeds = if quick { 1 } else { SEEDS };
        if quick {
            (scenario.run.steady_from, scenario.run.seconds) = (1.0, 3.0);
        }
    }
    let table = Table::new(&scenarios, LAWS.map(|(name, _)| name).to_vec(), run_all(&scenarios));
    println!("{}", table.markdown());
    if !quick {
        let target = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
        std::fs::create_dir_all(&target).unwrap();
        std::fs::write(target.join("law.md"), table.markdown()).unwrap();
        std::fs::write(target.join("law.json"), table.json()).unwrap();
    }
}

/// The number in a benchmark's id.
fn number(scenario: &Scenario) -> u32 {
    scenario.id.as_ref().and_then(|id| id.strip_prefix('P')?.parse().ok()).expect("P and a number")
}

/// The figures of every law at every scenario, seed by seed, on as many threads as there are processors.
fn run_all(scenarios: &[Scenario]) -> Vec<Vec<Vec<Figures>>> {
    let mut jobs = Vec::new();
    for (place, scenario) in scenarios.iter().enumerate() {
        for law in 0..LAWS.len() {
            jobs.extend((0..scenario.run.seeds).map(|seed| (place, law, seed)));
        }
    }
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some((place, law, seed)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)).copied() {
                    let scenario = &scenarios[place];
                    let world = play(scenario, seed, LAWS[law].1);
                    done.lock().unwrap().push((place, law, seed, figures(scenario, seed, &world.log)));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|(place, law, seed, _)| (*place, *law, *seed));
    let mut all = vec![vec![Vec::new(); LAWS.len()]; scenarios.len()];
    for (place, law, _, figures) in done {
        all[place][law].push(figures);
    }
    all
}
