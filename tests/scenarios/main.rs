//! The core's scenarios: every file of this folder is a workload, a modelled API and goals, run over many seeds.
//!
//! Adding a scenario is adding a file. A failure names the scenario, the goal and the figure.
//! `cargo test --test scenarios -- --nocapture` prints the table of all; `SCENARIO=name` (or `SCENARIO=P1`) runs one
//! alone and prints its runs; `UPDATE=1` writes the timelines afresh.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    reason = "a panic is how a test fails, its numbers are small, and a developer picks a scenario by a variable"
)]

#[path = "../support/closed_loop/mod.rs"]
mod closed_loop;
mod goals;
#[path = "../support/scenario/mod.rs"]
mod scenario;
mod table;
mod timeline;

use scenario::Scenario;
use scenario::figures::{Figures, figures};
use scenario::play::{ours, play};
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A run's figures, and the timeline of the first.
type Ran = (Figures, Option<String>);

#[test]
fn every_scenario_reaches_its_goals() {
    let only = std::env::var("SCENARIO").ok();
    let update = std::env::var("UPDATE").is_ok();
    let mut scenarios = scenario::all();
    if let Some(only) = &only {
        scenarios.retain(|(name, scenario)| name == only || scenario.id.as_ref() == Some(only));
    }
    assert!(!scenarios.is_empty(), "no such scenario: {only:?}");
    let mut failures = Vec::new();
    let mut report = vec![table::head()];
    for ((name, scenario), ran) in scenarios.iter().zip(run_all(&scenarios)) {
        let (runs, timelines): (Vec<Figures>, Vec<_>) = ran.into_iter().unzip();
        let goals = goals::set(&scenario.goals);
        assert!(goals.len() > 1, "{name}: a scenario without a goal of its own judges nothing");
        report.push(table::line(name, scenario, &goals, &runs));
        if only.is_some() {
            report.extend(runs.iter().enumerate().map(|(seed, run)| format!("  seed {seed}: {run:.3?}")));
        }
        let mut complaints: Vec<String> = goals.iter().filter_map(|goal| goal.complaint(&runs)).collect();
        let first = timelines.first().and_then(Option::as_ref).expect("the first seed's");
        complaints.extend(timeline::compare(name, first, update));
        failures.extend(complaints.into_iter().map(|complaint| format!("{name}: {complaint}")));
    }
    let report = report.join("\n");
    if only.is_some() {
        // Past the test harness, which hides what passing tests print.
        writeln!(std::io::stdout(), "\n{report}").unwrap();
    } else {
        println!("{report}");
    }
    assert!(failures.is_empty(), "\n{}\n(SCENARIO=name prints a scenario's runs)", failures.join("\n"));
}

/// Every seed of every scenario, on as many threads as there are processors.
fn run_all(scenarios: &[(String, Scenario)]) -> Vec<Vec<Ran>> {
    let jobs: Vec<(usize, u64)> = scenarios
        .iter()
        .enumerate()
        .flat_map(|(place, (_, scenario))| (0..scenario.run.seeds).map(move |seed| (place, seed)))
        .collect();
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, u64, Ran)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some((place, seed)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)).copied() {
                    let ran = run(&scenarios[place].1, seed);
                    done.lock().unwrap().push((place, seed, ran));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|(place, seed, _)| (*place, *seed));
    let mut all: Vec<Vec<Ran>> = scenarios.iter().map(|_| Vec::new()).collect();
    for (place, _, ran) in done {
        all[place].push(ran);
    }
    all
}

fn run(scenario: &Scenario, seed: u64) -> Ran {
    let log = play(scenario, seed, &ours).log;
    let timeline = (seed == 0).then(|| timeline::of(&log, scenario.run.seconds));
    (figures(scenario, seed, &log), timeline)
}
