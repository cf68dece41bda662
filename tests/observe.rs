//! A lane that only watches: nothing waits, nothing is sent again, and what it would set is told.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "the core counts from one real moment, and a panic is how a test fails"
)]

use std::time::{Duration, Instant};
use tidegate::control::{
    AnnouncedBy, Announcement, ClassId, ClassSettings, Command, Event, Hint, LaneKey, LaneView, Lanes,
    LanesSettings, LawName, Level, LimitSource, Mode, Outcome, QueueSettings, Rate, Report, Settled, Step,
    Ticket, TicketId,
};

fn key() -> LaneKey {
    LaneKey { upstream: "api:443".into(), credential: None, route: "/messages".into() }
}

/// Bounds that would refuse nearly everything, if it were for them.
fn strict() -> LanesSettings {
    let class = ClassSettings { name: "production".into(), share: 0.5 };
    let mut settings = LanesSettings {
        ceiling: Some("1/min".parse().unwrap()),
        classes: vec![class],
        queue: QueueSettings { deadline: Duration::ZERO, lane_tickets_max: 1, ..QueueSettings::default() },
        ..LanesSettings::default()
    };
    settings.law.mode = Mode::Observe;
    settings
}

fn start(lanes: &mut Lanes, now: Instant) -> Option<TicketId> {
    lanes.submit(now, &key(), Ticket::default()).unwrap();
    match lanes.poll(now) {
        Step::Start(id) => Some(id),
        Step::Wait(_) => None,
        Step::Expire(..) => panic!("nothing expires"),
    }
}

fn answer(lanes: &mut Lanes, now: Instant, id: TicketId, outcome: Outcome) {
    assert_eq!(lanes.settle(now, id, &Report::new(outcome, true)), Settled::Answer);
    lanes.release(now, id);
}

fn refusal(seconds: u64) -> Outcome {
    Outcome::Limited(Hint { retry_after: Some(Duration::from_secs(seconds)), ..Hint::default() })
}

fn view(lanes: &Lanes, now: Instant) -> LaneView {
    lanes.snapshot(now).remove(0)
}

#[test]
fn everything_passes_at_once_and_comes_back_as_it_is() {
    for law in [LawName::Learnt, LawName::Aimd, LawName::Fixed] {
        let mut settings = strict();
        settings.law.name = law;
        let epoch = Instant::now();
        let mut lanes = Lanes::new(settings, epoch);
        for n in 0..2_000_u32 {
            let now = epoch + Duration::from_millis(20) * n;
            let id = start(&mut lanes, now).expect("it leaves at once");
            let outcome = match n % 3 {
                0 => Outcome::Accepted,
                1 => refusal(60),
                _ => {
                    Outcome::Overloaded(Hint { retry_after: Some(Duration::from_mins(1)), ..Hint::default() })
                }
            };
            answer(&mut lanes, now + Duration::from_millis(5), id, outcome);
            assert_eq!(view(&lanes, now).queue_depth, 0);
        }
        let seen = view(&lanes, epoch + Duration::from_secs(41));
        assert_eq!((seen.mode, seen.law), (Mode::Observe, law));
        assert!(seen.paused_seconds <= 0.0, "{}", seen.paused_seconds);
        assert_eq!(seen.throttled_total, 667);
        let events = std::iter::from_fn(|| lanes.next_event());
        let held = |event: &Event| {
            matches!(event, Event::Retried { .. } | Event::Refused { .. } | Event::Paused { .. })
        };
        assert_eq!(events.filter(held).count(), 0);
    }
}

#[test]
fn it_says_what_it_would_set() {
    let epoch = Instant::now();
    let mut settings = strict();
    settings.ceiling = None;
    let mut lanes = Lanes::new(settings, epoch);
    // Ten in each second, of twenty-five that are wanted.
    for n in 0..1_500_u32 {
        let now = epoch + Duration::from_millis(40) * n;
        let id = start(&mut lanes, now).unwrap();
        let outcome = if n % 25 < 10 { Outcome::Accepted } else { refusal(1) };
        answer(&mut lanes, now + Duration::from_millis(5), id, outcome);
    }
    let seen = view(&lanes, epoch + Duration::from_mins(1));
    assert!((seen.pace - 10.0).abs() < 0.3, "{}", seen.pace);
    let limit = seen.limit.unwrap();
    assert_eq!(limit.source, LimitSource::Learnt);
    assert!(limit.says.contains("900 in") && limit.confidence < 0.5, "{limit:?}");
    assert_eq!(lanes.memories(epoch + Duration::from_mins(1)), [], "no pace for another run to start at");
}

#[test]
fn an_announced_limit_is_told_exactly() {
    let epoch = Instant::now();
    let mut lanes = Lanes::new(strict(), epoch);
    for n in 0..100_u32 {
        let now = epoch + Duration::from_millis(100) * n;
        let id = start(&mut lanes, now).unwrap();
        let told = Announcement {
            name: "inin".into(),
            source: AnnouncedBy::Header,
            requests: 300,
            used: Some(n + 1),
            reset: Some(Duration::from_secs(60 - u64::from(n / 10))),
            window: Some(Duration::from_mins(1)),
            level: Level::Route,
        };
        let report = Report { announced: vec![told], ..Report::new(Outcome::Accepted, true) };
        lanes.settle(now + Duration::from_millis(5), id, &report);
        lanes.release(now + Duration::from_millis(5), id);
    }
    let limit = view(&lanes, epoch + Duration::from_secs(10)).limit.unwrap();
    assert_eq!((limit.source, limit.requests, limit.window_seconds), (LimitSource::Header, 300.0, 60.0));
}

