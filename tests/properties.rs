//! What holds of the core whatever happens: arbitrary operations with arbitrary gaps in time, checked at every step.

#![expect(
    clippy::disallowed_methods,
    clippy::unchecked_time_subtraction,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "moments come in order here, the core counts from one real moment, and a panic is how a test fails"
)]

use governor::clock::FakeRelativeClock;
use governor::{Quota as Oracle, RateLimiter};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate::control::{
    ClassId, ClassSettings, Command, CredentialHash, Entered, Event, Hint, LaneKey, Lanes, LanesSettings,
    LawName, Level, Outcome, Pacer, Quota, Rate, RefusalReason, Report, Settled, Step, Ticket, TicketId,
};

/// One thing that the outside may do.
#[derive(Clone, Debug)]
enum Op {
    Submit {
        key: u8,
        class: u16,
        deadline_ms: u32,
    },
    Settle {
        which: u8,
        answer: Answer,
        replayable: bool,
    },
    Release {
        which: u8,
    },
    Cancel {
        which: u8,
    },
    /// Time goes on, or (negative) is reported out of order.
    Pass {
        millis: i32,
    },
    /// An operator's order to one of the lanes.
    Order {
        which: u8,
        command: Command,
    },
    Drain {
        within_ms: u16,
    },
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Accepted,
    Limited(Option<u32>),
    Overloaded(u32),
    Failed,
    Ignored,
}

fn op() -> impl Strategy<Value = Op> {
    let answer = prop_oneof![
        6 => Just(Answer::Accepted),
        2 => proptest::option::of(0_u32..4_000_000).prop_map(Answer::Limited),
        1 => Just(Answer::Limited(Some(1_000))),
        1 => (0_u32..10_000).prop_map(Answer::Overloaded),
        1 => Just(Answer::Failed),
        1 => Just(Answer::Ignored),
    ];
    let command = prop_oneof![
        2 => (1_u32..2_000).prop_map(|tenths| Command::Pin(Rate::new(f64::from(tenths) / 10.0))),
        1 => Just(Command::Pause(None)),
        1 => (0_u64..20_000).prop_map(|millis| Command::Pause(Some(Duration::from_millis(millis)))),
        4 => Just(Command::Resume),
        1 => Just(Command::Forget),
    ];
    prop_oneof![
        8 => (0_u8..6, 0_u16..4, 0_u32..200_000)
            .prop_map(|(key, class, deadline_ms)| Op::Submit { key, class, deadline_ms }),
        1 => (any::<u8>(), command).prop_map(|(which, command)| Op::Order { which, command }),
        8 => (any::<u8>(), answer, any::<bool>())
            .prop_map(|(which, answer, replayable)| Op::Settle { which, answer, replayable }),
        4 => any::<u8>().prop_map(|which| Op::Release { which }),
        2 => any::<u8>().prop_map(|which| Op::Cancel { which }),
        8 => (-50_i32..2_000).prop_map(|millis| Op::Pass { millis }),
        1 => (0_i32..200_000).prop_map(|millis| Op::Pass { millis }),
    ]
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let end = proptest::option::of((0_u16..60_000).prop_map(|within_ms| Op::Drain { within_ms }));
    (proptest::collection::vec(op(), 1..200), end, proptest::collection::vec(op(), 0..40)).prop_map(
        |(mut ops, end, rest)| {
            ops.extend(end);
            ops.extend(rest);
            ops
        },
    )
}

fn key(number: u8) -> LaneKey {
    let route = if number.is_multiple_of(2) { "/api/v2/messages" } else { "/api/v2/analytics/{id}" };
    LaneKey {
        upstream: "api:443".into(),
        // Different from the first digit on: nodes are told apart by their names here, which have but eight of them.
        credential: Some(CredentialHash(u64::from(number / 2) * 0x1111_1111_1111_1111)),
        route: route.into(),
    }
}

fn classes(shares: &[f64]) -> Vec<ClassSettings> {
    let class =
        |(n, share): (usize, &f64)| ClassSettings { name: format!("class {n}").into(), share: *share };
    shares.iter().enumerate().map(class).collect()
}

fn settings(law: LawName) -> LanesSettings {
    let mut settings = LanesSettings::default();
    settings.law.name = law;
    settings.law.fixed_rate = Rate::new(20.0);
    settings.queue.lane_tickets_max = 20;
    settings.queue.lanes_max = 4;
    settings.classes = classes(&[0.3, 0.1]);
    settings
}

