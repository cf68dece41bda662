//! What an operator's word does to a lane: ceilings, pins, pauses, and starting over; and what the API's word still does.

#![expect(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "the core counts from one real moment, and a panic is how a test fails"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate::control::{
    Command, CredentialHash, Event, Hint, LaneKey, LaneRule, LaneView, Lanes, LanesSettings, LawName,
    LawSettings, Level, LimitSource, Outcome, Quota, Rate, RefusalReason, Report, Step, Ticket,
};

/// A lane in which there is always something to send, and an API with an answer for each request.
struct Busy {
    lanes: Lanes,
    now: Instant,
    epoch: Instant,
}

impl Busy {
    fn new(settings: LanesSettings) -> Self {
        let epoch = Instant::now();
        Self { lanes: Lanes::new(settings, epoch), now: epoch, epoch }
    }

    /// Runs for `seconds`; `refuses` says of a request that left after so many seconds in all whether it is refused.
    /// Gives when each left.
    fn run(&mut self, seconds: f64, refuses: impl Fn(f64) -> Option<Hint>) -> Vec<f64> {
        let until = self.now + Duration::from_secs_f64(seconds);
        let mut starts = Vec::new();
        while self.now < until {
            while self.view().is_none_or(|view| view.queue_depth < 5) {
                let far = Ticket::until(self.now + Duration::from_hours(10));
                self.lanes.submit(self.now, &key("messages"), far).unwrap();
            }
            match self.lanes.poll(self.now) {
                Step::Start(id) => {
                    let at = (self.now - self.epoch).as_secs_f64();
                    starts.push(at);
                    let outcome = refuses(at).map_or(Outcome::Accepted, Outcome::Limited);
                    self.lanes.settle(self.now, id, &Report::new(outcome, false));
                    self.lanes.release(self.now, id);
                }
                Step::Wait(next) => self.now = next.map_or(until, |next| next.min(until)),
                Step::Expire(..) => unreachable!("deadlines are far"),
            }
        }
        starts
    }

    fn view(&self) -> Option<LaneView> {
        self.lanes.snapshot(self.now).into_iter().next()
    }

    fn order(&mut self, command: Command) {
        assert!(self.lanes.command(self.now, "messages@none", command));
    }
}

fn key(route: &str) -> LaneKey {
    LaneKey { upstream: "api:443".into(), credential: None, route: route.into() }
}

fn told(seconds: u64) -> Hint {
    Hint { retry_after: Some(Duration::from_secs(seconds)), level: Some(Level::Route) }
}

fn never(_: f64) -> Option<Hint> {
    None
}

fn gaps(starts: &[f64]) -> impl Iterator<Item = f64> + '_ {
    starts.windows(2).map(|pair| pair[1] - pair[0])
}

#[test]
fn a_lane_has_the_law_the_ceiling_and_the_deadline_of_its_rule() {
    let rule = LaneRule {
        name: "token".into(),
        upstream: None,
        law: LawSettings { name: LawName::Fixed, fixed_rate: Rate::new(2.0), ..LawSettings::default() },
        ceiling: None,
        deadline: Duration::from_secs(3),
    };
    let ceiling = Some("60/min".parse::<Quota>().unwrap());
    let mut lanes =
        Lanes::new(LanesSettings { ceiling, rules: vec![rule], ..LanesSettings::default() }, Instant::now());
    let now = Instant::now();
    let mut fits = 0;
    while lanes.submit(now, &key("token"), Ticket::default()).is_ok() {
        fits += 1;
    }
    lanes.submit(now, &key("messages"), Ticket::default()).unwrap();
    let views = lanes.snapshot(now);
    assert_eq!((views[1].law, views[1].pace), (LawName::Fixed, 2.0));
    assert_eq!((views[0].law, views[0].pace), (LawName::Learnt, 1.0));
    assert!((6..=8).contains(&fits), "two a second for three seconds: {fits}");
}

