//! What the goals say of a scenario's runs.

use crate::scenario::Goals;
use crate::scenario::figures::Figures;

/// One goal: a figure, of which run, and its bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Goal {
    pub(crate) figure: &'static str,
    of: Of,
    bound: Bound,
}

#[derive(Clone, Copy, Debug)]
enum Of {
    Median,
    Worst,
}

#[derive(Clone, Copy, Debug)]
enum Bound {
    Least(f64),
    Most(f64),
}

impl Goal {
    /// The figure that the goal speaks of, over all runs.
    fn value(self, runs: &[Figures]) -> f64 {
        let values = spread(self.figure, runs);
        match (self.of, self.bound) {
            (Of::Median, _) => values[values.len() / 2],
            (Of::Worst, Bound::Least(_)) => values[0],
            (Of::Worst, Bound::Most(_)) => values[values.len() - 1],
        }
    }

    /// What is wrong, if anything is.
    pub(crate) fn complaint(self, runs: &[Figures]) -> Option<String> {
        let (value, figure) = (self.value(runs), self.figure);
        let of = if matches!(self.of, Of::Median) { "median" } else { "worst" };
        match self.bound {
            Bound::Least(goal) if value >= goal => None,
            Bound::Most(goal) if value <= goal => None,
            Bound::Least(goal) => Some(format!("{figure} ({of}) is {value:.4}, the goal is at least {goal}")),
            Bound::Most(goal) => Some(format!("{figure} ({of}) is {value:.4}, the goal is at most {goal}")),
        }
    }
}

/// The values of a figure, in order.
pub(crate) fn spread(figure: &str, runs: &[Figures]) -> Vec<f64> {
    let value = |run: &Figures| *run.get(figure).unwrap_or_else(|| panic!("no run has the figure {figure}"));
    let mut values: Vec<f64> = runs.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The goals that a file sets, and the one that all have: no client sees an error.
pub(crate) fn set(goals: &Goals) -> Vec<Goal> {
    let least =
        |figure, of, goal: Option<f64>| goal.map(|goal| Goal { figure, of, bound: Bound::Least(goal) });
    let most = |figure, of, goal: Option<f64>| goal.map(|goal| Goal { figure, of, bound: Bound::Most(goal) });
    let mut set = vec![
        most("client_errors", Of::Worst, Some(goals.client_errors_max)),
        least("said_right", Of::Median, goals.says.as_ref().map(|_| 1.0)),
        least("utilisation", Of::Median, goals.utilisation_min),
        least("utilisation", Of::Worst, goals.worst_utilisation_min),
        most("utilisation", Of::Median, goals.utilisation_max),
        least("utilisation_after_refresh", Of::Median, goals.utilisation_after_refresh_min),
        least("fairness", Of::Median, goals.fairness_min),
        least("fairness", Of::Worst, goals.worst_fairness_min),
        least("throughput", Of::Median, goals.throughput_min),
        least("throughput", Of::Worst, goals.worst_throughput_min),
        most("refused_share", Of::Median, goals.refused_share_max),
        most("refused_share", Of::Worst, goals.worst_refused_share_max),
        least("joined", Of::Median, goals.joined_min),
        most("joined", Of::Worst, goals.worst_joined_max),
        least("parted", Of::Median, goals.parted_min),
        most("parted", Of::Worst, goals.worst_parted_max),
        most("refused", Of::Median, goals.refused_max),
        most("refused", Of::Worst, goals.worst_refused_max),
        most("refused_after_change", Of::Median, goals.refused_after_first_change_max),
        most("refused_after_restart", Of::Median, goals.refused_after_restart_max),
        most("reaches_95", Of::Median, goals.reaches_95_within),
        most("mean_latency", Of::Median, goals.mean_latency_max),
        most("latency_p99", Of::Median, goals.latency_p99_max),
        most("mean_delay", Of::Median, goals.mean_delay_max),
        most("production_wait_p99", Of::Median, goals.production_wait_p99_max),
        most("production_wait_p99", Of::Worst, goals.worst_production_wait_p99_max),
        most("api_latency", Of::Median, goals.api_latency_max),
        most("pace_moves", Of::Worst, goals.pace_moves_max),
    ];
    let tracks = ["tracks_1", "tracks_2", "tracks_3"].into_iter().zip(goals.tracks_within.iter().flatten());
    set.extend(tracks.map(|(figure, goal)| most(figure, Of::Median, Some(*goal))));
    set.into_iter().flatten().collect()
}
