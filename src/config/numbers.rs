//! Every number of the configuration by its key, as whoever watches a running program wants to see it.

use super::Config;
use std::time::Duration;

impl Config {
    /// Each key of the tables that stand once and have a range, with its value: a count, bytes, seconds, days, a share, or
    /// bytes per second, as the key says. `admission` is there only with a quota.
    pub fn numbers(&self) -> Vec<(&'static str, f64)> {
        let (proxy, http2) = (&self.proxy, &self.proxy.http2);
        let (law, queue, retry) = (&self.lanes.law, &self.lanes.queue, &self.lanes.retry);
        let mut numbers = vec![
            ("listen.connections_max", whole(proxy.connections_max)),
            ("listen.shards", whole(self.shards)),
            ("listen.head_timeout", seconds(proxy.head_timeout)),
            ("listen.keep_alive_idle", seconds(proxy.keep_alive_idle)),
            ("listen.body_idle", seconds(proxy.body_idle)),
            ("listen.body_rate_min", proxy.body_rate_min.into()),
            ("listen.write_stall", seconds(proxy.write_stall)),
            ("listen.write_rate_min", proxy.write_rate_min.into()),
            ("listen.head_bytes_max", whole(proxy.head_bytes_max)),
            ("listen.fields_max", whole(proxy.fields_max)),
            ("listen.chunk_line_bytes_max", whole(proxy.chunk_line_bytes_max)),
            ("listen.http2.idle", seconds(http2.idle)),
            ("listen.http2.streams_max", http2.streams_max.into()),
            ("listen.http2.stream_window", http2.stream_window.into()),
            ("listen.http2.connection_window", http2.connection_window.into()),
            ("listen.http2.head_bytes_max", http2.head_bytes_max.into()),
            ("listen.http2.resets_max", whole(http2.resets_max)),
            ("listen.http2.faults_max", whole(http2.faults_max)),
            ("listen.http2.control_bytes_max", whole(http2.control_bytes_max)),
            ("listen.tls.handshake_timeout", seconds(proxy.handshake_timeout)),
            ("drain.grace", seconds(self.grace)),
            ("law.start_doubling", law.start_doubling_seconds),
            ("law.probe_period", law.probe_period_seconds),
            ("law.headroom", law.headroom),
            ("law.burst", law.burst.into()),
            ("memory.keep_days", seconds(self.memory) / seconds(DAY)),
            ("queue.deadline", seconds(queue.deadline)),
            ("queue.lane_tickets_max", whole(queue.lane_tickets_max)),
            ("queue.lanes_max", whole(queue.lanes_max)),
            ("queue.lane_idle", seconds(queue.lane_idle)),
            ("queue.routes_max", whole(proxy.routes_max)),
            ("queue.route_names_max", whole(proxy.route_names_max)),
            ("replay.bytes_max", whole(proxy.replay_bytes_max)),
            ("replay.bytes_total_max", whole(proxy.replay_bytes_total_max)),
            ("replay.retry_after_max", seconds(retry.retry_after_max)),
            ("replay.attempts_max", retry.attempts_max.into()),
            ("forward.connect_timeout", seconds(proxy.connect_timeout)),
            ("forward.write_stall", seconds(proxy.upstream_write_stall)),
            ("forward.response_head_timeout", seconds(proxy.response_head_timeout)),
            ("forward.stream_idle", seconds(proxy.stream_idle)),
            ("forward.pool_idle", seconds(proxy.pool_idle)),
            ("forward.pool_idle_max", whole(proxy.pool_idle_max)),
            ("forward.connections_max", whole(proxy.upstream_connections_max)),
            ("forward.waiting_max", whole(proxy.upstream_waiting_max)),
            ("forward.wait_max", seconds(proxy.upstream_wait)),
            ("forward.age_max", seconds(proxy.upstream_age)),
            ("forward.dns_cache", seconds(proxy.dns_cache)),
            ("forward.dns_stale", seconds(proxy.dns_stale)),
            ("forward.http2_idle", seconds(proxy.upstream_http2_idle)),
            ("forward.http2_streams_max", whole(proxy.upstream_http2_streams_max)),
            ("forward.http2_stream_window", proxy.upstream_http2_stream_window.into()),
            ("forward.http2_connection_window", proxy.upstream_http2_connection_window.into()),
            ("forward.http2_head_bytes_max", proxy.upstream_http2_head_bytes_max.into()),
        ];
        if let Some(admission) = &self.admission {
            numbers.push(("admission.burst", admission.burst.into()));
            numbers.push(("admission.clients_max", whole(admission.clients_max)));
        }
        numbers
    }
}

fn whole(count: usize) -> f64 {
    count as f64
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

const DAY: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests {
    use crate::config::{DEFAULTS, Flag, Sources, duration, load};

    /// What `value`, as a file has it, comes to.
    fn number(value: &str) -> f64 {
        let text = value.trim_matches('"');
        let size = || super::super::size::size(text).ok().map(|bytes| bytes as f64);
        let share = || text.strip_suffix('%').and_then(|share| Some(share.parse::<f64>().ok()? / 100.0));
        let plain = || text.parse().ok();
        let time = || duration(text).ok().map(|time| time.as_secs_f64());
        plain().or_else(time).or_else(size).or_else(share).unwrap_or_else(|| panic!("{value} is no number"))
    }

    #[test]
    fn every_key_with_a_range_is_told_with_its_value() {
        let flag = |flag, table, key, value: &str| Flag { flag, table, key, value: value.to_owned() };
        let flags = vec![
            flag("--upstream", "upstream", "url", "http://a"),
            flag("--quota", "admission", "quota", "100/s"),
        ];
        let mut told = load(&Sources { flags, ..Sources::default() }).unwrap().config.numbers();
        let (mut table, mut has_range) = ("", false);
        for line in DEFAULTS.lines() {
            if let Some(header) = line.strip_prefix('[') {
                table = header.trim_end_matches(']');
            }
            has_range |= line.starts_with("# From ");
            let Some((key, value)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) else {
                continue;
            };
            if std::mem::take(&mut has_range) {
                let key = format!("{table}.{key}");
                let at = told.iter().position(|(known, _)| *known == key);
                let (_, told) = told.remove(at.unwrap_or_else(|| panic!("Config::numbers lacks {key}")));
                assert!((told - number(value)).abs() < 1e-9, "{key} is {value}, not {told}");
            }
        }
        assert!(told.is_empty(), "these have no range in the defaults: {told:?}");
    }
}
