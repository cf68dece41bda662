//! What each key of the tables that stand once means, and what range it has.

use super::log::{LogFormat, LogLevel};
use super::problem::Origin;
use super::reader::Reader;
use super::token::token;
use super::value::{address, bytes, count, headroom, parsed, text, time, truth, word};
use super::{AdmissionSettings, Config, ForwardedMode, Http2Settings, Network, ReplayPolicy, TlsSettings};
use crate::control::{LawName, LawSettings, Mode, Quota, Shape};
use std::path::PathBuf;
use std::time::Duration;

/// Reads every table that stands once.
pub(super) fn read(root: &mut Reader<'_>, config: &mut Config) {
    config.state_dir = root.read("state_dir", |value| text(value, "/var/lib/tidegate").map(PathBuf::from));
    root.table("listen", |table| listen(table, config));
    root.table("admin", |table| admin(table, config));
    root.table("log", |table| {
        table.set(&mut config.log.level, "level", word(LEVELS));
        table.set(&mut config.log.format, "format", word(FORMATS));
    });
    root.table("drain", |table| table.set(&mut config.grace, "grace", time(Duration::ZERO..=DAY)));
    root.table("law", |table| {
        law(table, "name", &mut config.lanes.law);
        config.lanes.ceiling = table.read("ceiling", parsed("300/min"));
        let law = &mut config.lanes.law;
        if let Some(rate) = table.read("start_rate", parsed::<Quota>("4/s")) {
            law.start_rate = rate.rate();
        }
        let doubling = time(Duration::from_millis(100)..=Duration::from_mins(1));
        if let Some(doubling) = table.read("start_doubling", doubling) {
            law.start_doubling_seconds = doubling.as_secs_f64();
        }
    });
    root.table("memory", |table| {
        if let Some(days) = table.read("keep_days", count(0..=365_u32)) {
            config.memory = DAY * days;
        }
    });
    root.table("queue", |table| queue(table, config));
    root.table("replay", |table| replay(table, config));
    root.table("forward", |table| forward(table, config));
    root.table("forwarded", |table| {
        let forwarded = &mut config.proxy.forwarded;
        table.set(&mut forwarded.mode, "mode", word(FORWARDED));
        forwarded.trusted = table.each("trusted", parsed::<Network>("10.0.0.0/8"));
    });
    root.table("admission", |table| config.admission = admission(table));
}

fn listen(table: &mut Reader<'_>, config: &mut Config) {
    let proxy = &mut config.proxy;
    table.set(&mut config.listen, "address", |value| address(text(value, "127.0.0.1:8080")?));
    table.set(&mut proxy.connections_max, "connections_max", count(1..=1_000_000));
    table.set(&mut config.shards, "shards", count(0..=256));
    table.set(&mut proxy.head_timeout, "head_timeout", time(BRIEF..=HOUR));
    table.set(&mut proxy.keep_alive_idle, "keep_alive_idle", time(BRIEF..=DAY));
    table.set(&mut proxy.body_idle, "body_idle", time(BRIEF..=DAY));
    table.set(&mut proxy.body_rate_min, "body_rate_min", count(0..=1_000_000_u32));
    table.set(&mut proxy.write_stall, "write_stall", time(BRIEF..=DAY));
    table.set(&mut proxy.write_rate_min, "write_rate_min", count(0..=1_000_000_u32));
    table.set(&mut proxy.head_bytes_max, "head_bytes_max", bytes(8 << 10..=1 << 20));
    table.set(&mut proxy.fields_max, "fields_max", count(10..=10_000));
    table.set(&mut proxy.chunk_line_bytes_max, "chunk_line_bytes_max", bytes(32..=64 << 10));
    table.table("http2", |table| http2(table, &mut config.proxy.http2));
    table.table("tls", |table| {
        table.set(&mut config.proxy.handshake_timeout, "handshake_timeout", time(BRIEF..=HOUR));
        config.tls = tls(table);
    });
}

fn http2(table: &mut Reader<'_>, http2: &mut Http2Settings) {
    table.set(&mut http2.idle, "idle", time(BRIEF..=DAY));
    table.set(&mut http2.streams_max, "streams_max", count(1..=10_000));
    table.set(&mut http2.stream_window, "stream_window", bytes(1 << 10..=16 << 20));
    // Less than what every connection begins with cannot be had (RFC 9113 6.9.2).
    table.set(&mut http2.connection_window, "connection_window", bytes(64 << 10..=256 << 20));
    table.set(&mut http2.head_bytes_max, "head_bytes_max", bytes(4 << 10..=1 << 20));
    table.set(&mut http2.resets_max, "resets_max", count(0..=10_000));
    table.set(&mut http2.faults_max, "faults_max", count(0..=1_000_000));
    table.set(&mut http2.control_bytes_max, "control_bytes_max", bytes(64 << 10..=1 << 30));
}

