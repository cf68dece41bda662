//! The simulated API's exact account: who asked, what was let in, what was refused, and when. Pure: time comes in.

use super::pace::Pace;
use super::settings::SimSettings;
use crate::sim::limits::{Announced, Limits, OthersCount, Refused};
use serde::Serialize;
use std::collections::{HashMap, VecDeque};

/// Keys with limits of their own; the ones that come later share one set of limits.
const KEYS_MAX: usize = 10_000;
/// Seconds that the timeline remembers.
const TIMELINE_SECONDS_MAX: usize = 3_600;

/// Limits per key, and what came of them. Seconds count from the start of the simulation.
#[derive(Debug)]
pub(super) struct Account {
    fresh: Limits,
    pace: Pace,
    shared: bool,
    places: HashMap<u64, usize>,
    keys: Vec<Key>,
    keys_max: usize,
    counted: Counts,
    /// The unseen tenant's requests before the account began.
    others_before: OthersCount,
    timeline: Timeline,
    since: f64,
}

#[derive(Debug)]
struct Key {
    limits: Limits,
    accepted: u64,
    refused: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    accepted: u64,
    refused: u64,
    free: u64,
    tokens: u64,
    bodies_cut: u64,
    body_bytes: u64,
}

/// One entry a second, from the first second that is remembered.
#[derive(Debug, Default)]
struct Timeline {
    first_second: u64,
    seconds: VecDeque<(u32, u32)>,
}

impl Account {
    /// An empty account. Every key gets the limits of `settings` afresh.
    pub(super) fn new(settings: &SimSettings) -> Self {
        Self {
            fresh: settings.fresh_limits(),
            pace: Pace::of(settings),
            shared: settings.others.is_some(),
            places: HashMap::new(),
            keys: Vec::new(),
            keys_max: KEYS_MAX,
            counted: Counts::default(),
            others_before: OthersCount::default(),
            timeline: Timeline::default(),
            since: 0.0,
        }
    }

    /// Asks `key`'s limits at `now`, and counts the verdict.
    ///
    /// # Errors
    /// The limit that refuses.
    pub(super) fn admit(&mut self, now: f64, key: u64) -> Result<(), Refused> {
        let known = self.places.len();
        if known < self.keys_max {
            self.places.entry(key).or_insert(known);
        }
        if self.place(key) >= self.keys.len() {
            self.keys.push(Key { limits: self.fresh.clone(), accepted: 0, refused: 0 });
        }
        let Some(key) = self.key(key) else { return Ok(()) };
        let verdict = key.limits.admit(now);
        if verdict.is_ok() {
            key.accepted += 1;
            self.counted.accepted += 1;
        } else {
            key.refused += 1;
            self.counted.refused += 1;
        }
        self.timeline.count(whole_seconds(now), verdict.is_ok());
        verdict
    }

    /// What `key`'s limits announce at `now`; nothing of a key that never asked.
    pub(super) fn announced(&mut self, now: f64, key: u64) -> Vec<Announced> {
        self.key(key).map(|key| key.limits.announced(now)).unwrap_or_default()
    }

    /// A request of `key` that was let in is over.
    pub(super) fn release(&mut self, key: u64) {
        if let Some(key) = self.key(key) {
            key.limits.release();
        }
    }

    /// Where a key's limits are: the keys grow with the places, and the shared place comes right after the last.
    fn place(&self, key: u64) -> usize {
        self.places.get(&key).copied().unwrap_or(self.keys_max)
    }

    fn key(&mut self, key: u64) -> Option<&mut Key> {
        let place = self.place(key);
        self.keys.get_mut(place)
    }

    fn others(&mut self, now: f64) -> OthersCount {
        self.keys.iter_mut().map(|key| key.limits.others(now)).fold(OthersCount::default(), |sum, one| {
            OthersCount { accepted: sum.accepted + one.accepted, refused: sum.refused + one.refused }
        })
    }

    /// Counts a request that no limit applies to.
    pub(super) fn free(&mut self) {
        self.counted.free += 1;
    }

    /// Counts an access token that was handed out.
    pub(super) fn token(&mut self) {
        self.counted.tokens += 1;
    }

    /// Counts bytes of request bodies.
    pub(super) fn body(&mut self, bytes: usize) {
        self.counted.body_bytes += bytes as u64;
    }

