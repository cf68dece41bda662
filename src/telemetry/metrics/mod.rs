//! Every metric of the program: names, labels, help texts and bounds, here and nowhere else.

mod announced;
mod build;
mod connections;
mod lanes;

use super::levels::Levels;
use super::registered::{counter, gauge, registered, signed};
use super::series::{LaneSeries, OTHER, Series, method_label};
use super::sink;
use crate::control::{Event, LaneView, NodeView};
use crate::observe::{ADMISSION_QUOTA, Attempt, Exchange};
use announced::AnnouncedGauges;
use connections::ConnectionMetrics;
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// The registry and all that is in it.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    vectors: Vectors,
    gauges: Gauges,
    admission_refused: IntCounter,
    /// Of [`Vectors::class_queue_wait`], what belongs to no class: nearly all.
    unclassed_queue_wait: Histogram,
    settings: GaugeVec,
    series: Series,
    /// For what happened before a request had a lane.
    no_lane: Arc<str>,
    /// One scrape at a time: gauges are cleared and filled anew.
    scrape: Mutex<()>,
}

/// What is counted per lane.
#[derive(Debug)]
pub(super) struct Vectors {
    pub(super) requests: IntCounterVec,
    pub(super) responses: IntCounterVec,
    pub(super) offered: IntCounterVec,
    pub(super) accepted: IntCounterVec,
    pub(super) throttled: IntCounterVec,
    pub(super) attributed: IntCounterVec,
    pub(super) retries: IntCounterVec,
    pub(super) refused: IntCounterVec,
    pub(super) abandoned: IntCounterVec,
    pub(super) signals_ignored: IntCounterVec,
    pub(super) queue_wait: HistogramVec,
    pub(super) upstream_duration: HistogramVec,
    /// By class, over all lanes.
    class_queue_wait: HistogramVec,
}

/// What is set at each scrape.
#[derive(Debug)]
struct Gauges {
    queue_depth: IntGaugeVec,
    class_queue_depth: IntGaugeVec,
    in_flight: IntGaugeVec,
    in_flight_max: IntGaugeVec,
    pace: GaugeVec,
    limit: GaugeVec,
    shared_limit: GaugeVec,
    shared_pace: GaugeVec,
    shared_limits: IntGauge,
    paused: GaugeVec,
    observed: IntGaugeVec,
    announced: AnnouncedGauges,
    upstreams: ConnectionMetrics,
    lanes: IntGauge,
    lanes_max: IntGauge,
    queue_tickets_max: IntGauge,
    replay_bytes: IntGauge,
    replay_bytes_max: IntGauge,
    connections: IntGauge,
    connections_max: IntGauge,
    callers: IntGauge,
    callers_max: IntGauge,
    draining: IntGauge,
    log_dropped: IntCounter,
}

