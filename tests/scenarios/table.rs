//! The figures of all scenarios as a table for people.

use crate::goals::{Goal, spread};
use crate::scenario::Scenario;
use crate::scenario::figures::Figures;
use std::fmt::Write as _;

/// The figures that have a column of their own.
const COLUMNS: [&str; 4] = ["utilisation", "refused_share", "refused", "reaches_95"];

/// The line above all others.
pub(crate) fn head() -> String {
    format!(
        "{:<4}{:<28}{:>15}{:>14}{:>12}{:>14}  {}",
        "", "median (worst)", "used %", "refused %", "refused", "95 % after s", "and"
    )
}

/// A scenario's line.
pub(crate) fn line(name: &str, scenario: &Scenario, goals: &[Goal], runs: &[Figures]) -> String {
    let mut line = format!("{:<4}{name:<28}", scenario.id.as_deref().unwrap_or(""));
    let [used, share, refused, reached] = COLUMNS;
    write!(line, "{:>15}", cell(used, runs, 100.0, 1, true)).unwrap();
    write!(line, "{:>14}", cell(share, runs, 100.0, 2, false)).unwrap();
    write!(line, "{:>12}", cell(refused, runs, 1.0, 0, false)).unwrap();
    write!(line, "{:>14}  ", cell(reached, runs, 1.0, 1, false)).unwrap();
    let mut told = COLUMNS.to_vec();
    for goal in goals {
        if !told.contains(&goal.figure) && goal.figure != "client_errors" {
            told.push(goal.figure);
            let more = matches!(goal.figure, "fairness" | "throughput" | "utilisation_after_refresh");
            write!(line, "{} {}  ", goal.figure, cell(goal.figure, runs, 1.0, 2, more)).unwrap();
        }
    }
    line.trim_end().to_owned()
}

/// `median (worst)`, where more is better or less is.
fn cell(figure: &str, runs: &[Figures], times: f64, digits: usize, more: bool) -> String {
    if !runs.iter().all(|run| run.contains_key(figure)) {
        return "-".to_owned();
    }
    let values = spread(figure, runs);
    let worst = if more { values[0] } else { values[values.len() - 1] };
    let show = |value: f64| {
        if value.is_finite() { format!("{:.digits$}", value * times) } else { "never".to_owned() }
    };
    format!("{} ({})", show(values[values.len() / 2]), show(worst))
}
