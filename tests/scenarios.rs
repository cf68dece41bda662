//! The core's scenarios: every file in `tests/scenarios/` is a workload, a modelled API and goals, run over many seeds.
//!
//! Adding a scenario is adding a file. A failure names the scenario, the goal and the seeds to look at;
//! `SCENARIO=name cargo test --test scenarios -- --nocapture` prints one scenario's runs.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    reason = "a panic is how a test fails, its numbers are small, and a developer picks a scenario by a variable"
)]

#[path = "support/closed_loop.rs"]
mod closed_loop;

use closed_loop::{Change, Demand, Headers, Network, RetryAfter, Whole, World};
use serde::Deserialize;
use std::collections::BTreeMap;
use tidegate::control::{ClassId, ClassSettings, LanesSettings, LawName, Quota};
use tidegate::sim::limits::{Limiter, Limits, Model};

/// The first class, and the only one.
const PRODUCTION: ClassId = ClassId(1);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    server: Server,
    #[serde(default)]
    network: Wire,
    demand: Wanted,
    /// A class of its own, beside what is wanted.
    #[serde(default)]
    production: Option<Production>,
    run: Run,
    #[serde(default)]
    law: Option<String>,
    #[serde(default)]
    fixed_rate: Option<String>,
    /// What the operator lets lanes reach.
    #[serde(default)]
    ceiling: Option<String>,
    /// Limits that move: the new quotas, at a moment.
    #[serde(default)]
    change: Vec<Moved>,
    /// Seconds after which all clients use another credential.
    #[serde(default)]
    token_refresh_at: Option<f64>,
    goals: Goals,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Server {
    /// All must admit; none: no limit at all.
    limits: Vec<String>,
    model: String,
    #[serde(default)]
    burst: f64,
    /// Seconds, or -1 for the time until reset, or -2 for nothing.
    retry_after: f64,
    /// Credentials that clients are spread over, each with limits of its own.
    #[serde(default)]
    credentials: Option<u64>,
    #[serde(default)]
    headers: Option<Spoken>,
    /// What an unseen tenant asks for, evenly, in requests/s.
    #[serde(default)]
    others: Option<f64>,
}

