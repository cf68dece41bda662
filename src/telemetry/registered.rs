//! Makes a metric and puts it into the registry, with values as it wants them.

use prometheus::core::Collector;
use prometheus::{IntCounter, IntGauge, Opts, Registry};

pub(super) fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    registered(registry, IntGauge::with_opts(Opts::new(name, help))?)
}

pub(super) fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    registered(registry, IntCounter::with_opts(Opts::new(name, help))?)
}

pub(super) fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    metric: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

/// As gauges want it.
pub(super) fn signed(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
