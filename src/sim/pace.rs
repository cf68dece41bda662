//! How much the tightest limit allows as time passes: what was spent is measured against it.

use super::settings::SimSettings;
use super::words::ModelName;
use crate::control::{Quota, Rate};
use crate::sim::limits::Change;

/// The even pace of the tightest limit, with every moment at which it changes.
#[derive(Debug)]
pub(super) struct Pace {
    /// From when on, in order; empty without limits of a rate.
    steps: Vec<(f64, Rate)>,
}

impl Pace {
    pub(super) fn of(settings: &SimSettings) -> Self {
        let Some((first, others)) = settings.limits.split_first() else { return Self { steps: Vec::new() } };
        if settings.model == ModelName::Concurrency {
            return Self { steps: Vec::new() };
        }
        let tightest = |first: Quota| {
            others
                .iter()
                .map(|quota| quota.rate())
                .fold(first.rate(), |least, rate| if rate < least { rate } else { least })
        };
        let start = Change { at_seconds: 0.0, quota: *first };
        let moves = std::iter::once(&start).chain(&settings.changes);
        let mut steps: Vec<_> = moves.map(|change| (change.at_seconds, tightest(change.quota))).collect();
        steps.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        Self { steps }
    }

    /// Requests that are allowed in `[from, until)`; none without limits of a rate.
    pub(super) fn allowed(&self, from: f64, until: f64) -> Option<f64> {
        let ends = self.steps.iter().skip(1).map(|(start, _)| *start).chain(std::iter::once(f64::INFINITY));
        let within = self
            .steps
            .iter()
            .zip(ends)
            .map(|((start, rate), end)| (end.min(until) - start.max(from)).max(0.0) * rate.get());
        (!self.steps.is_empty()).then(|| within.sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(text: &str) -> Quota {
        text.parse().unwrap()
    }

    #[test]
    fn the_tightest_limit_counts_and_each_step_for_its_time() {
        let change = |at_seconds, text| Change { at_seconds, quota: quota(text) };
        let settings = SimSettings {
            limits: vec![quota("10/s"), quota("300/min")],
            changes: vec![change(20.0, "2/s"), change(10.0, "1/s")],
            ..SimSettings::default()
        };
        let pace = Pace::of(&settings);
        for (from, until, allowed) in
            [(0.0, 10.0, 50.0), (0.0, 30.0, 80.0), (5.0, 12.0, 27.0), (25.0, 25.0, 0.0)]
        {
            let told = pace.allowed(from, until).unwrap();
            assert!((told - allowed).abs() < 1e-9, "{from}..{until}: {told}");
        }
    }

    #[test]
    fn requests_under_way_and_no_limits_have_no_pace() {
        let none = SimSettings { limits: Vec::new(), ..SimSettings::default() };
        let at_once = SimSettings { model: ModelName::Concurrency, ..SimSettings::default() };
        assert_eq!((Pace::of(&none).allowed(0.0, 9.0), Pace::of(&at_once).allowed(0.0, 9.0)), (None, None));
    }
}