/// What answers announce.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spoken {
    /// How the seconds until reset are told: up, down, nearest, exact, or always zero.
    reset: Rounded,
    /// The window's length is told too.
    #[serde(default)]
    window: bool,
    /// A header that lies: `spent` says of every answer that nothing is left.
    #[serde(default)]
    lie: Option<Lie>,
    /// Of this limit alone, by its place; else of all.
    #[serde(default)]
    of: Option<usize>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Lie {
    Spent,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Rounded {
    Up,
    Down,
    Nearest,
    Exact,
    Zero,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    rtt_ms: Option<f64>,
    jitter_ms: Option<f64>,
    service_ms: Option<f64>,
    service_jitter_ms: Option<f64>,
    /// The API stands still so often, and so long, in seconds.
    stall: Option<(f64, f64)>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    clients: Option<usize>,
    burst_of: Option<usize>,
    burst_every_seconds: Option<f64>,
    poisson_per_second: Option<f64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Production {
    /// Its share of the lane.
    share: f64,
    /// What it asks for, evenly.
    per_second: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    seconds: f64,
    /// From here on counts as steady.
    steady_from: f64,
    seeds: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Moved {
    at: f64,
    limits: Vec<String>,
}

/// Goals for the median run, and for the worst one (`worst_…`). Utilisation and shares are ratios.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Goals {
    utilisation_min: Option<f64>,
    worst_utilisation_min: Option<f64>,
    refused_share_max: Option<f64>,
    worst_refused_share_max: Option<f64>,
    refused_max: Option<f64>,
    worst_refused_max: Option<f64>,
    /// Seconds until 95 % of the limit is used over five seconds.
    reaches_95_within: Option<f64>,
    /// Seconds after each change until 95 % of the new limit is used; in the order of the changes.
    tracks_within: Option<Vec<f64>>,
    refused_after_first_change_max: Option<f64>,
    /// In the ten seconds after the token refresh.
    utilisation_after_refresh_min: Option<f64>,
    /// Jain's index of what the credentials got.
    fairness_min: Option<f64>,
    mean_latency_max: Option<f64>,
    latency_p99_max: Option<f64>,
    /// The wait of production's requests, all turns together, in seconds.
    production_wait_p99_max: Option<f64>,
    worst_production_wait_p99_max: Option<f64>,
    /// Requests a second that get through (for an API without limit).
    throughput_min: Option<f64>,
}

fn quotas(texts: &[String]) -> Vec<Quota> {
    texts.iter().map(|text| text.parse().expect("a quota")).collect()
}

fn limits(quotas: &[Quota], server: &Server, phase: f64) -> Limits {
    let model = |quota: &Quota| match server.model.as_str() {
        "fixed" => Model::Fixed { phase_seconds: phase * quota.window.as_secs_f64() },
        "anchored" => Model::Anchored,
        "sliding" => Model::Sliding,
        "bucket" => Model::Bucket { burst: server.burst },
        other => panic!("no such model: {other}"),
    };
    Limits::new(quotas.iter().map(|quota| Limiter::new(*quota, model(quota))).collect())
}

fn rate_of(quotas: &[Quota]) -> f64 {
    quotas.iter().map(|quota| quota.rate().get()).fold(f64::INFINITY, f64::min)
}

fn network(wire: &Wire) -> Network {
    let default = Network::default();
    let seconds = |millis: Option<f64>, default: f64| millis.map_or(default, |millis| millis / 1e3);
    Network {
        rtt_seconds: seconds(wire.rtt_ms, default.rtt_seconds),
        jitter_seconds: seconds(wire.jitter_ms, default.jitter_seconds),
        service_seconds: seconds(wire.service_ms, default.service_seconds),
        service_jitter_seconds: seconds(wire.service_jitter_ms, default.service_jitter_seconds),
        stall: wire.stall,
        ..default
    }
}

/// One run's figures, by the names of the goals.
fn run(scenario: &Scenario, seed: u64) -> BTreeMap<&'static str, f64> {
    let world = play(scenario, seed);
    let (server, from, until) = (&scenario.server, scenario.run.steady_from, scenario.run.seconds);
    let quotas = quotas(&server.limits);
    let rate = rate_of(&quotas);
    let log = &world.log;
    let credentials = server.credentials.unwrap_or(1) as f64;
    let mut figures = BTreeMap::new();
    figures.insert("client_errors", log.client_errors as f64);
    figures.insert("refused", log.refused.len() as f64);
    figures.insert("refused_share", log.refused_share(from, until));
    figures.insert("throughput", log.utilisation(from, until, 1.0));
    if rate.is_finite() && scenario.change.is_empty() {
        // Of what an unseen tenant left.
        let others = log.others.iter().filter(|at| **at >= from).count() as f64 / (until - from);
        figures.insert("utilisation", log.utilisation(from, until, rate * credentials - others));
        let reached = log.reaches(0.95, rate * credentials, 0.0, 5.0);
        figures.insert("reaches_95", reached.unwrap_or(f64::INFINITY));
    }
    let names = ["tracks_1", "tracks_2", "tracks_3"];
    for (name, moved) in names.into_iter().zip(&scenario.change) {
        let new = rate_of(&self::quotas(&moved.limits));
        let reached = log.reaches(0.95, new, moved.at, 5.0).map_or(f64::INFINITY, |at| at - moved.at);
        figures.insert(name, reached);
    }
    if let Some(first) = scenario.change.first() {
        let within = |at: f64| at >= first.at && at < first.at + 10.0;
        figures
            .insert("refused_after_change", log.refused.iter().filter(|(at, _)| within(*at)).count() as f64);
    }
    if let Some(at) = scenario.token_refresh_at {
        figures.insert("utilisation_after_refresh", log.utilisation(at, at + 10.0, rate));
    }
    figures.insert("fairness", fairness(log, from));
    let mut latencies: Vec<f64> =
        log.latency.iter().filter(|(at, _)| *at >= from).map(|(_, took)| *took).collect();
    latencies.sort_by(f64::total_cmp);
    figures.insert("mean_latency", latencies.iter().sum::<f64>() / latencies.len().max(1) as f64);
    figures.insert("latency_p99", latencies.get(latencies.len() * 99 / 100).copied().unwrap_or(0.0));
    if scenario.production.is_some() {
        let own = |(at, class, _): &&(f64, ClassId, f64)| *at >= from && *class == PRODUCTION;
        let mut waits: Vec<f64> = log.waits.iter().filter(own).map(|(_, _, wait)| *wait).collect();
        waits.sort_by(f64::total_cmp);
        figures.insert("production_wait_p99", waits.get(waits.len() * 99 / 100).copied().expect("it asked"));
        figures.insert("production_wait_max", waits.last().copied().expect("it asked"));
    }
    figures
}

fn play(scenario: &Scenario, seed: u64) -> World {
    let mut settings = LanesSettings::default();
    settings.law.name = match scenario.law.as_deref() {
        None | Some("learnt") => LawName::Learnt,
        Some("aimd") => LawName::Aimd,
        Some("fixed") => LawName::Fixed,
        Some(other) => panic!("no such law: {other}"),
    };
    if let Some(rate) = &scenario.fixed_rate {
        settings.law.fixed_rate = rate.parse::<Quota>().expect("a rate").rate();
    }
    settings.ceiling = scenario.ceiling.as_ref().map(|text| text.parse().expect("a ceiling"));
    let class = |production: Production| ClassSettings { name: "production".into(), share: production.share };
    settings.classes.extend(scenario.production.map(class));
    // Every seed has another phase of the API's window.
    let phase = (seed as f64 + 0.313) / scenario.run.seeds as f64;
    let server = &scenario.server;
    let (first, model) = (quotas(&server.limits), server_model(server));
    let mut world = World::new(settings, move || limits(&first, &model, phase), seed);
    world.network = network(&scenario.network);
    world.retry_after = match server.retry_after {
        -1.0 => RetryAfter::Reset,
        -2.0 => RetryAfter::Nothing,
        seconds => RetryAfter::Seconds(seconds),
    };
    world.headers = server.headers.map_or(Headers::Nothing, spoken);
    world.says_spent = matches!(server.headers.and_then(|spoken| spoken.lie), Some(Lie::Spent));
    world.headers_of = server.headers.and_then(|spoken| spoken.of);
    if let Some(per_second) = server.others {
        world.others(per_second);
    }
    let credentials = server.credentials.unwrap_or(1);
    world.credential = Box::new(move |client| 1 + client as u64 % credentials);
    match &scenario.demand {
        Wanted { clients: Some(clients), .. } => world.demand(Demand::Closed { clients: *clients }),
        Wanted { burst_of: Some(count), burst_every_seconds: Some(every), .. } => {
            world.demand(Demand::Bursts { count: *count, every_seconds: *every });
        }
        Wanted { poisson_per_second: Some(rate), .. } => world.demand(Demand::Poisson { per_second: *rate }),
        other => panic!("no demand: {other:?}"),
    }
    if let Some(Production { per_second, .. }) = scenario.production {
        world.demand(Demand::Every { per_second, class: PRODUCTION });
    }
    world.run(scenario.run.seconds, changes(scenario));
    world
}

fn spoken(spoken: Spoken) -> Headers {
    let whole = match spoken.reset {
        Rounded::Up => Whole::Up,
        Rounded::Down => Whole::Down,
        Rounded::Nearest => Whole::Nearest,
        Rounded::Exact => Whole::Exact,
        Rounded::Zero => Whole::Zero,
    };
    if spoken.window { Headers::Policy(whole) } else { Headers::Count(whole) }
}

fn server_model(server: &Server) -> Server {
    Server { limits: Vec::new(), model: server.model.clone(), ..*server }
}

fn changes(scenario: &Scenario) -> Vec<Change> {
    let moved = scenario.change.iter().map(|moved| {
        let quotas = quotas(&moved.limits);
        let change = move |world: &mut World| {
            for limits in world.limits.values_mut() {
                for (index, quota) in quotas.iter().enumerate() {
                    limits.get_mut(index).expect("as many limits as before").set_quota(*quota);
                }
            }
        };
        (moved.at, Box::new(change) as Box<dyn Fn(&mut World)>)
    });
    let refreshed = scenario.token_refresh_at.map(|at| {
        let change = |world: &mut World| world.credential = Box::new(|_| 1_000);
        (at, Box::new(change) as Box<dyn Fn(&mut World)>)
    });
    moved.chain(refreshed).collect()
}

/// Jain's index over what each credential got: 1 is fair, 1/n is all to one.
fn fairness(log: &closed_loop::Log, from: f64) -> f64 {
    let mut got: BTreeMap<u64, f64> = BTreeMap::new();
    for (_, credential) in log.accepted.iter().filter(|(at, _)| *at >= from) {
        *got.entry(*credential).or_default() += 1.0;
    }
    let sum: f64 = got.values().sum();
    let squares: f64 = got.values().map(|count| count * count).sum();
    sum * sum / (got.len().max(1) as f64 * squares.max(1.0))
}

/// What the goals say of all runs: a list of complaints.
fn judge(goals: &Goals, runs: &[BTreeMap<&'static str, f64>]) -> Vec<String> {
    let sorted = |name: &str| {
        let mut values: Vec<f64> = runs.iter().filter_map(|run| run.get(name).copied()).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let median = |name: &str| sorted(name).get(runs.len() / 2).copied().expect("every run has the figure");
    let least = |name: &str| sorted(name).first().copied().expect("every run has the figure");
    let most = |name: &str| sorted(name).last().copied().expect("every run has the figure");
    let mut complaints = Vec::new();
    let mut at_least = |what: &str, value: f64, goal: Option<f64>| {
        if goal.is_some_and(|goal| value < goal) {
            complaints.push(format!("{what} is {value:.4}, the goal is at least {:.4}", goal.unwrap()));
        }
    };
    at_least(
        "utilisation (median)",
        or_nan(goals.utilisation_min, || median("utilisation")),
        goals.utilisation_min,
    );
    at_least(
        "utilisation (worst)",
        or_nan(goals.worst_utilisation_min, || least("utilisation")),
        goals.worst_utilisation_min,
    );
    at_least(
        "utilisation after the refresh (median)",
        or_nan(goals.utilisation_after_refresh_min, || median("utilisation_after_refresh")),
        goals.utilisation_after_refresh_min,
    );
    at_least("fairness (worst)", least("fairness"), goals.fairness_min);
    at_least("throughput (median)", median("throughput"), goals.throughput_min);
    let mut at_most = |what: &str, value: f64, goal: Option<f64>| {
        if goal.is_some_and(|goal| value > goal) {
            complaints.push(format!("{what} is {value:.4}, the goal is at most {:.4}", goal.unwrap()));
        }
    };
    at_most("client errors (worst)", most("client_errors"), Some(0.0));
    at_most("refused share (median)", median("refused_share"), goals.refused_share_max);
    at_most("refused share (worst)", most("refused_share"), goals.worst_refused_share_max);
    at_most("refused calls (median)", median("refused"), goals.refused_max);
    at_most("refused calls (worst)", most("refused"), goals.worst_refused_max);
    at_most(
        "95 % (median)",
        or_nan(goals.reaches_95_within, || median("reaches_95")),
        goals.reaches_95_within,
    );
    at_most("mean latency (median)", median("mean_latency"), goals.mean_latency_max);
    at_most("p99 latency (median)", median("latency_p99"), goals.latency_p99_max);
    let wait = |of: &dyn Fn(&str) -> f64, goal| or_nan(goal, || of("production_wait_p99"));
    let (usual, worst) = (goals.production_wait_p99_max, goals.worst_production_wait_p99_max);
    at_most("production's p99 wait (median)", wait(&median, usual), usual);
    at_most("production's p99 wait (worst)", wait(&most, worst), worst);
    for (name, goal) in
        ["tracks_1", "tracks_2", "tracks_3"].into_iter().zip(goals.tracks_within.iter().flatten())
    {
        at_most(name, median(name), Some(*goal));
    }
    let goal = goals.refused_after_first_change_max;
    at_most("refused after the change (median)", or_nan(goal, || median("refused_after_change")), goal);
    complaints
}

fn or_nan(goal: Option<f64>, value: impl Fn() -> f64) -> f64 {
    if goal.is_some() { value() } else { f64::NAN }
}

#[test]
fn every_scenario_reaches_its_goals() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let only = std::env::var("SCENARIO").ok();
    let mut paths: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    let mut failures = Vec::new();
    for path in paths {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if only.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# "), "{name}: a scenario says in its first line what it is about");
        let scenario: Scenario = toml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let runs: Vec<_> = (0..scenario.run.seeds).map(|seed| run(&scenario, seed)).collect();
        if only.is_some() {
            for (seed, figures) in runs.iter().enumerate() {
                println!("{name} seed {seed}: {figures:.3?}");
            }
        }
        failures.extend(
            judge(&scenario.goals, &runs).into_iter().map(|complaint| format!("{name}: {complaint}")),
        );
    }
    assert!(failures.is_empty(), "\n{}\n(SCENARIO=name prints a scenario's runs)", failures.join("\n"));
}
