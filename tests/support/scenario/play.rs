//! One run of a scenario: the world that its file describes, around a machine.

use super::{Answers, Per, Rounded, Scenario, Server, Spoken, WaitWord, Waited, Wanted, Wire};
use crate::closed_loop::{
    Change, Demand, Headers, Machine, Network, On, Ours, ROUTE, RetryAfter, UPSTREAM, Whole, World,
};
use tidegate::control::{
    ClassId, ClassSettings, LanesSettings, LawName, Level, LimitModel, LimitSource, Memory, MemoryNumber,
    Quota, Shape,
};
use tidegate::sim::limits::{Limiter, Limits, Model};

/// The first class, and the only one.
pub(super) const PRODUCTION: ClassId = ClassId(1);

/// The credential after the token refresh.
pub(super) const REFRESHED: u64 = 1_000;

/// Makes the machine that a scenario is played with.
pub(crate) type Make<'a> = &'a dyn Fn(&Scenario) -> Box<dyn Machine>;

/// The product's own core, as the scenario sets it.
pub(crate) fn ours(scenario: &Scenario) -> Box<dyn Machine> {
    let mut settings = LanesSettings::default();
    settings.law.name = match scenario.law.as_deref() {
        None | Some("learnt") => LawName::Learnt,
        Some("aimd") => LawName::Aimd,
        Some("fixed") => LawName::Fixed,
        Some(other) => panic!("no such law: {other}"),
    };
    if let Some(rate) = &scenario.fixed_rate {
        settings.law.fixed_rate = rate.parse::<Quota>().expect("a rate").rate();
    }
    settings.law.shared = scenario.shared;
    settings.law.headroom = scenario.headroom;
    if let Some(burst) = scenario.burst {
        (settings.law.shape, settings.law.burst) = (Shape::Burst, burst);
    }
    settings.ceiling = scenario.ceiling.as_ref().map(|text| text.parse().expect("a ceiling"));
    let class =
        |production: super::Production| ClassSettings { name: "production".into(), share: production.share };
    settings.classes.extend(scenario.production.map(class));
    let mut ours = Ours::new(settings);
    if let Some(quota) = &scenario.remembered {
        ours.remember(&memory(quota.parse().expect("a quota")));
    }
    Box::new(ours)
}

/// A number in short windows, a budget in long ones: as the law keeps them.
fn memory(quota: Quota) -> Memory {
    let (requests, window_seconds) = (f64::from(quota.requests), quota.window.as_secs_f64());
    let number = MemoryNumber {
        requests,
        window_seconds,
        model: LimitModel::FixedWindow,
        source: LimitSource::Learnt,
    };
    let is_long = window_seconds >= 5.0;
    Memory {
        upstream: UPSTREAM.into(),
        route: ROUTE.into(),
        per: Level::Route,
        age_seconds: 60.0,
        pace: quota.rate(),
        is_unmet: false,
        number: (!is_long).then_some(number),
        budget: is_long.then_some((quota.requests, window_seconds)),
    }
}

/// Plays `scenario` to its end.
pub(crate) fn play(scenario: &Scenario, seed: u64, make: Make<'_>) -> World {
    let fresh = fresh(scenario, seed);
    let count = scenario.proxies.map_or(1, |proxies| proxies.count);
    let machines = (0..count).map(|_| make(scenario)).collect();
    let mut world = World::new(machines, move || fresh.clone(), seed);
    let server = &scenario.server;
    world.api.network = network(&scenario.network);
    world.api.retry_after = match server.retry_after {
        Waited::Word(WaitWord::Reset) => RetryAfter::Reset,
        Waited::Word(WaitWord::Date) => RetryAfter::Date,
        Waited::Seconds(seconds) => {
            assert!(seconds >= 0.0, "retry_after = {seconds}: there are words for what is no wait");
            RetryAfter::Seconds(seconds)
        }
        Waited::Word(WaitWord::Negative | WaitWord::None) => RetryAfter::Nothing,
    };
    world.api.headers = server.headers.map(headers);
    world.api.counts_refused = server.counts_refused;
    world.api.breaks = server.breaks;
    world.workers(server.workers.unwrap_or(0));
    if let Some(per_second) = server.others {
        world.others(per_second);
    }
    let credentials = server.credentials.unwrap_or(1);
    let routes = server.routes.unwrap_or(1);
    spread(&mut world, credentials, routes);
    world.limits_of = limits_of(server.per);
    if server.says_level {
        world.api.says_level = Some(match server.per {
            Per::Route => Level::Route,
            Per::Credential => Level::Credential,
            Per::Upstream => Level::Upstream,
        });
    }
    demand(&mut world, scenario);
    world.run(scenario.run.seconds, changes(scenario));
    world
}

/// Spreads clients over so many credentials, and each credential's over so many routes.
fn spread(world: &mut World, credentials: u64, routes: u64) {
    world.credential = Box::new(move |client| 1 + client as u64 % credentials);
    world.route = Box::new(move |client| client as u64 / credentials % routes);
}

/// Which limits a credential's requests for a route count against.
fn limits_of(per: Per) -> Box<dyn Fn(u64, u64) -> u64> {
    match per {
        Per::Route => Box::new(|credential, route| credential * 1_000_000 + route),
        Per::Credential => Box::new(|credential, _| credential),
        Per::Upstream => Box::new(|_, _| 0),
    }
}