impl Metrics {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        Self::with_lanes_max(SERIES_LANES_MAX)
    }

    fn with_lanes_max(lanes_max: usize) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let vectors = Vectors::new(&registry)?;
        let gauges = Gauges::new(&registry)?;
        let capped = counter(
            &registry,
            "tidegate_series_capped_total",
            "Events that were counted under the lane label \"other\", because too many lanes have series.",
        )?;
        let admission_refused = counter(
            &registry,
            "tidegate_admission_refused_total",
            "Requests refused at the door, their caller having used up its quota; the API never saw them.",
        )?;
        let bound = gauge(&registry, "tidegate_series_lanes_max", "Lane labels that may have series.")?;
        bound.set(signed(lanes_max));
        let unclassed_queue_wait = vectors.class_queue_wait.with_label_values(&[OTHER]);
        build::build_info(&registry)?;
        Ok(Self {
            settings: build::settings(&registry)?,
            registry,
            vectors,
            gauges,
            admission_refused,
            unclassed_queue_wait,
            series: Series::new(lanes_max, capped),
            no_lane: "none".into(),
            scrape: Mutex::default(),
        })
    }

    pub(super) fn settings(&self, numbers: &[(&str, f64)]) {
        build::tell(&self.settings, numbers);
    }

    pub(super) fn event(&self, event: &Event) {
        match event {
            Event::LaneMade { lane } => self.of(lane, |_| ()),
            Event::LaneForgotten { lane } => self.series.forget(&self.vectors, lane),
            Event::Offered { lane } => self.of(lane, |lane| lane.offered.inc()),
            Event::Accepted { lane } => self.of(lane, |lane| lane.accepted.inc()),
            Event::Started { lane, class, waited_seconds } => {
                self.of(lane, |lane| lane.queue_wait.observe(*waited_seconds));
                match class {
                    None => self.unclassed_queue_wait.observe(*waited_seconds),
                    Some(class) => {
                        self.vectors.class_queue_wait.with_label_values(&[class]).observe(*waited_seconds);
                    }
                }
            }
            Event::Throttled { lane, per, .. } => self.of(lane, |lane| {
                lane.throttled.inc();
                self.vectors.attributed.with_label_values(&[lane.label.as_ref(), per.as_str()]).inc();
            }),
            Event::Retried { lane, reason } => self.of(lane, |lane| lane.retried(*reason)),
            Event::Refused { lane, reason } => self.of(lane, |lane| lane.refused(*reason)),
            Event::Abandoned { lane } => self.of(lane, |lane| lane.abandoned.inc()),
            Event::SignalIgnored { lane, .. } => self.of(lane, |lane| lane.signals_ignored.inc()),
            // Gauges at the next scrape.
            Event::LimitShared { .. }
            | Event::LimitParted { .. }
            | Event::Paused { .. }
            | Event::LimitLearnt { .. }
            | Event::Commanded { .. } => (),
        }
    }

    pub(super) fn attempt(&self, attempt: &Attempt) {
        self.of(&attempt.lane, |lane| {
            lane.responded(&self.vectors, attempt.status.map(|status| status.as_u16()));
            lane.upstream_duration.observe(attempt.duration.as_secs_f64());
        });
    }

    pub(super) fn exchange(&self, exchange: &Exchange) {
        if exchange.local_error == Some(ADMISSION_QUOTA) {
            self.admission_refused.inc();
        }
        let (method, status) = (method_label(&exchange.method), exchange.status.as_u16());
        self.of(&exchange.lane, |lane| lane.answered(&self.vectors, method, status));
    }

    pub(super) fn render(&self, lanes: &[LaneView], levels: &Levels) -> Result<String, prometheus::Error> {
        let _one_at_a_time = self.scrape.lock().unwrap_or_else(PoisonError::into_inner);
        self.gauges.set_levels(lanes.len(), levels);
        self.gauges.clear_lanes();
        let node = |lane| move |node: &NodeView| (Arc::clone(&node.name), Arc::clone(lane));
        let nodes: BTreeSet<_> =
            lanes.iter().flat_map(|lane| lane.above.iter().map(node(&lane.key.upstream))).collect();
        self.gauges.shared_limits.set(signed(nodes.len()));
        for lane in lanes {
            self.gauges.add_lane(self.series.label(&lane.name), lane);
        }
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    fn of(&self, lane: &Arc<str>, act: impl FnOnce(&LaneSeries)) {
        self.series.with(&self.vectors, if lane.is_empty() { &self.no_lane } else { lane }, act);
    }
}

