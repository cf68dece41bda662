//! Which class is next: each has its share of the departures while it wants it; what one leaves idle the others use.
//!
//! Start-time fair queueing (Goyal, Vin and Cheng, 1996) over departures of one size. A class's next departure has a
//! tag, that grows by one over its share with each; the smallest tag goes. A class that has nothing ready falls behind
//! nobody: when it comes back its tag is the present, so that the slot which is next is its own if it asks for less than
//! its share. What it left idle is gone, but for a few departures: enough for a small burst.

use super::settings::ClassSettings;
use super::ticket::{ClassId, TicketId};
use std::collections::BTreeSet;

/// What remains for everything that belongs to no class when the classes' shares leave it less.
const REST_SHARE_MIN: f64 = 0.05;
/// Departures that a class may have saved while it was idle. The rest, which has no promise, saves none.
const SAVED: f64 = 4.0;

/// The tickets that could go, by class, each in the order of arrival.
#[derive(Debug)]
pub(super) struct Turns {
    /// What belongs to no class, then the classes in the order of their identifiers.
    lines: Vec<Line>,
    /// The largest tag that has departed.
    present: f64,
}

/// One class's line.
#[derive(Debug)]
struct Line {
    ready: BTreeSet<TicketId>,
    /// Tickets that wait, resting ones included.
    waiting: usize,
    /// Over 0 to 1; those of all lines make 1.
    share: f64,
    tag: f64,
    /// How far behind the present its tag may be when it comes back.
    saved: f64,
}

impl Turns {
    /// Nobody waits yet. Shares that make more than 1 count in proportion.
    pub(super) fn new(classes: &[ClassSettings]) -> Self {
        let own: Vec<f64> = classes.iter().map(|class| class.share).collect();
        let rest = (1.0 - own.iter().sum::<f64>()).max(REST_SHARE_MIN);
        let all = rest + own.iter().sum::<f64>();
        let line = |share: f64, saved: f64| {
            let share = share / all;
            Line { ready: BTreeSet::new(), waiting: 0, share, tag: 0.0, saved: saved / share }
        };
        let lines = std::iter::once(line(rest, 0.0)).chain(own.into_iter().map(|share| line(share, SAVED)));
        Self { lines: lines.collect(), present: 0.0 }
    }

    /// Tickets that could go now.
    pub(super) fn ready_len(&self) -> usize {
        self.lines.iter().map(|line| line.ready.len()).sum()
    }

    /// A ticket of `class` waits from now on.
    pub(super) fn enter(&mut self, class: ClassId) {
        if let Some(line) = self.line(class) {
            line.waiting += 1;
        }
    }

    /// It could go now.
    pub(super) fn ready(&mut self, class: ClassId, id: TicketId) {
        let present = self.present;
        let Some(line) = self.line(class) else { return };
        if line.ready.is_empty() {
            line.tag = line.tag.max(present - line.saved);
        }
        line.ready.insert(id);
    }

    /// Takes the youngest of what belongs to no class out of those that could go, if there is one; it waits still.
    pub(super) fn rest_youngest(&mut self) -> Option<TicketId> {
        self.lines.first_mut()?.ready.pop_last()
    }

    /// It waits no longer.
    pub(super) fn leave(&mut self, class: ClassId, id: TicketId) {
        if let Some(line) = self.line(class) {
            line.waiting = line.waiting.saturating_sub(1);
            line.ready.remove(&id);
        }
    }

    /// The one whose turn it is, which is charged to its class: the eldest of the class that is next; for a probe the
    /// youngest of the class with the most to spare, since it may be refused.
    pub(super) fn next(&mut self, probe: bool) -> Option<TicketId> {
        let waits = |line: &&mut Line| !line.ready.is_empty();
        // Of equals, `max_by` takes the last: what belongs to no class; `min_by` the first: a class.
        let lines = self.lines.iter_mut().rev().filter(waits);
        let line = if probe {
            lines.max_by(|a, b| a.to_spare().total_cmp(&b.to_spare()))
        } else {
            lines.min_by(|a, b| a.tag.total_cmp(&b.tag))
        }?;
        self.present = self.present.max(line.tag);
        line.tag += 1.0 / line.share;
        if probe { line.ready.last().copied() } else { line.ready.first().copied() }
    }

