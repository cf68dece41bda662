//! A run in figures, by the names of the goals.

use super::play::{PRODUCTION, REFRESHED, fresh, network, rate_at};
use super::{Per, Scenario};
use crate::closed_loop::{Arrival, Log};
use std::collections::BTreeMap;

/// One run's figures. Times in seconds, shares and utilisation as ratios.
pub(crate) type Figures = BTreeMap<&'static str, f64>;

/// The figures of what `log` saw of `scenario`'s run with `seed`.
pub(crate) fn figures(scenario: &Scenario, seed: u64, log: &Log) -> Figures {
    let (from, until) = (scenario.run.steady_from, scenario.run.seconds);
    let limits = limits(scenario) as f64;
    let mut figures = Figures::new();
    figures.insert("client_errors", log.client_errors as f64);
    figures.insert("refused", log.refused.len() as f64);
    figures.insert("refused_learning", log.refused_in(0.0, from) as f64);
    figures.insert("refused_share", log.refused_share(from, until));
    figures.insert("throughput", log.accepted_in(from, until) as f64 / (until - from));
    figures.insert("joined", log.shares.0 as f64);
    figures.insert("parted", log.shares.1 as f64);
    if let Some(says) = &scenario.goals.says {
        let near = |one: f64, other: f64| (one - other).abs() <= 0.05 * other;
        let is_right = log.limit.as_ref().is_some_and(|limit| {
            limit.model.as_str() == says.model
                && near(limit.requests, says.requests)
                && near(limit.window_seconds, says.window)
        });
        figures.insert("said_right", f64::from(u8::from(is_right)));
    }
    figures.insert("worst_second", log.worst_second() as f64);
    if rate_at(scenario, 0.0).is_finite() {
        // Of what an unseen tenant left; with one set of credentials at a time.
        let until = scenario.token_refresh_at.unwrap_or(until);
        let others = log.others.iter().filter(|at| **at >= from).count() as f64;
        let allowed = allowed(scenario, from, until) * limits - others;
        figures.insert("utilisation", log.accepted_in(from, until) as f64 / allowed);
        let reached = log.reaches_95(rate_at(scenario, 0.0) * limits, scenario.demand.clients_from);
        figures.insert("reaches_95", reached - scenario.demand.clients_from);
    }
    for (name, moved) in ["tracks_1", "tracks_2", "tracks_3"].into_iter().zip(&scenario.change) {
        figures.insert(name, log.reaches_95(rate_at(scenario, moved.at), moved.at) - moved.at);
    }
    if let Some(first) = scenario.change.first() {
        figures.insert("refused_after_change", log.refused_in(first.at, first.at + 10.0) as f64);
    }
    if let Some(at) = scenario.token_refresh_at {
        let new = |one: &&Arrival| one.credential == REFRESHED && one.at >= at && one.at < at + 10.0;
        let accepted = log.accepted.iter().filter(new).count() as f64;
        figures.insert("utilisation_after_refresh", accepted / (rate_at(scenario, at) * 10.0));
    }
    if let Some(super::Restart { at, .. }) = scenario.restart {
        figures.insert("refused_after_restart", log.refused_in(at, at + 30.0) as f64);
    }
    let several = scenario.proxies.is_some();
    figures.insert("proxies", scenario.proxies.map_or(1, |proxies| proxies.count) as f64);
    let who = |one: &Arrival| if several { one.proxy as u64 } else { one.credential * 1_000_000 + one.route };
    figures.insert("fairness", log.fairness(from, who));
    if let [(_, _), ..] = log.paces.as_slice() {
        let moved = |pair: &[(f64, f64)]| (pair[1].1 / pair[0].1 - 1.0).abs();
        let most = log.paces.chunks_exact(2).map(moved).fold(0.0, f64::max);
        figures.insert("pace_moves", most);
    }
    delays(scenario, seed, log, &mut figures);
    figures
}

/// What was waited for.
fn delays(scenario: &Scenario, seed: u64, log: &Log, figures: &mut Figures) {
    let from = scenario.run.steady_from;
    let steady = || log.answered.iter().filter(|one| one.at >= from);
    let latencies = sorted(steady().map(|one| one.took));
    let mean = latencies.iter().sum::<f64>() / latencies.len().max(1) as f64;
    figures.insert("mean_latency", mean);
    figures.insert("latency_p99", percentile_99(&latencies).unwrap_or(0.0));
    let with_the_api = sorted(steady().map(|one| one.took - one.waited));
    figures.insert("api_latency", with_the_api.get(with_the_api.len() / 2).copied().unwrap_or(0.0));
    if scenario.demand.clients.is_none() {
        let births = sorted(steady().map(|one| one.at - one.took));
        figures.insert("mean_delay", mean - ideal_latency(scenario, seed, &births));
    }
    if scenario.production.is_some() {
        let waits = sorted(steady().filter(|one| one.class == PRODUCTION).map(|one| one.waited));
        figures.insert("production_wait_p99", percentile_99(&waits).expect("it asked"));
        figures.insert("production_wait_max", waits.last().copied().expect("it asked"));
    }
}

/// The mean latency of requests that are asked for at `births` when each is sent as soon as the limiter lets it in,
/// which the sender knows, in the order of their coming.
fn ideal_latency(scenario: &Scenario, seed: u64, births: &[f64]) -> f64 {
    let mut limits = fresh(scenario, seed);
    let (mut now, mut sum) = (0.0_f64, 0.0);
    for birth in births {
        now = now.max(*birth);
        while let Err(refused) = limits.admit(now) {
            now += refused.reset_seconds.max(1e-9);
        }
        sum += now - birth;
    }
    sum / births.len().max(1) as f64 + network(&scenario.network).usual_seconds()
}

/// How many limits there are beside each other.
fn limits(scenario: &Scenario) -> u64 {
    let (credentials, routes) =
        (scenario.server.credentials.unwrap_or(1), scenario.server.routes.unwrap_or(1));
    match scenario.server.per {
        Per::Route => credentials * routes,
        Per::Credential => credentials,
        Per::Upstream => 1,
    }
}

/// How many requests a credential's limits let in over `[from, until)`.
fn allowed(scenario: &Scenario, from: f64, until: f64) -> f64 {
    let mut edges = vec![from];
    edges.extend(scenario.change.iter().map(|moved| moved.at).filter(|at| *at > from && *at < until));
    edges.push(until);
    edges.windows(2).map(|edge| rate_at(scenario, edge[0]) * (edge[1] - edge[0])).sum()
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn percentile_99(sorted: &[f64]) -> Option<f64> {
    sorted.get(sorted.len() * 99 / 100).copied()
}
