//! The gauges of what APIs announce: each limit of each lane by its name.

use crate::control::AnnouncedView;
use crate::telemetry::registered::registered;
use prometheus::{GaugeVec, Opts, Registry};

/// At most eight limits a lane, which the core sees to.
#[derive(Debug)]
pub(super) struct AnnouncedGauges {
    requests: GaugeVec,
    remaining: GaugeVec,
    reset: GaugeVec,
    window: GaugeVec,
}

impl AnnouncedGauges {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let told = |name: &str, help: &str| {
            registered(registry, GaugeVec::new(Opts::new(name, help), &["lane", "limit"])?)
        };
        Ok(Self {
            requests: told("tidegate_announced_requests", "Requests that a window takes, as the API says.")?,
            remaining: told(
                "tidegate_announced_remaining_requests",
                "Requests that are left of the announced window; what is out counts as spent.",
            )?,
            reset: told("tidegate_announced_reset_seconds", "Until the announced window ends.")?,
            window: told("tidegate_announced_window_seconds", "The announced window's length.")?,
        })
    }

    /// Forgets all, before a scrape tells them anew.
    pub(super) fn reset(&self) {
        for gauge in [&self.requests, &self.remaining, &self.reset, &self.window] {
            gauge.reset();
        }
    }

    /// What the lane `label` is told of its limits.
    pub(super) fn tell(&self, label: &str, announced: &[AnnouncedView]) {
        for told in announced {
            let labels = [label, told.name.as_ref()];
            self.requests.with_label_values(&labels).set(f64::from(told.requests));
            self.remaining.with_label_values(&labels).set(told.remaining);
            self.window.with_label_values(&labels).set(told.window_seconds);
            if let Some(seconds) = told.reset_seconds {
                self.reset.with_label_values(&labels).set(seconds);
            }
        }
    }
}
