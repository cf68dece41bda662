//! What stands between the clients and the API: the machine under test, by the few things that the loop asks of it.

use std::collections::HashMap;
use std::time::{Duration, Instant};
use tidegate::control::{
    ClassId, CredentialHash, Event, LaneKey, Lanes, LanesSettings, LimitView, Memory, Report, Settled, Step,
    Ticket, TicketId,
};

/// Where all requests go.
pub(crate) const UPSTREAM: &str = "api:443";
pub(crate) const ROUTE: &str = "/api/v2/conversations/messages";

/// The path of a route, by its number: the first is [`ROUTE`].
fn path(route: u64) -> String {
    if route == 0 { ROUTE.to_owned() } else { format!("/api/v2/route{route}") }
}

/// Decides when requests go. Requests are numbered in the order of their asking; times are in seconds.
pub(crate) trait Machine {
    /// A request asks for its turn. False: it is refused at once.
    fn ask(&mut self, now: f64, request: u64, about: About) -> bool;
    /// What to do now; asked until it is nothing.
    fn next(&mut self, now: f64) -> Next;
    /// The answer to a request that was sent. True: it waits for another turn.
    fn settle(&mut self, now: f64, request: u64, report: &Report) -> bool;
    /// The exchange of a request that does not wait for another turn is over.
    fn release(&mut self, now: f64, request: u64);
    /// The client of a request that waits left.
    fn leave(&mut self, now: f64, request: u64);
    /// The pace now, in requests/s.
    fn pace(&mut self, now: f64) -> f64;
    /// How often it put a limit above several lanes, and how often it took one away.
    fn shares(&self) -> (usize, usize) {
        (0, 0)
    }
    /// The limit of its first lane, as it is shown.
    fn limit(&self, _now: f64) -> Option<LimitView> {
        None
    }
    /// Starts over, with what it keeps across restarts or without.
    fn restart(&mut self, _now: f64, _remembers: bool) {
        panic!("it is not made to be restarted");
    }
}

/// What a machine is told of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About {
    pub(crate) credential: u64,
    pub(crate) route: u64,
    pub(crate) class: ClassId,
    /// When it is too late to send it.
    pub(crate) deadline: f64,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Next {
    Start(u64),
    /// It cannot be served.
    Expire(u64),
    /// Nothing until then; infinite: until something else happens.
    Wait(f64),
}

/// The product's own core.
pub(crate) struct Ours {
    settings: LanesSettings,
    lanes: Lanes,
    epoch: Instant,
    tickets: HashMap<u64, TicketId>,
    requests: HashMap<TicketId, u64>,
    joined: usize,
    parted: usize,
}

impl Ours {
    pub(crate) fn new(settings: LanesSettings) -> Self {
        // A moment to count from; the core never asks what time it is.
        let epoch = Instant::now();
        Self {
            lanes: Lanes::new(settings.clone(), epoch),
            settings,
            epoch,
            tickets: HashMap::new(),
            requests: HashMap::new(),
            joined: 0,
            parted: 0,
        }
    }

    /// Starts from what an earlier run learnt.
    pub(crate) fn remember(&mut self, memory: &Memory) {
        assert!(self.lanes.remember(self.epoch, memory), "numbers that no limit has: {memory:?}");
    }

    fn at(&self, seconds: f64) -> Instant {
        self.epoch + Duration::from_secs_f64(seconds.max(0.0))
    }

    fn ended(&mut self, request: u64) -> TicketId {
        let id = self.tickets.remove(&request).expect("ends once");
        self.requests.remove(&id);
        id
    }
}

impl Machine for Ours {
    fn ask(&mut self, now: f64, request: u64, about: About) -> bool {
        let key = LaneKey {
            upstream: UPSTREAM.into(),
            credential: Some(CredentialHash(about.credential)),
            route: path(about.route).into(),
        };
        let ticket = Ticket { class: about.class, ..Ticket::until(self.at(about.deadline)) };
        let Ok((id, _)) = self.lanes.submit(self.at(now), &key, ticket) else { return false };
        self.tickets.insert(request, id);
        self.requests.insert(id, request);
        true
    }

    fn next(&mut self, now: f64) -> Next {
        let step = self.lanes.poll(self.at(now));
        while let Some(event) = self.lanes.next_event() {
            match event {
                Event::LimitShared { .. } => self.joined += 1,
                Event::LimitParted { .. } => self.parted += 1,
                _ => (),
            }
        }
        match step {
            Step::Start(id) => Next::Start(self.requests[&id]),
            Step::Expire(id, _) => {
                let request = self.requests[&id];
                self.ended(request);
                Next::Expire(request)
            }
            Step::Wait(until) => {
                Next::Wait(until.map_or(f64::INFINITY, |at| (at - self.epoch).as_secs_f64()))
            }
        }
    }

    fn settle(&mut self, now: f64, request: u64, report: &Report) -> bool {
        self.lanes.settle(self.at(now), self.tickets[&request], report) == Settled::Again
    }

    fn release(&mut self, now: f64, request: u64) {
        let (now, id) = (self.at(now), self.ended(request));
        self.lanes.release(now, id);
    }

    fn leave(&mut self, now: f64, request: u64) {
        let (now, id) = (self.at(now), self.ended(request));
        self.lanes.cancel(now, id);
    }

    fn pace(&mut self, now: f64) -> f64 {
        self.lanes.snapshot(self.at(now)).iter().map(|lane| lane.pace).sum()
    }

    fn shares(&self) -> (usize, usize) {
        (self.joined, self.parted)
    }

    fn limit(&self, now: f64) -> Option<LimitView> {
        self.lanes.snapshot(self.at(now)).into_iter().next()?.limit
    }

    fn restart(&mut self, now: f64, remembers: bool) {
        let now = self.at(now);
        let kept = if remembers { self.lanes.memories(now) } else { Vec::new() };
        self.lanes = Lanes::new(self.settings.clone(), self.epoch);
        for memory in &kept {
            self.lanes.remember(now, memory);
        }
        self.tickets.clear();
        self.requests.clear();
    }
}
