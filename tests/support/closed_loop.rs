//! The core against a modelled API, in virtual time: clients, network, limiter and clock in one event loop.
//!
//! Everything is seeded; the same scenario and seed give the same run on every machine.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::{Duration, Instant};
use tidegate::control::{
    AnnouncedBy, Announcement, ClassId, CredentialHash, Hint, LaneKey, Lanes, LanesSettings, Level, Outcome,
    Report, Settled, Step, Ticket, TicketId,
};
use tidegate::sim::limits::{Announced, Limits};

/// What the API says beside a 429.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum RetryAfter {
    Seconds(f64),
    Reset,
    Nothing,
}

/// What the API says of its limits in every answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Headers {
    Nothing,
    /// Count, allowed and reset, as whole seconds rounded so.
    Count(Whole),
    /// The same and the window's length.
    Policy(Whole),
}

/// How seconds become whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Whole {
    Up,
    Down,
    Nearest,
    /// Not at all.
    Exact,
    /// Always 0: a header that says nothing.
    Zero,
}

/// Who asks, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Demand {
    /// So many clients, each asking again as soon as it has its answer.
    Closed { clients: usize },
    /// `count` requests at once, every `every_seconds`.
    Bursts { count: usize, every_seconds: f64 },
    /// So many requests a second, at random.
    Poisson { per_second: f64 },
    /// So many requests a second of a class, evenly, beside whoever else asks.
    Every { per_second: f64, class: ClassId },
}

/// A change of the world at a moment.
pub(crate) type Change = (f64, Box<dyn Fn(&mut World)>);

/// The way to the API and back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Network {
    pub(crate) rtt_seconds: f64,
    /// Mean of the exponential jitter, each way.
    pub(crate) jitter_seconds: f64,
    pub(crate) service_seconds: f64,
    pub(crate) service_jitter_seconds: f64,
    /// Mean lateness of the timer that releases.
    pub(crate) timer_seconds: f64,
    /// The way stands still so often and so long: what arrives then, either side, is looked at afterwards.
    pub(crate) stall: Option<(f64, f64)>,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            rtt_seconds: 0.05,
            jitter_seconds: 0.01,
            service_seconds: 0.02,
            service_jitter_seconds: 0.01,
            timer_seconds: 0.0002,
            stall: None,
        }
    }
}

impl Network {
    /// `at`, or the end of the stall that it falls into.
    fn after_stall(&self, at: f64) -> f64 {
        match self.stall {
            Some((every, seconds)) if at.rem_euclid(every) < seconds => at - at.rem_euclid(every) + seconds,
            _ => at,
        }
    }
}

/// One API, one machine under test, and the traffic between them.
pub(crate) struct World {
    pub(crate) lanes: Lanes,
    pub(crate) limits: HashMap<u64, Limits>,
    pub(crate) network: Network,
    pub(crate) retry_after: RetryAfter,
    pub(crate) headers: Headers,
    /// They say of every answer that nothing is left, for a long time.
    pub(crate) says_spent: bool,
    /// Of this limit alone, by its place.
    pub(crate) headers_of: Option<usize>,
    pub(crate) deadline_seconds: f64,
    /// The credential that clients use from now on, by client.
    pub(crate) credential: Box<dyn Fn(usize) -> u64>,
    pub(crate) log: Log,
    make_limits: Box<dyn Fn() -> Limits>,
    epoch: Instant,
    now: f64,
    random: Random,
    heap: BinaryHeap<Reverse<(u64, u64, EventKey)>>,
    events: HashMap<u64, Happening>,
    sequence: u64,
    armed: f64,
    flying: HashMap<TicketId, Flying>,
    waiting: HashMap<TicketId, Flying>,
    open_loop: bool,
}

type EventKey = u64;

#[derive(Clone, Copy, Debug)]
struct Flying {
    client: usize,
    credential: u64,
    class: ClassId,
    born: f64,
    started: f64,
}

