//! Which lanes meet one limit? The evidence of refusals that do not say whose limit they are.
//!
//! At the moment of a refusal a limit is used up. If it is the lane's own, what the *lane* got through just before is
//! the same at every such moment, whatever its siblings do. If several lanes share it, what *all of them* got through
//! is the same, whatever the parts are. So two spreads are compared: that of the lane's own count at its refusals, and
//! that of the sum at the refusals of any of them. The smaller one names the limit.
//!
//! # Why
//! Refusals that coincide prove nothing: lanes of one load test start, probe and end their windows together, and near a
//! limit one refusal at a time is all that there is. Independent lanes cannot make their sum steadier than its parts: at
//! a lane's refusals the sibling's count only adds to the spread. Where the parts stand still as well, nothing is
//! decided, and nothing is lost: each lane stands at its part.

use super::recent::insert_sorted;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The times, in seconds, over which lanes' requests are counted: those of windows that people choose.
const HORIZONS: [f64; 3] = [1.0, 10.0, 60.0];
/// Passed that are remembered of a lane: those of a usual minute. With more, the longest horizons are shorter.
const PASSED: usize = 512;
/// Refusals that are remembered of each horizon.
const SAMPLES: usize = 24;
/// Refusals of a lane below which its own spread is unknown.
const LANE_SAMPLES: usize = 4;
/// Refusals of lanes together that it takes to join them; as many more each time that it proved wrong.
const JOIN_SAMPLES: usize = 10;
/// Refusals that it takes to part them: wrongly joined, an innocent lane is slowed.
const PART_SAMPLES: usize = 8;
/// How many times as large (in variance) the spread of the parts must be to join lanes.
const JOIN_RATIO: f64 = 4.0;
/// How many times as large the spread of the sum must be to part them.
const PART_RATIO: f64 = 4.0;
/// The variance that counting alone makes, in requests squared.
const COUNTING: f64 = 0.25;

/// When a lane sent what it got through lately.
#[derive(Clone, Debug, Default)]
pub(super) struct Passed {
    at: VecDeque<f64>,
    /// Before this nothing is known.
    known_from: Option<f64>,
}

impl Passed {
    /// One got through that left at `sent_at`. Answers come about in the order of departures.
    pub(super) fn accepted(&mut self, sent_at: f64) {
        if self.at.len() >= PASSED {
            self.known_from = self.at.pop_front();
        }
        self.known_from.get_or_insert(sent_at);
        insert_sorted(&mut self.at, sent_at);
    }

    fn is_full(&self) -> bool {
        self.at.len() >= PASSED
    }

    /// How many left in `[from, until)`.
    pub(super) fn count(&self, from: f64, until: f64) -> usize {
        let before = |moment: f64| self.at.partition_point(|at| *at < moment);
        before(until).saturating_sub(before(from))
    }

    /// How many left after `at`, if that is known.
    pub(super) fn count_after(&self, at: f64) -> Option<usize> {
        let is_known = !self.is_full() || self.known_from.is_some_and(|known| known <= at);
        is_known.then(|| self.count(at, f64::INFINITY))
    }

    /// When those left that left up to `at`, the last `count` of them.
    pub(super) fn until(&self, at: f64, count: usize) -> impl Iterator<Item = f64> + '_ {
        let upto = self.at.partition_point(|sent| *sent <= at);
        self.at.iter().take(upto).skip(upto.saturating_sub(count)).copied()
    }

    /// What got through in a second of the last five, or of as many as are known.
    pub(super) fn recent_rate(&self, now: f64) -> f64 {
        let from = self.known_from.map_or(now, |known| known.max(now - 5.0));
        self.count(from, now) as f64 / (now - from).max(0.1)
    }
}

/// One refusal: whose it was, and the speeds at that moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    lane: u32,
    at: f64,
    own: f64,
    sum: f64,
    /// The time that was counted over.
    seconds: f64,
}

/// What the evidence says of lanes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// These lanes meet one limit of about so many requests/s.
    OneLimit { lanes: Vec<u32>, per_second: f64 },
    /// Each has its own.
    Apart,
    /// Nothing yet.
    Unclear,
}

/// The evidence on the lanes below one node.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    horizons: [VecDeque<Sample>; HORIZONS.len()],
    /// The lanes that were refused before.
    started: BTreeSet<u32>,
    /// How often lanes were joined that proved to be apart.
    mistakes: usize,
}

