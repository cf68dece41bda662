//! Who is next, and who is too late: a lane's bounded queue, first in first out within a class, with deadlines.
//!
//! A ticket that the API refused keeps its place: when its wait is over it stands where it stood. All operations
//! are O(log n).

use super::settings::ClassSettings;
use super::ticket::{ClassId, TicketId};
use super::turns::Turns;
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
    class: ClassId,
    deadline: f64,
    /// Set while the ticket waits out its own Retry-After.
    not_before: Option<f64>,
}

/// The tickets of one lane that wait.
#[derive(Debug)]
pub(super) struct Queue {
    places: BTreeMap<TicketId, Place>,
    turns: Turns,
    resting: BTreeSet<(Moment, TicketId)>,
    deadlines: BTreeSet<(Moment, TicketId)>,
}

impl Queue {
    /// Nobody waits yet; `classes` will take turns.
    pub(super) fn new(classes: &[ClassSettings]) -> Self {
        Self {
            places: BTreeMap::new(),
            turns: Turns::new(classes),
            resting: BTreeSet::new(),
            deadlines: BTreeSet::new(),
        }
    }

    /// Tickets that wait, resting ones included.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Tickets that could go now.
    pub(super) fn ready_len(&self) -> usize {
        self.turns.ready_len()
    }

    /// Each class's share and its tickets that wait, what belongs to none first.
    pub(super) fn classes(&self) -> impl Iterator<Item = (f64, usize)> + '_ {
        self.turns.lines()
    }

    /// Are there any?
    pub(super) fn has_classes(&self) -> bool {
        self.turns.has_classes()
    }

    /// Has a class something ready that is within its share?
    pub(super) fn wants_share(&self) -> bool {
        self.turns.wants_share()
    }

    /// How many a new ticket of `class` would wait for.
    pub(super) fn ahead(&self, class: ClassId) -> f64 {
        self.turns.ahead(class, self.len(), self.turns.waiting(class))
    }

    /// Is there a place for another ticket of `class`, where `places` may wait?
    pub(super) fn has_place(&self, class: ClassId, places: usize) -> bool {
        self.turns.has_place(class, places)
    }

    /// Adds a ticket; `not_before` lets it rest first.
    pub(super) fn insert(&mut self, id: TicketId, class: ClassId, deadline: f64, not_before: Option<f64>) {
        self.remove(id);
        self.places.insert(id, Place { class, deadline, not_before });
        self.deadlines.insert((Moment(deadline), id));
        self.turns.enter(class);
        match not_before {
            Some(at) => drop(self.resting.insert((Moment(at), id))),
            None => self.turns.ready(class, id),
        }
    }

    /// Lets the youngest of what belongs to no class rest until `until` in another's stead. Says whether there was one.
    pub(super) fn stand_in(&mut self, until: f64) -> bool {
        let Some(id) = self.turns.rest_youngest() else { return false };
        if let Some(place) = self.places.get_mut(&id) {
            place.not_before = Some(until);
            self.resting.insert((Moment(until), id));
        }
        true
    }

    /// Takes a ticket out; says whether it was there.
    pub(super) fn remove(&mut self, id: TicketId) -> bool {
        let Some(place) = self.places.remove(&id) else { return false };
        self.turns.leave(place.class, id);
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
                self.turns.ready(place.class, id);
            }
        }
    }

    /// Takes out the one that may go: the eldest of the class whose turn it is, or a young one for a probe.
    pub(super) fn take(&mut self, probe: bool) -> Option<TicketId> {
        let id = self.turns.next(probe)?;
        self.remove(id);
        Some(id)
    }

    /// One goes by at once: nobody waits here.
    pub(super) fn pass(&mut self, class: ClassId) {
        self.turns.pass(class);
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

    /// The tickets in their order, resting ones at their place, and how many each waits for.
    pub(super) fn in_order(&self) -> Vec<(TicketId, f64)> {
        let mut own: BTreeMap<ClassId, usize> = BTreeMap::new();
        let place = |(all, (id, place)): (usize, (&TicketId, &Place))| {
            let own = own.entry(place.class).or_default();
            let ahead = self.turns.ahead(place.class, all, *own);
            *own += 1;
            (*id, ahead)
        };
        self.places.iter().enumerate().map(place).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: ClassId = ClassId(0);

    fn id(n: u64) -> TicketId {
        TicketId(n)
    }

    #[test]
    fn first_in_first_out_and_the_youngest_for_a_probe() {
        let mut queue = Queue::new(&[]);
        for n in [1, 2, 3] {
            queue.insert(id(n), REST, 100.0, None);
        }
        assert_eq!(queue.take(true), Some(id(3)));
        assert!(queue.remove(id(1)));
        assert!(!queue.remove(id(1)));
        assert_eq!(queue.take(false), Some(id(2)));
        assert_eq!(queue.take(false), None);
    }

    #[test]
    fn a_resting_ticket_returns_to_its_place() {
        let mut queue = Queue::new(&[]);
        queue.insert(id(2), REST, 100.0, None);
        queue.insert(id(3), REST, 100.0, None);
        queue.insert(id(1), REST, 100.0, Some(5.0));
        queue.wake(4.9);
        assert_eq!(queue.take(false), Some(id(2)));
        assert!((queue.next_change() - 5.0).abs() < 1e-9);
        queue.wake(5.0);
        assert_eq!(queue.take(false), Some(id(1)));
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn deadlines_take_tickets_out_wherever_they_are() {
        let mut queue = Queue::new(&[]);
        queue.insert(id(1), REST, 3.0, Some(50.0));
        queue.insert(id(2), REST, 2.0, None);
        assert_eq!(queue.expired(1.0), None);
        assert_eq!(queue.expired(3.0), Some(id(2)));
        assert_eq!(queue.expired(3.0), Some(id(1)));
        assert_eq!(queue.len(), 0);
        assert!(queue.next_change().is_infinite());
    }
}
