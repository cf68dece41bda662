//! What answers may teach a lane, and what they may not: properties over random limits, demands and moments.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "the core counts from one real moment, and a panic is how a test fails"
)]

use proptest::prelude::*;
use std::time::{Duration, Instant};
use tidegate::control::{
    AnnouncedBy, Announcement, Hint, LaneKey, LaneView, Lanes, LanesSettings, LawName, Level, Outcome, Quota,
    Report, Settled, Shape, Step, Ticket, TicketId,
};
use tidegate::sim::limits::{Limiter, Limits, Model};

/// There and back, in seconds.
const RTT: f64 = 0.04;

/// One lane in virtual time.
struct One {
    lanes: Lanes,
    epoch: Instant,
    now: f64,
    key: LaneKey,
}

impl One {
    fn new(settings: LanesSettings) -> Self {
        let epoch = Instant::now();
        let key = LaneKey { upstream: "api:443".into(), credential: None, route: "/messages".into() };
        Self { lanes: Lanes::new(settings, epoch), epoch, now: 1.0, key }
    }

    fn at(&self) -> Instant {
        self.epoch + Duration::from_secs_f64(self.now)
    }

    fn view(&self) -> LaneView {
        self.lanes.snapshot(self.at()).pop().unwrap()
    }

    fn ask(&mut self) -> TicketId {
        let ticket = Ticket::until(self.at() + Duration::from_hours(20));
        self.lanes.submit(self.at(), &self.key, ticket).unwrap().0
    }

    /// What starts now; else goes on to the moment at which something may, but not beyond `until`.
    fn started(&mut self, until: f64) -> Option<TicketId> {
        loop {
            match self.lanes.poll(self.at()) {
                Step::Start(id) => return Some(id),
                Step::Expire(..) => panic!("deadlines are far"),
                Step::Wait(next) => {
                    let next = next.map_or(f64::INFINITY, |next| (next - self.epoch).as_secs_f64());
                    if next > until {
                        self.now = self.now.max(until);
                        return None;
                    }
                    self.now = self.now.max(next);
                }
            }
        }
    }

    fn settle(&mut self, id: TicketId, report: &Report) {
        if self.lanes.settle(self.at(), id, report) == Settled::Answer {
            self.lanes.release(self.at(), id);
        }
    }

    fn answer(&mut self, id: TicketId, outcome: Outcome) {
        self.settle(id, &Report::new(outcome, false));
    }

    /// One exchange at a time against `limits`, with something else always waiting, until `until`.
    fn saturate(&mut self, limits: &mut Limits, until: f64) {
        self.ask();
        while self.now < until {
            self.ask();
            let Some(id) = self.started(until) else { return };
            let let_in = limits.admit(self.now).is_ok();
            self.now += 0.002;
            self.answer(id, if let_in { Outcome::Accepted } else { refused(None) });
        }
    }
}

fn refused(seconds: Option<f64>) -> Outcome {
    Outcome::Limited(Hint { retry_after: seconds.map(Duration::from_secs_f64), level: Some(Level::Route) })
}

fn of(law: LawName) -> LanesSettings {
    let mut settings = LanesSettings::default();
    settings.law.name = law;
    settings
}

fn adaptive() -> impl Strategy<Value = LawName> {
    prop_oneof![3 => Just(LawName::Learnt), 1 => Just(LawName::Aimd)]
}

