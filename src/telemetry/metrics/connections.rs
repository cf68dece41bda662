//! The metrics of connections to the upstreams.

use crate::observe::{ClosedBy, Connections};
use crate::telemetry::levels::Levels;
use crate::telemetry::registered::{gauge, registered, signed};
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use std::sync::Arc;

/// By upstream, of which there are as many as the configuration has. Counted where connections are kept; a scrape brings
/// the counters up to that.
#[derive(Debug)]
pub(super) struct ConnectionMetrics {
    open: IntGaugeVec,
    idle: IntGaugeVec,
    streams: IntGaugeVec,
    waiting: IntGaugeVec,
    open_max: IntGauge,
    idle_max: IntGauge,
    waiting_max: IntGauge,
    opened: IntCounterVec,
    closed: IntCounterVec,
    failed: IntCounterVec,
    reused: IntCounterVec,
    refused: IntCounterVec,
    lookups: IntCounterVec,
}

impl ConnectionMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let level = |name: &str, help: &str| {
            registered(registry, IntGaugeVec::new(Opts::new(name, help), &["upstream"])?)
        };
        let count = |name: &str, help: &str, labels: &[&str]| {
            registered(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        Ok(Self {
            open: level("tidegate_upstream_connections", "Connections to the upstream, open or being made.")?,
            idle: level("tidegate_upstream_connections_idle", "Those of them without a request.")?,
            streams: level("tidegate_upstream_streams", "Requests on HTTP/2 connections to the upstream.")?,
            waiting: level(
                "tidegate_upstream_connection_waiters",
                "Requests that wait for a connection to the upstream.",
            )?,
            open_max: gauge(
                registry,
                "tidegate_upstream_connections_max",
                "Connections to an upstream that may be open; further requests wait.",
            )?,
            idle_max: gauge(
                registry,
                "tidegate_upstream_connections_idle_max",
                "Connections to an upstream that may be kept without a request.",
            )?,
            waiting_max: gauge(
                registry,
                "tidegate_upstream_connection_waiters_max",
                "Requests that may wait for a connection to an upstream.",
            )?,
            opened: count(
                "tidegate_upstream_connections_opened_total",
                "Connections made to the upstream, by protocol.",
                &["upstream", "protocol"],
            )?,
            closed: count(
                "tidegate_upstream_connections_closed_total",
                "Connections to the upstream that have ended, by why: upstream, idle, age, room, cut.",
                &["upstream", "reason"],
            )?,
            failed: count(
                "tidegate_upstream_connections_failed_total",
                "Connections to the upstream that could not be made.",
                &["upstream"],
            )?,
            reused: count(
                "tidegate_upstream_connections_reused_total",
                "Requests that were sent over a connection made for an earlier one.",
                &["upstream"],
            )?,
            refused: count(
                "tidegate_upstream_connections_refused_total",
                "Requests that got no connection: too many waited for one, or they did for too long.",
                &["upstream"],
            )?,
            lookups: count(
                "tidegate_upstream_lookups_total",
                "DNS look-ups of the upstream's name, by result: answered, failed.",
                &["upstream", "result"],
            )?,
        })
    }

    pub(super) fn tell(&self, levels: &Levels) {
        self.open_max.set(signed(levels.upstream_connections_max));
        self.idle_max.set(signed(levels.upstream_connections_idle_max));
        self.waiting_max.set(signed(levels.upstream_connection_waiters_max));
        for (upstream, connections) in &levels.upstream_connections {
            self.tell_of(upstream, connections);
        }
    }

    fn tell_of(&self, upstream: &Arc<str>, connections: &Connections) {
        for (gauge, value) in [
            (&self.open, connections.open),
            (&self.idle, connections.idle),
            (&self.streams, connections.streams),
            (&self.waiting, connections.waiting),
        ] {
            gauge.with_label_values(&[upstream]).set(signed(value));
        }
        for (counter, value) in [
            (&self.failed, connections.failed),
            (&self.reused, connections.reused),
            (&self.refused, connections.refused),
        ] {
            raise(counter, &[upstream], value);
        }
        raise(&self.opened, &[upstream, "http/1.1"], connections.opened_http1);
        raise(&self.opened, &[upstream, "h2"], connections.opened_http2);
        raise(&self.lookups, &[upstream, "answered"], connections.lookups_answered);
        raise(&self.lookups, &[upstream, "failed"], connections.lookups_failed);
        for (reason, value) in ClosedBy::ALL.iter().zip(connections.closed) {
            raise(&self.closed, &[upstream, reason.as_str()], value);
        }
    }
}

/// Brings a counter up to `value`.
fn raise(counters: &IntCounterVec, labels: &[&str], value: u64) {
    let counter = counters.with_label_values(labels);
    counter.inc_by(value.saturating_sub(counter.get()));
}
