//! The nodes above the lanes: limits on everything of one credential, or of one upstream.
//!
//! A node exists where a limit is known for it: an operator or the API said so, or the evidence of refusals did. A
//! ticket of a lane below starts only when each of them grants too, and the lanes below take turns.

use super::NodeView;
use super::key::{LaneKey, Level};
use super::lane::Node;
use super::law::{Answer, Stamp};
use super::memory::Memory;
use super::ticket::NodeOrigin;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The levels above a lane, the narrowest first.
pub(super) const ABOVE: [Level; 2] = [Level::Credential, Level::Upstream];

/// A node above lanes, and who is below.
#[derive(Debug)]
pub(super) struct Above {
    pub(super) node: Node,
    pub(super) origin: NodeOrigin,
    /// It is above all lanes whose key leads through it, not only above those that evidence put there.
    covers_all: bool,
    /// The lanes that evidence put below it: what they had learnt before is set aside.
    lanes: BTreeSet<u32>,
    /// The lanes below in which something waits, and how much.
    waiting: BTreeMap<u32, usize>,
    /// How many each lane let go, counted from when it last had something waiting: the least is next.
    turns: BTreeMap<u32, f64>,
    present: f64,
}

/// The nodes by their part of the path.
#[derive(Debug, Default)]
pub(super) struct Shared {
    nodes: BTreeMap<(Level, LaneKey), Above>,
}

impl Above {
    /// A node above `lanes`; `None`: above all whose key leads through it.
    pub(super) fn new(node: Node, origin: NodeOrigin, lanes: Option<BTreeSet<u32>>) -> Self {
        let covers_all = lanes.is_none();
        let lanes = lanes.unwrap_or_default();
        let (waiting, turns) = (BTreeMap::new(), BTreeMap::new());
        Self { node, origin, covers_all, lanes, waiting, turns, present: 0.0 }
    }

    /// The lanes that evidence put below it.
    pub(super) fn lanes(&self) -> impl Iterator<Item = u32> + '_ {
        self.lanes.iter().copied()
    }

    /// A refusal of a request that this node did not let go, since nobody knew that it was above it.
    pub(super) fn hear_refusal(&mut self, now: f64, retry_after: Option<f64>) {
        let stamp = self.node.take(now);
        self.node.settle(now, stamp, Answer::Refused { retry_after }, &[]);
        self.node.ended();
    }

    /// The API says that all lanes whose key leads through it meet this limit, not only those that evidence showed.
    pub(super) fn widen(&mut self) {
        (self.origin, self.covers_all) = (NodeOrigin::Said, true);
    }

    fn covers(&self, lane: u32) -> bool {
        self.covers_all || self.lanes.contains(&lane)
    }

    /// So many wait in a lane below. Who comes back from a time with nothing to send has saved no turns.
    fn note(&mut self, lane: u32, waiting: usize) -> usize {
        if waiting == 0 {
            self.waiting.remove(&lane);
        } else if self.waiting.insert(lane, waiting).is_none() {
            let present = self.present;
            let turn = self.turns.entry(lane).or_insert(present);
            *turn = turn.max(present);
        }
        self.waiting.values().sum()
    }

    fn took(&mut self, lane: u32) {
        let present = self.present;
        let turn = self.turns.entry(lane).or_insert(present);
        self.present = present.max(*turn);
        *turn += 1.0;
    }
}

impl Shared {
    /// Puts a node at `level` of `key`'s path.
    pub(super) fn insert(&mut self, level: Level, key: &LaneKey, above: Above) {
        self.nodes.insert(part_of(level, key), above);
    }

    /// The node at `level` of `key`'s path, also for lanes that it is not above.
    pub(super) fn at(&mut self, level: Level, key: &LaneKey) -> Option<&mut Above> {
        self.nodes.get_mut(&part_of(level, key))
    }

    /// Takes away the node at `level` of `key`'s path.
    pub(super) fn remove(&mut self, level: Level, key: &LaneKey) -> Option<Above> {
        self.nodes.remove(&part_of(level, key))
    }