#[derive(Debug)]
enum Happening {
    Ask(usize),
    Arrive(TicketId),
    Answer(TicketId, Result<(), Option<f64>>, Vec<Announcement>),
    /// An unseen tenant of the same budgets asks, evenly so many times a second.
    Other(f64),
    Wake,
    Burst(usize, f64),
    Random(f64),
    Every(f64, ClassId),
}

/// What the API and the clients saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    /// Arrival times of accepted requests, with their credential.
    pub(crate) accepted: Vec<(f64, u64)>,
    /// Arrival times of refused ones.
    pub(crate) refused: Vec<(f64, u64)>,
    /// What an unseen tenant got, by time.
    pub(crate) others: Vec<f64>,
    /// Client latencies, with the time of the answer.
    pub(crate) latency: Vec<(f64, f64)>,
    /// From the asking to the departure that was answered, refused turns included, with the time of the answer.
    pub(crate) waits: Vec<(f64, ClassId, f64)>,
    /// Clients that got no answer of the API, or its 429.
    pub(crate) client_errors: usize,
}

impl World {
    pub(crate) fn new(settings: LanesSettings, limits: impl Fn() -> Limits + 'static, seed: u64) -> Self {
        let epoch = base();
        Self {
            lanes: Lanes::new(settings, epoch),
            limits: HashMap::new(),
            network: Network::default(),
            retry_after: RetryAfter::Seconds(1.0),
            headers: Headers::Nothing,
            says_spent: false,
            headers_of: None,
            deadline_seconds: 120.0,
            credential: Box::new(|_| 1),
            log: Log::default(),
            make_limits: Box::new(limits),
            epoch,
            now: 0.0,
            random: Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) + 1),
            heap: BinaryHeap::new(),
            events: HashMap::new(),
            sequence: 0,
            armed: f64::INFINITY,
            flying: HashMap::new(),
            waiting: HashMap::new(),
            open_loop: false,
        }
    }

    /// Lets `demand` ask.
    pub(crate) fn demand(&mut self, demand: Demand) {
        match demand {
            Demand::Closed { clients } => {
                for client in 0..clients {
                    let start = self.random.uniform() * 0.05;
                    self.at(start, Happening::Ask(client));
                }
            }
            Demand::Bursts { count, every_seconds } => {
                self.open_loop = true;
                self.at(0.5, Happening::Burst(count, every_seconds));
            }
            Demand::Poisson { per_second } => {
                self.open_loop = true;
                self.at(0.0, Happening::Random(per_second));
            }
            Demand::Every { per_second, class } => {
                let start = self.random.uniform() / per_second;
                self.at(start, Happening::Every(per_second, class));
            }
        }
    }

    /// Lets an unseen tenant eat from every budget, evenly, from now on.
    pub(crate) fn others(&mut self, per_second: f64) {
        self.at(self.now + 0.5 / per_second, Happening::Other(per_second));
    }

    /// Runs until `until`, making `changes` on the way.
    pub(crate) fn run(&mut self, until: f64, mut changes: Vec<Change>) {
        changes.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (moment, change) in changes {
            self.run_to(moment.min(until));
            change(self);
        }
        self.run_to(until);
    }

    /// Runs until `until`.
    pub(crate) fn run_to(&mut self, until: f64) {
        while let Some(Reverse((nanos, _, _))) = self.heap.peek() {
            let at = *nanos as f64 * 1e-9;
            if at > until {
                break;
            }
            let Some(Reverse((_, _, key))) = self.heap.pop() else { break };
            self.now = at;
            let happening = self.events.remove(&key).unwrap();
            self.happen(happening);
        }
        self.now = self.now.max(until);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Ask(client) => self.ask(client, ClassId::default()),
            Happening::Burst(count, every) => {
                for client in 0..count {
                    self.ask(client, ClassId::default());
                }
                self.at(self.now + every, Happening::Burst(count, every));
            }
            Happening::Random(per_second) => {
                self.ask(0, ClassId::default());
                let gap = self.random.exponential(1.0 / per_second);
                self.at(self.now + gap, Happening::Random(per_second));
            }
            Happening::Every(per_second, class) => {
                self.ask(0, class);
                self.at(self.now + 1.0 / per_second, Happening::Every(per_second, class));
            }
            Happening::Wake => {
                if self.armed <= self.now {
                    self.armed = f64::INFINITY;
                }
                self.pump();
            }
            Happening::Arrive(id) => self.arrive(id),
            Happening::Answer(id, answer, told) => self.answer(id, answer, told),
            Happening::Other(per_second) => {
                for limits in self.limits.values_mut() {
                    if limits.admit(self.now).is_ok() {
                        self.log.others.push(self.now);
                    }
                }
                self.at(self.now + 1.0 / per_second, Happening::Other(per_second));
            }
        }
    }

    fn ask(&mut self, client: usize, class: ClassId) {
        let credential = (self.credential)(client);
        let key = LaneKey {
            upstream: "api:443".into(),
            credential: Some(CredentialHash(credential)),
            route: "/api/v2/conversations/messages".into(),
        };
        let ticket = Ticket { class, ..Ticket::until(self.instant(self.now + self.deadline_seconds)) };
        let flight = Flying { client, credential, class, born: self.now, started: self.now };
        match self.lanes.submit(self.instant(self.now), &key, ticket) {
            Ok((id, _)) => drop(self.waiting.insert(id, flight)),
            Err(_) => self.failed(flight),
        }
        self.pump();
    }

    fn failed(&mut self, flight: Flying) {
        self.log.client_errors += 1;
        if self.asks_again(flight) {
            self.at(self.now + 1.0, Happening::Ask(flight.client));
        }
    }

    fn asks_again(&self, flight: Flying) -> bool {
        !self.open_loop && flight.class == ClassId::default()
    }

    fn pump(&mut self) {
        loop {
            match self.lanes.poll(self.instant(self.now)) {
                Step::Start(id) => {
                    let flight = self.waiting.remove(&id).expect("starts once");
                    self.flying.insert(id, Flying { started: self.now, ..flight });
                    let arrives = self.now + self.way();
                    self.at(self.network.after_stall(arrives), Happening::Arrive(id));
                }
                Step::Expire(id, _) => {
                    let flight = self.waiting.remove(&id).expect("expires once");
                    self.failed(flight);
                }
                Step::Wait(next) => {
                    let next = next.map_or(f64::INFINITY, |at| (at - self.epoch).as_secs_f64());
                    assert!(next > self.now - 1e-6, "a wait that is over: {next} at {}", self.now);
                    if next < self.armed {
                        self.armed = next;
                        let late = self.random.exponential(self.network.timer_seconds);
                        self.at(next + late + 1e-9, Happening::Wake);
                    }
                    break;
                }
            }
        }
        while self.lanes.next_event().is_some() {}
    }

    fn arrive(&mut self, id: TicketId) {
        let credential = self.flying[&id].credential;
        let make = &self.make_limits;
        let limits = self.limits.entry(credential).or_insert_with(make);
        let (answer, service) = match limits.admit(self.now) {
            Ok(()) => {
                self.log.accepted.push((self.now, credential));
                let jitter = self.random.exponential(self.network.service_jitter_seconds);
                (Ok(()), self.network.service_seconds + jitter)
            }
            Err(refused) => {
                self.log.refused.push((self.now, credential));
                let told = match self.retry_after {
                    RetryAfter::Seconds(seconds) => Some(seconds),
                    RetryAfter::Reset => Some(refused.reset_seconds.ceil().max(1.0)),
                    RetryAfter::Nothing => None,
                };
                (Err(told), 0.002)
            }
        };
        let told = limits.announced(self.now);
        let told = match self.headers_of {
            Some(index) => told.get(index..=index).unwrap_or_default(),
            None => told.as_slice(),
        };
        let mut told: Vec<Announcement> = told.iter().filter_map(|told| self.headers.of(told)).collect();
        if self.says_spent {
            for told in &mut told {
                (told.used, told.reset) = (Some(told.requests), Some(Duration::from_secs(500_000)));
            }
        }
        let way = self.way();
        let back = self.network.after_stall(self.now + service + way);
        self.at(back, Happening::Answer(id, answer, told));
    }

    fn answer(&mut self, id: TicketId, answer: Result<(), Option<f64>>, announced: Vec<Announcement>) {
        let now = self.instant(self.now);
        let flight = self.flying.remove(&id).expect("answered once");
        let outcome = match answer {
            Ok(()) => Outcome::Accepted,
            Err(told) => {
                Outcome::Limited(Hint { retry_after: told.map(Duration::from_secs_f64), ..Hint::default() })
            }
        };
        match self.lanes.settle(now, id, &Report { announced, ..Report::new(outcome, true) }) {
            Settled::Again => drop(self.waiting.insert(id, flight)),
            Settled::Answer => {
                self.lanes.release(now, id);
                if answer.is_ok() {
                    self.log.latency.push((self.now, self.now - flight.born));
                    self.log.waits.push((self.now, flight.class, flight.started - flight.born));
                    if self.asks_again(flight) {
                        self.at(self.now, Happening::Ask(flight.client));
                    }
                } else {
                    self.failed(flight);
                }
            }
        }
        self.pump();
    }

    fn way(&mut self) -> f64 {
        self.network.rtt_seconds / 2.0 + self.random.exponential(self.network.jitter_seconds)
    }

    fn at(&mut self, seconds: f64, happening: Happening) {
        self.sequence += 1;
        self.events.insert(self.sequence, happening);
        let nanos = (seconds.max(0.0) * 1e9).round() as u64;
        self.heap.push(Reverse((nanos, self.sequence, self.sequence)));
    }

    fn instant(&self, seconds: f64) -> Instant {
        self.epoch + Duration::from_secs_f64(seconds)
    }
}

