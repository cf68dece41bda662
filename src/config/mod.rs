//! What the operator may say: complete, typed, valid by construction.

mod duration;
mod forwarded;
mod http2;
mod keys;
mod lists;
mod load;
mod log;
mod numbers;
mod pattern;
mod problem;
mod reader;
mod size;
mod token;
mod traffic;
mod tree;
mod upstream;
mod value;

pub use duration::{DurationError, duration};
pub use forwarded::{ForwardedMode, ForwardedSettings, Network, NetworkError};
pub use http2::Http2Settings;
pub use load::{DEFAULTS, Flag, Loaded, Sources, load};
pub use log::{LogFormat, LogLevel, LogSettings};
pub use pattern::{PathPattern, PatternError};
pub use problem::{ConfigProblems, Origin, Problem};
pub use token::is_exposed;
pub use traffic::{
    AdmissionSettings, ClassMatch, DialectSettings, LaneMatch, Per, RefusalSign, ResetUnit, RouteSettings,
    Secret, UpstreamSettings,
};
pub use upstream::{Upstream, UpstreamError};
pub use value::address;

use crate::control::LanesSettings;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Everything that a running proxy needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where requests may go. The first gets what names none of them; there is at least one.
    pub upstreams: Vec<UpstreamSettings>,
    /// Fields in which upstreams announce limits; the first of a limit's field counts.
    pub dialects: Vec<DialectSettings>,
    /// Which requests are limited together; the first that fits counts.
    pub routes: Vec<RouteSettings>,
    /// Which requests share a lane; the first that fits counts.
    pub lane_matches: Vec<LaneMatch>,
    /// What makes a request belong to a class, in the order of [`LanesSettings::classes`].
    pub class_matches: Vec<ClassMatch>,
    /// Who may ask how often; `None`: anyone, as often as they like.
    pub admission: Option<AdmissionSettings>,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// What clients see that speak TLS; `None`: all speak in the clear.
    pub tls: Option<TlsSettings>,
    /// Threads that serve connections; 0 is one for each core.
    pub shards: usize,
    /// Where metrics, health and the admin API are.
    pub admin: SocketAddr,
    /// What changes a lane has to show, unless it comes from this machine; with one, it is asked of everyone.
    pub admin_token: Option<Secret>,
    /// What the core may do.
    pub lanes: LanesSettings,
    /// What the HTTP side may do.
    pub proxy: ProxySettings,
    /// How long a drain may take.
    pub grace: Duration,
    /// Where the key of credential hashes and what was learnt are kept; `None`: for this run only.
    pub state_dir: Option<PathBuf>,
    /// How long a limit that nobody uses is remembered across restarts; zero: nothing is.
    pub memory: Duration,
    /// How much is logged, and how it looks.
    pub log: LogSettings,
}

impl Config {
    /// The defaults, for `upstream`.
    pub fn new(upstream: Upstream) -> Self {
        Self { upstreams: vec![UpstreamSettings::new(upstream)], ..Self::bare() }
    }

    /// The defaults, without the upstream that a configuration has.
    fn bare() -> Self {
        Self {
            upstreams: Vec::new(),
            dialects: Vec::new(),
            routes: Vec::new(),
            lane_matches: Vec::new(),
            class_matches: Vec::new(),
            admission: None,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            tls: None,
            shards: 0,
            admin: SocketAddr::from((Ipv4Addr::LOCALHOST, 9464)),
            admin_token: None,
            lanes: LanesSettings::default(),
            proxy: ProxySettings::default(),
            grace: Duration::from_secs(30),
            state_dir: None,
            memory: Duration::from_hours(7 * 24),
            log: LogSettings::default(),
        }
    }

    /// Where requests go that name no upstream.
    ///
    /// # Panics
    /// Never: a configuration has an upstream.
    pub fn default_upstream(&self) -> &UpstreamSettings {
        self.upstreams.first().expect("a configuration has an upstream")
    }
}

/// Where the certificate is that clients see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// A PEM file: the server's certificate, then those of the CAs between it and a root.
    pub certificate: PathBuf,
    /// A PEM file with the certificate's private key.
    pub key: PathBuf,
}

/// Which requests may be sent again after a 429.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplayPolicy {
    /// Every method. A 429 says that the request was not processed, so a replay does not repeat it. This is the
    /// default because the main callers (load tests, messaging integrations) send POSTs, and the vendor's own
    /// SDKs replay them; RFC 9110 9.2.2 forbids it for requests that *may* have been processed, which is why
    /// nothing else than a 429 is ever replayed for POST and PATCH.
    #[default]
    All,
    /// GET, HEAD, OPTIONS, TRACE, PUT and DELETE (RFC 9110 9.2.2).
    Idempotent,
    /// Nothing: every 429 goes to the client.
    None,
}

