//! What the API and the clients saw.

use tidegate::control::{ClassId, LimitView};

/// A request that came to the API's limiter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) at: f64,
    pub(crate) credential: u64,
    pub(crate) route: u64,
    /// The proxy that it came through, by its place.
    pub(crate) proxy: usize,
}

/// A request that was answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    pub(crate) at: f64,
    pub(crate) class: ClassId,
    /// From the asking to the answer.
    pub(crate) took: f64,
    /// From the asking to the departure that was answered, refused turns included.
    pub(crate) waited: f64,
}

/// The log of a run; times are in seconds from its start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    pub(crate) accepted: Vec<Arrival>,
    pub(crate) refused: Vec<Arrival>,
    /// What an unseen tenant got, by time.
    pub(crate) others: Vec<f64>,
    pub(crate) answered: Vec<Answered>,
    /// Clients that got no answer of the API, or its 429.
    pub(crate) client_errors: usize,
    /// The paces that were noted, and when.
    pub(crate) paces: Vec<(f64, f64)>,
    /// How often the first proxy put a limit above several lanes, and how often it took one away.
    pub(crate) shares: (usize, usize),
    /// What the first proxy says of its first lane's limit at the end.
    pub(crate) limit: Option<LimitView>,
}

/// How many of `arrivals` came in `[from, until)`.
fn within(arrivals: &[Arrival], from: f64, until: f64) -> usize {
    let before = |until: f64| arrivals.partition_point(|arrival| arrival.at < until);
    before(until).saturating_sub(before(from))
}

impl Log {
    pub(crate) fn accepted_in(&self, from: f64, until: f64) -> usize {
        within(&self.accepted, from, until)
    }

    pub(crate) fn refused_in(&self, from: f64, until: f64) -> usize {
        within(&self.refused, from, until)
    }

    /// Refused in `[from, until)`, as a share of all that arrived then.
    pub(crate) fn refused_share(&self, from: f64, until: f64) -> f64 {
        let (accepted, refused) = (self.accepted_in(from, until), self.refused_in(from, until));
        refused as f64 / (refused + accepted).max(1) as f64
    }

    /// The first moment after `from` from which on the next five seconds use at least 95 % of `rate`; infinite if
    /// there is none.
    pub(crate) fn reaches_95(&self, rate: f64, from: f64) -> f64 {
        (0..2400)
            .map(|step| from + f64::from(step) * 0.25)
            .find(|start| self.accepted_in(*start, start + 5.0) as f64 >= 0.95 * rate * 5.0)
            .unwrap_or(f64::INFINITY)
    }

    /// The most arrivals, let in or not, in any one second.
    pub(crate) fn worst_second(&self) -> usize {
        let mut all: Vec<f64> = self.accepted.iter().chain(&self.refused).map(|arrival| arrival.at).collect();
        all.sort_by(f64::total_cmp);
        let before = |at: f64| all.partition_point(|other| *other < at);
        all.iter().enumerate().map(|(place, at)| place + 1 - before(at - 1.0)).max().unwrap_or(0)
    }

    /// Jain's index of what each got, told apart by `who`: 1 is fair, 1/n is all to one.
    pub(crate) fn fairness(&self, from: f64, who: impl Fn(&Arrival) -> u64) -> f64 {
        let mut got = std::collections::BTreeMap::<u64, f64>::new();
        for arrival in self.accepted.iter().filter(|arrival| arrival.at >= from) {
            *got.entry(who(arrival)).or_default() += 1.0;
        }
        let sum: f64 = got.values().sum();
        let squares: f64 = got.values().map(|count| count * count).sum();
        sum * sum / (got.len().max(1) as f64 * squares.max(1.0))
    }
}
