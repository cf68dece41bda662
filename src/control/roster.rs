//! Which lanes exist: made on first use, named once, bounded in number, forgotten when idle.

use super::key::LaneKey;
use super::lane::{Lane, Node};
use super::memory::{Legacy, Memory};
use super::queue::Queue;
use super::settings::LanesSettings;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Upstream and route.
type Route = (Arc<str>, Arc<str>);

/// The lanes by index and by key, and what forgotten ones had learnt.
#[derive(Debug, Default)]
pub(super) struct Roster {
    lanes: BTreeMap<u32, Lane>,
    by_key: HashMap<LaneKey, u32>,
    names: HashSet<Arc<str>>,
    /// What forgotten lanes and earlier runs had learnt, by upstream and route.
    legacies: HashMap<Route, Legacy>,
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
        let same_route = |lane: &&Lane| lane.key.upstream == key.upstream && lane.key.route == key.route;
        let donor = self.lanes.values().filter(same_route).max_by(|a, b| a.used_at.total_cmp(&b.used_at));
        let legacy = match donor {
            Some(lane) => lane.legacy(),
            None => self.legacies.get(&(Arc::clone(&key.upstream), Arc::clone(&key.route))).cloned(),
        };
        let node = Node::heir(settings, &key, legacy.as_ref(), now);
        let name = self.free_name(&key);
        let index = self.next;
        self.next += 1;
        self.names.insert(Arc::clone(&name));
        self.by_key.insert(key.clone(), index);
        let queue = Queue::new(&settings.classes);
        self.lanes.insert(index, Lane::new(key, index, Arc::clone(&name), node, queue, now));
        (index, name)
    }

    /// Forgets lanes that nobody used for long (when there is no room: for a minute); keeps what they learnt for their
    /// route. Gives their indices, wake-ups and names.
    pub(super) fn forget_idle(&mut self, now: f64, settings: &LanesSettings) -> Vec<(u32, f64, Arc<str>)> {
        let idle = settings.queue.lane_idle.as_secs_f64();
        let idle = if self.has_room(settings) { idle } else { idle.min(60.0) };
        // An operator's word outlives idle times.
        let unused =
            |lane: &Lane| lane.is_idle() && !lane.node.is_commanded(now) && now - lane.used_at > idle;
        let gone: Vec<u32> = self.iter().filter(|(_, lane)| unused(lane)).map(|(index, _)| index).collect();
        gone.into_iter().filter_map(|index| self.forget(index, settings)).collect()
    }

    fn forget(&mut self, index: u32, settings: &LanesSettings) -> Option<(u32, f64, Arc<str>)> {
        let lane = self.lanes.remove(&index)?;
        self.by_key.remove(&lane.key);
        self.names.remove(&lane.name);
        if let Some(legacy) = lane.legacy() {
            self.leave((lane.key.upstream, lane.key.route), legacy, settings);
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
            lane.legacy()?.memory(upstream, route, now)
        };
        let left = self.legacies.iter();
        let left = left.filter_map(|((upstream, route), legacy)| legacy.memory(upstream, route, now));
        let mut memories: Vec<Memory> = self.lanes.values().filter_map(of_lane).chain(left).collect();
        let name = |memory: &Memory| (Arc::clone(&memory.upstream), Arc::clone(&memory.route));
        let later = |a: &Memory, b: &Memory| a.age_seconds.total_cmp(&b.age_seconds);
        memories.sort_by(|a, b| later(a, b).then_with(|| name(a).cmp(&name(b))));
        let mut told = HashSet::new();
        memories.retain(|memory| told.insert(name(memory)));
        memories.truncate(settings.queue.lanes_max);
        memories
    }

    /// A name that no other lane has: `messages@3f9a`, or `messages~2@3f9a`.
    fn free_name(&self, key: &LaneKey) -> Arc<str> {
        let plain = key.name(4);
        let (label, rest) = plain.split_once('@').unwrap_or((&plain, "none"));
        let numbered = |n: usize| if n == 1 { plain.clone() } else { format!("{label}~{n}@{rest}") };
        let free = |name: &String| !self.names.contains(name.as_str());
        (1..=self.names.len() + 1).map(numbered).find(free).unwrap_or_else(|| plain.clone()).into()
    }
}
