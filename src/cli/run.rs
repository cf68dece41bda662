//! `tidegate run`: the flags of the proxy, and the [`Config`] that they mean.

use crate::config::{Config, ReplayPolicy, Upstream, UpstreamError, duration};
use crate::control::{LawName, Quota};
use crate::telemetry::{LogFormat, LogLevel, LogSettings};
use clap::error::ErrorKind;
use clap::{Args, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Be the proxy: learn the API's limit, queue and pace what goes out
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Run {
    /// Where requests go: http:// or https://, host, and port if it is not the scheme's own
    #[arg(long, value_name = "URL")]
    upstream: String,
    /// Where clients connect; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = address)]
    listen: SocketAddr,
    /// Where metrics and health are; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9464", value_parser = address)]
    admin: SocketAddr,
    /// How the pace is found
    #[arg(long, value_enum, default_value = "learnt")]
    law: Law,
    /// The pace of --law fixed, such as 10/s or 300/min
    #[arg(long, value_name = "RATE")]
    rate: Option<Quota>,
    /// What is sent again after a 429: it says that nothing was done, so a replay repeats nothing
    #[arg(long, value_name = "METHODS", value_enum, default_value = "all")]
    replay_on_429: Replay,
    /// The longest that a request may wait in queues before it is answered 503
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = duration)]
    queue_deadline: Duration,
    /// How long SIGTERM waits for queued requests to be served; answers on their way get 5 s more
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    grace: Duration,
    /// How much is logged to stderr
    #[arg(long, value_name = "LEVEL", value_enum, default_value = "info")]
    log: Level,
    /// How a log line looks
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "text")]
    log_format: Format,
    #[arg(long, value_name = "DIR", help = STATE_DIR)]
    state_dir: Option<PathBuf>,
}

