//! How a lane is shown, and how long it lets wait, with the limits above it.

use crate::control::key::Level;
use crate::control::lane::Lane;
use crate::control::settings::LanesSettings;
use crate::control::shared::Shared;
use crate::control::ticket::{ClassView, LaneView};
use std::sync::Arc;

impl Lane {
    /// As it is shown; `settings` know what classes are called.
    pub(super) fn view(&self, shared: &Shared, now: f64, settings: &LanesSettings) -> LaneView {
        let above = shared.views(&self.key, self.index, now);
        let slowest = above.iter().map(|node| node.pace).fold(f64::INFINITY, f64::min);
        let paused = above.iter().map(|node| node.paused_seconds).fold(0.0, f64::max);
        let of_above = || above.iter().find_map(|node| Some((node.per, node.limit.clone()?)));
        let pace = self.node.pace().get();
        let own = self.node.limit().map(|limit| (Level::Route, self.kind.of(limit)));
        let (limit_per, limit) = own.or_else(of_above).unzip();
        LaneView {
            name: Arc::clone(&self.name),
            key: self.key.clone(),
            law: self.node.law.name(),
            mode: self.node.mode(),
            pace: if self.node.pinned().is_some() { pace } else { pace.min(slowest) },
            pinned: self.node.pinned(),
            limit,
            limit_per: limit_per.unwrap_or_default(),
            announced: self.node.law.announced(now),
            above,
            queue_depth: self.queue.len(),
            classes: self.classes(settings),
            in_flight: usize::try_from(self.node.in_flight).unwrap_or(usize::MAX),
            in_flight_max: self.node.law.in_flight_max(),
            accepted_total: self.accepted_total,
            throttled_total: self.throttled_total,
            paused_seconds: (self.node.paused_until() - now).max(paused),
        }
    }

    /// Seconds until a ticket behind `ahead` others would leave; `None` while the pace is still being found, and in a
    /// pause without end.
    pub(super) fn predicted_wait(&self, shared: &Shared, now: f64, ahead: f64) -> Option<f64> {
        let pause = (self.node.paused_until() - now).max(0.0);
        if pause.is_infinite() || self.node.lets_all(now) {
            return None;
        }
        let own = (!self.node.is_starting()).then(|| pause + ahead * self.node.pace().interval_seconds());
        let above = shared.part(&self.key, self.index, now).map(|(pace, pause)| pause + ahead / pace);
        match (own, above) {
            (Some(own), Some(above)) => Some(own.max(above)),
            (own, above) => own.or(above),
        }
    }

    /// Seconds until the queue has drained, for a Retry-After: whole, at least 1, at most a minute.
    pub(in crate::control) fn drain_seconds(&self, shared: &Shared, now: f64) -> f64 {
        let waiting = self.queue.len() as f64;
        let own = (self.node.paused_until() - now).max(0.0) + waiting * self.node.pace().interval_seconds();
        let above =
            shared.part(&self.key, self.index, now).map_or(0.0, |(pace, pause)| pause + waiting / pace);
        own.max(above).ceil().clamp(1.0, 60.0)
    }

    fn classes(&self, settings: &LanesSettings) -> Vec<ClassView> {
        if settings.classes.is_empty() {
            return Vec::new();
        }
        let names = settings.classes.iter().map(|class| Arc::clone(&class.name));
        let names = std::iter::once("other".into()).chain(names);
        let view = |(name, (share, queue_depth))| ClassView { name, share, queue_depth };
        names.zip(self.queue.classes()).map(view).collect()
    }
}
