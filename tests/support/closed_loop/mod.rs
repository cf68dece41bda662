//! A machine against a modelled API, in virtual time: clients, network, limiter and clock in one event loop.
//!
//! Everything is seeded; the same scenario and seed give the same run on every machine.

mod api;
mod log;
mod machine;
mod random;

pub(crate) use api::{Api, Headers, Network, On, RetryAfter, Verdict, Whole};
pub(crate) use log::{Answered, Arrival, Log};
pub(crate) use machine::{About, Machine, Next, Ours, ROUTE, UPSTREAM};
pub(crate) use random::Random;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use tidegate::control::{Announcement, ClassId, Report};
use tidegate::sim::limits::Limits;

/// Seconds after which a client asks again that got no answer.
const TRIES_AGAIN_SECONDS: f64 = 1.0;

/// Who asks, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Demand {
    /// So many clients of a proxy, each asking again as soon as it has its answer.
    Closed { clients: usize, proxy: usize },
    /// `count` requests at once, every `every_seconds`.
    Bursts { count: usize, every_seconds: f64 },
    /// So many requests a second, at random, until a moment.
    Poisson { per_second: f64, until: f64 },
    /// So many requests a second of a class, evenly, beside whoever else asks.
    Every { per_second: f64, class: ClassId },
}

/// A change of the world at a moment.
pub(crate) type Change = (f64, Box<dyn Fn(&mut World)>);

/// One API, the machines under test, and the traffic between them.
pub(crate) struct World {
    pub(crate) api: Api,
    /// By what they are on: a credential's, as a rule.
    pub(crate) limits: HashMap<u64, Limits>,
    pub(crate) deadline_seconds: f64,
    /// The credential that clients use from now on, by client.
    pub(crate) credential: Box<dyn Fn(usize) -> u64>,
    /// The route that clients use, by client.
    pub(crate) route: Box<dyn Fn(usize) -> u64>,
    /// Which limits a credential's requests for a route count against.
    pub(crate) limits_of: Box<dyn Fn(u64, u64) -> u64>,
    /// Such a share of the clients leave after so many seconds in the queue.
    pub(crate) impatient: Option<(f64, f64)>,
    pub(crate) log: Log,
    machines: Vec<Box<dyn Machine>>,
    make_limits: Box<dyn Fn() -> Limits>,
    now: f64,
    /// How far the machines' clock is ahead.
    clock_seconds: f64,
    random: Random,
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    events: HashMap<u64, Happening>,
    sequence: u64,
    /// When each of the API's workers is free.
    workers: Vec<f64>,
    /// When each machine is woken.
    armed: Vec<f64>,
    requests: u64,
    flying: HashMap<u64, Flight>,
    waiting: HashMap<u64, Flight>,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
struct Caller {
    client: usize,
    proxy: usize,
    class: ClassId,
    /// As soon as it has its answer.
    asks_again: bool,
}

#[derive(Clone, Copy, Debug)]
struct Flight {
    caller: Caller,
    credential: u64,
    route: u64,
    born: f64,
    started: f64,
}

#[derive(Debug)]
enum Happening {
    Ask(Caller),
    Leave(u64),
    Arrive(u64),
    /// The API is done with a request that counted against these limits.
    Done(u64),
    Answer(u64, Verdict, Vec<Announcement>),
    /// An unseen tenant of the same budgets asks, evenly so many times a second.
    Other(f64),
    Wake(usize),
    Burst(usize, f64),
    Random(f64, f64),
    Every(f64, ClassId),
}

impl World {
    pub(crate) fn new(
        machines: Vec<Box<dyn Machine>>,
        limits: impl Fn() -> Limits + 'static,
        seed: u64,
    ) -> Self {
        Self {
            api: Api::default(),
            limits: HashMap::new(),
            deadline_seconds: 120.0,
            credential: Box::new(|_| 1),
            route: Box::new(|_| 0),
            limits_of: Box::new(|credential, _| credential),
            impatient: None,
            log: Log::default(),
            armed: vec![f64::INFINITY; machines.len()],
            machines,
            make_limits: Box::new(limits),
            now: 0.0,
            clock_seconds: 0.0,
            random: Random::new(seed),
            heap: BinaryHeap::new(),
            events: HashMap::new(),
            sequence: 0,
            workers: Vec::new(),
            requests: 0,
            flying: HashMap::new(),
            waiting: HashMap::new(),
        }
    }

