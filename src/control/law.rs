//! Which constraints govern a lane's pace: a closed set of laws, one arm each; the learnt one composed with the ledgers
//! of what the API announces, by the most restrictive.

use super::aimd::Aimd;
use super::announcement::{AnnouncedBy, Announcement};
use super::inflight::InFlight;
use super::learnt::{Learnt, Observed, Prior};
use super::ledger::Ledgers;
use super::overload::Overload;
use super::retry::PAUSING_SECONDS;
use super::settings::{LawSettings, Mode};
use super::{AnnouncedView, LimitModel, LimitSource, LimitView, Rate};

/// The laws that can be chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LawName {
    /// Finds the limit and stays at it.
    #[default]
    Learnt,
    /// Additive increase, multiplicative decrease: the simple law, and the yardstick.
    Aimd,
    /// A pace that the operator sets.
    Fixed,
}

impl LawName {
    /// The word in configuration, pages and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Learnt => "learnt",
            Self::Aimd => "aimd",
            Self::Fixed => "fixed",
        }
    }
}

/// What a law hears of one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Answer {
    /// The limiter let it through.
    Accepted,
    /// The limiter refused it.
    Refused {
        /// Seconds that it asks to wait.
        retry_after: Option<f64>,
    },
    /// Nobody knows.
    Unknown,
}

/// Names a request between its departure and its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    pub(super) number: u64,
    pub(super) sent_at: f64,
    /// The ledgers' own number.
    pub(super) departure: u64,
    /// Requests in flight when it left, itself included.
    pub(super) in_flight: u32,
    /// It left ahead of the even pace.
    pub(super) is_ahead: bool,
}

impl Stamp {
    pub(super) fn new(number: u64, sent_at: f64) -> Self {
        Self { number, sent_at, departure: 0, in_flight: 1, is_ahead: false }
    }
}

/// A change of phase.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Shift {
    /// Later by this share of an interval.
    By(f64),
    /// So that a departure falls on this moment, or whole intervals from it.
    Onto(f64),
}

/// A law with its state.
#[derive(Clone, Debug)]
pub(super) enum Law {
    Fixed(Rate),
    Aimd(Aimd),
    Learnt(Box<Announced>),
    /// Learns, and holds nothing back.
    Observed(Box<Observed>),
}

/// The learnt law, the ledgers of what the API announces, a cap on requests in flight, and another for an API that slows
/// down.
#[derive(Clone, Debug)]
pub(super) struct Announced {
    learnt: Learnt,
    ledgers: Ledgers,
    in_flight: InFlight,
    overload: Option<Overload>,
}

impl Announced {
    /// Something else than the learnt pace says when.
    fn governed(&self) -> bool {
        self.ledgers.govern() || self.in_flight.governs()
    }

    /// While something else is what holds back, nothing waits for the law: it only listens, and does not climb.
    fn rate(&mut self, now: f64, waiting: usize) -> f64 {
        if self.governed() {
            self.learnt.rate(now, 0);
            return Rate::FASTEST.get();
        }
        let held = !self.ledgers.is_empty() && self.ledgers.ready_at(now, waiting) > now
            || self.overload.as_ref().is_some_and(|overload| overload.binds(now));
        self.learnt.rate(now, if held { 0 } else { waiting })
    }

    fn hold_until(&mut self, now: f64, waiting: usize, need_not: bool) -> f64 {
        let own = if self.governed() {
            self.learnt.paused_until()
        } else {
            self.learnt.hold_until(now, waiting, need_not)
        };
        if self.ledgers.is_empty() { own } else { own.max(self.ledgers.ready_at(now, waiting)) }
    }

    /// What is known of an API that slows down, if it does.
    fn slowness(&self) -> Option<&Overload> {
        self.overload.as_ref().filter(|overload| overload.pace().is_some())
    }

    /// The pace of what governs.
    fn pace(&self) -> f64 {
        let announced = self.ledgers.govern().then(|| self.ledgers.pace().unwrap_or(0.0));
        let pace = match (announced, self.in_flight.pace()) {
            (Some(one), Some(other)) => one.min(other),
            (one, other) => one.or(other).unwrap_or_else(|| self.learnt.current_rate()),
        };
        self.overload.as_ref().and_then(Overload::pace).map_or(pace, |slow| slow.min(pace))
    }