impl Vectors {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            registered(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        let by_lane = |name: &str, help: &str| counters(name, help, &["lane"]);
        let histograms = |name: &str, help: &str, label: &str, buckets: &[f64]| {
            let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            registered(registry, HistogramVec::new(options, &[label])?)
        };
        Ok(Self {
            requests: counters(
                "tidegate_requests_total",
                "Answers to clients, by the status that the client got.",
                &["lane", "method", "status"],
            )?,
            responses: counters(
                "tidegate_upstream_responses_total",
                "Tries at the upstream by the status that it answered; \"none\" when no response came.",
                &["lane", "status"],
            )?,
            offered: by_lane(
                "tidegate_offered_total",
                "Requests that arrived for the lane, whatever became of them.",
            )?,
            accepted: by_lane(
                "tidegate_accepted_total",
                "Requests that the upstream's limiter let through.",
            )?,
            throttled: by_lane("tidegate_throttled_total", "Requests that the upstream's limiter refused.")?,
            attributed: counters(
                "tidegate_attributed_total",
                "Refusals by what the limit that refused is per: route, credential, upstream.",
                &["lane", "per"],
            )?,
            retries: counters(
                "tidegate_retries_total",
                "Requests that went back to their queue to be sent again.",
                &["lane", "reason"],
            )?,
            refused: counters(
                "tidegate_refused_total",
                "Requests that could not be served and were answered at once.",
                &["lane", "reason"],
            )?,
            abandoned: by_lane(
                "tidegate_abandoned_total",
                "Clients that left while their request waited; nothing of it was sent.",
            )?,
            signals_ignored: by_lane(
                "tidegate_signals_ignored_total",
                "Fields and bodies of the upstream that should tell of a limit, and were malformed or absurd.",
            )?,
            queue_wait: histograms(
                "tidegate_queue_wait_seconds",
                "Time from entering the queue to the pass, each turn by itself.",
                "lane",
                &QUEUE_BUCKETS,
            )?,
            upstream_duration: histograms(
                "tidegate_upstream_duration_seconds",
                "Time from the pass to the upstream's response head, or to the failure.",
                "lane",
                &UPSTREAM_BUCKETS,
            )?,
            class_queue_wait: histograms(
                "tidegate_class_queue_wait_seconds",
                "Time from entering the queue to the pass, by class; \"other\" is what belongs to none.",
                "class",
                &QUEUE_BUCKETS,
            )?,
        })
    }
}

impl Gauges {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let whole = |name: &str, help: &str, label: &str| {
            registered(registry, IntGaugeVec::new(Opts::new(name, help), &[label])?)
        };
        let real =
            |name: &str, help: &str| registered(registry, GaugeVec::new(Opts::new(name, help), &["lane"])?);
        let shared = |name: &str, help: &str| {
            registered(registry, GaugeVec::new(Opts::new(name, help), &["limit", "upstream"])?)
        };
        let one = |name: &str, help: &str| gauge(registry, name, help);
        Ok(Self {
            queue_depth: whole("tidegate_queue_depth", "Requests that wait for their pass.", "lane")?,
            class_queue_depth: whole(
                "tidegate_class_queue_depth",
                "Requests that wait for their pass, by class; \"other\" is what belongs to none.",
                "class",
            )?,
            in_flight: whole("tidegate_in_flight", "Requests sent whose exchange is not over.", "lane")?,
            in_flight_max: whole("tidegate_lane_in_flight_max", "Most requests at once, as learnt.", "lane")?,
            pace: real("tidegate_lane_pace_requests_per_second", "How fast requests may leave now.")?,
            limit: real(
                "tidegate_lane_limit_requests_per_second",
                "The limit that the lane has learnt or was told; absent while none is known.",
            )?,
            paused: real("tidegate_lane_paused_seconds", "For how much longer the lane holds back.")?,
            observed: whole("tidegate_lane_observed", "1 in a dry run (mode observe), else 0.", "lane")?,
            announced: AnnouncedGauges::new(registry)?,
            upstreams: ConnectionMetrics::new(registry)?,
            shared_limit: shared("tidegate_shared_limit_requests_per_second", "A limit that lanes share.")?,
            shared_pace: shared(
                "tidegate_shared_pace_requests_per_second",
                "The pace of its lanes together.",
            )?,
            shared_limits: one("tidegate_shared_limits", "Limits above lanes; at most two for each lane.")?,
            lanes: one("tidegate_lanes", "Lanes that exist.")?,
            lanes_max: one("tidegate_lanes_max", "Lanes that may exist.")?,
            queue_tickets_max: one("tidegate_queue_tickets_max", "Requests that may wait in one lane.")?,
            replay_bytes: one("tidegate_replay_buffer_bytes", "Request bodies kept for a replay.")?,
            replay_bytes_max: one("tidegate_replay_buffer_bytes_max", "What may be kept for replays.")?,
            connections: one("tidegate_client_connections", "Open connections of clients.")?,
            connections_max: one(
                "tidegate_client_connections_max",
                "Connections of clients that may be open; further ones wait.",
            )?,
            callers: one("tidegate_admission_callers", "Callers with a quota of their own at the door.")?,
            callers_max: one(
                "tidegate_admission_callers_max",
                "Callers that may have one, beyond which they share; 0 when there is no quota.",
            )?,
            draining: one("tidegate_draining", "1 while the program is stopping, else 0.")?,
            log_dropped: counter(
                registry,
                "tidegate_log_lines_dropped_total",
                "Log lines that were lost because whoever reads them did not keep up.",
            )?,
        })
    }

    fn set_levels(&self, lanes: usize, levels: &Levels) {
        for (gauge, value) in [
            (&self.lanes, lanes),
            (&self.lanes_max, levels.lanes_max),
            (&self.queue_tickets_max, levels.queue_tickets_max),
            (&self.replay_bytes, levels.replay_buffer_bytes),
            (&self.replay_bytes_max, levels.replay_buffer_bytes_max),
            (&self.connections, levels.client_connections),
            (&self.connections_max, levels.client_connections_max),
            (&self.callers, levels.admission_callers),
            (&self.callers_max, levels.admission_callers_max),
            (&self.draining, usize::from(levels.draining)),
        ] {
            gauge.set(signed(value));
        }
        self.upstreams.tell(levels);
        self.log_dropped.inc_by(sink::dropped_total().saturating_sub(self.log_dropped.get()));
    }

    fn clear_lanes(&self) {
        self.queue_depth.reset();
        self.class_queue_depth.reset();
        self.in_flight.reset();
        self.in_flight_max.reset();
        self.pace.reset();
        self.limit.reset();
        self.shared_limit.reset();
        self.shared_pace.reset();
        self.paused.reset();
        self.observed.reset();
        self.announced.reset();
    }
}

