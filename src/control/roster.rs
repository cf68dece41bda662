//! Which lanes exist: made on first use, named once, bounded in number, forgotten when idle.

use super::hash::NameHashes;
use super::key::LaneKey;
use super::lane::{Lane, Node};
use super::memory::{Legacy, Memory};
use super::queue::Queue;
use super::settings::LanesSettings;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Upstream and route.
type Route = (Arc<str>, Arc<str>);

/// The lanes of one route.
#[derive(Debug, Default)]
struct Family {
    lanes: BTreeSet<u32>,
    /// The one that was used last, if it still exists.
    latest: Option<u32>,
}

/// The lanes by index and by key, and what forgotten ones had learnt.
#[derive(Debug, Default)]
pub(super) struct Roster {
    lanes: BTreeMap<u32, Lane>,
    by_key: HashMap<LaneKey, u32, NameHashes>,
    by_route: HashMap<Route, usize>,
    families: Vec<Family>,
    /// Places in `families` that no route has.
    unused_families: Vec<usize>,
    names: Names,
    /// What forgotten lanes and earlier runs had learnt, by upstream and route.
    legacies: HashMap<Route, Legacy>,
    /// No lane that may be forgotten was last used before that, as far as the last look at all of them told.
    unused_since: f64,
    next: u32,
}

impl Roster {
    pub(super) fn get(&self, index: u32) -> Option<&Lane> {
        self.lanes.get(&index)
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Lane> {
        self.lanes.get_mut(&index)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Lane)> + Clone {
        self.lanes.iter().map(|(index, lane)| (*index, lane))
    }

    /// The lane of `key`, if there is one.
    pub(super) fn find(&self, key: &LaneKey) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    /// The lane of that name, if there is one.
    pub(super) fn find_name(&self, name: &str) -> Option<u32> {
        self.iter().find(|(_, lane)| *lane.name == *name).map(|(index, _)| index)
    }

    /// Is there room for another lane?
    pub(super) fn has_room(&self, settings: &LanesSettings) -> bool {
        self.lanes.len() < settings.queue.lanes_max.max(1)
    }

    /// Makes the lane of `key`. It starts from what its route's other credentials learnt.
    pub(super) fn make(&mut self, now: f64, key: LaneKey, settings: &LanesSettings) -> (u32, Arc<str>) {
        let route = (Arc::clone(&key.upstream), Arc::clone(&key.route));
        let index = self.next;
        self.next += 1;
        let legacy = match self.latest(&route) {
            Some(lane) => lane.node.legacy(lane.used_at),
            None => self.legacies.get(&route).cloned(),
        };
        let node = Node::heir(settings, &key, legacy.as_ref(), now);
        let name = self.names.take(&key.name(4));
        self.by_key.insert(key.clone(), index);
        let queue = Queue::new(&settings.classes);
        let family = self.join(route, index);
        let lane = Lane { family, ..Lane::new(key, index, Arc::clone(&name), node, queue, now) };
        self.lanes.insert(index, lane);
        (index, name)
    }

    /// A lane that is used now.
    pub(super) fn used(&mut self, now: f64, index: u32) -> Option<&mut Lane> {
        let lane = self.lanes.get_mut(&index)?;
        lane.used_at = now;
        if let Some(family) = self.families.get_mut(lane.family) {
            family.latest = Some(index);
        }
        Some(lane)
    }

    /// Of a route's lanes the one that was used last.
    fn latest(&self, route: &Route) -> Option<&Lane> {
        let family = self.families.get(*self.by_route.get(route)?)?;
        // Which one it is now that the latest was forgotten is seldom asked.
        let known = || {
            let lanes = family.lanes.iter().filter_map(|index| self.lanes.get(index));
            lanes.max_by(|a, b| a.used_at.total_cmp(&b.used_at))
        };
        family.latest.and_then(|index| self.lanes.get(&index)).or_else(known)
    }

    /// Adds a lane to its route's; gives their place.
    fn join(&mut self, route: Route, index: u32) -> usize {
        let place = *self.by_route.entry(route).or_insert_with(|| {
            self.unused_families.pop().unwrap_or_else(|| {
                self.families.push(Family::default());
                self.families.len() - 1
            })
        });
        if let Some(family) = self.families.get_mut(place) {
            family.lanes.insert(index);
            family.latest = Some(index);
        }
        place
    }

    /// Takes a lane out of its route's.
    fn quit(&mut self, route: &Route, place: usize, index: u32) {
        let Some(family) = self.families.get_mut(place) else { return };
        family.lanes.remove(&index);
        family.latest.take_if(|latest| *latest == index);
        if family.lanes.is_empty() {
            self.by_route.remove(route);
            self.unused_families.push(place);
        }
    }

    /// Forgets lanes that nobody used for long (when there is no room: for a minute); keeps what they learnt for their
    /// route. Gives their indices, wake-ups and names.
    pub(super) fn forget_idle(&mut self, now: f64, settings: &LanesSettings) -> Vec<(u32, f64, Arc<str>)> {
        let idle = settings.queue.lane_idle.as_secs_f64();
        let idle = if self.has_room(settings) { idle } else { idle.min(60.0) };
        // All of them have to be looked at: not for every key that is new.
        if now - self.unused_since <= idle {
            return Vec::new();
        }
        // An operator's word outlives idle times.
        let is_kept = |lane: &Lane| !lane.is_idle() || lane.node.is_commanded(now);
        let unused = |lane: &Lane| !is_kept(lane) && now - lane.used_at > idle;
        let left = self.lanes.values().filter(|lane| !unused(lane));
        let used_at = |lane: &Lane| if is_kept(lane) { now } else { lane.used_at };
        let unused_since = left.map(used_at).fold(now, f64::min);
        let gone: Vec<u32> = self.iter().filter(|(_, lane)| unused(lane)).map(|(index, _)| index).collect();
        self.unused_since = unused_since;
        gone.into_iter().filter_map(|index| self.forget(index, settings)).collect()
    }

    fn forget(&mut self, index: u32, settings: &LanesSettings) -> Option<(u32, f64, Arc<str>)> {
        let lane = self.lanes.remove(&index)?;
        self.by_key.remove(&lane.key);
        self.names.give(&lane.key.name(4), &lane.name);
        let legacy = lane.node.legacy(lane.used_at);
        let route = (lane.key.upstream, lane.key.route);
        self.quit(&route, lane.family, index);
        if let Some(legacy) = legacy {
            self.leave(route, legacy, settings);
        }
        Some((index, lane.wake, lane.name))
    }

    fn leave(&mut self, route: Route, legacy: Legacy, settings: &LanesSettings) {
        if self.legacies.len() < settings.queue.lanes_max || self.legacies.contains_key(&route) {
            self.legacies.insert(route, legacy);
        }
    }

    /// Starts the route's lanes from what an earlier run learnt; false for numbers that no limit has.
    pub(super) fn remember(&mut self, now: f64, memory: &Memory, settings: &LanesSettings) -> bool {
        let Some(legacy) = Legacy::of(memory, now) else { return false };
        self.leave((Arc::clone(&memory.upstream), Arc::clone(&memory.route)), legacy, settings);
        true
    }

    /// What the next run can start from: for each route, what was used last, the latest first; no more than lanes may
    /// exist.
    pub(super) fn memories(&self, now: f64, settings: &LanesSettings) -> Vec<Memory> {
        let of_lane = |lane: &Lane| {
            let LaneKey { upstream, route, .. } = &lane.key;
            Some(lane.node.legacy(lane.used_at)?.memory(upstream, route, now))
        };
        let left = self.legacies.iter();
        let left = left.map(|((upstream, route), legacy)| legacy.memory(upstream, route, now));
        let mut memories: Vec<Memory> = self.lanes.values().filter_map(of_lane).chain(left).collect();
        let name = |memory: &Memory| (Arc::clone(&memory.upstream), Arc::clone(&memory.route));
        let later = |a: &Memory, b: &Memory| a.age_seconds.total_cmp(&b.age_seconds);
        memories.sort_by(|a, b| later(a, b).then_with(|| name(a).cmp(&name(b))));
        let mut told = HashSet::new();
        memories.retain(|memory| told.insert(name(memory)));
        memories.truncate(settings.queue.lanes_max);
        memories
    }
}

/// The lanes' names, no two alike: `messages@3f9a`, then `messages~2@3f9a`.
#[derive(Debug, Default)]
struct Names {
    taken: HashMap<Arc<str>, usize>,
    numbers: HashMap<String, Numbers>,
}

/// The numbers of one plain name.
#[derive(Debug, Default)]
struct Numbers {
    /// Those that were given back, of all up to the last.
    free: BTreeSet<usize>,
    last: usize,
    out: usize,
}

impl Names {
    /// The first free one.
    fn take(&mut self, plain: &str) -> Arc<str> {
        let (label, rest) = plain.split_once('@').unwrap_or((plain, "none"));
        let numbers = self.numbers.entry(plain.to_owned()).or_default();
        numbers.out += 1;
        loop {
            let number = numbers.free.pop_first().unwrap_or_else(|| {
                numbers.last += 1;
                numbers.last
            });
            let name = if number == 1 { plain.to_owned() } else { format!("{label}~{number}@{rest}") };
            // A label may look like a numbered one: then the name is that one's.
            if !self.taken.contains_key(name.as_str()) {
                let name: Arc<str> = name.into();
                self.taken.insert(Arc::clone(&name), number);
                return name;
            }
        }
    }