    fn settle(&mut self, now: f64, stamp: Stamp, answer: Answer, told: &[Announcement]) {
        let (governed, capped) = (self.ledgers.govern(), self.in_flight.governs());
        if let Some(overload) = &mut self.overload {
            overload.settle(now, stamp, answer);
        }
        let heard = self.ledgers.settle(now, stamp.departure, answer, told);
        if governed && !self.ledgers.govern() {
            self.learnt.take_over(now);
        }
        if !heard.foreseen {
            self.in_flight.settle(now, stamp, answer);
        }
        if self.in_flight.governs() && !capped {
            self.learnt.resume();
        }
        // At a cap, a refusal says nothing of a pace, unless it says how long a budget is gone.
        let of_cap = self.in_flight.governs()
            && matches!(answer, Answer::Refused { retry_after } if retry_after.unwrap_or(0.0) < PAUSING_SECONDS);
        self.learnt.settle(now, stamp, if heard.foreseen || of_cap { Answer::Unknown } else { answer });
        if let Some((requests, seconds, by)) = heard.number {
            let source = match by {
                AnnouncedBy::Header => LimitSource::Header,
                AnnouncedBy::Body => LimitSource::Body,
            };
            self.learnt.told(now, requests, seconds, source);
        }
    }
}

impl Law {
    /// A law that knows nothing yet, or what `prior` knows.
    pub(super) fn new(settings: &LawSettings, prior: Option<&Prior>, now: f64) -> Self {
        match settings.name {
            LawName::Fixed => Self::Fixed(settings.fixed_rate),
            name if settings.mode == Mode::Observe => {
                Self::Observed(Box::new(Observed::new(name, settings.headroom)))
            }
            LawName::Aimd => Self::Aimd(Aimd::new(settings, now)),
            LawName::Learnt => Self::Learnt(Box::new(Announced {
                learnt: Learnt::new(settings, prior, now),
                ledgers: Ledgers::new(settings),
                in_flight: InFlight::new(settings),
                overload: settings.slowness.then(Overload::new),
            })),
        }
    }

    /// The pace at `now`, with `waiting` tickets that could go.
    pub(super) fn rate(&mut self, now: f64, waiting: usize) -> Rate {
        match self {
            Self::Fixed(rate) => *rate,
            Self::Aimd(law) => Rate::new(law.rate(now, waiting)),
            Self::Observed(law) => Rate::new(law.pace()),
            Self::Learnt(law) => Rate::new(law.rate(now, waiting)),
        }
    }

    /// The pace as it was last set.
    pub(super) fn current_rate(&self) -> Rate {
        match self {
            Self::Fixed(rate) => *rate,
            Self::Aimd(law) => Rate::new(law.current_rate()),
            Self::Observed(law) => Rate::new(law.pace()),
            Self::Learnt(law) => Rate::new(law.pace()),
        }
    }

    /// The rate of the departures' grid: ledgers that govern need none, nor does a cap.
    pub(super) fn grid_rate(&self) -> Rate {
        match self {
            Self::Learnt(law) if law.governed() => Rate::FASTEST,
            _ => self.current_rate(),
        }
    }

    /// Nothing may leave before this; infinite while an answer has to come first. One that `need_not` wait with the
    /// others may leave in a light pause.
    pub(super) fn hold_until(&mut self, now: f64, waiting: usize, need_not: bool) -> f64 {
        match self {
            Self::Fixed(_) | Self::Observed(_) => f64::NEG_INFINITY,
            Self::Aimd(law) => law.hold_until(),
            Self::Learnt(law) => law.hold_until(now, waiting, need_not),
        }
    }

    /// The end of the pause that refusals asked for.
    pub(super) fn paused_until(&self) -> f64 {
        match self {
            Self::Fixed(_) | Self::Observed(_) => f64::NEG_INFINITY,
            Self::Aimd(law) => law.hold_until(),
            Self::Learnt(law) => law.learnt.paused_until().max(law.ledgers.blocked_until()),
        }
    }

    /// Ends the pause that refusals asked for.
    pub(super) fn resume(&mut self) {
        match self {
            Self::Fixed(_) | Self::Observed(_) => (),
            Self::Aimd(law) => law.resume(),
            Self::Learnt(law) => law.learnt.resume(),
        }
    }

    /// Goes faster than what it knows to be let through: a refusal is to be expected.
    pub(super) fn tries(&self) -> bool {
        matches!(self, Self::Learnt(law) if law.learnt.tries() && !law.governed())
    }

    /// Would the next departure be a probe, to be made with the youngest ticket?
    pub(super) fn probes(&self) -> bool {
        matches!(self, Self::Learnt(law) if law.learnt.probes() && !law.governed())
    }

    /// With so many in flight, none may leave before an answer ends.
    pub(super) fn is_full(&self, now: f64, in_flight: u32) -> bool {
        let Self::Learnt(law) = self else { return false };
        law.in_flight.is_full(now, in_flight) || law.overload.as_ref().is_some_and(Overload::is_full)
    }

    /// How many may be under way at once, where that is limited.
    pub(super) fn in_flight_max(&self) -> Option<u32> {
        let Self::Learnt(law) = self else { return None };
        let slow = law.overload.as_ref().and_then(Overload::max);
        law.in_flight.max().into_iter().chain(slow).min()
    }