fn fixed_window(requests: u32, phase_seconds: f64) -> Limits {
    let quota = Quota { requests, window: Duration::from_secs(1) };
    Limits::new(vec![Limiter::new(quota, Model::Fixed { phase_seconds })])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever came before it, a refusal is no reason to go faster.
    #[test]
    fn a_refusal_never_raises_the_pace(
        law in adaptive(),
        answers in proptest::collection::vec((0_u8..10, 0_u32..400, proptest::option::of(0_u32..3_000)), 1..400),
    ) {
        let mut one = One::new(of(law));
        for (answer, idle_ms, wait_ms) in answers {
            while one.lanes.snapshot(one.at()).first().is_none_or(|view| view.queue_depth < 3) {
                one.ask();
            }
            let Some(id) = one.started(one.now + 20.0) else { continue };
            one.now += 0.002;
            if answer > 2 {
                one.answer(id, Outcome::Accepted);
            } else {
                one.ask();
                let before = one.view().pace;
                one.answer(id, refused(wait_ms.map(|millis| f64::from(millis) / 1e3)));
                prop_assert!(one.view().pace <= before * (1.0 + 1e-9), "{before} to {}", one.view().pace);
            }
            if answer == 9 {
                one.now += f64::from(idle_ms) / 1e3;
            }
        }
    }

    /// Requests that were out together when the first of them was refused say one thing.
    #[test]
    fn a_burst_of_refusals_cuts_once(law in adaptive(), accepted in 150_usize..400, burst in 2_usize..20) {
        let mut one = One::new(of(law));
        for _ in 0..accepted {
            one.ask();
            one.ask();
            let id = one.started(one.now + 10.0).unwrap();
            one.now += 0.001;
            one.answer(id, Outcome::Accepted);
        }
        let out: Vec<TicketId> = (0..burst)
            .map(|_| {
                one.ask();
                one.started(one.now + 1.0).unwrap()
            })
            .collect();
        one.now += 0.05;
        one.ask();
        let paces: Vec<f64> = out
            .into_iter()
            .map(|id| {
                one.answer(id, refused(None));
                one.view().pace
            })
            .collect();
        prop_assert!(paces.iter().all(|pace| (pace - paces[0]).abs() < 1e-9), "{paces:?}");
    }

    /// A Retry-After of two seconds or more holds for the whole lane.
    #[test]
    fn nothing_starts_in_a_pause_that_the_api_asked_for(law in adaptive(), accepted in 0_usize..60, wait_ms in 2_000_u32..90_000) {
        let mut one = One::new(of(law));
        for _ in 0..=accepted {
            one.ask();
        }
        for _ in 0..accepted {
            let id = one.started(one.now + 10.0).unwrap();
            one.now += 0.01;
            one.answer(id, Outcome::Accepted);
        }
        let id = one.started(one.now + 10.0).unwrap();
        one.now += RTT;
        let wait = f64::from(wait_ms) / 1e3;
        one.answer(id, refused(Some(wait)));
        let (from, until) = (one.now, one.now + wait - 1e-3);
        one.ask();
        prop_assert!(one.started(until).is_none(), "started {} s into a pause of {wait} s", one.now - from);
        prop_assert!(one.started(until + 120.0).is_some(), "the pause ends");
    }

    /// Errors of the API's own, timeouts and clients that left say nothing of a limit.
    #[test]
    fn what_is_no_verdict_teaches_nothing(
        law in adaptive(),
        limit in 3_u32..60,
        phase in 0.0_f64..1.0,
        others in proptest::collection::vec(0_u8..4, 1..60),
    ) {
        let mut one = One::new(of(law));
        one.saturate(&mut fixed_window(limit, phase), 40.0);
        for other in others {
            one.ask();
            let Some(id) = one.started(one.now + 10.0) else { continue };
            one.now += RTT;
            // Time has passed, and the pace may have grown by it.
            one.ask();
            let before = (one.view().pace, one.view().limit);
            match other {
                0 => one.answer(id, Outcome::Failed),
                1 => one.answer(id, Outcome::Ignored),
                2 => one.answer(id, Outcome::Overloaded(Hint::default())),
                _ => one.lanes.cancel(one.at(), id),
            }
            prop_assert_eq!(before, (one.view().pace, one.view().limit));
        }
    }

    /// What was not tried for an hour is not believed.
    #[test]
    fn low_demand_for_an_hour_does_not_raise_the_pace(law in adaptive(), limit in 3_u32..40, phase in 0.0_f64..1.0) {
        let mut one = One::new(of(law));
        let mut limits = fixed_window(limit, phase);
        one.saturate(&mut limits, 60.0);
        while one.started(one.now + 10.0).is_some_and(|id| {
            one.now += 0.002;
            one.answer(id, Outcome::Accepted);
            true
        }) {}
        let before = one.view().pace;
        let end = one.now + 3_600.0;
        while one.now < end {
            one.now += 5.0 / f64::from(limit);
            one.ask();
            let id = one.started(one.now + 10.0).unwrap();
            one.now += 0.002;
            one.answer(id, Outcome::Accepted);
        }
        prop_assert!(one.view().pace <= 1.03 * before, "{before} to {}", one.view().pace);
    }

    /// With a count in every answer nothing is sent that the budget does not hold, at any shape of demand. (In a block of
    /// more than ten seconds one request asks whether the count means what it says: not here.)
    #[test]
    fn an_announced_budget_is_never_exceeded(
        requests in prop_oneof![1_u32..10, 1_u32..60, 60_u32..200],
        window in 3_u32..10,
        burst in prop_oneof![Just(1), 2_u32..6, 2_u32..60],
        headroom in 0.0_f64..0.5,
        on_a_grid in any::<bool>(),
        gaps in proptest::collection::vec((1_u32..30, 0_u32..20_000), 1..40),
    ) {
        // On a grid, a window may be seen for its last seconds only, as if it were a short one.
        let window = if on_a_grid { window.max(6) } else { window };
        let mut settings = of(LawName::Learnt);
        settings.law.headroom = headroom;
        settings.law.burst = burst;
        settings.law.shape = if burst > 1 { Shape::Burst } else { Shape::Smooth };
        let mut one = One::new(settings);
        // The API's window begins with a request, or ends on a grid; what is out counts as soon as it leaves.
        let (mut used, mut end) = (0_u32, f64::NEG_INFINITY);
        let mut out: Vec<(f64, TicketId, u32, f64)> = Vec::new();
        for (count, gap_ms) in gaps {
            for _ in 0..count {
                one.ask();
            }
            let until = one.now + f64::from(gap_ms) / 1e3;
            loop {
                let back = out.first().map_or(f64::INFINITY, |(at, ..)| *at);
                if let Some(id) = one.started(until.min(back)) {
                    if one.now >= end {
                        let began = if on_a_grid { one.now - one.now % f64::from(window) } else { one.now };
                        (used, end) = (0, began + f64::from(window));
                    }
                    used += 1;
                    prop_assert!(used <= requests, "{used} of {requests}, {} s before the end", end - one.now);
                    out.push((one.now + RTT, id, used, end - one.now));
                } else if back <= until {
                    let (at, id, used, left) = out.remove(0);
                    one.now = at;
                    let announced = Announcement {
                        name: "inin".into(),
                        source: AnnouncedBy::Header,
                        requests,
                        used: Some(used),
                        reset: Some(Duration::from_secs_f64(left.ceil())),
                        window: None,
                        level: Level::Route,
                    };
                    let report = Report { announced: vec![announced], ..Report::new(Outcome::Accepted, false) };
                    one.settle(id, &report);
                } else {
                    break;
                }
            }
        }
    }
}