impl Evidence {
    /// Notes a refusal of `lane`'s request that left at `at`; `lanes` are all below the node, each with what it sent.
    pub(super) fn refused<'a>(
        &mut self,
        lane: u32,
        at: f64,
        lanes: impl Iterator<Item = (u32, &'a Passed)> + Clone,
    ) {
        // A lane's first refusal is the end of its start, in which it went past whatever limit there is.
        if self.started.insert(lane) {
            return;
        }
        // One that was never refused has no limit that is known, and is no part of one.
        let refused_before = |other: u32| self.started.contains(&other);
        let parts: Vec<(u32, &Passed)> =
            lanes.filter(|(other, _)| *other == lane || refused_before(*other)).collect();
        let known_from = |(_, passed): &(u32, &Passed)| passed.known_from.filter(|_| passed.is_full());
        let known_from = parts.iter().filter_map(known_from).fold(f64::NEG_INFINITY, f64::max);
        let first = parts.iter().filter_map(|(_, passed)| passed.known_from).fold(f64::INFINITY, f64::min);
        for (samples, horizon) in self.horizons.iter_mut().zip(HORIZONS) {
            // Refusals at one moment are one.
            if samples.back().is_some_and(|last| at < last.at + horizon) {
                continue;
            }
            let from = (at - horizon).max(known_from);
            let seconds = at - from;
            // What came at the very first says nothing of a time as long as this.
            if seconds <= 0.0 || first > from {
                continue;
            }
            let rate = |sent: &Passed| sent.count(from, at) as f64 / seconds;
            let own = parts.iter().find(|(other, _)| *other == lane).map_or(0.0, |(_, sent)| rate(sent));
            let sum = parts.iter().map(|(_, sent)| rate(sent)).sum();
            note(samples, Sample { lane, at, own, sum, seconds });
        }
    }

    /// Do lanes that stand apart meet one limit?
    pub(super) fn of_apart(&self) -> Verdict {
        let needed = JOIN_SAMPLES * (1 + self.mistakes);
        let found = self.horizons.iter().filter_map(|samples| Spread::of(samples, needed.min(SAMPLES)));
        let joined = found.filter(|spread| spread.own > JOIN_RATIO * spread.sum).max_by(|a, b| {
            let ratio = |spread: &Spread| spread.own / spread.sum;
            ratio(a).total_cmp(&ratio(b))
        });
        let joined = joined.filter(|spread| spread.lanes.len() > 1);
        joined.map_or(Verdict::Unclear, |spread| Verdict::OneLimit {
            lanes: spread.lanes,
            per_second: spread.per_second,
        })
    }

    /// Do lanes that were joined meet limits of their own after all?
    pub(super) fn of_joined(&self) -> Verdict {
        let found = self.horizons.iter().filter_map(|samples| Spread::of(samples, PART_SAMPLES));
        let (mut apart, mut joined) = (false, false);
        for spread in found {
            apart |= spread.sum > PART_RATIO * spread.own;
            joined |= spread.own > PART_RATIO * spread.sum;
        }
        if apart && !joined { Verdict::Apart } else { Verdict::Unclear }
    }

    /// From now on other limits are judged: what was known said what it could.
    pub(super) fn start_over(&mut self) {
        self.horizons = Default::default();
    }

    /// Lanes were joined wrongly.
    pub(super) fn was_wrong(&mut self) {
        self.mistakes = self.mistakes.saturating_add(1);
        self.start_over();
    }
}

/// The two spreads over one horizon, as variances in (requests/s)², counting's own added.
#[derive(Clone, Debug)]
struct Spread {
    lanes: Vec<u32>,
    own: f64,
    sum: f64,
    per_second: f64,
}

impl Spread {
    /// `None` with fewer refusals than `needed`, or none of whose spread can be told.
    fn of(samples: &VecDeque<Sample>, needed: usize) -> Option<Self> {
        let mut by_lane: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
        for sample in samples {
            by_lane.entry(sample.lane).or_default().push(sample.own);
        }
        by_lane.retain(|_, own| own.len() >= LANE_SAMPLES);
        let sums: Vec<f64> = samples
            .iter()
            .filter(|sample| by_lane.contains_key(&sample.lane))
            .map(|sample| sample.sum)
            .collect();
        if sums.len() < needed {
            return None;
        }
        let seconds = samples.iter().map(|sample| sample.seconds).fold(f64::INFINITY, f64::min);
        let counting = COUNTING / (seconds * seconds);
        let own: f64 = by_lane.values().map(|own| squares(own)).sum();
        let own = own / (sums.len() - by_lane.len()) as f64;
        let sum = squares(&sums) / (sums.len() - 1) as f64;
        Some(Self {
            lanes: by_lane.into_keys().collect(),
            own: own + counting,
            sum: sum + counting,
            per_second: mean(&sums),
        })
    }
}

