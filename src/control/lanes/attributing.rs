//! Whose limit refused? By the API's words, else by the evidence of what else got through; and the nodes above lanes that
//! come to be, and go, by either.

use super::Lanes;
use crate::control::Prior;
use crate::control::attribution::Verdict;
use crate::control::event::Event;
use crate::control::key::{LaneKey, Level};
use crate::control::lane::{Lane, Node};
use crate::control::law::{Law, LawName};
use crate::control::outcome::Hint;
use crate::control::retry::seconds_of;
use crate::control::settings::Mode;
use crate::control::shared::{ABOVE, Above, name_of, part_of, same_node};
use crate::control::ticket::NodeOrigin;
use std::sync::Arc;

impl Lanes {
    /// The level of the limit that refused a request of a lane: what the API says, else the node that evidence put above
    /// the lane, else the lane's own.
    pub(super) fn attribute(&mut self, now: f64, index: u32, hint: Hint) -> Level {
        let Some(lane) = self.roster.get(index) else { return Level::Route };
        let key = lane.key.clone();
        match hint.level {
            Some(Level::Route) => Level::Route,
            Some(level) if self.shared.get(level, &key, index).is_some() => level,
            Some(level) if self.learns_shared(lane) || self.watches_shared() => {
                self.say(now, level, &key, hint);
                level
            }
            Some(_) => Level::Route,
            None => {
                let found = ABOVE.into_iter().find(|level| self.meets(*level, &key, index, now));
                found.unwrap_or_default()
            }
        }
    }

    /// Can a node above a lane learn a limit? In a dry run nothing would be held back by it, and a fixed law learns
    /// nothing.
    fn learns_shared(&self, lane: &Lane) -> bool {
        self.settings.law.name != LawName::Fixed && !lane.node.observes()
    }

    /// In a dry run of all lanes a node above them only watches, as they do: it is there to be told of.
    fn watches_shared(&self) -> bool {
        self.settings.law.name != LawName::Fixed && self.settings.law.mode == Mode::Observe
    }

    /// Is the node at `level` above a lane what a refusal without words meets? A node that evidence made stands for just
    /// that. One that the API spoke of does where its lanes use what is known of it, and the lane does not use up its own.
    fn meets(&mut self, level: Level, key: &LaneKey, index: u32, now: f64) -> bool {
        let Some(above) = self.shared.get(level, key, index) else { return false };
        match above.origin {
            NodeOrigin::Found => true,
            NodeOrigin::Configured => false,
            NodeOrigin::Said => {
                let Some((requests, seconds)) = above.node.law.believes() else { return false };
                let below = self.roster.iter().filter(|(_, lane)| same_node(level, &lane.key, key));
                let used: f64 = below.map(|(_, lane)| lane.passed.recent_rate(now)).sum();
                let own = self.roster.get(index).and_then(|lane| {
                    let (requests, seconds) = lane.node.law.believes()?;
                    Some(lane.passed.recent_rate(now) * seconds / requests)
                });
                let used = used * seconds / requests;
                used >= USED && own.is_none_or(|own| own < used)
            }
        }
    }

    /// The API speaks of a limit at `level` that no node above the lane stands for. One that evidence put above other
    /// lanes keeps what it knows, and is above all from now on; a new one starts from what the lanes below got through
    /// lately. The refusal is the first thing that it hears.
    fn say(&mut self, now: f64, level: Level, key: &LaneKey, hint: Hint) {
        let retry_after = seconds_of(hint);
        if let Some(above) = self.shared.at(level, key) {
            above.widen();
            above.hear_refusal(now, retry_after);
        } else {
            let below = self.roster.iter().filter(|(_, lane)| same_node(level, &lane.key, key));
            let used: f64 = below.map(|(_, lane)| lane.passed.recent_rate(now)).sum();
            let known = self.remembered.get(&(level, Arc::clone(&key.upstream)));
            let prior = known
                .and_then(Prior::remembered)
                .unwrap_or_else(|| Prior::of_parts(used.max(self.settings.law.start_rate.get())));
            let law = Law::new(&self.settings.law, Some(&prior), now);
            let node = Node::new(law, None).in_mode(self.settings.law.mode);
            let mut above = Above::new(node, NodeOrigin::Said, None);
            above.hear_refusal(now, retry_after);
            self.shared.insert(level, key, above);
        }
        self.events.push_back(Event::LimitShared { limit: name_of(level, key).into(), lanes: Vec::new() });
    }

