//! What is shown of a lane at a scrape.

use super::Gauges;
use crate::control::{LaneView, Mode};
use crate::telemetry::registered::signed;
use crate::telemetry::series::OTHER;
use prometheus::Gauge;

impl Gauges {
    /// Lanes that share the label `other` are summed; of their limits none can be told.
    pub(super) fn add_lane(&self, label: &str, lane: &LaneView) {
        self.queue_depth.with_label_values(&[label]).add(signed(lane.queue_depth));
        let mut unclassed = lane.queue_depth;
        for class in &lane.classes {
            self.class_queue_depth.with_label_values(&[&class.name]).add(signed(class.queue_depth));
            unclassed = unclassed.saturating_sub(class.queue_depth);
        }
        self.class_queue_depth.with_label_values(&[OTHER]).add(signed(unclassed));
        self.in_flight.with_label_values(&[label]).add(signed(lane.in_flight));
        self.pace.with_label_values(&[label]).add(lane.pace);
        if let Some(max) = lane.in_flight_max.filter(|_| label != OTHER) {
            self.in_flight_max.with_label_values(&[label]).set(i64::from(max));
        }
        let observed = self.observed.with_label_values(&[label]);
        observed.set(observed.get().max(i64::from(lane.mode == Mode::Observe)));
        for node in lane.above.iter().filter(|_| label != OTHER) {
            let labels = [node.name.as_ref(), lane.key.upstream.as_ref()];
            self.shared_pace.with_label_values(&labels).set(node.pace);
            if let Some(limit) = node.limit.as_ref().filter(|limit| limit.window_seconds > 0.0) {
                self.shared_limit.with_label_values(&labels).set(limit.requests / limit.window_seconds);
            }
        }
        let paused: Gauge = self.paused.with_label_values(&[label]);
        paused.set(paused.get().max(lane.paused_seconds));
        if label != OTHER {
            self.announced.tell(label, &lane.announced);
        }
        // What a limit is at least is no limit.
        let known = lane.limit.as_ref().filter(|limit| limit.window_seconds > 0.0 && !limit.at_least);
        if let Some(limit) = known.filter(|_| label != OTHER) {
            self.limit.with_label_values(&[label]).set(limit.requests / limit.window_seconds);
        }
    }
}