/// The machine, and what an onlooker knows of it.
struct Watched {
    lanes: Lanes,
    epoch: Instant,
    now: Duration,
    waiting: BTreeMap<TicketId, Arc<str>>,
    started: BTreeSet<TicketId>,
    flying: BTreeSet<TicketId>,
    /// Whose ticket is whose, and until when an operator's pause holds (for ever: `Duration::MAX`).
    lane_of: BTreeMap<TicketId, Arc<str>>,
    paused: BTreeMap<Arc<str>, Duration>,
    transcript: Vec<String>,
    drained: bool,
    /// Requests go by where they may, as at the gate.
    enters: bool,
}

impl Watched {
    fn new(settings: LanesSettings, epoch: Instant) -> Self {
        Self {
            lanes: Lanes::new(settings, epoch),
            epoch,
            now: Duration::from_secs(1),
            waiting: BTreeMap::new(),
            started: BTreeSet::new(),
            flying: BTreeSet::new(),
            lane_of: BTreeMap::new(),
            paused: BTreeMap::new(),
            transcript: Vec::new(),
            drained: false,
            enters: false,
        }
    }

    fn at(&self) -> Instant {
        self.epoch + self.now
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Submit { key: number, class, deadline_ms } => {
                let deadline = self.at() + Duration::from_millis(u64::from(*deadline_ms));
                let ticket = Ticket { class: ClassId(*class), ..Ticket::until(deadline) };
                let (at, key) = (self.at(), key(*number));
                let entered = if self.enters {
                    self.lanes.enter(at, &key, ticket)
                } else {
                    let submitted = self.lanes.submit(at, &key, ticket);
                    submitted.map(|(id, lane)| Entered { id, lane, started: false })
                };
                match entered {
                    Ok(Entered { id, lane, started }) => {
                        assert!(!self.drained, "nothing new while draining");
                        self.lane_of.insert(id, Arc::clone(&lane));
                        assert!(self.waiting.insert(id, lane).is_none(), "a ticket's name is its own");
                        if started {
                            self.started(id);
                        }
                    }
                    Err(refusal) => {
                        assert!(refusal.retry_after >= Duration::from_secs(1));
                        self.transcript.push(format!("refused {:?}", refusal.reason));
                    }
                }
            }
            Op::Settle { which, answer, replayable } => self.settle(*which, *answer, *replayable),
            Op::Release { which } => {
                let all: Vec<TicketId> = self.started.iter().chain(&self.flying).copied().collect();
                if let Some(id) = pick(&all, *which) {
                    self.lanes.release(self.at(), id);
                    self.started.remove(&id);
                    self.flying.remove(&id);
                }
            }
            Op::Cancel { which } => {
                let all: Vec<TicketId> = self.waiting.keys().copied().collect();
                if let Some(id) = pick(&all, *which) {
                    self.lanes.cancel(self.at(), id);
                    self.waiting.remove(&id);
                }
            }
            Op::Pass { millis } => {
                let step = Duration::from_millis(u64::from(millis.unsigned_abs()));
                self.now = if *millis < 0 { self.now.saturating_sub(step) } else { self.now + step };
            }
            Op::Order { which, command } => self.order(*which, *command),
            Op::Drain { within_ms } => {
                self.drained = true;
                self.lanes.drain(self.at(), self.at() + Duration::from_millis(u64::from(*within_ms)));
            }
        }
        self.pump();
        self.check();
    }

    fn order(&mut self, which: u8, command: Command) {
        assert!(!self.lanes.command(self.at(), "nobody@none", command), "no lane of that name");
        let views = self.lanes.snapshot(self.at());
        let Some(view) = views.get(usize::from(which) % views.len().max(1)) else { return };
        assert!(self.lanes.command(self.at(), &view.name, command));
        match command {
            Command::Pin(_) => (),
            Command::Pause(pause) => {
                let until = pause.map_or(Duration::MAX, |pause| self.now + pause);
                self.paused.insert(Arc::clone(&view.name), until);
            }
            Command::Resume | Command::Forget => drop(self.paused.remove(&view.name)),
        }
    }

    fn settle(&mut self, which: u8, answer: Answer, replayable: bool) {
        let all: Vec<TicketId> = self.started.iter().copied().collect();
        let Some(id) = pick(&all, which) else { return };
        let hint = |millis: Option<u32>| Hint {
            retry_after: millis.map(|millis| Duration::from_millis(u64::from(millis))),
            level: [None, Some(Level::Route), Some(Level::Credential), Some(Level::Upstream)]
                [usize::from(which % 4)],
        };
        let outcome = match answer {
            Answer::Accepted => Outcome::Accepted,
            Answer::Limited(told) => Outcome::Limited(hint(told)),
            Answer::Overloaded(told) => Outcome::Overloaded(hint(Some(told))),
            Answer::Failed => Outcome::Failed,
            Answer::Ignored => Outcome::Ignored,
        };
        self.started.remove(&id);
        match self.lanes.settle(self.at(), id, &Report::new(outcome, replayable)) {
            Settled::Answer => drop(self.flying.insert(id)),
            Settled::Again => {
                assert!(replayable, "what cannot be sent again is not");
                assert!(matches!(answer, Answer::Limited(_) | Answer::Overloaded(_)));
                self.waiting.insert(id, "again".into());
            }
        }
    }

    fn pump(&mut self) {
        for _ in 0..10_000 {
            match self.lanes.poll(self.at()) {
                Step::Start(id) => self.started(id),
                Step::Expire(id, refusal) => {
                    assert!(self.waiting.remove(&id).is_some(), "only what waits expires, and once");
                    assert!(self.drained || refusal.reason == RefusalReason::Deadline);
                    self.transcript.push(format!("{:?} expire {id:?}", self.now));
                }
                Step::Wait(next) => {
                    if let Some(next) = next {
                        assert!(
                            next + Duration::from_micros(1) > self.at(),
                            "a wait is not over when it begins"
                        );
                    }
                    return self.tell();
                }
            }
        }
        panic!("poll never waits");
    }

    fn started(&mut self, id: TicketId) {
        assert!(self.waiting.remove(&id).is_some(), "only what waits starts, and once");
        let paused = self.paused.get(&self.lane_of[&id]).copied().unwrap_or_default();
        assert!(self.now + Duration::from_micros(1) >= paused, "a paused lane starts nothing");
        self.started.insert(id);
        self.transcript.push(format!("{:?} start {id:?}", self.now));
    }

    fn tell(&mut self) {
        while let Some(event) = self.lanes.next_event() {
            if let Event::LimitLearnt { requests_per_second, .. } = &event {
                assert!(requests_per_second.is_finite() && *requests_per_second > 0.0);
            }
            self.transcript.push(format!("{event:?}"));
        }
    }

    /// The pace of every lane, and of every limit above lanes.
    fn paces(&self) -> BTreeMap<Arc<str>, f64> {
        let views = self.lanes.snapshot(self.at());
        let nodes = views.iter().flat_map(|view| &view.above).map(|node| (Arc::clone(&node.name), node.pace));
        nodes.chain(views.iter().map(|view| (Arc::clone(&view.name), view.pace))).collect()
    }

    /// Nothing is lost and nothing is twice: what the machine shows is what the onlooker counted.
    fn check(&self) {
        let views = self.lanes.snapshot(self.at());
        let queued: usize = views.iter().map(|view| view.queue_depth).sum();
        let flying: usize = views.iter().map(|view| view.in_flight).sum();
        assert_eq!(queued, self.waiting.len());
        assert_eq!(flying, self.started.len() + self.flying.len());
        assert!(views.len() <= 5, "four lanes and the one for the rest");
        for view in &views {
            assert!(view.queue_depth <= 21, "the queue's bound (and one that came back)");
            assert!(view.pace.is_finite() && view.pace > 0.0);
            assert!(view.pinned.is_none_or(|pinned| (pinned.get() - view.pace).abs() < 1e-9));
            let by_class: usize = view.classes.iter().map(|class| class.queue_depth).sum();
            assert_eq!(by_class, view.queue_depth, "every ticket is of a class, or of none");
        }
    }
}

