//! What happened: turns what the [`Observer`] is told into metrics and log lines.

mod known;
mod levels;
pub mod logs;
mod metrics;
mod registered;
mod series;
mod sink;

pub use levels::Levels;

use crate::control::{Event, LaneView};
use crate::observe::{Attempt, Exchange, Observer};
use metrics::Metrics;

/// A metric is not valid or cannot be written: a mistake in this program.
#[derive(Debug, thiserror::Error)]
#[error("the metrics are not valid")]
pub struct MetricsError(#[from] prometheus::Error);

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
    pub fn new() -> Result<Self, MetricsError> {
        Ok(Self { metrics: Metrics::new()? })
    }

    /// Shows what the program is set to, by the keys of the configuration.
    pub fn settings(&self, numbers: &[(&str, f64)]) {
        self.metrics.settings(numbers);
    }

    /// The metrics in Prometheus' text format; gauges say what `lanes` and `levels` say now.
    ///
    /// # Errors
    /// When the text cannot be encoded.
    pub fn render(&self, lanes: &[LaneView], levels: &Levels) -> Result<String, MetricsError> {
        Ok(self.metrics.render(lanes, levels)?)
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