/// A certificate and its key, or neither.
fn tls(table: &mut Reader<'_>) -> Option<TlsSettings> {
    let certificate =
        table.read("cert_file", |value| text(value, "/etc/tidegate/cert.pem").map(PathBuf::from));
    let key = table.read("key_file", |value| text(value, "/etc/tidegate/key.pem").map(PathBuf::from));
    for (there, missing, flag) in
        [("cert_file", "key_file", "--tls-key"), ("key_file", "cert_file", "--tls-cert")]
    {
        if table.has(there) && !table.has(missing) {
            let origin = table.origin_of(there);
            let add = if matches!(origin, Origin::Flag(_)) { flag } else { missing };
            table.wrong(origin, there, format!("goes with its other half: add {add}, a PEM file too"));
        }
    }
    Some(TlsSettings { certificate: certificate?, key: key? })
}

fn admin(table: &mut Reader<'_>, config: &mut Config) {
    table.set(&mut config.admin, "address", |value| address(text(value, "127.0.0.1:9464")?));
    config.admin_token =
        table.read("token_file", |value| token(text(value, "/etc/tidegate/token")?.as_ref()));
}

/// The keys that `[law]` has in common with a lane; `law_key` is what the law's own name is called there.
pub(super) fn law(table: &mut Reader<'_>, law_key: &'static str, law: &mut LawSettings) {
    table.set(&mut law.name, law_key, word(LAWS));
    table.set(&mut law.mode, "mode", word(MODES));
    let rate = table.read("rate", parsed::<Quota>("10/s"));
    match (law.name, rate) {
        (LawName::Fixed, Some(rate)) => law.fixed_rate = rate.rate(),
        (LawName::Fixed, None) => {
            // One that is there is wrong, and was told.
            if table.origin_of("rate") == Origin::Default {
                let origin = table.origin_of(law_key);
                let rate = if matches!(origin, Origin::Flag(_)) { "--rate 10/s" } else { "rate = \"10/s\"" };
                table.wrong(origin, law_key, format!("\"fixed\" needs a pace: add for example {rate}"));
            }
        }
        (LawName::Learnt | LawName::Aimd, Some(_)) => {
            let origin = table.origin_of("rate");
            let (add, leave) = match origin {
                Origin::Flag(flag) => ("--law fixed".to_owned(), flag),
                _ => (format!("{law_key} = \"fixed\""), "rate"),
            };
            let text = format!(
                "goes with the law \"fixed\" only, because the other laws find the pace themselves: add {add}, or \
                 leave {leave} out"
            );
            table.wrong(origin, "rate", text);
        }
        (LawName::Learnt | LawName::Aimd, None) => (),
    }
    if let Some(period) = table.read("probe_period", time(Duration::from_secs(5)..=HOUR)) {
        law.probe_period_seconds = period.as_secs_f64();
    }
    table.set(&mut law.shared, "shared", truth);
    table.set(&mut law.headroom, "headroom", headroom);
    table.set(&mut law.shape, "shape", word(SHAPES));
    table.set(&mut law.burst, "burst", count(1..=1_000_000));
    table.set(&mut law.slowness, "slowness", truth);
}

/// The longest that a request may wait, in `[queue]` and in a lane.
pub(super) fn deadline(table: &mut Reader<'_>, deadline: &mut Duration) {
    table.set(deadline, "deadline", time(Duration::ZERO..=DAY));
}

fn queue(table: &mut Reader<'_>, config: &mut Config) {
    let queue = &mut config.lanes.queue;
    deadline(table, &mut queue.deadline);
    table.set(&mut queue.lane_tickets_max, "lane_tickets_max", count(1..=1_000_000));
    table.set(&mut queue.lanes_max, "lanes_max", count(1..=100_000));
    table.set(&mut queue.lane_idle, "lane_idle", time(Duration::from_secs(1)..=DAY));
    table.set(&mut config.proxy.routes_max, "routes_max", count(1..=10_000));
    table.set(&mut config.proxy.route_names_max, "route_names_max", count(8..=10_000));
}