    /// Notes a refusal without words, and joins the lanes that it shows to meet one limit, or parts those that do not.
    pub(super) fn weigh(&mut self, now: f64, index: u32, sent_at: f64) {
        let Some(lane) = self.roster.get(index).filter(|lane| self.learns_shared(lane)) else { return };
        let key = lane.key.clone();
        for level in ABOVE {
            match self.judge(level, &key, index, sent_at) {
                Verdict::OneLimit { lanes, per_second } => {
                    return self.join(now, level, &key, lanes, per_second);
                }
                Verdict::Apart => return self.part(now, level, &key),
                Verdict::Unclear => (),
            }
        }
    }

    /// Notes a refusal in the evidence on the node at `level` above a lane, and says what follows.
    fn judge(&mut self, level: Level, key: &LaneKey, index: u32, sent_at: f64) -> Verdict {
        let below = || self.roster.iter().filter(|(_, lane)| same_node(level, &lane.key, key));
        // Below an upstream, lanes of one credential say nothing that is not said of the credential.
        let is_another = |(other, lane): (u32, &Lane)| {
            other != index && (level != Level::Upstream || lane.key.credential != key.credential)
        };
        if !below().any(is_another) {
            return Verdict::Unclear;
        }
        let evidence = self.evidence.entry(part_of(level, key)).or_default();
        evidence.refused(index, sent_at, below().map(|(other, lane)| (other, &lane.passed)));
        let verdict = match self.shared.get(level, key, index).map(|above| above.origin) {
            None => evidence.of_apart(),
            Some(NodeOrigin::Found) => evidence.of_joined(),
            Some(NodeOrigin::Said | NodeOrigin::Configured) => Verdict::Unclear,
        };
        match verdict {
            Verdict::OneLimit { .. } => evidence.start_over(),
            Verdict::Apart => evidence.was_wrong(),
            Verdict::Unclear => (),
        }
        verdict
    }

    /// Puts a node above lanes that meet one limit. What each had learnt of its own was its part of that: it is set aside.
    fn join(&mut self, now: f64, level: Level, key: &LaneKey, lanes: Vec<u32>, per_second: f64) {
        // A node that stood there for other lanes goes.
        self.part(now, level, key);
        let (mut names, mut paces) = (Vec::new(), 0.0);
        for index in &lanes {
            if let Some(lane) = self.roster.get_mut(*index) {
                let settings = self.settings.law_of(&lane.key);
                // No refusal makes anything faster: that is left to what is let through.
                let pace = lane.node.law.current_rate().get();
                lane.node.set_law_aside(now, Law::new(settings, Some(&Prior::unlimited(pace)), now));
                names.push(Arc::clone(&lane.name));
                paces += pace;
            }
        }
        let prior = Prior::of_parts(per_second.min(paces));
        let node = Node::new(Law::new(&self.settings.law, Some(&prior), now), None);
        let above = Above::new(node, NodeOrigin::Found, Some(lanes.into_iter().collect()));
        self.shared.insert(level, key, above);
        self.events.push_back(Event::LimitShared { limit: name_of(level, key).into(), lanes: names });
    }

    /// Forgets what was learnt of limits above a lane.
    pub(super) fn forget_above(&mut self, now: f64, key: &LaneKey, index: u32) {
        for level in ABOVE {
            let learnt = |above: &mut Above| above.origin != NodeOrigin::Configured;
            if self.shared.get(level, key, index).is_some_and(learnt) {
                self.evidence.remove(&part_of(level, key));
                self.part(now, level, key);
            }
        }
    }

    /// Takes away the node that evidence put at `level` of `key`'s path: its lanes go on from what they had learnt.
    pub(super) fn part(&mut self, now: f64, level: Level, key: &LaneKey) {
        let Some(above) = self.shared.remove(level, key) else { return };
        for index in above.lanes() {
            if let Some(lane) = self.roster.get_mut(index) {
                let settings = self.settings.law_of(&lane.key);
                lane.node.take_law_back(now, settings);
            }
        }
        self.events.push_back(Event::LimitParted { limit: name_of(level, key).into() });
        let lanes: Vec<u32> = self.roster.iter().map(|(index, _)| index).collect();
        for index in lanes {
            self.schedule(now, index);
        }
    }
}