    /// Counts a request body that ended before its end.
    pub(super) fn body_cut(&mut self) {
        self.counted.bodies_cut += 1;
    }

    /// Zeroes every count. What the limits have seen, and the keys' numbers, stay.
    pub(super) fn reset(&mut self, now: f64) {
        self.since = now;
        self.counted = Counts::default();
        self.others_before = self.others(now);
        self.timeline = Timeline { first_second: whole_seconds(now), seconds: VecDeque::new() };
        for key in &mut self.keys {
            (key.accepted, key.refused) = (0, 0);
        }
    }

    /// The account at `now`.
    pub(super) fn stats(&mut self, now: f64) -> Stats {
        let elapsed_seconds = (now - self.since).max(0.0);
        let allowed = self.pace.allowed(self.since, now);
        let others = self.others(now);
        let keys: Vec<KeyStats> = self
            .keys
            .iter()
            .enumerate()
            .filter(|(_, key)| key.accepted + key.refused > 0)
            .map(|(index, key)| KeyStats {
                index,
                accepted: key.accepted,
                refused: key.refused,
                utilisation: share_of(allowed, key.accepted, 1),
            })
            .collect();
        let Counts { accepted, refused, free, tokens, bodies_cut, body_bytes } = self.counted;
        let limited = accepted + refused;
        Stats {
            elapsed_seconds,
            now_seconds: now,
            requests: limited + free,
            accepted,
            refused,
            refused_share: if limited == 0 { 0.0 } else { refused as f64 / limited as f64 },
            free,
            tokens,
            body_bytes,
            bodies_cut,
            others: self.shared.then(|| OthersStats {
                accepted: others.accepted - self.others_before.accepted,
                refused: others.refused - self.others_before.refused,
            }),
            utilisation: share_of(allowed, accepted, keys.len()),
            keys,
            timeline: TimelineStats {
                first_second: self.timeline.first_second,
                accepted: self.timeline.seconds.iter().map(|(accepted, _)| *accepted).collect(),
                refused: self.timeline.seconds.iter().map(|(_, refused)| *refused).collect(),
            },
        }
    }
}

impl Timeline {
    fn count(&mut self, second: u64, accepted: bool) {
        let span = second.saturating_sub(self.first_second);
        if span >= 2 * TIMELINE_SECONDS_MAX as u64 {
            // Longer than the memory: nothing of the past is left to keep.
            *self = Self { first_second: second, seconds: VecDeque::new() };
        }
        while self.first_second + (self.seconds.len() as u64) <= second {
            self.seconds.push_back((0, 0));
            if self.seconds.len() > TIMELINE_SECONDS_MAX {
                self.seconds.pop_front();
                self.first_second += 1;
            }
        }
        let place = usize::try_from(second.saturating_sub(self.first_second)).unwrap_or(usize::MAX);
        if let Some((let_in, turned_away)) = self.seconds.get_mut(place) {
            let counter = if accepted { let_in } else { turned_away };
            *counter = counter.saturating_add(1);
        }
    }
}

fn share_of(allowed: Option<f64>, accepted: u64, keys: usize) -> Option<f64> {
    let allowed = allowed? * keys as f64;
    (allowed > 0.0).then(|| accepted as f64 / allowed)
}

/// Whole seconds that have passed at `now`.
fn whole_seconds(now: f64) -> u64 {
    std::time::Duration::try_from_secs_f64(now).map_or(0, |passed| passed.as_secs())
}

/// The account as it is told, since the start or the last reset. `requests` = `accepted` + `refused` + `free`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stats {
    /// Seconds since the account began.
    pub elapsed_seconds: f64,
    /// Seconds since the simulation began: the clock of the timeline and of fixed windows.
    pub now_seconds: f64,
    /// All requests whose fate is decided, without `/oauth/token` and `/__sim/…`.
    pub requests: u64,
    /// Limited requests that were let in.
    pub accepted: u64,
    /// Limited requests that got 429.
    pub refused: u64,
    /// Refused among the limited ones, from 0 to 1.
    pub refused_share: f64,
    /// Requests outside the limited paths.
    pub free: u64,
    /// Access tokens handed out.
    pub tokens: u64,
    /// Bytes of request bodies.
    pub body_bytes: u64,
    /// Request bodies that ended before their end.
    pub bodies_cut: u64,
    /// What came of an unseen tenant's requests, the keys that asked together; none without such a tenant.
    pub others: Option<OthersStats>,
    /// Accepted against the tightest limit's even pace since the account began, all keys that asked together.
    /// A window that is not yet over counts in full, so a short run can exceed 1; what others spend counts as
    /// unused. None without limits of a rate.
    pub utilisation: Option<f64>,
    /// The keys that asked, by number in order of first appearance; the token itself is nowhere.
    pub keys: Vec<KeyStats>,
    /// What was let in and refused in each second.
    pub timeline: TimelineStats,
}