    /// One departs; with it so many are in flight.
    pub(super) fn sent(&mut self, now: f64, in_flight: u32) -> Stamp {
        match self {
            Self::Fixed(_) | Self::Aimd(_) => Stamp::new(0, now),
            Self::Observed(law) => law.sent(now),
            Self::Learnt(law) => {
                law.in_flight.sent(now, in_flight);
                if let Some(overload) = &mut law.overload {
                    overload.sent(now);
                }
                Stamp { departure: law.ledgers.sent(now), in_flight, ..law.learnt.sent(now) }
            }
        }
    }

    /// It did not depart after all.
    pub(super) fn give_back(&mut self, now: f64, stamp: Stamp) {
        match self {
            Self::Fixed(_) | Self::Aimd(_) => (),
            Self::Observed(law) => law.give_back(now, stamp),
            Self::Learnt(law) => {
                law.ledgers.give_back(now, stamp.departure);
                if let Some(overload) = &mut law.overload {
                    overload.ended();
                }
                law.learnt.settle(now, stamp, Answer::Unknown);
            }
        }
    }

    /// Its answer, and what that announces of this node's limits.
    pub(super) fn settle(&mut self, now: f64, stamp: Stamp, answer: Answer, told: &[Announcement]) {
        match self {
            Self::Fixed(_) => (),
            Self::Aimd(law) => law.settle(now, stamp.sent_at, answer),
            Self::Learnt(law) => law.settle(now, stamp, answer, told),
            Self::Observed(law) => law.settle(now, stamp, answer, told),
        }
    }

    /// A change of the departures' phase that the law asks for; asked for once.
    pub(super) fn take_shift(&mut self) -> Option<Shift> {
        match self {
            Self::Learnt(law) => law.learnt.take_shift(),
            Self::Fixed(_) | Self::Aimd(_) | Self::Observed(_) => None,
        }
    }

    /// The phase of departures was chosen, and is worth keeping through idle times.
    pub(super) fn keeps_phase(&self) -> bool {
        matches!(self, Self::Learnt(law) if law.learnt.keeps_phase() && !law.governed())
    }

    /// The pace is the operator's, not a guess.
    pub(super) fn is_fixed(&self) -> bool {
        matches!(self, Self::Fixed(_))
    }

    /// Still looking for a first limit: nothing can be predicted from the pace.
    pub(super) fn is_starting(&self) -> bool {
        match self {
            Self::Fixed(_) => false,
            Self::Observed(law) => law.believes().is_none(),
            Self::Aimd(law) => law.is_starting(),
            Self::Learnt(law) if law.governed() => law.ledgers.is_settling(),
            Self::Learnt(law) => law.learnt.is_starting() && law.slowness().is_none(),
        }
    }

    /// The limit that the law believes in, in numbers: requests, and the window in seconds.
    pub(super) fn believes(&self) -> Option<(f64, f64)> {
        match self {
            Self::Fixed(_) => None,
            Self::Observed(law) => law.believes(),
            Self::Aimd(law) => (!law.is_starting()).then(|| (law.current_rate(), 1.0)),
            Self::Learnt(law) => {
                let known = law.ledgers.believes().or_else(|| law.in_flight.believes());
                let slow = || law.slowness().and_then(Overload::believes);
                known.or_else(slow).or_else(|| law.learnt.believes())
            }
        }
    }

    /// The limit that the law believes in, in words too.
    pub(super) fn limit(&self) -> Option<LimitView> {
        match self {
            Self::Fixed(_) => None,
            Self::Observed(law) => law.limit(),
            Self::Aimd(law) if law.is_starting() => None,
            Self::Aimd(law) => Some(LimitView {
                requests: law.current_rate(),
                window_seconds: 1.0,
                model: LimitModel::Unknown,
                at_least: false,
                source: LimitSource::Learnt,
                confidence: 0.3,
                says: format!("somewhere near {}: this law does not measure", Rate::new(law.current_rate())),
            }),
            Self::Learnt(law) => {
                let known = law.ledgers.limit().or_else(|| law.in_flight.limit());
                let slow = || law.slowness().and_then(Overload::limit);
                known.or_else(slow).or_else(|| law.learnt.limit())
            }
        }
    }

    /// What the API announces, as it was last told.
    pub(super) fn announced(&self, now: f64) -> Vec<AnnouncedView> {
        match self {
            Self::Fixed(_) | Self::Aimd(_) => Vec::new(),
            Self::Observed(law) => law.announced(now),
            Self::Learnt(law) => law.ledgers.views(now),
        }
    }

    /// Which law this is.
    pub(super) fn name(&self) -> LawName {
        match self {
            Self::Fixed(_) => LawName::Fixed,
            Self::Aimd(_) => LawName::Aimd,
            Self::Learnt(_) => LawName::Learnt,
            Self::Observed(law) => law.name(),
        }
    }

    /// What another lane of the same route can start from.
    pub(super) fn prior(&self) -> Option<Prior> {
        match self {
            Self::Learnt(law) => law.learnt.prior(),
            // A measure of unpaced traffic is no pace to start at.
            Self::Fixed(_) | Self::Aimd(_) | Self::Observed(_) => None,
        }
    }
}