    /// There are none.
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The node at `level` of the path of a lane, if it is below one.
    pub(super) fn get(&mut self, level: Level, key: &LaneKey, lane: u32) -> Option<&mut Above> {
        if self.nodes.is_empty() {
            return None;
        }
        self.nodes.get_mut(&part_of(level, key)).filter(|above| above.covers(lane))
    }

    /// Forgets a lane, and every node that then has none below it; `others` are the keys of the lanes that are left.
    pub(super) fn forget<'a>(&mut self, lane: u32, others: &(impl Iterator<Item = &'a LaneKey> + Clone)) {
        self.nodes.retain(|part, above| {
            above.waiting.remove(&lane);
            above.turns.remove(&lane);
            let emptied = above.lanes.remove(&lane) && above.lanes.is_empty() && !above.covers_all;
            !emptied && (above.origin == NodeOrigin::Configured || is_left(part, others.clone()))
        });
    }

    /// When every node above a lane grants, with `waiting` tickets in it.
    pub(super) fn ready_at(&mut self, key: &LaneKey, lane: u32, now: f64, waiting: usize) -> f64 {
        let mut at = f64::NEG_INFINITY;
        self.each(key, lane, |_, above| {
            let all = above.note(lane, waiting);
            at = at.max(above.node.ready_at(now, all, false));
        });
        at
    }

    /// Nothing waits in a lane from now on.
    pub(super) fn rests(&mut self, key: &LaneKey, lane: u32, now: f64) {
        self.each(key, lane, |_, above| {
            if above.note(lane, 0) == 0 {
                above.node.hear(now, 0);
            }
        });
    }

    /// The lanes with something waiting below the widest node above a lane, in the order of their turns.
    pub(super) fn turns(&self, key: &LaneKey, lane: u32) -> Vec<u32> {
        if self.nodes.is_empty() {
            return Vec::new();
        }
        let widest = ABOVE.into_iter().rev().filter_map(|level| self.nodes.get(&part_of(level, key)));
        let Some(above) = widest.filter(|above| above.covers(lane)).max_by_key(|above| above.waiting.len())
        else {
            return Vec::new();
        };
        let turn = |lane: &u32| above.turns.get(lane).copied().unwrap_or(above.present);
        let mut lanes: Vec<u32> = above.waiting.keys().copied().collect();
        lanes.sort_by(|a, b| turn(a).total_cmp(&turn(b)).then(a.cmp(b)));
        lanes
    }

    /// One of a lane leaves.
    pub(super) fn take(&mut self, key: &LaneKey, lane: u32, now: f64) -> Vec<(Level, Stamp)> {
        let mut stamps = Vec::new();
        self.each(key, lane, |level, above| {
            above.took(lane);
            stamps.push((level, above.node.take(now)));
        });
        stamps
    }

    /// The exchange of one is over that these levels let go.
    pub(super) fn ended(&mut self, key: &LaneKey, levels: impl Iterator<Item = Level>) {
        for level in levels {
            if let Some(above) = self.nodes.get_mut(&part_of(level, key)) {
                above.node.ended();
            }
        }
    }

    /// It did not leave after all.
    pub(super) fn give_back(&mut self, key: &LaneKey, now: f64, stamps: &[(Level, Stamp)]) {
        for (level, stamp) in stamps {
            if let Some(above) = self.nodes.get_mut(&part_of(*level, key)) {
                above.node.give_back(now, *stamp);
            }
        }
    }

    /// Its answer, and what that announces, as each level hears it.
    pub(super) fn settle(
        &mut self,
        key: &LaneKey,
        now: f64,
        stamps: &[(Level, Stamp)],
        answer: impl Fn(Level) -> Answer,
        told: impl Fn(Level) -> Vec<super::Announcement>,
    ) {
        for (level, stamp) in stamps {
            if let Some(above) = self.nodes.get_mut(&part_of(*level, key)) {
                above.node.settle(now, *stamp, answer(*level), &told(*level));
            }
        }
    }

    /// The end of the longest pause above a lane.
    pub(super) fn pause_end(&self, key: &LaneKey, lane: u32) -> f64 {
        self.above(key, lane).map(|(_, above)| above.node.pause_end()).fold(f64::NEG_INFINITY, f64::max)
    }

    /// What the next run can start from when the API speaks of these limits again: one for each level and upstream.
    pub(super) fn memories(&self, now: f64) -> impl Iterator<Item = Memory> + '_ {
        let said = self.nodes.iter().filter(|(_, above)| above.origin == NodeOrigin::Said);
        said.filter_map(move |((per, key), above)| {
            let memory = above.node.legacy(now)?.memory(&key.upstream, &"".into(), now);
            Some(Memory { per: *per, ..memory })
        })
    }

    /// The pace that the nodes above a lane leave it, in requests/s, and the seconds that their pauses last; `None`
    /// without a node whose pace is known.
    pub(super) fn part(&self, key: &LaneKey, lane: u32, now: f64) -> Option<(f64, f64)> {
        let known = self.above(key, lane).filter(|(_, above)| !above.node.is_starting());
        let part = known.map(|(_, above)| {
            let others = above.waiting.keys().filter(|other| **other != lane).count();
            let pause = (above.node.pause_end() - now).max(0.0);
            (above.node.pace().get() / (others + 1) as f64, pause)
        });
        part.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)))
    }

    /// The nodes above a lane as they are shown, the narrowest first.
    pub(super) fn views(&self, key: &LaneKey, lane: u32, now: f64) -> Vec<NodeView> {
        self.above(key, lane).map(|(level, above)| above.view(level, key, now)).collect()
    }

    fn above<'a>(&'a self, key: &'a LaneKey, lane: u32) -> impl Iterator<Item = (Level, &'a Above)> {
        let levels = if self.nodes.is_empty() { &[][..] } else { &ABOVE[..] };
        levels.iter().filter_map(move |level| {
            let above = self.nodes.get(&part_of(*level, key)).filter(|above| above.covers(lane))?;
            Some((*level, above))
        })
    }

    fn each(&mut self, key: &LaneKey, lane: u32, mut act: impl FnMut(Level, &mut Above)) {
        if self.nodes.is_empty() {
            return;
        }
        for level in ABOVE {
            if let Some(above) = self.nodes.get_mut(&part_of(level, key)).filter(|above| above.covers(lane)) {
                act(level, above);
            }
        }
    }
}