    /// Lets `demand` ask, from a moment on.
    pub(crate) fn demand(&mut self, from: f64, demand: Demand) {
        match demand {
            Demand::Closed { clients, proxy } => {
                for client in 0..clients {
                    let start = from + self.random.uniform() * 0.05;
                    let class = ClassId::default();
                    self.at(start, Happening::Ask(Caller { client, proxy, class, asks_again: true }));
                }
            }
            Demand::Bursts { count, every_seconds } => {
                self.at(from + 0.5, Happening::Burst(count, every_seconds));
            }
            Demand::Poisson { per_second, until } => self.at(from, Happening::Random(per_second, until)),
            Demand::Every { per_second, class } => {
                let start = from + self.random.uniform() / per_second;
                self.at(start, Happening::Every(per_second, class));
            }
        }
    }

    /// Gives the API so many workers: what is let in waits for one that is free.
    pub(crate) fn workers(&mut self, count: usize) {
        self.workers = vec![0.0; count];
    }

    /// Lets an unseen tenant eat from every budget, evenly, from now on.
    pub(crate) fn others(&mut self, per_second: f64) {
        self.at(self.now + 0.5 / per_second, Happening::Other(per_second));
    }

    /// The first proxy stops and starts again: who waits or flies is cut off, and asks again.
    pub(crate) fn restart(&mut self, remembers: bool) {
        let theirs = |_: &u64, flight: &mut Flight| flight.caller.proxy == 0;
        let mut cut: Vec<_> = self.waiting.extract_if(theirs).chain(self.flying.extract_if(theirs)).collect();
        cut.sort_by_key(|(request, _)| *request);
        for (_, flight) in cut {
            self.at(self.now + TRIES_AGAIN_SECONDS, Happening::Ask(flight.caller));
        }
        self.machines[0].restart(self.now + self.clock_seconds, remembers);
    }

    /// The machines' clock leaps.
    pub(crate) fn leap(&mut self, seconds: f64) {
        self.clock_seconds += seconds;
        for proxy in 0..self.machines.len() {
            self.armed[proxy] = f64::INFINITY;
            self.pump(proxy);
        }
    }

    /// Writes the first machine's pace down.
    pub(crate) fn note_pace(&mut self) {
        let pace = self.machines[0].pace(self.now + self.clock_seconds);
        self.log.paces.push((self.now, pace));
    }

    /// Runs until `until`, making `changes` on the way.
    pub(crate) fn run(&mut self, until: f64, mut changes: Vec<Change>) {
        changes.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (moment, change) in changes {
            self.run_to(moment.min(until));
            change(self);
        }
        self.run_to(until);
        self.log.shares = self.machines[0].shares();
        self.log.limit = self.machines[0].limit(self.now + self.clock_seconds);
    }