/// The limits before anything is spent. Every seed has another phase of the API's window.
pub(super) fn fresh(scenario: &Scenario, seed: u64) -> Limits {
    let Server { limits, model, burst, .. } = &scenario.server;
    let phase = (seed as f64 + 0.313) / scenario.run.seeds as f64;
    let model = |quota: Quota| match model.as_str() {
        "fixed" => Model::Fixed { phase_seconds: phase * quota.window.as_secs_f64() },
        "anchored" => Model::Anchored,
        "sliding" => Model::Sliding,
        "bucket" => Model::Bucket { burst: *burst },
        "concurrency" => Model::Concurrency,
        other => panic!("no such model: {other}"),
    };
    Limits::new(quotas(limits).into_iter().map(|quota| Limiter::new(quota, model(quota))).collect())
}

fn quotas(texts: &[String]) -> Vec<Quota> {
    texts.iter().map(|text| text.parse().expect("a quota")).collect()
}

/// What the limits of `texts` let through, in requests/s.
fn rate_of(scenario: &Scenario, texts: &[String]) -> f64 {
    let wire = network(&scenario.network);
    let rate = |quota: &Quota| match scenario.server.model.as_str() {
        "concurrency" => f64::from(quota.requests) / (wire.service_seconds + wire.service_jitter_seconds),
        _ => quota.rate().get(),
    };
    quotas(texts).iter().map(rate).fold(f64::INFINITY, f64::min)
}

/// What a credential's limits let through at `at`, in requests/s.
pub(crate) fn rate_at(scenario: &Scenario, at: f64) -> f64 {
    let moved = scenario.change.iter().rfind(|moved| moved.at <= at);
    rate_of(scenario, moved.map_or(&scenario.server.limits, |moved| &moved.limits))
}

pub(super) fn network(wire: &Wire) -> Network {
    let default = Network::default();
    let seconds = |millis: Option<f64>, default: f64| millis.map_or(default, |millis| millis / 1e3);
    Network {
        rtt_seconds: seconds(wire.rtt_ms, default.rtt_seconds),
        jitter_seconds: seconds(wire.jitter_ms, default.jitter_seconds),
        service_seconds: seconds(wire.service_ms, default.service_seconds),
        service_jitter_seconds: seconds(wire.service_jitter_ms, default.service_jitter_seconds),
        stall: wire.stall,
        straggle: wire.straggle,
        ..default
    }
}

fn headers(spoken: Spoken) -> Headers {
    let whole = match spoken.reset {
        Rounded::Up => Whole::Up,
        Rounded::Down => Whole::Down,
        Rounded::Nearest => Whole::Nearest,
        Rounded::Exact => Whole::Exact,
        Rounded::Zero => Whole::Zero,
        Rounded::Spent => Whole::Spent,
    };
    let on = match spoken.on {
        Answers::All => On::All,
        Answers::Accepted => On::Accepted,
        Answers::Refused => On::Refused,
    };
    Headers { whole, window: spoken.window, of: spoken.of, on, share: spoken.share.unwrap_or(1.0) }
}

fn demand(world: &mut World, scenario: &Scenario) {
    let Wanted {
        clients, clients_from, impatient, burst_of, burst_every_seconds, poisson_per_second, ..
    } = scenario.demand;
    world.impatient = impatient;
    if let Some(clients) = clients {
        let proxies = scenario.proxies.unwrap_or(super::Proxies { count: 1, apart_seconds: 0.0 });
        for proxy in 0..proxies.count {
            let from = clients_from + proxy as f64 * proxies.apart_seconds;
            world.demand(from, Demand::Closed { clients, proxy });
        }
    }
    if let (Some(count), Some(every_seconds)) = (burst_of, burst_every_seconds) {
        world.demand(0.0, Demand::Bursts { count, every_seconds });
    }
    if let Some(per_second) = poisson_per_second {
        let until = if clients.is_some() { clients_from } else { f64::INFINITY };
        world.demand(0.0, Demand::Poisson { per_second, until });
    }
    if let Some(super::Production { per_second, .. }) = scenario.production {
        world.demand(0.0, Demand::Every { per_second, class: PRODUCTION });
    }
}

fn changes(scenario: &Scenario) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    for moved in &scenario.change {
        let quotas = quotas(&moved.limits);
        let change = move |world: &mut World| {
            for limits in world.limits.values_mut() {
                for (index, quota) in quotas.iter().enumerate() {
                    limits.get_mut(index).expect("as many limits as before").set_quota(*quota);
                }
            }
        };
        changes.push((moved.at, Box::new(change)));
    }
    if let Some(at) = scenario.server.parts_at {
        changes.push((at, Box::new(|world| world.limits_of = limits_of(Per::Route))));
    }
    if let Some(every) = scenario.demand.gathers_every {
        let (credentials, routes) =
            (scenario.server.credentials.unwrap_or(1), scenario.server.routes.unwrap_or(1));
        for turn in (1_u32..).take_while(|turn| f64::from(*turn) * every < scenario.run.seconds) {
            let (credentials, routes) = if turn % 2 == 1 { (1, 1) } else { (credentials, routes) };
            let gather = move |world: &mut World| spread(world, credentials, routes);
            changes.push((f64::from(turn) * every, Box::new(gather)));
        }
    }
    if let Some(at) = scenario.token_refresh_at {
        changes.push((at, Box::new(|world| world.credential = Box::new(|_| REFRESHED))));
    }
    if let Some(super::Restart { at, remembers }) = scenario.restart {
        changes.push((at, Box::new(move |world| world.restart(remembers))));
    }
    for (at, seconds) in scenario.clock.iter().copied() {
        changes.push((at, Box::new(move |world| world.leap(seconds))));
    }
    if let Some((every, seconds)) = scenario.server.breaks {
        let mut end = every;
        while end < scenario.run.seconds {
            if end - seconds >= scenario.run.steady_from {
                changes.push((end - seconds, Box::new(World::note_pace)));
                changes.push((end, Box::new(World::note_pace)));
            }
            end += every;
        }
    }
    changes
}
