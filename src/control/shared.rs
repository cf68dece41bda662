//! The nodes above the lanes: limits on everything of one credential, or of one upstream.
//!
//! A node exists where a limit is known for it. A ticket of a lane below starts only when each of them grants too.

use super::key::{LaneKey, Level};
use super::lane::Node;
use super::law::{Answer, Stamp};
use std::collections::HashMap;
use std::sync::Arc;

const ABOVE: [Level; 2] = [Level::Credential, Level::Upstream];

/// The nodes by their part of the path.
#[derive(Debug, Default)]
pub(super) struct Shared {
    nodes: HashMap<(Level, LaneKey), Node>,
}

impl Shared {
    /// Puts a node at `level` of `key`'s path.
    pub(super) fn insert(&mut self, level: Level, key: &LaneKey, node: Node) {
        self.nodes.insert(part_of(level, key), node);
    }

    /// Is there a node at `level` of `key`'s path?
    pub(super) fn has(&self, level: Level, key: &LaneKey) -> bool {
        self.nodes.contains_key(&part_of(level, key))
    }

    /// When every node above `key` grants, with `waiting` tickets in its lane.
    pub(super) fn ready_at(&mut self, key: &LaneKey, now: f64, waiting: usize) -> f64 {
        let mut at = f64::NEG_INFINITY;
        self.each(key, |_, node| at = at.max(node.ready_at(now, waiting, false)));
        at
    }

    /// One of `key`'s lane leaves.
    pub(super) fn take(&mut self, key: &LaneKey, now: f64) -> Vec<(Level, Stamp)> {
        let mut stamps = Vec::new();
        self.each(key, |level, node| stamps.push((level, node.take(now))));
        stamps
    }

    /// The exchange of one of `key`'s lane is over.
    pub(super) fn ended(&mut self, key: &LaneKey) {
        self.each(key, |_, node| node.ended());
    }

    /// It did not leave after all.
    pub(super) fn give_back(&mut self, key: &LaneKey, now: f64, stamps: &[(Level, Stamp)]) {
        for (level, stamp) in stamps {
            if let Some(node) = self.nodes.get_mut(&part_of(*level, key)) {
                node.give_back(now, *stamp);
            }
        }
    }

    /// Its answer, as each level hears it.
    pub(super) fn settle(
        &mut self,
        key: &LaneKey,
        now: f64,
        stamps: &[(Level, Stamp)],
        answer: impl Fn(Level) -> Answer,
    ) {
        for (level, stamp) in stamps {
            if let Some(node) = self.nodes.get_mut(&part_of(*level, key)) {
                node.settle(now, *stamp, answer(*level), &[]);
            }
        }
    }

    fn each(&mut self, key: &LaneKey, mut act: impl FnMut(Level, &mut Node)) {
        if self.nodes.is_empty() {
            return;
        }
        for level in ABOVE {
            if let Some(node) = self.nodes.get_mut(&part_of(level, key)) {
                act(level, node);
            }
        }
    }
}

/// Do two keys share the node of this level?
pub(super) fn same_node(level: Level, one: &LaneKey, other: &LaneKey) -> bool {
    part_of(level, one) == part_of(level, other)
}

/// The part of a key that a node above the lane stands for.
fn part_of(level: Level, key: &LaneKey) -> (Level, LaneKey) {
    let credential = if level == Level::Upstream { None } else { key.credential };
    (level, LaneKey { upstream: Arc::clone(&key.upstream), credential, route: "".into() })
}