/// The share of a limit's known number from which on it may be what refuses.
const USED: f64 = 0.85;

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "moments count from one real moment")]
mod tests {
    use super::*;
    use crate::control::{CredentialHash, LanesSettings, Memory, Outcome, Rate, Report, Step, Ticket};
    use std::time::{Duration, Instant};

    /// A node that evidence put above some lanes keeps its number when the API's words put another lane below it.
    #[test]
    fn words_widen_a_node_that_evidence_found() {
        let epoch = Instant::now();
        let mut lanes = Lanes::new(LanesSettings::default(), epoch);
        let key = |route: &str| LaneKey {
            upstream: "api:443".into(),
            credential: Some(CredentialHash(1)),
            route: route.into(),
        };
        let far = Ticket::until(epoch + Duration::from_mins(1));
        let (inside, _) = lanes.submit(epoch, &key("/inside"), far).unwrap();
        let (outside, _) = lanes.submit(epoch, &key("/outside"), far).unwrap();
        while matches!(lanes.poll(epoch), Step::Start(_)) {}
        let slow = 0.5;
        lanes.join(0.0, Level::Credential, &key("/inside"), vec![0], slow);
        lanes.settle(epoch, inside, &Report::new(Outcome::Accepted, false));
        let now = epoch + Duration::from_millis(50);
        let above = |lanes: &Lanes, route: &str| {
            let views = lanes.snapshot(now);
            let view = views.iter().find(|view| view.key == key(route)).unwrap();
            view.above.first().map(|node| (node.origin, node.pace))
        };
        let before = above(&lanes, "/inside").unwrap();
        assert!(before.0 == NodeOrigin::Found && above(&lanes, "/outside").is_none());
        assert!(before.1 <= slow && slow < Rate::new(4.0).get());

        let hint = Hint { retry_after: None, level: Some(Level::Credential) };
        lanes.settle(now, outside, &Report::new(Outcome::Limited(hint), false));
        let after = above(&lanes, "/inside").unwrap();
        assert_eq!(after.0, NodeOrigin::Said);
        assert!(after.1 <= before.1, "{after:?}");
        assert_eq!(above(&lanes, "/outside"), Some(after));
    }

    /// What is on each credential is what any of them starts from, once the API speaks of it.
    #[test]
    fn a_limit_above_lanes_is_remembered_without_the_credential() {
        let epoch = Instant::now();
        let memory = Memory {
            upstream: "api:443".into(),
            route: "".into(),
            per: Level::Credential,
            age_seconds: 60.0,
            pace: Rate::new(5.0),
            is_unmet: false,
            number: None,
            budget: Some((300, 60.0)),
        };
        let mut lanes = Lanes::new(LanesSettings::default(), epoch);
        assert!(lanes.remember(epoch, &memory));
        assert_eq!(lanes.memories(epoch), [memory], "it is kept until it is met again");
        let key = LaneKey {
            upstream: "api:443".into(),
            credential: Some(CredentialHash(7)),
            route: "/messages".into(),
        };
        let (id, _) = lanes.submit(epoch, &key, Ticket::until(epoch + Duration::from_mins(1))).unwrap();
        assert_eq!(lanes.poll(epoch), Step::Start(id));
        let now = epoch + Duration::from_millis(50);
        let hint = Hint { retry_after: None, level: Some(Level::Credential) };
        lanes.settle(now, id, &Report::new(Outcome::Limited(hint), false));
        let view = lanes.snapshot(now).remove(0);
        let limit = view.above.first().and_then(|node| node.limit.clone()).unwrap();
        assert_eq!((limit.requests, limit.window_seconds), (300.0, 60.0));
        let kept = lanes.memories(now);
        let above = kept.iter().find(|memory| memory.per == Level::Credential).unwrap();
        assert_eq!(
            (above.budget, above.upstream.as_ref(), above.route.as_ref()),
            (Some((300, 60.0)), "api:443", "")
        );
    }
}