#[test]
fn an_operators_pin_and_pause_hold_all_the_same() {
    let epoch = Instant::now();
    let mut settings = strict();
    settings.queue = QueueSettings::default();
    settings.ceiling = None;
    let mut lanes = Lanes::new(settings, epoch);
    let id = start(&mut lanes, epoch).unwrap();
    answer(&mut lanes, epoch, id, Outcome::Accepted);
    let order = |lanes: &mut Lanes, now, command| assert!(lanes.command(now, "messages@none", command));
    order(&mut lanes, epoch, Command::Pause(Some(Duration::from_secs(10))));
    assert_eq!(start(&mut lanes, epoch + Duration::from_secs(1)), None);
    assert_eq!(lanes.poll(epoch + Duration::from_secs(9)), Step::Wait(Some(epoch + Duration::from_secs(10))));
    let Step::Start(id) = lanes.poll(epoch + Duration::from_secs(10)) else { panic!("the pause is over") };
    answer(&mut lanes, epoch + Duration::from_secs(10), id, Outcome::Accepted);
    order(&mut lanes, epoch + Duration::from_secs(10), Command::Pin(Rate::new(1.0)));
    let starts = (0..5).filter(|_| start(&mut lanes, epoch + Duration::from_secs(12)).is_some()).count();
    assert_eq!(starts, 1);
    order(&mut lanes, epoch + Duration::from_secs(12), Command::Resume);
    let all = std::iter::from_fn(|| match lanes.poll(epoch + Duration::from_secs(12)) {
        Step::Start(id) => Some(id),
        _ => None,
    });
    assert_eq!(all.count(), 4);
}

/// A ceiling stands in the configuration, and that delays nothing in a dry run; a pin is a person's word of now.
#[test]
fn a_pinned_lane_leaves_at_the_pin_whatever_the_ceiling() {
    let epoch = Instant::now();
    let mut settings = strict();
    settings.queue = QueueSettings::default();
    assert_eq!(settings.ceiling, Some("1/min".parse().unwrap()));
    let mut lanes = Lanes::new(settings, epoch);
    let id = start(&mut lanes, epoch).unwrap();
    answer(&mut lanes, epoch, id, Outcome::Accepted);
    assert!(lanes.command(epoch, "messages@none", Command::Pin(Rate::new(10.0))));
    assert!((view(&lanes, epoch).pace - 10.0).abs() < 1e-9);
    for n in 1..=20_u32 {
        let now = epoch + Duration::from_millis(100) * n;
        let id = start(&mut lanes, now).expect("the pin alone holds");
        answer(&mut lanes, now, id, Outcome::Accepted);
    }
    assert!(start(&mut lanes, epoch + Duration::from_millis(2_010)).is_none(), "and it does");
}

/// What the API says of a limit above lanes is told in a dry run as well, and holds nobody back.
#[test]
fn a_limit_above_lanes_is_watched_too() {
    let epoch = Instant::now();
    let mut lanes = Lanes::new(strict(), epoch);
    let other = LaneKey { route: "/other".into(), ..key() };
    for n in 0..3_000_u32 {
        let now = epoch + Duration::from_millis(20) * n;
        let lane = if n % 2 == 0 { key() } else { other.clone() };
        lanes.submit(now, &lane, Ticket::default()).unwrap();
        let Step::Start(id) = lanes.poll(now) else { panic!("it waits at {n}") };
        let hint = Hint { level: Some(Level::Credential), ..Hint::default() };
        let outcome = if n % 50 < 10 { Outcome::Accepted } else { Outcome::Limited(hint) };
        answer(&mut lanes, now + Duration::from_millis(5), id, outcome);
    }
    let seen = view(&lanes, epoch + Duration::from_mins(1));
    let above = seen.above.first().expect("a node that the API spoke of");
    assert_eq!((above.per, above.queue_depth), (Level::Credential, 0));
    assert!((above.pace - 10.0).abs() < 1.0, "{above:?}");
    assert!(!above.limit.as_ref().unwrap().at_least, "{above:?}");
    assert_eq!(lanes.memories(epoch + Duration::from_mins(1)), [], "a dry run's measure is no start");
}

#[test]
fn one_lane_can_observe_while_others_pace() {
    let observed = strict();
    let mut settings = LanesSettings::default();
    settings.rules.push(tidegate::control::LaneRule {
        name: "/messages".into(),
        upstream: None,
        law: observed.law,
        ceiling: None,
        deadline: Duration::from_mins(2),
    });
    let epoch = Instant::now();
    let mut lanes = Lanes::new(settings, epoch);
    let other = LaneKey { route: "/other".into(), ..key() };
    for _ in 0..10 {
        lanes.submit(epoch, &key(), Ticket { class: ClassId(0), deadline: None }).unwrap();
        lanes.submit(epoch, &other, Ticket { class: ClassId(0), deadline: None }).unwrap();
    }
    while let Step::Start(_) = lanes.poll(epoch) {}
    let views = lanes.snapshot(epoch);
    let of = |route: &str| views.iter().find(|view| &*view.key.route == route).unwrap();
    assert_eq!((of("/messages").queue_depth, of("/messages").in_flight), (0, 10));
    assert!(of("/other").queue_depth >= 8, "{:?}", of("/other"));
}