    /// As [`Turns::enter`], [`Turns::ready`], [`Turns::next`] and [`Turns::leave`] of one ticket where nobody waits.
    pub(super) fn pass(&mut self, class: ClassId) {
        let present = self.present;
        let Some(line) = self.line(class) else { return };
        line.tag = line.tag.max(present - line.saved);
        let tag = line.tag;
        line.tag += 1.0 / line.share;
        self.present = present.max(tag);
    }

    /// Are there classes?
    pub(super) fn has_classes(&self) -> bool {
        self.lines.len() > 1
    }

    /// Has a class something ready that is within its share?
    pub(super) fn wants_share(&self) -> bool {
        self.lines.iter().skip(1).any(|line| !line.ready.is_empty() && line.tag <= self.present)
    }

    /// Of `all` tickets ahead of one, how many matter to it if `own` of them are of its own class: the others take
    /// turns with it.
    pub(super) fn ahead(&self, class: ClassId, all: usize, own: usize) -> f64 {
        let share = self.lines.get(self.place(class)).map_or(1.0, |line| line.share);
        (all as f64).min(own as f64 / share)
    }

    /// Is there a place for another ticket of `class`, where `places` may wait? Places are shared as turns are: what a
    /// class leaves of its own is lent, but not the places that the other classes have a right to and do not fill.
    pub(super) fn has_place(&self, class: ClassId, places: usize) -> bool {
        let own = self.place(class);
        let right = |line: &Line| line.share * places as f64;
        let Some(line) = self.lines.get(own) else { return true };
        let waiting: usize = self.lines.iter().map(|line| line.waiting).sum();
        let kept = self.lines.iter().enumerate().skip(1).filter(|(place, _)| *place != own);
        let kept: f64 = kept.map(|(_, line)| (right(line) - line.waiting as f64).max(0.0)).sum();
        let lent = waiting as f64 + kept + 1.0 <= places as f64;
        lent || (own > 0 && line.waiting as f64 + 1.0 <= right(line) && waiting < places)
    }

    /// Each class's share and its tickets that wait, what belongs to none first.
    pub(super) fn lines(&self) -> impl Iterator<Item = (f64, usize)> + '_ {
        self.lines.iter().map(|line| (line.share, line.waiting))
    }

    /// The class's tickets that wait.
    pub(super) fn waiting(&self, class: ClassId) -> usize {
        self.lines.get(self.place(class)).map_or(0, |line| line.waiting)
    }

    fn line(&mut self, class: ClassId) -> Option<&mut Line> {
        let place = self.place(class);
        self.lines.get_mut(place)
    }

    /// A class that nobody named belongs to no class.
    fn place(&self, class: ClassId) -> usize {
        Some(usize::from(class.0)).filter(|place| *place < self.lines.len()).unwrap_or(0)
    }
}