impl Run {
    pub(super) fn meant(self) -> Result<(Config, LogSettings), clap::Error> {
        // Not by clap, whose message would repeat the URL and a password in it.
        let upstream: Upstream = self
            .upstream
            .parse()
            .map_err(|error: UpstreamError| wrong(ErrorKind::ValueValidation, &error.to_string()))?;
        let mut config = Config::new(upstream);
        config.lanes.law.name = match (self.law, self.rate) {
            (Law::Learnt, None) => LawName::Learnt,
            (Law::Aimd, None) => LawName::Aimd,
            (Law::Fixed, Some(rate)) => {
                config.lanes.law.fixed_rate = rate.rate();
                LawName::Fixed
            }
            (Law::Fixed, None) => {
                let why = "--law fixed needs a pace: add for example --rate 10/s";
                return Err(wrong(ErrorKind::MissingRequiredArgument, why));
            }
            (Law::Learnt | Law::Aimd, Some(_)) => {
                let why = "--rate goes with --law fixed only, because the other laws find the pace themselves: add \
                           --law fixed, or leave --rate out";
                return Err(wrong(ErrorKind::ArgumentConflict, why));
            }
        };
        config.listen = self.listen;
        config.admin = self.admin;
        config.grace = self.grace;
        config.lanes.queue.deadline = self.queue_deadline;
        config.proxy.replay_on_429 = match self.replay_on_429 {
            Replay::All => ReplayPolicy::All,
            Replay::Idempotent => ReplayPolicy::Idempotent,
            Replay::None => ReplayPolicy::None,
        };
        config.state_dir = self.state_dir.or_else(own_state_dir);
        Ok((config, LogSettings { level: self.log.meant(), format: self.log_format.meant() }))
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Law {
    /// Find the limit and stay at it
    Learnt,
    /// Additive increase, multiplicative decrease
    Aimd,
    /// The pace that --rate says
    Fixed,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Replay {
    /// Every method
    All,
    /// GET, HEAD, OPTIONS, TRACE, PUT and DELETE
    Idempotent,
    /// Nothing: every 429 goes to the client
    None,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Level {
    /// What someone has to repair
    Error,
    /// What may need a person's eye
    Warn,
    /// What the program does and learns
    Info,
    /// One line per request as well
    Debug,
    /// One line per try at the upstream as well
    Trace,
}

impl Level {
    fn meant(self) -> LogLevel {
        match self {
            Self::Error => LogLevel::Error,
            Self::Warn => LogLevel::Warn,
            Self::Info => LogLevel::Info,
            Self::Debug => LogLevel::Debug,
            Self::Trace => LogLevel::Trace,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
}

impl Format {
    fn meant(self) -> LogFormat {
        match self {
            Self::Text => LogFormat::Text,
            Self::Json => LogFormat::Json,
        }
    }
}

/// Reads `127.0.0.1:8080`, and says how one looks when it is not one.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("{text:?} is not an address: write an IP address and a port, such as 127.0.0.1:8080, 0.0.0.0:8080 or [::1]:0")
    })
}

/// As the XDG base directory specification has it: a relative path does not count.
#[expect(clippy::disallowed_methods, reason = "the command line is the one door for configuration")]
pub(super) fn own_state_dir() -> Option<PathBuf> {
    let directory = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = directory("XDG_STATE_HOME").or_else(|| Some(directory("HOME")?.join(".local/state")))?;
    Some(state.join("tidegate"))
}

fn wrong(kind: ErrorKind, why: &str) -> clap::Error {
    super::wrong("run", kind, why)
}

const STATE_DIR: &str = "Where the key that names credentials is kept [default: $XDG_STATE_HOME/tidegate or \
                         ~/.local/state/tidegate]";

const EXAMPLES: &str = "\
Examples:
  tidegate run --upstream https://api.mypurecloud.com
  tidegate run --upstream http://127.0.0.1:9000 --listen 127.0.0.1:0 --admin 127.0.0.1:0
  tidegate run --upstream https://api.mypurecloud.com --law fixed --rate 300/min
  tidegate run --upstream https://api.mypurecloud.com --log debug --log-format json

SIGTERM and SIGINT drain: no new connections, what can be sent within --grace is sent at the paced rate, the rest is \
answered 503 with Retry-After, and the exit code is 0. A second signal ends at once.
";

#[cfg(test)]
mod tests {
    use crate::cli::{Action, parse};
    use crate::config::{Config, ReplayPolicy};
    use crate::control::{LawName, Rate};
    use crate::telemetry::{LogFormat, LogLevel, LogSettings};
    use std::time::Duration;

    fn run(args: &str) -> (Config, LogSettings) {
        let line = format!("tidegate run --upstream https://api.example.com {args}");
        match parse(line.split_whitespace().map(Into::into)).unwrap() {
            Action::Run(config, logs) => (*config, logs),
            _ => unreachable!(),
        }
    }

    #[test]
    fn an_upstream_is_enough() {
        let (config, logs) = run("");
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(config.admin.to_string(), "127.0.0.1:9464");
        assert_eq!(config.grace, Duration::from_secs(30));
        assert_eq!(config.lanes.queue.deadline, Duration::from_mins(2));
        assert_eq!(config.proxy.replay_on_429, ReplayPolicy::All);
        assert_eq!(config.lanes.law.name, LawName::Learnt);
        assert_eq!(logs, LogSettings::default());
    }

    #[test]
    fn flags_mean_what_they_say() {
        let (config, logs) =
            run("--listen 127.0.0.1:0 --admin [::1]:9 --law fixed --rate 300/min --grace 5s \
             --queue-deadline 2m --replay-on-429 idempotent --log debug --log-format json --state-dir /s");
        assert_eq!(config.listen.port(), 0);
        assert_eq!(config.admin.to_string(), "[::1]:9");
        assert_eq!(config.lanes.law.name, LawName::Fixed);
        assert_eq!(config.lanes.law.fixed_rate, Rate::new(5.0));
        assert_eq!(config.grace, Duration::from_secs(5));
        assert_eq!(config.proxy.replay_on_429, ReplayPolicy::Idempotent);
        assert_eq!(config.state_dir.unwrap().to_str(), Some("/s"));
        assert_eq!(logs, LogSettings { level: LogLevel::Debug, format: LogFormat::Json });
    }
}