#[test]
fn a_ceiling_is_the_pace_and_says_so() {
    let settings = LanesSettings { ceiling: Some("300/min".parse().unwrap()), ..LanesSettings::default() };
    let mut busy = Busy::new(settings);
    busy.run(10.0, never);
    let starts = busy.run(60.0, never);
    assert!((299..=301).contains(&starts.len()), "{}", starts.len());
    let view = busy.view().unwrap();
    let limit = view.limit.unwrap();
    assert!((view.pace - 5.0).abs() < 1e-9);
    assert_eq!(limit.source, LimitSource::Configured);
    assert_eq!(limit.says, "at most 300 requests a minute: the ceiling that was configured");
}

#[test]
fn a_limit_below_a_ceiling_is_still_learnt() {
    let settings = LanesSettings { ceiling: Some("100/s".parse().unwrap()), ..LanesSettings::default() };
    let mut busy = Busy::new(settings);
    let window = std::cell::Cell::new((0.0_f64, 0_u32));
    let ten_a_second = |at: f64| {
        let (start, count) = window.get();
        window.set(if at < start + 1.0 { (start, count + 1) } else { (at.floor(), 1) });
        (window.get().1 > 10).then(|| told(1))
    };
    busy.run(60.0, ten_a_second);
    let limit = busy.view().unwrap().limit.unwrap();
    assert_eq!(limit.source, LimitSource::Learnt);
    assert!((limit.requests / limit.window_seconds - 10.0).abs() < 0.6, "{limit:?}");
}

#[test]
fn a_pin_holds_whatever_the_law_says_but_not_against_the_api() {
    let mut busy = Busy::new(LanesSettings::default());
    busy.run(2.0, never);
    busy.order(Command::Pin(Rate::new(20.0)));
    busy.run(1.0, never);
    // A refusal that asks for a moment teaches the law, and does not slow the pin.
    let from = (busy.now - busy.epoch).as_secs_f64();
    let starts = busy.run(5.0, |at| (at > from + 1.0 && at < from + 1.2).then(|| told(1)));
    assert!(gaps(&starts).all(|gap| (gap - 0.05).abs() < 0.006), "{starts:?}");
    let view = busy.view().unwrap();
    assert_eq!(view.pinned, Some(Rate::new(20.0)));
    assert!(view.limit.is_some(), "the law heard of it");
    // One that says when the budget is back holds the lane until then.
    let from = (busy.now - busy.epoch).as_secs_f64();
    let starts = busy.run(8.0, |at| (at < from + 0.06).then(|| told(4)));
    let longest = gaps(&starts).fold(0.0, f64::max);
    assert!((3.9..4.2).contains(&longest), "{longest}");
    busy.order(Command::Resume);
    assert_eq!(busy.view().unwrap().pinned, None);
}

#[test]
fn a_pin_keeps_a_pause_that_the_api_had_asked_for() {
    let mut busy = Busy::new(LanesSettings::default());
    busy.run(1.0, |_| Some(told(30)));
    busy.order(Command::Pin(Rate::new(20.0)));
    assert!(busy.run(20.0, never).is_empty());
    assert!(busy.run(20.0, never).len() > 100);
}

#[test]
fn a_pause_without_end_lets_tickets_wait_until_their_deadlines() {
    let mut lanes = Lanes::new(LanesSettings::default(), Instant::now());
    let now = Instant::now();
    let soon = Ticket::until(now + Duration::from_secs(10));
    lanes.submit(now, &key("messages"), soon).unwrap();
    assert!(lanes.command(now, "messages@none", Command::Pause(None)));
    lanes.submit(now, &key("messages"), soon).unwrap();
    assert!(lanes.snapshot(now)[0].paused_seconds.is_infinite());
    let Step::Wait(Some(next)) = lanes.poll(now) else { panic!("nothing leaves") };
    assert!((next - now).as_secs_f64() > 9.9);
    for _ in 0..2 {
        let late = now + Duration::from_secs(11);
        assert!(
            matches!(lanes.poll(late), Step::Expire(_, refusal) if refusal.reason == RefusalReason::Deadline)
        );
    }
}

