//! Who is next, and who is too late: a lane's bounded queue, first in first out, with deadlines.
//!
//! A ticket that the API refused keeps its place: when its wait is over it stands where it stood. All operations
//! are O(log n).

use super::ticket::TicketId;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// A moment that can be ordered, in seconds of the core's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment(pub(super) f64);

impl PartialEq for Moment {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Moment {}

impl PartialOrd for Moment {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Moment {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Where a ticket stands. Identifiers grow, so they are the order of arrival.
#[derive(Clone, Copy, Debug)]
struct Place {
    deadline: f64,
    /// Set while the ticket waits out its own Retry-After.
    not_before: Option<f64>,
}

/// The tickets of one lane that wait.
#[derive(Debug, Default)]
pub(super) struct Queue {
    places: BTreeMap<TicketId, Place>,
    ready: BTreeSet<TicketId>,
    resting: BTreeSet<(Moment, TicketId)>,
    deadlines: BTreeSet<(Moment, TicketId)>,
}

impl Queue {
    /// Tickets that wait, resting ones included.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Tickets that could go now.
    pub(super) fn ready_len(&self) -> usize {
        self.ready.len()
    }

    /// Adds a ticket; `not_before` lets it rest first.
    pub(super) fn insert(&mut self, id: TicketId, deadline: f64, not_before: Option<f64>) {
        self.remove(id);
        self.places.insert(id, Place { deadline, not_before });
        self.deadlines.insert((Moment(deadline), id));
        match not_before {
            Some(at) => drop(self.resting.insert((Moment(at), id))),
            None => drop(self.ready.insert(id)),
        }
    }

    /// Takes a ticket out; says whether it was there.
    pub(super) fn remove(&mut self, id: TicketId) -> bool {
        let Some(place) = self.places.remove(&id) else { return false };
        self.ready.remove(&id);
        self.deadlines.remove(&(Moment(place.deadline), id));
        if let Some(at) = place.not_before {
            self.resting.remove(&(Moment(at), id));
        }
        true
    }

    /// Lets those whose rest is over stand in line again.
    pub(super) fn wake(&mut self, now: f64) {
        while let Some((at, id)) = self.resting.first().copied() {
            if at.0 > now {
                break;
            }
            self.resting.remove(&(at, id));
            if let Some(place) = self.places.get_mut(&id) {
                place.not_before = None;
                self.ready.insert(id);
            }
        }
    }

    /// The one that may go: the eldest, or the youngest for a probe.
    pub(super) fn candidate(&self, youngest: bool) -> Option<TicketId> {
        if youngest { self.ready.last().copied() } else { self.ready.first().copied() }
    }

    /// Takes out one whose deadline has passed.
    pub(super) fn expired(&mut self, now: f64) -> Option<TicketId> {
        let (at, id) = self.deadlines.first().copied()?;
        if at.0 > now {
            return None;
        }
        self.remove(id);
        Some(id)
    }

    /// Does a deadline pass before `until`?
    pub(super) fn doomed(&self, until: f64) -> bool {
        self.deadlines.first().is_some_and(|(at, _)| at.0 <= until)
    }

    /// Brings a ticket's deadline forward to `deadline`.
    pub(super) fn hasten(&mut self, id: TicketId, deadline: f64) {
        if let Some(place) = self.places.get_mut(&id).filter(|place| place.deadline > deadline) {
            self.deadlines.remove(&(Moment(place.deadline), id));
            place.deadline = deadline;
            self.deadlines.insert((Moment(deadline), id));
        }
    }

    /// The next moment at which a rest or a deadline ends.
    pub(super) fn next_change(&self) -> f64 {
        let first = |set: &BTreeSet<(Moment, TicketId)>| set.first().map_or(f64::INFINITY, |(at, _)| at.0);
        first(&self.resting).min(first(&self.deadlines))
    }

    /// The tickets in their order, resting ones at their place.
    pub(super) fn in_order(&self) -> impl Iterator<Item = TicketId> + '_ {
        self.places.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> TicketId {
        TicketId(n)
    }

    #[test]
    fn first_in_first_out_and_the_youngest_for_a_probe() {
        let mut queue = Queue::default();
        for n in [1, 2, 3] {
            queue.insert(id(n), 100.0, None);
        }
        assert_eq!(queue.candidate(false), Some(id(1)));
        assert_eq!(queue.candidate(true), Some(id(3)));
        assert!(queue.remove(id(1)));
        assert!(!queue.remove(id(1)));
        assert_eq!(queue.candidate(false), Some(id(2)));
    }

    #[test]
    fn a_resting_ticket_returns_to_its_place() {
        let mut queue = Queue::default();
        queue.insert(id(2), 100.0, None);
        queue.insert(id(1), 100.0, Some(5.0));
        queue.wake(4.9);
        assert_eq!(queue.candidate(false), Some(id(2)));
        assert!((queue.next_change() - 5.0).abs() < 1e-9);
        queue.wake(5.0);
        assert_eq!(queue.candidate(false), Some(id(1)));
        assert_eq!(queue.len(), 2);
    }

    #[test]
    fn deadlines_take_tickets_out_wherever_they_are() {
        let mut queue = Queue::default();
        queue.insert(id(1), 3.0, Some(50.0));
        queue.insert(id(2), 2.0, None);
        assert_eq!(queue.expired(1.0), None);
        assert_eq!(queue.expired(3.0), Some(id(2)));
        assert_eq!(queue.expired(3.0), Some(id(1)));
        assert_eq!(queue.len(), 0);
        assert!(queue.next_change().is_infinite());
    }
}