impl Headers {
    fn of(self, told: &Announced) -> Option<Announcement> {
        let (whole, says_window) = match self {
            Self::Nothing => return None,
            Self::Count(whole) => (whole, false),
            Self::Policy(whole) => (whole, true),
        };
        let reset = match whole {
            Whole::Up => told.reset_seconds?.ceil(),
            Whole::Down => told.reset_seconds?.floor(),
            Whole::Nearest => told.reset_seconds?.round(),
            Whole::Exact => told.reset_seconds?,
            Whole::Zero => 0.0,
        };
        Some(Announcement {
            name: "told".into(),
            source: AnnouncedBy::Header,
            requests: told.allowed,
            used: Some(told.used),
            reset: Some(Duration::from_secs_f64(reset)),
            window: told.window_seconds.filter(|_| says_window).map(Duration::from_secs_f64),
            level: Level::Route,
        })
    }
}

impl Log {
    /// Accepted in `[from, until)`, as a share of what `rate` allows.
    pub(crate) fn utilisation(&self, from: f64, until: f64, rate: f64) -> f64 {
        let count = self.accepted.iter().filter(|(at, _)| *at >= from && *at < until).count();
        count as f64 / (rate * (until - from))
    }

    /// Refused in `[from, until)`, as a share of all that arrived then.
    pub(crate) fn refused_share(&self, from: f64, until: f64) -> f64 {
        let within =
            |log: &[(f64, u64)]| log.iter().filter(|(at, _)| *at >= from && *at < until).count() as f64;
        let refused = within(&self.refused);
        refused / (refused + within(&self.accepted)).max(1.0)
    }

    /// The first moment from which on the next `over` seconds use at least `share` of `rate`.
    pub(crate) fn reaches(&self, share: f64, rate: f64, from: f64, over: f64) -> Option<f64> {
        (0..2400)
            .map(|step| from + f64::from(step) * 0.25)
            .find(|start| self.utilisation(*start, start + over, rate) >= share)
    }
}

/// A moment to count from; the core never asks what time it is.
fn base() -> Instant {
    Instant::now()
}

/// A small seeded generator (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        if mean <= 0.0 { 0.0 } else { -mean * (1.0 - self.uniform()).ln() }
    }
}