fn note(samples: &mut VecDeque<Sample>, sample: Sample) {
    if samples.len() >= SAMPLES {
        samples.pop_front();
    }
    samples.push_back(sample);
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The sum of the squares of what differs from the mean.
fn squares(values: &[f64]) -> f64 {
    let mean = mean(values);
    values.iter().map(|value| (value - mean) * (value - mean)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sequence of numbers that look random, about normal with a spread of 1.
    struct Noise(u64);

    impl Noise {
        fn uniform(&mut self) -> f64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            f64::from(u32::try_from(self.0 >> 32).unwrap()) / 4_294_967_296.0
        }

        fn normal(&mut self) -> f64 {
            (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
        }
    }

    /// Which of 2000 runs of 60 refusals each join lanes, and after how many refusals on average.
    fn joined(mut refusal: impl FnMut(&mut Noise, u32) -> (f64, f64)) -> (usize, usize) {
        let mut noise = Noise(7);
        let (mut runs, mut refusals) = (0, 0);
        for _ in 0..2_000 {
            let mut evidence = Evidence::default();
            for number in 0..60 {
                let lane = u32::from(noise.uniform() < 0.5);
                let (own, other) = refusal(&mut noise, lane);
                let at = f64::from(number) * 100.0;
                let sample = Sample { lane, at, own, sum: own + other, seconds: 1.0 };
                note(&mut evidence.horizons[0], sample);
                if evidence.of_apart() != Verdict::Unclear {
                    runs += 1;
                    refusals += number + 1;
                    break;
                }
            }
        }
        (runs, usize::try_from(refusals).unwrap() / runs.max(1))
    }

    /// Requests of their own at a refusal, and the others': independent, whatever they scatter.
    #[test]
    fn lanes_with_limits_of_their_own_stay_apart() {
        for (own, other) in [(0.3, 0.3), (1.0, 1.0), (3.0, 3.0), (3.0, 2.0), (2.0, 4.0)] {
            let (wrongly, _) = joined(|noise, _| (10.0 + own * noise.normal(), 8.0 + other * noise.normal()));
            assert!(wrongly <= 5, "{wrongly} of 2000 with {own} and {other}");
        }
    }

    #[test]
    fn lanes_that_share_a_limit_are_joined_once_their_parts_have_moved() {
        let found = |moved: f64| {
            joined(|noise, _| {
                let own = 5.0 + moved * noise.normal();
                (own, 10.0 - own + 0.4 * noise.normal())
            })
        };
        assert_eq!(found(0.0).0, 0, "where the parts stand still, nothing is decided");
        let (runs, refusals) = found(2.0);
        assert!(runs == 2_000 && refusals <= 15, "{runs} after {refusals}");
    }

    #[test]
    fn lanes_joined_wrongly_are_parted_and_need_more_to_be_joined_again() {
        let mut evidence = Evidence::default();
        let refusal = |evidence: &mut Evidence, number: u32, own: f64, sum: f64| {
            let sample = Sample { lane: number % 2, at: f64::from(number), own, sum, seconds: 1.0 };
            note(&mut evidence.horizons[0], sample);
        };
        for number in 0..8 {
            assert_eq!(evidence.of_joined(), Verdict::Unclear);
            refusal(&mut evidence, number, 10.0, 10.0 + f64::from(number % 4) * 3.0);
        }
        assert_eq!(evidence.of_joined(), Verdict::Apart);
        evidence.was_wrong();
        for number in 0..20 {
            assert_eq!(evidence.of_apart(), Verdict::Unclear, "{number}");
            refusal(&mut evidence, number, f64::from(number % 5) * 2.0, 10.0);
        }
        let lanes = vec![0, 1];
        assert_eq!(evidence.of_apart(), Verdict::OneLimit { lanes, per_second: 10.0 });
    }
}
