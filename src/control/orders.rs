//! What an operator set for a lane, beside its law: a ceiling, a pinned pace, a pause.

use super::command::Command;
use super::law::Law;
use super::pacer::Pacer;
use super::rate::{Quota, Rate};
use super::{LimitModel, LimitSource, LimitView};

/// The operator's word on one lane.
#[derive(Clone, Debug)]
pub(super) struct Orders {
    ceiling: Option<Ceiling>,
    pinned: Option<Rate>,
    /// Nothing leaves before this: infinite until resumed.
    paused_until: f64,
}

/// The most that may leave, spread evenly: a pacer of its own, beside that of the lane's law.
#[derive(Clone, Debug)]
struct Ceiling {
    quota: Quota,
    pacer: Pacer,
}

impl Orders {
    /// No orders but a ceiling, if there is one.
    pub(super) fn new(ceiling: Option<Quota>) -> Self {
        let ceiling = ceiling.map(|quota| Ceiling { quota, pacer: Pacer::new() });
        Self { ceiling, pinned: None, paused_until: f64::NEG_INFINITY }
    }

    /// Takes an order at `now`; the last pause counts, and the last pin.
    pub(super) fn take_order(&mut self, now: f64, command: Command) {
        match command {
            Command::Pin(rate) => self.pinned = Some(rate),
            Command::Pause(None) => self.paused_until = f64::INFINITY,
            Command::Pause(Some(pause)) => self.paused_until = now + pause.as_secs_f64(),
            Command::Resume | Command::Forget => {
                self.pinned = None;
                self.paused_until = f64::NEG_INFINITY;
            }
        }
    }

    /// The pinned pace.
    pub(super) fn pinned(&self) -> Option<Rate> {
        self.pinned
    }

    /// The end of the operator's pause.
    pub(super) fn paused_until(&self) -> f64 {
        self.paused_until
    }

    /// An operator's pin or pause holds: a lane to be remembered.
    pub(super) fn stand(&self, now: f64) -> bool {
        self.pinned.is_some() || self.paused_until > now
    }

    /// The pace that comes of the law's.
    pub(super) fn pace(&self, law: Rate) -> Rate {
        let wanted = self.pinned.unwrap_or(law);
        match &self.ceiling {
            Some(ceiling) if ceiling.quota.rate() < wanted => ceiling.quota.rate(),
            _ => wanted,
        }
    }

    /// Is the pace theirs, and not the law's?
    pub(super) fn set_pace(&self, law: &Law) -> bool {
        let under = |ceiling: &Ceiling| ceiling.quota.rate() <= law.current_rate();
        self.pinned.is_some() || self.ceiling.as_ref().is_some_and(under)
    }

    /// Do they hold the lane back, and not the law?
    pub(super) fn hold_back(&self, now: f64, law: &Law) -> bool {
        self.set_pace(law) || self.paused_until > now
    }

    /// When they let the next one leave.
    pub(super) fn ready_at(&self) -> f64 {
        let ceiling = self.ceiling.as_ref().map(|ceiling| ceiling.pacer.ready_at(ceiling.quota.rate()));
        ceiling.unwrap_or(f64::NEG_INFINITY).max(self.paused_until)
    }

    /// One leaves, where something has waited since `since`.
    pub(super) fn take(&mut self, now: f64, since: f64) {
        if let Some(ceiling) = &mut self.ceiling {
            ceiling.pacer.take(now, ceiling.quota.rate(), since);
        }
    }

    /// It did not leave after all.
    pub(super) fn give_back(&mut self) {
        if let Some(ceiling) = &mut self.ceiling {
            ceiling.pacer.give_back(ceiling.quota.rate());
        }
    }

    /// The ceiling as a limit, where it is what holds the law back.
    pub(super) fn limit(&self, law: &Law) -> Option<LimitView> {
        let quota = self.ceiling.as_ref()?.quota;
        (quota.rate() <= law.current_rate()).then(|| LimitView {
            requests: f64::from(quota.requests),
            window_seconds: quota.window.as_secs_f64(),
            model: LimitModel::Unknown,
            at_least: false,
            source: LimitSource::Configured,
            confidence: 1.0,
            says: format!("at most {}: the ceiling that was configured", in_words(quota)),
        })
    }
}

fn in_words(quota: Quota) -> String {
    let requests = quota.requests;
    let noun = if requests == 1 { "request" } else { "requests" };
    match quota.window.as_millis() {
        1_000 => format!("{requests} {noun} a second"),
        60_000 => format!("{requests} {noun} a minute"),
        3_600_000 => format!("{requests} {noun} an hour"),
        86_400_000 => format!("{requests} {noun} a day"),
        _ => format!("{requests} {noun} in {} s", quota.window.as_secs_f64()),
    }
}