fn pick(all: &[TicketId], which: u8) -> Option<TicketId> {
    all.get(usize::from(which) % all.len().max(1)).copied()
}

fn law() -> impl Strategy<Value = LawName> {
    prop_oneof![3 => Just(LawName::Learnt), 1 => Just(LawName::Aimd), 1 => Just(LawName::Fixed)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whosever limit refused, no lane and no limit above lanes is faster for it than if nothing was known of the request.
    #[test]
    fn a_refusal_makes_nothing_faster(law in law(), ops in ops(), which in any::<u8>(), wait in any::<Option<u16>>()) {
        let epoch = Instant::now();
        let paces = |answer: Answer| {
            let mut watched = Watched::new(settings(law), epoch);
            for op in &ops {
                watched.run(op);
            }
            watched.settle(which, answer, false);
            watched.paces()
        };
        let unknown = paces(Answer::Ignored);
        for (name, pace) in paces(Answer::Limited(wait.map(u32::from))) {
            let raised = unknown.get(&name).is_some_and(|unknown| pace > unknown * (1.0 + 1e-9));
            prop_assert!(!raised, "{} from {} to {}", name, unknown[&name], pace);
        }
    }

    /// Tickets are conserved, bounds hold, waits are honest, and nothing panics; the same inputs give the same
    /// transcript.
    #[test]
    fn the_machine_keeps_its_books(law in law(), ops in ops()) {
        let epoch = Instant::now();
        let transcripts: Vec<Vec<String>> = (0..2)
            .map(|_| {
                let mut watched = Watched::new(settings(law), epoch);
                for op in &ops {
                    watched.run(op);
                }
                watched.transcript
            })
            .collect();
        prop_assert_eq!(&transcripts[0], &transcripts[1]);
    }

    /// To go by is to take a place and be let go: the same happens, and the same is known afterwards.
    #[test]
    fn who_goes_by_leaves_no_other_traces(law in law(), ops in ops()) {
        let epoch = Instant::now();
        let played = |enters: bool| {
            let mut watched = Watched { enters, ..Watched::new(settings(law), epoch) };
            for op in &ops {
                watched.run(op);
            }
            let views = watched.lanes.snapshot(watched.at());
            (watched.transcript, views)
        };
        prop_assert_eq!(played(true), played(false));
    }

    /// Nothing happens before the moment that `Wait` names.
    #[test]
    fn a_wait_is_honest(law in law(), ops in ops()) {
        let mut watched = Watched::new(settings(law), Instant::now());
        for op in &ops {
            watched.run(op);
            let Step::Wait(Some(next)) = watched.lanes.poll(watched.at()) else { continue };
            let before = next.checked_sub(Duration::from_micros(50)).unwrap();
            if before > watched.at() {
                prop_assert!(matches!(watched.lanes.poll(before), Step::Wait(_)));
                watched.now = before - watched.epoch;
            }
        }
    }

    /// At a fixed pace: first come, first served, and never more than the pace allows in any stretch of time.
    #[test]
    fn a_fixed_pace_is_kept(gaps in proptest::collection::vec(0_u64..300, 2..120), rate in 2_u32..50) {
        let epoch = Instant::now();
        let mut settings = settings(LawName::Fixed);
        settings.law.fixed_rate = Rate::new(f64::from(rate));
        settings.queue.lane_tickets_max = 1_000;
        let mut lanes = Lanes::new(settings, epoch);
        let (mut now, mut starts, mut order) = (epoch, Vec::new(), Vec::new());
        let mut arrivals = gaps.iter();
        let mut arrival = Some(now);
        loop {
            match lanes.poll(now) {
                Step::Start(id) => {
                    starts.push(now - epoch);
                    order.push(id);
                    lanes.release(now, id);
                }
                Step::Expire(..) => unreachable!("deadlines are far"),
                Step::Wait(next) => match (next, arrival) {
                    (Some(next), Some(at)) if next < at => now = next,
                    (_, Some(at)) => {
                        now = at;
                        lanes.submit(now, &key(0), Ticket::until(now + Duration::from_hours(1))).unwrap();
                        arrival = arrivals.next().map(|gap| at + Duration::from_millis(*gap));
                    }
                    (Some(next), None) => now = next,
                    (None, None) => break,
                },
            }
        }
        prop_assert_eq!(order.len(), gaps.len() + 1);
        prop_assert!(order.is_sorted(), "first come, first served");
        for (first, from) in starts.iter().enumerate() {
            for (last, until) in starts.iter().enumerate().skip(first) {
                let allowed = f64::from(rate) * (*until - *from).as_secs_f64() + 1.0 + 0.5;
                prop_assert!((last - first + 1) as f64 <= allowed + 1e-6, "{} in {:?}", last - first + 1, *until - *from);
            }
        }
    }

    /// A class that always wants its share gets it in every stretch of departures, whatever the others do: all but
    /// one, and what the others may have saved in idle times.
    #[test]
    fn no_class_starves(
        shares in proptest::collection::vec(0.05_f64..0.4, 1..3),
        hungry in 0_usize..3,
        others in proptest::collection::vec((0_u8..8, 1_usize..30), 2..12),
        all in any::<bool>(),
    ) {
        let hungry = hungry % (shares.len() + 1);
        // Bit n: class n has something as well.
        let wants = |class: usize, bits: u8| class == hungry || all || bits >> class & 1 == 1;
        let rounds: Vec<u8> = others.iter().flat_map(|(bits, times)| vec![*bits; *times]).collect();
        let departures = departures(&shares, &rounds, wants);
        let rest = 1.0 - shares.iter().sum::<f64>();
        let share = if hungry == 0 { rest } else { shares[hungry - 1] };
        let others_named = shares.len() - usize::from(hungry != 0);
        // Others that are always there as well have nothing saved.
        let saved = if all { 0.0 } else { 4.0 * others_named as f64 };
        let least = |n: usize| share * n as f64 - 1.0 - share * (saved + (shares.len() as f64 - 1.0));
        for first in 0..departures.len() {
            let mut got = 0_usize;
            for last in first..departures.len() {
                got += usize::from(departures[last] == hungry);
                let n = last - first + 1;
                prop_assert!(
                    got as f64 >= least(n).floor(),
                    "{got} of {n} from {first} on, for a share of {share:.3}: {departures:?}"
                );
            }
        }
    }

    /// A ceiling holds in every window of its length, with late polls and a law that would go much faster.
    #[test]
    fn a_ceiling_is_never_exceeded(
        requests in 1_u32..40,
        seconds in 1_u64..5,
        gaps in proptest::collection::vec(0_u64..400, 2..150),
        lateness in proptest::collection::vec(0_u64..8_000, 1..20),
    ) {
        let epoch = Instant::now();
        let ceiling = Quota { requests, window: Duration::from_secs(seconds) };
        let mut settings = LanesSettings { ceiling: Some(ceiling), ..LanesSettings::default() };
        settings.law.start_rate = Rate::new(1_000.0);
        let mut lanes = Lanes::new(settings, epoch);
        let (mut now, mut starts) = (epoch, Vec::new());
        let (mut late, mut arrivals) = (lateness.iter().cycle(), gaps.iter());
        let mut arrival = Some(now);
        loop {
            match lanes.poll(now) {
                Step::Start(id) => {
                    starts.push(now);
                    lanes.settle(now, id, &Report::new(Outcome::Accepted, true));
                    lanes.release(now, id);
                }
                Step::Expire(..) => unreachable!("deadlines are far"),
                Step::Wait(next) => match (next, arrival) {
                    (Some(next), at) if at.is_none_or(|at| next < at) => {
                        now = now.max(next) + Duration::from_micros(*late.next().unwrap());
                    }
                    (_, Some(at)) => {
                        now = now.max(at);
                        lanes.submit(now, &key(0), Ticket::until(now + Duration::from_hours(1))).unwrap();
                        arrival = arrivals.next().map(|gap| at + Duration::from_millis(*gap));
                    }
                    (_, None) => break,
                },
            }
        }
        prop_assert_eq!(starts.len(), gaps.len() + 1);
        let interval = ceiling.rate().interval_seconds();
        let slack = (0.5 * interval).clamp(0.001, 0.005);
        for pair in starts.windows(2) {
            prop_assert!((pair[1] - pair[0]).as_secs_f64() >= interval - slack - 1e-6);
        }
        for window in starts.windows(requests as usize + 2) {
            prop_assert!(*window.last().unwrap() - window[0] >= ceiling.window.mul_f64(1.0 - 1e-9));
        }
    }

    /// The strict pacer is the textbook's algorithm: it agrees with an independent implementation on every instant.
    #[test]
    fn the_pacer_agrees_with_an_oracle(gaps in proptest::collection::vec(0_u64..400, 1..200), per_second in 1_u32..100) {
        let period = Duration::from_millis(1_000 / u64::from(per_second));
        let quota = Oracle::with_period(period).unwrap().allow_burst(NonZeroU32::MIN);
        let clock = FakeRelativeClock::default();
        let oracle = RateLimiter::direct_with_clock(quota, clock.clone());
        let rate = Rate::new(1.0 / period.as_secs_f64());
        let (mut pacer, mut millis) = (Pacer::strict(), 0_u64);
        for gap in gaps {
            millis += gap;
            clock.advance(Duration::from_millis(gap));
            let now = Duration::from_millis(millis).as_secs_f64();
            let ours = pacer.ready_at(rate) <= now + 1e-9;
            prop_assert_eq!(ours, oracle.check().is_ok(), "at {} ms", millis);
            if ours {
                pacer.take(now, rate, now);
            }
        }
    }

    /// Whatever people write as a rate is read or refused, never a panic, and what is shown can be read again.
    #[test]
    fn rates_are_read_or_refused(text in "\\PC{0,20}") {
        if let Ok(quota) = text.parse::<Quota>() {
            prop_assert_eq!(quota.to_string().parse::<Quota>().unwrap(), quota);
        }
    }
}

/// The classes of as many departures as there are `rounds`, in a lane of a fixed pace: in each round every class that
/// wants something by its bits has enough, and the others have nothing.
fn departures(shares: &[f64], rounds: &[u8], wants: impl Fn(usize, u8) -> bool) -> Vec<usize> {
    let epoch = Instant::now();
    let mut settings = settings(LawName::Fixed);
    settings.classes = classes(shares);
    let mut lanes = Lanes::new(settings, epoch);
    let mut waiting: Vec<BTreeSet<TicketId>> = vec![BTreeSet::new(); shares.len() + 1];
    let (mut now, mut departures) = (epoch, Vec::new());
    for bits in rounds {
        for (class, tickets) in waiting.iter_mut().enumerate() {
            while wants(class, *bits) && tickets.len() < 3 {
                let ticket =
                    Ticket { class: ClassId(class as u16), ..Ticket::until(now + Duration::from_hours(1)) };
                tickets.insert(lanes.submit(now, &key(0), ticket).unwrap().0);
            }
            if !wants(class, *bits) {
                for id in std::mem::take(tickets) {
                    lanes.cancel(now, id);
                }
            }
        }
        let id = loop {
            match lanes.poll(now) {
                Step::Start(id) => break id,
                Step::Wait(next) => now = next.expect("something waits"),
                Step::Expire(..) => unreachable!("deadlines are far"),
            }
        };
        let class = waiting.iter().position(|tickets| tickets.contains(&id)).unwrap();
        waiting[class].remove(&id);
        departures.push(class);
        lanes.release(now, id);
    }
    departures
}

/// What others leave idle is lent at once: a class that is alone has the whole pace, however small its share.
#[test]
fn a_class_alone_has_everything() {
    let epoch = Instant::now();
    let mut settings = settings(LawName::Fixed);
    settings.queue.lane_tickets_max = 1_000;
    let mut lanes = Lanes::new(settings, epoch);
    let ticket = Ticket { class: ClassId(2), ..Ticket::until(epoch + Duration::from_mins(1)) };
    for _ in 0..20 {
        lanes.submit(epoch, &key(0), ticket).unwrap();
    }
    let (mut now, mut count) = (epoch, 0);
    while let step @ (Step::Start(_) | Step::Wait(Some(_))) = lanes.poll(now) {
        match step {
            Step::Start(id) => {
                count += 1;
                lanes.release(now, id);
            }
            Step::Wait(next) => now = next.unwrap(),
            Step::Expire(..) => unreachable!("deadlines are far"),
        }
    }
    assert_eq!(count, 20);
    assert!(now - epoch <= Duration::from_millis(19 * 50 + 1), "twenty a second: {:?}", now - epoch);
}

/// A queue of others does not make a class late: what it would wait for is its own, and its share of theirs.
#[test]
fn a_class_is_not_refused_for_the_queue_of_others() {
    let epoch = Instant::now();
    let mut settings = settings(LawName::Fixed);
    settings.queue.lane_tickets_max = 1_000;
    let mut lanes = Lanes::new(settings, epoch);
    let far = Ticket::until(epoch + Duration::from_mins(10));
    for _ in 0..100 {
        lanes.submit(epoch, &key(0), far).unwrap();
    }
    let soon = Ticket::until(epoch + Duration::from_secs(1));
    assert_eq!(lanes.submit(epoch, &key(0), soon).unwrap_err().reason, RefusalReason::Deadline);
    let own = Ticket { class: ClassId(1), ..soon };
    // In a second its share of twenty is six; then it would be late.
    let mut waiting: BTreeSet<TicketId> =
        std::iter::from_fn(|| lanes.submit(epoch, &key(0), own).ok()).map(|(id, _)| id).collect();
    assert!((6..=8).contains(&waiting.len()), "{}", waiting.len());
    let mut now = epoch;
    while !waiting.is_empty() {
        match lanes.poll(now) {
            Step::Start(id) => {
                waiting.remove(&id);
                lanes.release(now, id);
            }
            Step::Wait(next) => now = next.unwrap(),
            Step::Expire(..) => panic!("a prediction that did not hold"),
        }
    }
    assert!(now - epoch <= Duration::from_millis(1_150));
}

/// Twenty refusals of one burst are one episode: the pace falls once.
#[test]
fn a_burst_of_refusals_cuts_once() {
    let epoch = Instant::now();
    let mut settings = settings(LawName::Aimd);
    settings.law.start_rate = Rate::new(1_000.0);
    let mut lanes = Lanes::new(settings, epoch);
    let mut now = epoch;
    let mut flying = Vec::new();
    while flying.len() < 20 {
        lanes.submit(now, &key(0), Ticket::until(now + Duration::from_mins(1))).unwrap();
        while let Step::Start(id) = lanes.poll(now) {
            flying.push(id);
        }
        now += Duration::from_millis(1);
    }
    let pace = |lanes: &Lanes, now| lanes.snapshot(now)[0].pace;
    let before = pace(&lanes, now);
    for id in flying {
        lanes.settle(now, id, &Report::new(Outcome::Limited(Hint::default()), false));
        lanes.release(now, id);
    }
    assert!((pace(&lanes, now) - before / 2.0).abs() < 1e-6);
}

/// While no limit is known, a fast pace holds on average: a crowd goes by at once, as much of it as comes in 2 ms.
#[test]
fn a_crowd_need_not_wait_for_a_fast_pace_that_met_no_limit() {
    for (rate, at_once) in [(100.0, 1), (1_000.0, 1), (5_000.0, 1), (10_000.0, 11), (50_000.0, 91)] {
        let epoch = Instant::now();
        let mut settings = settings(LawName::Learnt);
        settings.law.start_rate = Rate::new(rate);
        settings.queue.lane_tickets_max = 1_000;
        let mut lanes = Lanes::new(settings, epoch);
        let ticket = Ticket::until(epoch + Duration::from_mins(1));
        let entered = (0..200).map(|_| lanes.enter(epoch, &key(0), ticket).unwrap());
        let started = entered.filter(|entered| entered.started).count();
        assert!(started.abs_diff(at_once) <= at_once / 10, "{started} of {at_once} at {rate}/s");
        let next = lanes.poll(epoch);
        assert!(matches!(next, Step::Wait(Some(at)) if at > epoch), "the rest waits: {next:?}");
    }
}

/// A limit on a whole credential: its lanes start only when it grants, and a refusal that it made teaches the lanes
/// nothing.
#[test]
fn every_node_of_a_path_must_grant() {
    let epoch = Instant::now();
    let mut settings = settings(LawName::Fixed);
    settings.law.fixed_rate = Rate::new(1_000.0);
    let mut lanes = Lanes::new(settings, epoch);
    let (messages, analytics, stranger) = (key(0), key(1), key(2));
    lanes.limit_shared(Level::Credential, &messages, Rate::new(10.0));
    let far = Ticket::until(epoch + Duration::from_mins(1));
    let mut owners = BTreeMap::new();
    for lane in [&messages, &analytics, &stranger] {
        for _ in 0..5 {
            owners.insert(lanes.submit(epoch, lane, far).unwrap().0, lane.credential);
        }
    }
    let mut starts: BTreeMap<Option<CredentialHash>, Vec<Duration>> = BTreeMap::new();
    let mut now = epoch;
    loop {
        match lanes.poll(now) {
            Step::Start(id) => {
                starts.entry(owners[&id]).or_default().push(now - epoch);
                lanes.release(now, id);
            }
            Step::Wait(Some(next)) => now = next,
            Step::Wait(None) => break,
            Step::Expire(..) => unreachable!("deadlines are far"),
        }
    }
    let limited = &starts[&messages.credential];
    assert_eq!(limited.len(), 10);
    assert!(limited.windows(2).all(|pair| pair[1] - pair[0] > Duration::from_millis(94)), "{limited:?}");
    assert!(*starts[&stranger.credential].last().unwrap() < Duration::from_millis(20));
}

/// A refusal for a node that nothing is known of makes it: all lanes below are held back by it, and no others.
#[test]
fn a_refusal_for_a_node_that_is_not_there_makes_it() {
    let epoch = Instant::now();
    let views_after = |level: Option<Level>| {
        let mut lanes = Lanes::new(settings(LawName::Aimd), epoch);
        let far = Ticket::until(epoch + Duration::from_mins(1));
        for number in [1, 2] {
            lanes.submit(epoch + Duration::from_millis(10), &key(number), far).unwrap();
        }
        let now = epoch + Duration::from_millis(50);
        let (id, _) = lanes.submit(epoch, &key(0), far).unwrap();
        let mut started = Vec::new();
        while let Step::Start(id) = lanes.poll(epoch) {
            started.push(id);
        }
        assert!(started.contains(&id));
        let outcome = level.map_or(Outcome::Accepted, |level| {
            Outcome::Limited(Hint { retry_after: None, level: Some(level) })
        });
        lanes.settle(now, id, &Report::new(outcome, false));
        let views = lanes.snapshot(now);
        let view = |number: u8| views.iter().find(|view| view.key == key(number)).unwrap();
        [0, 1, 2].map(|number| (view(number).pace, view(number).above.clone()))
    };
    let free = views_after(None).map(|(pace, _)| pace);
    let route = views_after(Some(Level::Route));
    assert!(route[0].0 < free[0] && route[1].0 >= free[1] && route.iter().all(|(_, above)| above.is_empty()));
    for (level, below) in [(Level::Credential, 2), (Level::Upstream, 3)] {
        for (number, (pace, above)) in views_after(Some(level)).into_iter().enumerate() {
            assert_eq!(
                above.iter().map(|node| node.per).collect::<Vec<_>>(),
                [level][..usize::from(number < below)]
            );
            assert_eq!(pace < free[number], number < below, "{level:?} {number}");
        }
    }
}

/// A pause longer than a deadline is an answer at once, not a wait until the deadline.
#[test]
fn what_a_pause_makes_impossible_is_refused_at_once() {
    let epoch = Instant::now();
    let mut lanes = Lanes::new(settings(LawName::Learnt), epoch);
    let soon = Ticket::until(epoch + Duration::from_secs(10));
    let (first, _) = lanes.submit(epoch, &key(0), soon).unwrap();
    let (second, _) = lanes.submit(epoch, &key(0), soon).unwrap();
    assert_eq!(lanes.poll(epoch), Step::Start(first));
    let hour = Hint { retry_after: Some(Duration::from_hours(1)), level: Some(Level::Route) };
    assert_eq!(lanes.settle(epoch, first, &Report::new(Outcome::Limited(hour), true)), Settled::Answer);
    assert!(matches!(lanes.poll(epoch), Step::Expire(id, refusal)
        if id == second && refusal.reason == RefusalReason::Deadline));
    let refused = lanes.submit(epoch, &key(0), soon).unwrap_err();
    assert_eq!(refused.reason, RefusalReason::Deadline);
}

/// In a drain, a refusal that cannot be waited out is answered by us: the ticket is refused as draining.
#[test]
fn a_drain_answers_for_itself() {
    let epoch = Instant::now();
    let mut lanes = Lanes::new(settings(LawName::Learnt), epoch);
    let (id, _) = lanes.submit(epoch, &key(0), Ticket::until(epoch + Duration::from_mins(2))).unwrap();
    assert_eq!(lanes.poll(epoch), Step::Start(id));
    lanes.drain(epoch, epoch + Duration::from_millis(500));
    let second = Hint { retry_after: Some(Duration::from_secs(1)), level: Some(Level::Route) };
    assert_eq!(lanes.settle(epoch, id, &Report::new(Outcome::Limited(second), true)), Settled::Again);
    assert!(matches!(lanes.poll(epoch), Step::Expire(gone, refusal)
        if gone == id && refusal.reason == RefusalReason::Draining));
}

/// A credential that hardly asked is no measure for the next one: a new lane of the route starts like any other.
#[test]
fn a_quiet_credential_slows_no_other() {
    let epoch = Instant::now();
    let mut lanes = Lanes::new(settings(LawName::Learnt), epoch);
    let mut now = epoch;
    for credential in [0, 2] {
        let (id, _) =
            lanes.submit(now, &key(credential), Ticket::until(now + Duration::from_mins(2))).unwrap();
        assert_eq!(lanes.poll(now), Step::Start(id), "its first request leaves at once");
        now += Duration::from_millis(20);
        lanes.settle(now, id, &Report::new(Outcome::Accepted, true));
        lanes.release(now, id);
    }
    assert!(lanes.snapshot(now).iter().all(|view| view.pace >= 4.0));
}