impl Line {
    /// What it has beyond one ticket, against its share.
    fn to_spare(&self) -> f64 {
        self.ready.len().saturating_sub(1) as f64 / self.share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: ClassId = ClassId(0);
    const PRODUCTION: ClassId = ClassId(1);

    fn turns(shares: &[f64]) -> Turns {
        let class = |share: &f64| ClassSettings { name: "c".into(), share: *share };
        Turns::new(&shares.iter().map(class).collect::<Vec<_>>())
    }

    fn add(turns: &mut Turns, class: ClassId, ids: impl Iterator<Item = u64>) {
        for id in ids {
            turns.enter(class);
            turns.ready(class, TicketId(id));
        }
    }

    /// Takes `count` turns; gives the identifiers.
    fn take(turns: &mut Turns, class: impl Fn(u64) -> ClassId, count: usize) -> Vec<u64> {
        let mut taken = Vec::new();
        for _ in 0..count {
            let id = turns.next(false).unwrap();
            turns.leave(class(id.0), id);
            taken.push(id.0);
        }
        taken
    }

    fn class_of(id: u64) -> ClassId {
        if id < 1_000 { REST } else { PRODUCTION }
    }

    #[test]
    fn without_classes_it_is_first_in_first_out() {
        let mut turns = turns(&[]);
        add(&mut turns, REST, [3, 1, 2].into_iter());
        assert_eq!(take(&mut turns, class_of, 3), [1, 2, 3]);
        assert_eq!(turns.next(false), None);
    }

    #[test]
    fn classes_that_want_more_get_their_shares() {
        let mut turns = turns(&[0.25]);
        add(&mut turns, REST, 0..100);
        add(&mut turns, PRODUCTION, 1_000..1_100);
        let taken = take(&mut turns, class_of, 80);
        assert_eq!(taken.iter().filter(|id| **id >= 1_000).count(), 20);
        for ten in taken.windows(10) {
            assert!(ten.iter().filter(|id| **id >= 1_000).count() >= 2 - 1);
        }
    }

    #[test]
    fn who_asks_for_less_than_its_share_is_always_next() {
        let mut turns = turns(&[0.3]);
        add(&mut turns, REST, 0..500);
        for round in 0..50 {
            add(&mut turns, PRODUCTION, 1_000 + round..=1_000 + round);
            assert_eq!(take(&mut turns, class_of, 1), [1_000 + round]);
            take(&mut turns, class_of, 4);
        }
    }

    #[test]
    fn what_was_idle_is_lent_and_not_owed() {
        let mut turns = turns(&[0.5]);
        add(&mut turns, PRODUCTION, 1_000..1_100);
        take(&mut turns, class_of, 100);
        // The lent half is not paid back, and the idle half is not owed beyond what may be saved.
        add(&mut turns, REST, 0..100);
        add(&mut turns, PRODUCTION, 2_000..2_100);
        let taken = take(&mut turns, class_of, 20);
        let own = taken.iter().filter(|id| **id >= 1_000).count();
        assert!((9..=11).contains(&own), "{taken:?}");
    }

    #[test]
    fn a_probe_takes_the_youngest_of_those_with_most_to_spare() {
        let mut turns = turns(&[0.3]);
        add(&mut turns, PRODUCTION, 1_000..1_001);
        add(&mut turns, REST, 0..1);
        assert_eq!(turns.next(true), Some(TicketId(0)), "never the only one of a class");
        add(&mut turns, REST, 1..3);
        assert_eq!(turns.next(true), Some(TicketId(2)));
    }

    #[test]
    fn shares_of_more_than_everything_count_in_proportion_and_leave_a_rest() {
        let turns = turns(&[0.8, 0.8]);
        let shares: Vec<f64> = turns.lines().map(|(share, _)| share).collect();
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        assert!(shares[0] > 0.03 && (shares[1] - shares[2]).abs() < 1e-9);
    }

    #[test]
    fn places_in_the_queue_are_kept_for_those_with_a_right_to_them() {
        let mut turns = turns(&[0.3]);
        add(&mut turns, REST, 0..6);
        assert!(turns.has_place(REST, 10));
        add(&mut turns, REST, 6..7);
        assert!(!turns.has_place(REST, 10), "three are production's");
        add(&mut turns, PRODUCTION, 1_000..1_003);
        assert!(!turns.has_place(PRODUCTION, 10), "ten wait");
        turns.leave(REST, TicketId(0));
        assert!(turns.has_place(PRODUCTION, 10), "what the rest leaves is lent");
        assert!(turns.has_place(REST, 10));
        let mut plain = self::turns(&[]);
        add(&mut plain, REST, 0..9);
        assert!(plain.has_place(REST, 10));
        add(&mut plain, REST, 9..10);
        assert!(!plain.has_place(REST, 10));
    }

    #[test]
    fn a_class_waits_behind_its_own_and_its_share_of_others() {
        let turns = turns(&[0.25]);
        assert!((turns.ahead(PRODUCTION, 100, 0)).abs() < 1e-9);
        assert!((turns.ahead(PRODUCTION, 100, 5) - 20.0).abs() < 1e-9);
        assert!((turns.ahead(PRODUCTION, 6, 5) - 6.0).abs() < 1e-9);
    }
}
