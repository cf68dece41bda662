//! The log: set-up, one line per finished request at `debug`, one per thing that a lane learnt at `info`.
//!
//! No line has a header, a query or a path of a request: lanes are named by route templates and hashes. Libraries
//! see headers before we do, so they are held to `warn` whatever the level: a token must not be found in a log.

use super::sink;
pub use super::sink::Flush;
use crate::config::{LogFormat, LogLevel, LogSettings};
use crate::control::{Command, Event};
use crate::observe::{Attempt, Exchange};
use std::io;
use std::time::Duration;
use tracing::level_filters::LevelFilter;
use tracing::{debug, info, trace};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, fmt};

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The thread that writes could not be started.
    #[error("the log's thread could not be started")]
    Thread(#[from] io::Error),
    /// Someone else in this process logs already.
    #[error("a log was set up before")]
    Twice(#[from] TryInitError),
}

/// Logs to stderr from now on, until the process ends. Keep what it returns: dropping it writes the last lines.
///
/// # Errors
/// A [`LogError`] when the log cannot be set up.
pub fn install(settings: LogSettings) -> Result<Flush, LogError> {
    let (sink, flush) = sink::start(io::stderr())?;
    let level = match settings.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let ours = Targets::new().with_target(env!("CARGO_PKG_NAME"), level).with_default(level.min(LIBRARIES));
    let lines = fmt::layer().with_ansi(false).with_writer(sink);
    let lines = match settings.format {
        LogFormat::Text => lines.with_target(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(ours)).try_init()?;
    Ok(flush)
}

pub(super) fn event(event: &Event) {
    match event {
        Event::LaneMade { lane } => info!(%lane, "new lane"),
        Event::LaneForgotten { lane } => info!(%lane, "lane forgotten: it was idle for long"),
        Event::Offered { lane } => trace!(%lane, "request asks for a place"),
        // The attempt's own line has its status.
        Event::Accepted { .. } => (),
        Event::Started { lane, class, waited_seconds } => {
            trace!(%lane, class = class.as_deref(), waited_seconds, "pass granted");
        }
        Event::Throttled { lane, retry_after_seconds, per } => {
            debug!(%lane, retry_after_seconds, per = per.as_str(), "the API refused a request");
        }
        Event::Retried { lane, reason } => debug!(%lane, reason = reason.as_str(), "request is sent again"),
        Event::Refused { lane, reason } => debug!(%lane, reason = reason.as_str(), "request is not served"),
        Event::Abandoned { lane } => debug!(%lane, "client left while it waited"),
        Event::SignalIgnored { lane, signal } => {
            debug!(%lane, signal, "what the API says of a limit makes no sense, and is ignored");
        }
        // As often as refusals come; that a lane is paused, and for how long, is in the metrics and on the admin pages.
        Event::Paused { lane, seconds } => debug!(%lane, seconds, "lane holds back as the API asked"),
        Event::Commanded { lane, command } => order(lane, *command),
        Event::LimitShared { limit, lanes } if lanes.is_empty() => {
            info!(%limit, "the API says that a limit is on more than one lane");
        }
        Event::LimitShared { limit, lanes } => {
            info!(%limit, lanes = lanes.join(" "), "lanes meet one limit: they share it from now on");
        }
        Event::LimitParted { limit } => info!(%limit, "lanes have limits of their own"),
        Event::LimitLearnt { lane, requests_per_second, says } => {
            info!(%lane, requests_per_second, says, "limit learnt");
        }
    }
}

fn order(lane: &str, command: Command) {
    let (action, rate, seconds) = match command {
        Command::Pin(rate) => ("pin", Some(rate.get()), None),
        Command::Pause(length) => ("pause", None, length.map(|length| length.as_secs_f64())),
        Command::Resume => ("resume", None, None),
        Command::Forget => ("forget", None, None),
    };
    info!(lane, action, requests_per_second = rate, seconds, "an operator's order");
}

pub(super) fn attempt(attempt: &Attempt) {
    trace!(
        lane = %attempt.lane,
        status = attempt.status.map(|status| status.as_u16()),
        upstream_ms = millis(attempt.duration),
        "upstream answered"
    );
}

pub(super) fn exchange(exchange: &Exchange) {
    debug!(
        target: ACCESS,
        lane = %exchange.lane,
        method = super::series::method_label(&exchange.method),
        status = exchange.status.as_u16(),
        queue_ms = millis(exchange.queued),
        upstream_ms = millis(exchange.upstream),
        total_ms = millis(exchange.total),
        retries = exchange.retries,
        error = exchange.local_error,
        "request"
    );
}

/// Milliseconds with one decimal: what a person compares.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}

/// What the libraries below may say at most.
const LIBRARIES: LevelFilter = LevelFilter::WARN;
/// The target of access-log lines.
const ACCESS: &str = concat!(env!("CARGO_PKG_NAME"), "::access");

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: LevelFilter, work: impl FnOnce()) -> String {
        let lines = Lines::default();
        let written = lines.clone();
        let subscriber = tracing_subscriber::registry()
            .with(fmt::layer().with_ansi(false).with_writer(move || written.clone()).with_filter(level));
        tracing::subscriber::with_default(subscriber, work);
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn what_comes_with_every_refusal_is_not_at_info() {
        let lane: Arc<str> = "a".into();
        let refused = || {
            event(&Event::LaneMade { lane: Arc::clone(&lane) });
            for _ in 0..3 {
                event(&Event::Throttled {
                    lane: Arc::clone(&lane),
                    retry_after_seconds: Some(1.0),
                    per: crate::control::Level::Route,
                });
                event(&Event::Paused { lane: Arc::clone(&lane), seconds: 1.0 });
            }
        };
        let (info, debug) = (logged(LevelFilter::INFO, refused), logged(LevelFilter::DEBUG, refused));
        assert_eq!((info.lines().count(), debug.lines().count()), (1, 7), "{info}{debug}");
        assert_eq!(debug.matches("holds back").count(), 3);
    }
}