/// What came of the unseen tenant's requests. They are in no other count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct OthersStats {
    /// Let in: spent of the keys' limits.
    pub accepted: u64,
    /// Refused.
    pub refused: u64,
}

/// One key's part of the account.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KeyStats {
    /// The key's number.
    pub index: usize,
    /// Let in.
    pub accepted: u64,
    /// Refused.
    pub refused: u64,
    /// As [`Stats::utilisation`].
    pub utilisation: Option<f64>,
}

/// What was let in and refused, second by second; at most the last hour.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TimelineStats {
    /// The second (since the simulation began) of the first entries.
    pub first_second: u64,
    /// Let in, per second.
    pub accepted: Vec<u32>,
    /// Refused, per second.
    pub refused: Vec<u32>,
}

impl TimelineStats {
    /// Let in during whole seconds `from..to` since the simulation began.
    pub fn accepted_between(&self, from: u64, to: u64) -> u64 {
        (self.first_second..)
            .zip(&self.accepted)
            .filter(|(second, _)| (from..to).contains(second))
            .map(|(_, accepted)| u64::from(*accepted))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Rate;
    use crate::sim::ModelName;
    use crate::sim::limits::Change;

    fn limited(limit: &str) -> SimSettings {
        SimSettings { limits: vec![limit.parse().unwrap()], ..SimSettings::default() }
    }

    fn account(limit: &str) -> Account {
        Account::new(&limited(limit))
    }

    /// How many of `offers` by `key` at `now` are let in.
    fn let_in(account: &mut Account, now: f64, key: u64, offers: usize) -> usize {
        (0..offers).filter(|_| account.admit(now, key).is_ok()).count()
    }

    #[test]
    fn the_sums_add_up() {
        let mut account = account("2/s");
        assert_eq!(let_in(&mut account, 0.5, 1, 5), 2);
        assert_eq!(let_in(&mut account, 3.2, 1, 1), 1);
        account.free();
        account.token();
        account.body(100);
        account.body(23);
        account.body_cut();
        let stats = account.stats(4.0);
        assert_eq!((stats.requests, stats.accepted, stats.refused, stats.free), (7, 3, 3, 1));
        assert!((stats.refused_share - 0.5).abs() < 1e-12);
        assert!((stats.utilisation.unwrap() - 3.0 / 8.0).abs() < 1e-12);
        assert_eq!((stats.tokens, stats.body_bytes, stats.bodies_cut), (1, 123, 1));
        assert_eq!(stats.timeline.accepted, [2, 0, 0, 1]);
        assert_eq!(stats.timeline.refused, [3, 0, 0, 0]);
        assert_eq!(stats.timeline.accepted_between(0, 3), 2);
        assert_eq!(stats.timeline.accepted_between(1, 4), 1);
    }

    #[test]
    fn each_key_has_limits_of_its_own() {
        let mut account = account("2/s");
        assert_eq!(let_in(&mut account, 0.1, 77, 3), 2);
        assert_eq!(let_in(&mut account, 0.1, 5, 1), 1);
        let stats = account.stats(1.0);
        let told: Vec<_> = stats.keys.iter().map(|key| (key.index, key.accepted, key.refused)).collect();
        assert_eq!(told, [(0, 2, 1), (1, 1, 0)]);
        assert!((stats.keys[0].utilisation.unwrap() - 1.0).abs() < 1e-12);
        assert!((stats.utilisation.unwrap() - 0.75).abs() < 1e-12);
    }

    #[test]
    fn keys_beyond_the_bound_share_one_place() {
        let mut account = account("2/s");
        account.keys_max = 3;
        assert_eq!((0..10).filter(|key| account.admit(0.1, *key).is_ok()).count(), 5);
        let stats = account.stats(1.0);
        let told: Vec<_> = stats.keys.iter().map(|key| (key.index, key.accepted, key.refused)).collect();
        assert_eq!(told, [(0, 1, 0), (1, 1, 0), (2, 1, 0), (3, 2, 5)]);
    }

    #[test]
    fn a_reset_zeroes_the_account_and_not_the_limits() {
        let mut account = account("1/min");
        assert!(account.admit(1.0, 9).is_ok());
        account.reset(2.5);
        assert_eq!(account.stats(3.0).requests, 0);
        assert!(account.stats(3.0).keys.is_empty());
        assert!(account.admit(4.0, 9).is_err(), "the window is still spent");
        let stats = account.stats(4.5);
        assert!((stats.elapsed_seconds - 2.0).abs() < 1e-12);
        assert_eq!((stats.timeline.first_second, stats.timeline.refused), (2, vec![0, 0, 1]));
    }

    #[test]
    fn the_timeline_remembers_an_hour() {
        let mut account = account("5/s");
        for second in 0..4_000_u32 {
            assert!(account.admit(f64::from(second), 0).is_ok());
        }
        let timeline = account.stats(4_000.0).timeline;
        assert_eq!(timeline.accepted.len(), TIMELINE_SECONDS_MAX);
        assert_eq!(timeline.first_second, 400);
        assert!(account.admit(1e9, 0).is_ok());
        let timeline = account.stats(1e9).timeline;
        assert_eq!((timeline.first_second, timeline.accepted), (1_000_000_000, vec![1]));
    }

    #[test]
    fn without_limits_nothing_is_refused_and_nothing_is_utilised() {
        let mut account = Account::new(&SimSettings { limits: Vec::new(), ..SimSettings::default() });
        assert!((0..1_000).all(|_| account.admit(0.0, 0).is_ok()));
        assert_eq!(account.stats(1.0).utilisation, None);
    }

    #[test]
    fn others_spend_of_each_keys_limits_and_are_told() {
        let settings = SimSettings { others: Some(Rate::new(4.0)), ..limited("3/s") };
        let mut account = Account::new(&settings);
        assert_eq!(
            account.stats(5.0).others,
            Some(OthersStats { accepted: 0, refused: 0 }),
            "nobody asked yet"
        );
        assert_eq!(let_in(&mut account, 5.6, 1, 9), 0, "they were there at 5, 5.25 and 5.5");
        assert_eq!(account.announced(5.6, 1)[0].used, 3);
        assert_eq!(account.announced(5.6, 2), []);
        assert_eq!(account.stats(5.9).others, Some(OthersStats { accepted: 18, refused: 6 }));
        account.reset(5.9);
        assert_eq!(let_in(&mut account, 6.0, 2, 9), 2);
        let stats = account.stats(6.0);
        // The new key's budget was shared from the start as well: 24 more, and 1 at 6 seconds.
        assert_eq!(stats.others, Some(OthersStats { accepted: 20, refused: 6 }));
        assert_eq!(
            (stats.requests, stats.accepted, stats.refused),
            (9, 2, 7),
            "others are in no other count"
        );
        assert_eq!(Account::new(&limited("3/s")).stats(9.0).others, None);
    }

    #[test]
    fn what_was_allowed_follows_a_limit_that_moves() {
        let change = Change { at_seconds: 6.0, quota: "20/s".parse().unwrap() };
        let mut account = Account::new(&SimSettings { changes: vec![change], ..limited("10/s") });
        assert_eq!(let_in(&mut account, 1.0, 1, 99), 10);
        assert_eq!(let_in(&mut account, 6.0, 1, 99), 20);
        assert!((account.stats(9.0).utilisation.unwrap() - 30.0 / 120.0).abs() < 1e-12);
    }

    #[test]
    fn a_request_that_is_over_makes_room_in_its_keys_limits_only() {
        let settings = SimSettings { model: ModelName::Concurrency, ..limited("2/s") };
        let mut account = Account::new(&settings);
        assert_eq!((let_in(&mut account, 0.0, 1, 5), let_in(&mut account, 0.0, 2, 5)), (2, 2));
        account.release(1);
        account.release(99);
        assert_eq!((let_in(&mut account, 1.0, 1, 5), let_in(&mut account, 1.0, 2, 5)), (1, 0));
        assert_eq!(account.stats(1.0).utilisation, None, "requests under way have no rate");
    }
}