    /// It is free again.
    fn give(&mut self, plain: &str, name: &Arc<str>) {
        let Some(number) = self.taken.remove(name) else { return };
        let Some(numbers) = self.numbers.get_mut(plain) else { return };
        numbers.free.insert(number);
        numbers.out -= 1;
        if numbers.out == 0 {
            self.numbers.remove(plain);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unlike_each_other_and_the_first_free_one_is_next() {
        let mut names = Names::default();
        let taken: Vec<_> = (0..4).map(|_| names.take("a@1")).collect();
        assert_eq!(taken.iter().map(|name| &**name).collect::<Vec<_>>(), ["a@1", "a~2@1", "a~3@1", "a~4@1"]);
        assert_eq!(&*names.take("a~5@1"), "a~5@1", "a label that looks like a numbered one");
        assert_eq!(&*names.take("a@1"), "a~6@1");
        names.give("a@1", &taken[2]);
        names.give("a@1", &taken[1]);
        assert_eq!(&*names.take("a@1"), "a~2@1");
        assert_eq!(&*names.take("a@1"), "a~3@1");
        names.give("a~5@1", &"a~5@1".into());
        for name in taken.iter().chain([&"a~6@1".into()]) {
            names.give("a@1", name);
        }
        assert!(names.taken.is_empty() && names.numbers.is_empty());
    }
}