#[test]
fn what_a_pause_with_an_end_makes_impossible_is_refused_at_once() {
    let settings = LanesSettings {
        law: LawSettings { name: LawName::Fixed, ..LawSettings::default() },
        ..LanesSettings::default()
    };
    let mut lanes = Lanes::new(settings, Instant::now());
    let now = Instant::now();
    let soon = Ticket::until(now + Duration::from_secs(10));
    lanes.submit(now, &key("messages"), soon).unwrap();
    assert!(lanes.command(now, "messages@none", Command::Pause(Some(Duration::from_mins(1)))));
    assert!(matches!(lanes.poll(now), Step::Expire(..)));
    assert!(lanes.submit(now, &key("messages"), soon).is_err());
    let far = Ticket::until(now + Duration::from_mins(2));
    let (id, _) = lanes.submit(now, &key("messages"), far).unwrap();
    assert!(matches!(lanes.poll(now + Duration::from_secs(59)), Step::Wait(Some(_))));
    assert_eq!(lanes.poll(now + Duration::from_secs(61)), Step::Start(id));
}

#[test]
fn an_operator_ends_a_pause_of_the_api_too() {
    for law in [LawName::Learnt, LawName::Aimd, LawName::Fixed] {
        let mut busy = Busy::new(LanesSettings {
            law: LawSettings { name: law, ..LawSettings::default() },
            ..LanesSettings::default()
        });
        busy.run(1.0, |_| Some(told(60)));
        assert!(busy.run(10.0, never).is_empty());
        busy.order(Command::Resume);
        assert!(busy.run(10.0, never).len() > 5, "{law:?}");
    }
}

#[test]
fn a_lane_that_forgets_starts_over() {
    let mut busy = Busy::new(LanesSettings::default());
    busy.run(4.0, |at| (at > 3.0).then(|| told(1)));
    assert!(busy.view().unwrap().limit.is_some());
    busy.order(Command::Forget);
    let view = busy.view().unwrap();
    assert_eq!((view.limit, view.pace), (None, 4.0));
    let told_of = std::iter::from_fn(|| busy.lanes.next_event())
        .any(|event| event == Event::Commanded { lane: Arc::clone(&view.name), command: Command::Forget });
    assert!(told_of);
}

#[test]
fn what_a_lane_forgot_no_other_lane_of_its_route_inherits() {
    let mut busy = Busy::new(LanesSettings::default());
    busy.run(4.0, |at| (at > 3.0).then(|| told(1)));
    let another = |credential| LaneKey { credential: Some(CredentialHash(credential)), ..key("messages") };
    busy.lanes.submit(busy.now, &another(1), Ticket::default()).unwrap();
    busy.order(Command::Forget);
    busy.lanes.command(busy.now, "messages@0000", Command::Forget);
    busy.lanes.submit(busy.now, &another(1 << 60), Ticket::default()).unwrap();
    let limits: Vec<bool> =
        busy.lanes.snapshot(busy.now).into_iter().map(|view| view.limit.is_some()).collect();
    assert_eq!(limits, [false; 3]);
}

#[test]
fn what_left_before_a_lane_forgot_teaches_it_nothing() {
    let mut lanes = Lanes::new(LanesSettings::default(), Instant::now());
    let now = Instant::now();
    let [old, new] = [(); 2].map(|()| lanes.submit(now, &key("messages"), Ticket::default()).unwrap().0);
    assert_eq!(lanes.poll(now), Step::Start(old));
    assert!(lanes.command(now, "messages@none", Command::Forget));
    let later = now + Duration::from_secs(1);
    assert_eq!(lanes.poll(later), Step::Start(new));
    lanes.settle(later, old, &Report::new(Outcome::Limited(told(1)), false));
    let view = &lanes.snapshot(later)[0];
    assert_eq!((view.limit.as_ref(), view.paused_seconds), (None, 0.0));
}

#[test]
fn an_operators_word_outlives_idle_times() {
    let mut lanes = Lanes::new(LanesSettings::default(), Instant::now());
    let mut now = Instant::now();
    for route in ["pinned", "idle"] {
        let (id, _) = lanes.submit(now, &key(route), Ticket::default()).unwrap();
        assert_eq!(lanes.poll(now), Step::Start(id));
        lanes.release(now, id);
    }
    lanes.command(now, "pinned@none", Command::Pin(Rate::new(1.0)));
    now += Duration::from_hours(5);
    lanes.submit(now, &key("another"), Ticket::default()).unwrap();
    let names: Vec<Arc<str>> = lanes.snapshot(now).into_iter().map(|view| view.name).collect();
    assert_eq!(names, ["another@none".into(), Arc::<str>::from("pinned@none")]);
}