    fn run_to(&mut self, until: f64) {
        while let Some(Reverse((nanos, key))) = self.heap.peek().copied() {
            let at = nanos as f64 * 1e-9;
            if at > until {
                break;
            }
            self.heap.pop();
            self.now = at;
            let happening = self.events.remove(&key).unwrap();
            self.happen(happening);
        }
        self.now = self.now.max(until);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Ask(caller) => self.ask(caller),
            Happening::Leave(request) => self.leave(request),
            Happening::Burst(count, every) => {
                for _ in 0..count {
                    self.ask(passer_by(ClassId::default()));
                }
                self.at(self.now + every, Happening::Burst(count, every));
            }
            Happening::Random(per_second, until) if self.now < until => {
                self.ask(passer_by(ClassId::default()));
                let gap = self.random.exponential(1.0 / per_second);
                self.at(self.now + gap, Happening::Random(per_second, until));
            }
            Happening::Random(..) => (),
            Happening::Every(per_second, class) => {
                self.ask(passer_by(class));
                self.at(self.now + 1.0 / per_second, Happening::Every(per_second, class));
            }
            Happening::Wake(proxy) => {
                if self.armed[proxy] <= self.now {
                    self.armed[proxy] = f64::INFINITY;
                }
                self.pump(proxy);
            }
            Happening::Arrive(request) => self.arrive(request),
            Happening::Done(place) => {
                if let Some(limits) = self.limits.get_mut(&place) {
                    limits.release();
                }
            }
            Happening::Answer(request, verdict, told) => self.answer(request, verdict, told),
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

    fn ask(&mut self, caller: Caller) {
        let (credential, route) = ((self.credential)(caller.client), (self.route)(caller.client));
        let request = self.requests;
        self.requests += 1;
        let now = self.now + self.clock_seconds;
        let about = About { credential, route, class: caller.class, deadline: now + self.deadline_seconds };
        let flight = Flight { caller, credential, route, born: self.now, started: self.now };
        if self.machines[caller.proxy].ask(now, request, about) {
            self.waiting.insert(request, flight);
            if let Some((share, seconds)) = self.impatient
                && self.random.uniform() < share
            {
                self.at(self.now + seconds, Happening::Leave(request));
            }
        } else {
            self.failed(caller);
        }
        self.pump(caller.proxy);
    }

    fn leave(&mut self, request: u64) {
        let Some(flight) = self.waiting.remove(&request) else { return };
        let Caller { proxy, asks_again, .. } = flight.caller;
        self.machines[proxy].leave(self.now + self.clock_seconds, request);
        if asks_again {
            self.at(self.now, Happening::Ask(flight.caller));
        }
        self.pump(proxy);
    }

    fn failed(&mut self, caller: Caller) {
        self.log.client_errors += 1;
        if caller.asks_again {
            self.at(self.now + TRIES_AGAIN_SECONDS, Happening::Ask(caller));
        }
    }

    fn pump(&mut self, proxy: usize) {
        loop {
            let now = self.now + self.clock_seconds;
            match self.machines[proxy].next(now) {
                Next::Start(request) => {
                    let flight = self.waiting.remove(&request).expect("starts once");
                    self.flying.insert(request, Flight { started: self.now, ..flight });
                    let arrives = self.now + self.way();
                    self.at(self.api.network.after_stall(arrives), Happening::Arrive(request));
                }
                Next::Expire(request) => {
                    let flight = self.waiting.remove(&request).expect("expires once");
                    self.failed(flight.caller);
                }
                Next::Wait(until) => {
                    assert!(until > now - 1e-6, "a wait that is over: {until} at {now}");
                    let until = until - self.clock_seconds;
                    if until < self.armed[proxy] {
                        self.armed[proxy] = until;
                        let late = self.random.exponential(self.api.network.timer_seconds);
                        self.at(until + late + 1e-9, Happening::Wake(proxy));
                    }
                    break;
                }
            }
        }
    }

    fn arrive(&mut self, request: u64) {
        // A restart cut it off on the way.
        let Some(flight) = self.flying.get(&request) else { return };
        let Flight { credential, route, caller: Caller { proxy, .. }, .. } = *flight;
        let arrival = Arrival { at: self.now, credential, route, proxy };
        let place = (self.limits_of)(credential, route);
        let limits = self.limits.entry(place).or_insert_with(&self.make_limits);
        let verdict = self.api.asked(limits, self.now);
        let told = self.api.announces(limits, self.now, verdict);
        let service = match verdict {
            Verdict::LetIn => {
                self.log.accepted.push(arrival);
                let service = self.service();
                self.at(self.now + service, Happening::Done(place));
                service
            }
            Verdict::Refused(_) => {
                self.log.refused.push(arrival);
                0.002
            }
            Verdict::Broken => 0.002,
        };
        let back = self.now + service + self.way();
        self.at(self.api.network.after_stall(back), Happening::Answer(request, verdict, told));
    }

    fn answer(&mut self, request: u64, verdict: Verdict, announced: Vec<Announcement>) {
        let now = self.now + self.clock_seconds;
        let Some(flight) = self.flying.remove(&request) else { return };
        let caller = flight.caller;
        let report = Report { announced, ..Report::new(verdict.outcome(self.api.says_level), true) };
        let machine = &mut self.machines[caller.proxy];
        if machine.settle(now, request, &report) {
            self.waiting.insert(request, flight);
        } else {
            machine.release(now, request);
            if matches!(verdict, Verdict::Refused(_)) {
                self.failed(caller);
            } else {
                let (took, waited) = (self.now - flight.born, flight.started - flight.born);
                self.log.answered.push(Answered { at: self.now, class: caller.class, took, waited });
                if caller.asks_again {
                    self.at(self.now, Happening::Ask(caller));
                }
            }
        }
        self.pump(caller.proxy);
    }

    fn way(&mut self) -> f64 {
        self.api.network.rtt_seconds / 2.0 + self.random.exponential(self.api.network.jitter_seconds)
    }

    fn service(&mut self) -> f64 {
        let network = self.api.network;
        let late = network.straggle.filter(|(share, _)| self.random.uniform() < *share);
        let jitter = self.random.exponential(network.service_jitter_seconds);
        let service = network.service_seconds + jitter + late.map_or(0.0, |(_, seconds)| seconds);
        let Some(free) = self.workers.iter_mut().min_by(|a, b| a.total_cmp(b)) else { return service };
        *free = free.max(self.now) + service;
        *free - self.now
    }

    fn at(&mut self, seconds: f64, happening: Happening) {
        self.sequence += 1;
        self.events.insert(self.sequence, happening);
        let nanos = (seconds.max(0.0) * 1e9).round() as u64;
        self.heap.push(Reverse((nanos, self.sequence)));
    }
}

/// Who asks once.
fn passer_by(class: ClassId) -> Caller {
    Caller { client: 0, proxy: 0, class, asks_again: false }
}
