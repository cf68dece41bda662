//! The tables, for people and for programs: medians over rounds, and of ratios the median of the rounds' own ratios.

use crate::measure::{Case, Run};
use crate::peers::{DIRECT, HAPROXY};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// Everything that was measured.
pub(crate) struct Report {
    pub(crate) peers: Vec<&'static str>,
    /// By case, then by peer, then by round; a peer that does not speak a case has no rounds of it.
    pub(crate) runs: Vec<(Case, Vec<Vec<Run>>)>,
    /// By peer: system calls a request at 100 connections, bytes of an idle connection, resident kilobytes.
    pub(crate) costs: Vec<[Option<f64>; 3]>,
}

const COSTS: [&str; 3] =
    ["system calls / request, 100 connections", "bytes / idle connection", "resident KiB at the end"];

impl Report {
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        let names = self.peers.join(" | ");
        let line = vec!["---"; self.peers.len() + 1].join(" | ");
        for (title, cell) in [
            ("Requests a second", &requests as &dyn Fn(&[Run], &[Run]) -> Option<String>),
            ("CPU a request, µs (to HAProxy's)", &cpu),
            ("p50 / p99, µs", &latency),
        ] {
            writeln!(text, "**{title}**\n\n| | {names} |\n| {line} |").unwrap();
            for (case, by_peer) in &self.runs {
                let compared = by_peer.get(self.place(HAPROXY)).map_or(&[][..], Vec::as_slice);
                let cells: Vec<String> = by_peer
                    .iter()
                    .map(|runs| cell(runs, compared).unwrap_or_else(|| "–".to_owned()))
                    .collect();
                writeln!(text, "| {} | {} |", case.name, cells.join(" | ")).unwrap();
            }
            text.push('\n');
        }
        writeln!(text, "**Beside**\n\n| | {names} |\n| {line} |").unwrap();
        let cell = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.1}"));
        let added: Vec<String> = (0..self.peers.len()).map(|place| cell(self.added(place))).collect();
        writeln!(text, "| p50 added at 1 connection, µs | {} |", added.join(" | ")).unwrap();
        for (at, name) in COSTS.iter().enumerate() {
            let cells: Vec<String> = self.costs.iter().map(|of| cell(of[at])).collect();
            writeln!(text, "| {name} | {} |", cells.join(" | ")).unwrap();
        }
        text
    }

    fn place(&self, name: &str) -> usize {
        self.peers.iter().position(|peer| *peer == name).unwrap_or(usize::MAX)
    }

    /// Microseconds that a proxy adds to the median answer of a single connection.
    fn added(&self, place: usize) -> Option<f64> {
        let (_, by_peer) = self.runs.iter().find(|(case, _)| case.connections == 1)?;
        let direct = by_peer.get(self.place(DIRECT))?;
        if place == self.place(DIRECT) {
            return None;
        }
        median(
            by_peer.get(place)?.iter().zip(direct).filter_map(|(run, direct)| Some(run.p50? - direct.p50?)),
        )
    }

    pub(crate) fn json(&self) -> String {
        let mut all = Map::new();
        for (case, by_peer) in &self.runs {
            let mut of = Map::new();
            for (peer, runs) in self.peers.iter().zip(by_peer) {
                let rounds: Vec<Value> = runs.iter().map(|run| {
                    json!({ "requests_per_second": run.requests_per_second, "p50_us": run.p50, "p99_us": run.p99, "cpu_us": run.cpu })
                }).collect();
                of.insert((*peer).to_owned(), json!(rounds));
            }
            all.insert(case.name.to_owned(), Value::Object(of));
        }
        for (at, name) in COSTS.iter().enumerate() {
            let of: Map<String, Value> = self
                .peers
                .iter()
                .zip(&self.costs)
                .map(|(peer, of)| ((*peer).to_owned(), json!(of[at])))
                .collect();
            all.insert((*name).to_owned(), Value::Object(of));
        }
        serde_json::to_string_pretty(&Value::Object(all)).unwrap()
    }
}

fn requests(runs: &[Run], _: &[Run]) -> Option<String> {
    median(runs.iter().map(|run| run.requests_per_second)).map(|median| format!("{median:.0}"))
}

fn cpu(runs: &[Run], compared: &[Run]) -> Option<String> {
    let median_of = median(runs.iter().map(|run| run.cpu)).filter(|cpu| *cpu > 0.0)?;
    let ratio = median(runs.iter().zip(compared).map(|(run, other)| run.cpu / other.cpu));
    Some(ratio.map_or_else(|| format!("{median_of:.1}"), |ratio| format!("{median_of:.1} ({ratio:.2})")))
}

fn latency(runs: &[Run], _: &[Run]) -> Option<String> {
    let p50 = median(runs.iter().filter_map(|run| run.p50))?;
    let p99 = median(runs.iter().filter_map(|run| run.p99))?;
    Some(format!("{p50:.0} / {p99:.0}"))
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