/// Bounds and timeouts of the HTTP side; the reasons stand in HTTP's own terms beside each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxySettings {
    /// Client connections at once; further ones wait in the backlog.
    pub connections_max: usize,
    /// From accept to the first byte, and from a head's first byte to its last.
    pub head_timeout: Duration,
    /// From accept to the end of a TLS handshake.
    pub handshake_timeout: Duration,
    /// A kept connection without a request is closed after this long.
    pub keep_alive_idle: Duration,
    /// A request body that brings nothing for this long ends its request (408).
    pub body_idle: Duration,
    /// Bytes per second that a request body brings at least, on average over [`Self::body_idle`], or its request ends
    /// (408); 0: however few.
    pub body_rate_min: u32,
    /// A client that takes nothing of its response for this long is cut.
    pub write_stall: Duration,
    /// Bytes per second of what waits for it that a client takes at least, on average over [`Self::write_stall`], or it is
    /// cut; 0: however few.
    pub write_rate_min: u32,
    /// What one HTTP/2 connection may do.
    pub http2: Http2Settings,
    /// Largest request head in bytes.
    pub head_bytes_max: usize,
    /// Fields in an HTTP/1.1 request's head at most, and in its trailers.
    pub fields_max: usize,
    /// Largest first line of a chunk in bytes: its size, and extensions that are read and forgotten.
    pub chunk_line_bytes_max: usize,
    /// What the upstream is told of who asks.
    pub forwarded: ForwardedSettings,
    /// Request bytes that are kept for a replay, per request.
    pub replay_bytes_max: usize,
    /// Request bytes that are kept for replays, and refusals of requests that wait, all together.
    pub replay_bytes_total_max: usize,
    /// What may be sent again after a 429.
    pub replay_on_429: ReplayPolicy,
    /// TCP connect and TLS handshake to the upstream.
    pub connect_timeout: Duration,
    /// For how long an upstream's addresses are believed.
    pub dns_cache: Duration,
    /// For how long they are used when its name does not resolve any more.
    pub dns_stale: Duration,
    /// An upstream that takes nothing of what is written for this long is cut.
    pub upstream_write_stall: Duration,
    /// From the pass to the response head.
    pub response_head_timeout: Duration,
    /// A response body that brings nothing for this long is cut, visibly.
    pub stream_idle: Duration,
    /// A kept upstream connection is not used after so long idle, unless the origin announces another time.
    pub pool_idle: Duration,
    /// Kept idle connections at most, to each upstream.
    pub pool_idle_max: usize,
    /// Connections at most, to each upstream.
    pub upstream_connections_max: usize,
    /// Requests that may wait for one of them, for each upstream.
    pub upstream_waiting_max: usize,
    /// How long each of those may wait.
    pub upstream_wait: Duration,
    /// An upstream connection takes no more requests when it is as old as this, or up to a tenth less.
    pub upstream_age: Duration,
    /// An HTTP/2 connection to the upstream is closed after so long without a request.
    pub upstream_http2_idle: Duration,
    /// Requests at once on one HTTP/2 connection to the upstream, if it allows as many.
    pub upstream_http2_streams_max: usize,
    /// Bytes of one answer's body that an HTTP/2 upstream may send before they are taken.
    pub upstream_http2_stream_window: u32,
    /// The same for all of a connection's bodies together.
    pub upstream_http2_connection_window: u32,
    /// Bytes of an answer's head over HTTP/2 as it is unpacked, 32 more for each field.
    pub upstream_http2_head_bytes_max: u32,
    /// Routes that are told apart by their paths; further ones share the route `other`.
    pub routes_max: usize,
    /// Names at one place of a path, beyond which they are identifiers; an eighth as many of those with digits.
    pub route_names_max: usize,
}

impl Default for ProxySettings {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            head_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            keep_alive_idle: Duration::from_secs(75),
            body_idle: Duration::from_secs(30),
            body_rate_min: 500,
            write_stall: Duration::from_secs(30),
            write_rate_min: 500,
            http2: Http2Settings::default(),
            head_bytes_max: 64 * 1024,
            fields_max: 100,
            chunk_line_bytes_max: 1_024,
            forwarded: ForwardedSettings::default(),
            replay_bytes_max: 1024 * 1024,
            replay_bytes_total_max: 256 * 1024 * 1024,
            replay_on_429: ReplayPolicy::All,
            connect_timeout: Duration::from_secs(5),
            dns_cache: Duration::from_secs(30),
            dns_stale: Duration::from_hours(1),
            upstream_write_stall: Duration::from_secs(30),
            response_head_timeout: Duration::from_mins(1),
            stream_idle: Duration::from_mins(5),
            pool_idle: Duration::from_secs(4),
            pool_idle_max: 1_024,
            upstream_connections_max: 4_096,
            upstream_waiting_max: 10_000,
            upstream_wait: Duration::from_secs(10),
            upstream_age: Duration::from_mins(5),
            upstream_http2_idle: Duration::from_mins(1),
            upstream_http2_streams_max: 100,
            upstream_http2_stream_window: 64 * 1024,
            upstream_http2_connection_window: 1024 * 1024,
            upstream_http2_head_bytes_max: 16 * 1024,
            routes_max: 200,
            route_names_max: 64,
        }
    }
}
