//! What happened: turns what the [`Observer`] is told into metrics and log lines.

pub mod logs;
mod metrics;
mod series;
mod sink;

pub use logs::{LogFormat, LogLevel, LogSettings};
pub use metrics::Levels;

use crate::control::{Event, LaneView};
use crate::observe::{Attempt, Exchange, Observer};
use metrics::Metrics;

/// The program's memory of what happened, as Prometheus and the log want it.
#[derive(Debug)]
pub struct Telemetry {
    metrics: Metrics,
}

impl Telemetry {
    /// Nothing happened yet.
    ///
    /// # Errors
    /// Only if a metric's name or label is not valid, which the tests of this module rule out.
    pub fn new() -> Result<Self, prometheus::Error> {
        Ok(Self { metrics: Metrics::new()? })
    }

    /// The metrics in Prometheus' text format; gauges say what `lanes` and `levels` say now.
    ///
    /// # Errors
    /// When the text cannot be encoded.
    pub fn render(&self, lanes: &[LaneView], levels: &Levels) -> Result<String, prometheus::Error> {
        self.metrics.render(lanes, levels)
    }
}

impl Observer for Telemetry {
    fn event(&self, event: &Event) {
        self.metrics.event(event);
        logs::event(event);
    }

    fn attempt(&self, attempt: &Attempt) {
        self.metrics.attempt(attempt);
        logs::attempt(attempt);
    }

    fn exchange(&self, exchange: &Exchange) {
        self.metrics.exchange(exchange);
        logs::exchange(exchange);
    }
}