/// Lane labels that may have series.
const SERIES_LANES_MAX: usize = 1_000;
/// From "not at all" to the default deadline; finest where a hundred threads at a usual limit wait.
const QUEUE_BUCKETS: [f64; 20] = [
    0.001, 0.01, 0.05, 0.1, 0.2, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 12.0, 15.0, 20.0, 30.0, 60.0,
    120.0,
];
/// From a neighbour's cache to the longest timeout.
const UPSTREAM_BUCKETS: [f64; 12] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{AnnouncedView, ClassView, LaneKey, Level, LimitView, RefusalReason, RetryReason};
    use crate::control::{LawName, LimitModel, LimitSource, Mode, NodeOrigin};
    use crate::observe::Connections;
    use http::{Method, StatusCode};
    use std::time::Duration;

    fn view(name: &str, queue_depth: usize) -> LaneView {
        LaneView {
            name: name.into(),
            key: LaneKey { upstream: "h:80".into(), credential: None, route: "/x".into() },
            law: LawName::Learnt,
            mode: Mode::Adaptive,
            pace: 9.5,
            pinned: None,
            limit_per: Level::Route,
            above: vec![NodeView {
                name: "credential@3f9a0123".into(),
                per: Level::Credential,
                origin: NodeOrigin::Found,
                lanes: Some(2),
                queue_depth: 5,
                in_flight: 2,
                pace: 14.5,
                limit: Some(LimitView {
                    requests: 900.0,
                    window_seconds: 60.0,
                    model: LimitModel::FixedWindow,
                    at_least: false,
                    source: LimitSource::Learnt,
                    confidence: 0.9,
                    says: "900/min".into(),
                }),
                paused_seconds: 0.0,
            }],
            limit: Some(LimitView {
                requests: 300.0,
                window_seconds: 60.0,
                model: LimitModel::FixedWindow,
                at_least: false,
                source: LimitSource::Learnt,
                confidence: 0.9,
                says: "300/min".into(),
            }),
            announced: vec![AnnouncedView {
                name: "minute".into(),
                requests: 300,
                remaining: 17.0,
                reset_seconds: Some(12.5),
                window_seconds: 60.0,
            }],
            queue_depth,
            classes: vec![ClassView { name: "production".into(), share: 0.5, queue_depth: 1 }],
            in_flight: 2,
            in_flight_max: Some(8),
            accepted_total: 7,
            throttled_total: 1,
            paused_seconds: 1.5,
        }
    }

    fn exchange(lane: &str, method: &str, status: u16) -> Exchange {
        Exchange {
            lane: lane.into(),
            method: Method::from_bytes(method.as_bytes()).unwrap(),
            status: StatusCode::from_u16(status).unwrap(),
            queued: Duration::ZERO,
            upstream: Duration::ZERO,
            total: Duration::ZERO,
            retries: 0,
            local_error: None,
        }
    }

    fn text(metrics: &Metrics, lanes: &[LaneView]) -> String {
        let connections = Connections {
            open: 7,
            opened_http2: 9,
            lookups_failed: 2,
            closed: [0, 4, 0, 0, 0],
            ..Connections::default()
        };
        let upstream_connections = vec![("h:80".into(), connections)];
        metrics.render(lanes, &Levels { lanes_max: 5, upstream_connections, ..Levels::default() }).unwrap()
    }

    #[test]
    fn what_happened_is_counted_by_lane() {
        let metrics = Metrics::new().unwrap();
        let lane: Arc<str> = "messages@3f9a".into();
        for event in [
            Event::LaneMade { lane: Arc::clone(&lane) },
            Event::Offered { lane: Arc::clone(&lane) },
            Event::Started { lane: Arc::clone(&lane), class: None, waited_seconds: 0.2 },
            Event::Started { lane: Arc::clone(&lane), class: Some("production".into()), waited_seconds: 0.3 },
            Event::Accepted { lane: Arc::clone(&lane) },
            Event::Throttled { lane: Arc::clone(&lane), retry_after_seconds: None, per: Level::Credential },
            Event::Retried { lane: Arc::clone(&lane), reason: RetryReason::Throttled },
            Event::Refused { lane: Arc::clone(&lane), reason: RefusalReason::QueueFull },
            Event::Abandoned { lane: Arc::clone(&lane) },
            Event::SignalIgnored { lane: Arc::clone(&lane), signal: "x-ratelimit-reset".into() },
        ] {
            metrics.event(&event);
        }
        let status = Some(StatusCode::TOO_MANY_REQUESTS);
        metrics.attempt(&Attempt { lane: Arc::clone(&lane), status, duration: Duration::from_millis(40) });
        metrics.attempt(&Attempt { lane, status: None, duration: Duration::from_millis(40) });
        metrics.exchange(&exchange("messages@3f9a", "POST", 200));
        metrics.exchange(&exchange("", "BREW", 400));
        let text = text(&metrics, &[view("messages@3f9a", 3)]);
        for line in [
            r#"tidegate_requests_total{lane="messages@3f9a",method="POST",status="200"} 1"#,
            r#"tidegate_requests_total{lane="none",method="other",status="400"} 1"#,
            r#"tidegate_upstream_responses_total{lane="messages@3f9a",status="429"} 1"#,
            r#"tidegate_upstream_responses_total{lane="messages@3f9a",status="none"} 1"#,
            r#"tidegate_offered_total{lane="messages@3f9a"} 1"#,
            r#"tidegate_accepted_total{lane="messages@3f9a"} 1"#,
            r#"tidegate_throttled_total{lane="messages@3f9a"} 1"#,
            r#"tidegate_attributed_total{lane="messages@3f9a",per="credential"} 1"#,
            r#"tidegate_shared_pace_requests_per_second{limit="credential@3f9a0123",upstream="h:80"} 14.5"#,
            r#"tidegate_shared_limit_requests_per_second{limit="credential@3f9a0123",upstream="h:80"} 15"#,
            "tidegate_shared_limits 1",
            r#"tidegate_retries_total{lane="messages@3f9a",reason="throttled"} 1"#,
            r#"tidegate_retries_total{lane="messages@3f9a",reason="stale"} 0"#,
            r#"tidegate_refused_total{lane="messages@3f9a",reason="queue_full"} 1"#,
            r#"tidegate_refused_total{lane="messages@3f9a",reason="deadline"} 0"#,
            r#"tidegate_abandoned_total{lane="messages@3f9a"} 1"#,
            r#"tidegate_signals_ignored_total{lane="messages@3f9a"} 1"#,
            r#"tidegate_queue_depth{lane="messages@3f9a"} 3"#,
            r#"tidegate_in_flight{lane="messages@3f9a"} 2"#,
            r#"tidegate_lane_in_flight_max{lane="messages@3f9a"} 8"#,
            r#"tidegate_lane_pace_requests_per_second{lane="messages@3f9a"} 9.5"#,
            r#"tidegate_lane_limit_requests_per_second{lane="messages@3f9a"} 5"#,
            r#"tidegate_lane_paused_seconds{lane="messages@3f9a"} 1.5"#,
            r#"tidegate_announced_requests{lane="messages@3f9a",limit="minute"} 300"#,
            r#"tidegate_announced_remaining_requests{lane="messages@3f9a",limit="minute"} 17"#,
            r#"tidegate_announced_reset_seconds{lane="messages@3f9a",limit="minute"} 12.5"#,
            r#"tidegate_announced_window_seconds{lane="messages@3f9a",limit="minute"} 60"#,
            r#"tidegate_queue_wait_seconds_bucket{lane="messages@3f9a",le="0.2"} 1"#,
            r#"tidegate_class_queue_wait_seconds_bucket{class="other",le="0.2"} 1"#,
            r#"tidegate_class_queue_wait_seconds_count{class="production"} 1"#,
            r#"tidegate_class_queue_depth{class="other"} 2"#,
            r#"tidegate_class_queue_depth{class="production"} 1"#,
            r#"tidegate_upstream_duration_seconds_count{lane="messages@3f9a"} 2"#,
            r#"tidegate_upstream_connections{upstream="h:80"} 7"#,
            r#"tidegate_upstream_connections_opened_total{protocol="h2",upstream="h:80"} 9"#,
            r#"tidegate_upstream_connections_closed_total{reason="idle",upstream="h:80"} 4"#,
            r#"tidegate_upstream_lookups_total{result="failed",upstream="h:80"} 2"#,
            "tidegate_lanes 1",
            "tidegate_lanes_max 5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} not in\n{text}");
        }
        assert!(text.contains(&format!("version=\"{}\"", env!("CARGO_PKG_VERSION"))));
    }

    #[test]
    fn gauges_of_a_lane_go_with_it_and_its_counters_when_it_is_forgotten() {
        let metrics = Metrics::new().unwrap();
        metrics.exchange(&exchange("a@1", "GET", 200));
        assert!(text(&metrics, &[view("a@1", 1)]).contains("tidegate_queue_depth{"));
        let later = text(&metrics, &[]);
        assert!(!later.contains("tidegate_queue_depth{"), "{later}");
        assert!(later.contains("a@1"));
        metrics.event(&Event::LaneForgotten { lane: "a@1".into() });
        assert!(!text(&metrics, &[]).contains("a@1"));
    }

    #[test]
    fn lanes_beyond_the_bound_share_one_label() {
        let metrics = Metrics::with_lanes_max(2).unwrap();
        for n in 0..50 {
            metrics.exchange(&exchange(&format!("l{n}@1"), "GET", 200));
        }
        let lanes: Vec<_> = (0..50).map(|n| view(&format!("l{n}@1"), 1)).collect();
        let text = text(&metrics, &lanes);
        for line in [
            r#"tidegate_requests_total{lane="other",method="GET",status="200"} 48"#,
            r#"tidegate_queue_depth{lane="other"} 48"#,
            "tidegate_series_capped_total 48",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} not in\n{text}");
        }
        assert_eq!(text.matches("tidegate_throttled_total{").count(), 3);
    }

    #[test]
    fn statuses_beyond_the_bound_share_one_label() {
        let metrics = Metrics::new().unwrap();
        for status in 100..=999 {
            metrics.exchange(&exchange("a@1", "GET", status));
            let status = StatusCode::from_u16(status).ok();
            metrics.attempt(&Attempt { lane: "a@1".into(), status, duration: Duration::ZERO });
        }
        let text = text(&metrics, &[]);
        assert_eq!(text.matches("tidegate_requests_total{").count(), 101);
        assert_eq!(text.matches("tidegate_upstream_responses_total{").count(), 51);
        assert!(
            text.contains(r#"tidegate_upstream_responses_total{lane="a@1",status="other"} 850"#),
            "{text}"
        );
    }
}