fn replay(table: &mut Reader<'_>, config: &mut Config) {
    let (proxy, retry) = (&mut config.proxy, &mut config.lanes.retry);
    table.set(&mut proxy.replay_on_429, "on_429", word(REPLAYS));
    table.set(&mut proxy.replay_bytes_max, "bytes_max", bytes(0..=1 << 30));
    table.set(&mut proxy.replay_bytes_total_max, "bytes_total_max", bytes(0..=64 << 30));
    if proxy.replay_bytes_max > proxy.replay_bytes_total_max {
        let origin = table.origin_of("bytes_max").max(table.origin_of("bytes_total_max"));
        table.wrong(
            origin,
            "bytes_max",
            "is more than bytes_total_max, which holds for all requests together",
        );
    }
    table.set(&mut retry.retry_after_max, "retry_after_max", time(Duration::ZERO..=DAY));
    table.set(&mut retry.attempts_max, "attempts_max", count(1..=100));
}

fn forward(table: &mut Reader<'_>, config: &mut Config) {
    let proxy = &mut config.proxy;
    table.set(&mut proxy.connect_timeout, "connect_timeout", time(BRIEF..=HOUR));
    table.set(&mut proxy.dns_cache, "dns_cache", time(Duration::ZERO..=DAY));
    table.set(&mut proxy.dns_stale, "dns_stale", time(Duration::ZERO..=DAY));
    table.set(&mut proxy.upstream_write_stall, "write_stall", time(BRIEF..=DAY));
    table.set(&mut proxy.response_head_timeout, "response_head_timeout", time(BRIEF..=DAY));
    table.set(&mut proxy.stream_idle, "stream_idle", time(BRIEF..=DAY));
    table.set(&mut proxy.pool_idle, "pool_idle", time(Duration::ZERO..=HOUR));
    table.set(&mut proxy.pool_idle_max, "pool_idle_max", count(0..=100_000));
    table.set(&mut proxy.upstream_connections_max, "connections_max", count(1..=100_000));
    table.set(&mut proxy.upstream_waiting_max, "waiting_max", count(0..=1_000_000));
    table.set(&mut proxy.upstream_wait, "wait_max", time(Duration::ZERO..=HOUR));
    table.set(&mut proxy.upstream_age, "age_max", time(Duration::from_secs(1)..=DAY));
    table.set(&mut proxy.upstream_http2_idle, "http2_idle", time(BRIEF..=DAY));
    table.set(&mut proxy.upstream_http2_streams_max, "http2_streams_max", count(1..=10_000));
    table.set(&mut proxy.upstream_http2_stream_window, "http2_stream_window", bytes(1 << 10..=16 << 20));
    // As for clients.
    let window = bytes(64 << 10..=256 << 20);
    table.set(&mut proxy.upstream_http2_connection_window, "http2_connection_window", window);
    table.set(&mut proxy.upstream_http2_head_bytes_max, "http2_head_bytes_max", bytes(4 << 10..=1 << 20));
}

fn admission(table: &mut Reader<'_>) -> Option<AdmissionSettings> {
    let quota = table.read("quota", parsed("100/s"));
    let burst = table.read("burst", count(1..=1_000_000));
    let clients_max = table.read("clients_max", count(1..=1_000_000));
    Some(AdmissionSettings { quota: quota?, burst: burst?, clients_max: clients_max? })
}

const LEVELS: &[(&str, LogLevel)] = &[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];
const FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];
const LAWS: &[(&str, LawName)] =
    &[("learnt", LawName::Learnt), ("aimd", LawName::Aimd), ("fixed", LawName::Fixed)];
const MODES: &[(&str, Mode)] = &[("adaptive", Mode::Adaptive), ("observe", Mode::Observe)];
const SHAPES: &[(&str, Shape)] = &[("smooth", Shape::Smooth), ("burst", Shape::Burst)];
const REPLAYS: &[(&str, ReplayPolicy)] =
    &[("all", ReplayPolicy::All), ("idempotent", ReplayPolicy::Idempotent), ("none", ReplayPolicy::None)];

const FORWARDED: &[(&str, ForwardedMode)] = &[
    ("pass", ForwardedMode::Pass),
    ("off", ForwardedMode::Off),
    ("append", ForwardedMode::Append),
    ("replace", ForwardedMode::Replace),
];

/// The shortest timeout that a network keeps.
const BRIEF: Duration = Duration::from_millis(100);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