impl Above {
    fn view(&self, per: Level, key: &LaneKey, now: f64) -> NodeView {
        NodeView {
            name: name_of(per, key).into(),
            per,
            origin: self.origin,
            lanes: (!self.covers_all).then_some(self.lanes.len()),
            queue_depth: self.waiting.values().sum(),
            pace: self.node.pace().get(),
            limit: self.node.limit(),
            in_flight: usize::try_from(self.node.in_flight).unwrap_or(usize::MAX),
            paused_seconds: (self.node.paused_until() - now).max(0.0),
        }
    }
}

/// Do two keys share the node of this level?
pub(super) fn same_node(level: Level, one: &LaneKey, other: &LaneKey) -> bool {
    level == Level::Route && one == other
        || level != Level::Route
            && one.upstream == other.upstream
            && (level == Level::Upstream || one.credential == other.credential)
}

/// What a node is called: `credential@3f9a0123`, or `upstream@api.example.com:443`.
pub(super) fn name_of(level: Level, key: &LaneKey) -> String {
    match (level, key.credential) {
        (Level::Upstream, _) => format!("upstream@{}", key.upstream),
        (_, Some(hash)) => format!("{}@{}", level.as_str(), hash.short(8)),
        (_, None) => format!("{}@none", level.as_str()),
    }
}

/// Does the path of any of these lanes lead through a node?
pub(super) fn is_left<'a>(part: &(Level, LaneKey), mut lanes: impl Iterator<Item = &'a LaneKey>) -> bool {
    lanes.any(|lane| part_of(part.0, lane) == *part)
}

/// The part of a key that a node above the lane stands for.
pub(super) fn part_of(level: Level, key: &LaneKey) -> (Level, LaneKey) {
    let credential = if level == Level::Upstream { None } else { key.credential };
    (level, LaneKey { upstream: Arc::clone(&key.upstream), credential, route: "".into() })
}
