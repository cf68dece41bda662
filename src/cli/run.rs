//! `tidegate run` and `tidegate check`: the flags of the proxy, and the [`Config`](crate::config::Config) that they
//! come to.

pub(super) use crate::config::address;

use crate::config::{ConfigProblems, Flag, Loaded, Sources, load};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// What the proxy is to do. Flags that are not typed leave a file's values alone, so none has a default here; what is
/// said of defaults is tested against those that run.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// A TOML file; config/default.toml has every key. Flags go over it
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Where requests go: http:// or https://, host, and port if it is not the scheme's own. With a file, its default
    /// upstream
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    /// Certificates (PEM) that are trusted beside the system's, for an API with a private CA
    #[arg(long, value_name = "FILE")]
    upstream_ca: Option<String>,
    /// Where clients connect; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// The certificate (PEM) that clients see, those of its CAs after it: they speak TLS then. Taken anew when it changes
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<String>,
    /// The certificate's key (PEM), which only you can read
    #[arg(long, value_name = "FILE")]
    tls_key: Option<String>,
    /// Where metrics and health are; port 0 takes a free one [default: 127.0.0.1:9464]
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    /// A file that only you can read, with the bearer token that changes of lanes need; without it, they come from
    /// this machine alone
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<String>,
    /// How the pace is found [default: learnt]
    #[arg(long, value_enum)]
    law: Option<Law>,
    /// Whether anything is held back [default: adaptive]
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// The pace of --law fixed, such as 10/s or 300/min
    #[arg(long, value_name = "RATE")]
    rate: Option<String>,
    /// No lane goes faster than this, such as 300/min: spread evenly, whatever the API would take
    #[arg(long, value_name = "RATE")]
    ceiling: Option<String>,
    /// How often about one refused call is paid to learn of a raised limit, from 5s to 1h [default: 45s]
    #[arg(long, value_name = "TIME")]
    probe_period: Option<String>,
    /// How much less is used than was learnt or announced, from 0% to 50% [default: 0%]
    #[arg(long, value_name = "SHARE")]
    headroom: Option<String>,
    /// What is sent again after a 429: it says that nothing was done, so a replay repeats nothing [default: all]
    #[arg(long, value_name = "METHODS", value_enum)]
    replay_on_429: Option<Replay>,
    /// The longest that a request may wait in queues before it is answered 503 [default: 2m]
    #[arg(long, value_name = "TIME")]
    queue_deadline: Option<String>,
    /// How long SIGTERM waits for queued requests to be served; answers on their way get 5 s more [default: 30s]
    #[arg(long, value_name = "TIME")]
    grace: Option<String>,
    /// How much is logged to stderr [default: info]
    #[arg(long, value_name = "LEVEL", value_enum)]
    log: Option<Level>,
    /// How a log line looks [default: text]
    #[arg(long, value_name = "FORMAT", value_enum)]
    log_format: Option<Format>,
    #[arg(long, value_name = "DIR", help = STATE_DIR)]
    state_dir: Option<String>,
}

impl Run {
    /// The configuration that these flags and their file come to.
    pub(super) fn meant(self) -> Result<Loaded, ConfigProblems> {
        let said = [
            ("--upstream", "upstream", "url", self.upstream),
            ("--upstream-ca", "upstream", "ca_file", self.upstream_ca),
            ("--listen", "listen", "address", self.listen),
            ("--tls-cert", "listen.tls", "cert_file", self.tls_cert),
            ("--tls-key", "listen.tls", "key_file", self.tls_key),
            ("--admin", "admin", "address", self.admin),
            ("--admin-token-file", "admin", "token_file", self.admin_token_file),
            ("--law", "law", "name", name(self.law)),
            ("--mode", "law", "mode", name(self.mode)),
            ("--rate", "law", "rate", self.rate),
            ("--ceiling", "law", "ceiling", self.ceiling),
            ("--probe-period", "law", "probe_period", self.probe_period),
            ("--headroom", "law", "headroom", self.headroom),
            ("--replay-on-429", "replay", "on_429", name(self.replay_on_429)),
            ("--queue-deadline", "queue", "deadline", self.queue_deadline),
            ("--grace", "drain", "grace", self.grace),
            ("--log", "log", "level", name(self.log)),
            ("--log-format", "log", "format", name(self.log_format)),
            ("--state-dir", "", "state_dir", self.state_dir),
        ];
        let flags = said
            .into_iter()
            .filter_map(|(flag, table, key, value)| Some(Flag { flag, table, key, value: value? }));
        load(&Sources { file: self.config, flags: flags.collect(), state_dir: own_state_dir() })
    }
}

/// The word that was typed.
fn name(typed: Option<impl ValueEnum>) -> Option<String> {
    Some(typed?.to_possible_value()?.get_name().to_owned())
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
enum Mode {
    /// Pace, queue, and send refused requests again
    Adaptive,
    /// A dry run: everything passes at once, and lanes only say what they would set
    Observe,
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

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// As the XDG base directory specification has it: a relative path does not count.
#[expect(clippy::disallowed_methods, reason = "the command line is the one door for configuration")]
pub(super) fn own_state_dir() -> Option<PathBuf> {
    let directory = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = directory("XDG_STATE_HOME").or_else(|| Some(directory("HOME")?.join(".local/state")))?;
    Some(state.join("tidegate"))
}

const STATE_DIR: &str = "Where the key that names credentials and what was learnt are kept [default: \
                         $XDG_STATE_HOME/tidegate or ~/.local/state/tidegate]";

pub(super) const EXAMPLES: &str = "\
Examples:
  tidegate run --upstream https://api.mypurecloud.com
  tidegate run --config config/genesys.toml
  tidegate run --upstream http://127.0.0.1:9000 --listen 127.0.0.1:0 --admin 127.0.0.1:0
  tidegate run --upstream https://api.mypurecloud.com --ceiling 300/min
  tidegate run --upstream https://api.mypurecloud.com --mode observe
  tidegate run --upstream https://api.mypurecloud.com --law fixed --rate 300/min
  tidegate run --upstream https://api.internal --upstream-ca own-ca.pem
  tidegate run --upstream https://api.mypurecloud.com --tls-cert cert.pem --tls-key key.pem
  tidegate run --upstream https://api.mypurecloud.com --log debug --log-format json

SIGTERM and SIGINT drain: no new connections, what can be sent within --grace is sent at the paced rate, the rest is \
answered 503 with Retry-After, and the exit code is 0. A second signal ends at once.
";

pub(super) const CHECK_EXAMPLES: &str = "\
Examples:
  tidegate check --config config/genesys.toml
  tidegate check --config tidegate.toml --upstream http://127.0.0.1:9000
  tidegate check --upstream https://api.mypurecloud.com > tidegate.toml

What it prints is a file that gives the same configuration, with every key. Exit codes: 0 it is right, 2 it is not: \
every mistake is printed with its line. A token file is read, certificates are first opened by `tidegate run`.
";

#[cfg(test)]
mod tests {
    use crate::cli::{Action, Typed, parse};
    use crate::config::{Config, LogFormat, LogLevel, LogSettings, ReplayPolicy};
    use crate::control::{LawName, Quota, Rate};
    use clap::CommandFactory;
    use std::time::Duration;

    fn run(args: &str) -> Config {
        let line = format!("tidegate run --upstream https://api.example.com {args}");
        match parse(line.split_whitespace().map(Into::into)).unwrap() {
            Action::Run(config, _) => *config,
            _ => unreachable!(),
        }
    }

    #[test]
    fn an_upstream_is_enough() {
        let mut config = run("");
        assert!(config.state_dir.take().is_some());
        assert_eq!(config, Config::new("https://api.example.com".parse().unwrap()));
    }

    #[test]
    fn flags_mean_what_they_say() {
        let config = run(
            "--listen 127.0.0.1:0 --admin [::1]:9 --law fixed --rate 300/min --grace 5s --ceiling 600/min \
             --probe-period 2m --upstream-ca ca.pem \
             --queue-deadline 2m --replay-on-429 idempotent --log debug --log-format json --state-dir /s",
        );
        assert_eq!(config.listen.port(), 0);
        assert_eq!(config.admin.to_string(), "[::1]:9");
        assert_eq!(config.lanes.law.name, LawName::Fixed);
        assert_eq!(config.lanes.law.fixed_rate, Rate::new(5.0));
        let ceiling = Quota { requests: 600, window: Duration::from_mins(1) };
        assert_eq!(config.lanes.ceiling, Some(ceiling));
        assert!((config.lanes.law.probe_period_seconds - 120.0).abs() < 1e-9);
        assert_eq!(config.grace, Duration::from_secs(5));
        assert_eq!(config.proxy.replay_on_429, ReplayPolicy::Idempotent);
        assert_eq!(config.state_dir.as_deref().unwrap().to_str(), Some("/s"));
        assert_eq!(config.log, LogSettings { level: LogLevel::Debug, format: LogFormat::Json });
        let ca = config.default_upstream().ca.clone().unwrap();
        assert!(ca.is_absolute() && ca.ends_with("ca.pem"), "{ca:?}");
    }

    #[test]
    fn help_tells_the_defaults_that_run() {
        let mut typed = Typed::command();
        let help = typed.find_subcommand_mut("run").unwrap().render_help().to_string();
        let config = Config::new("http://h".parse().unwrap());
        let told = |flag: &str| {
            let of_flag =
                help.split(&format!("--{flag} ")).nth(1).unwrap().split("\n      --").next().unwrap();
            let words = of_flag.split_whitespace().collect::<Vec<_>>().join(" ");
            words.split("[default: ").nth(1).unwrap().split(']').next().unwrap().to_owned()
        };
        assert_eq!(told("listen"), config.listen.to_string());
        assert_eq!(told("admin"), config.admin.to_string());
        for (flag, default) in [("queue-deadline", config.lanes.queue.deadline), ("grace", config.grace)] {
            assert_eq!(crate::config::duration(&told(flag)), Ok(default), "{flag}");
        }
        let probe = crate::config::duration(&told("probe-period")).unwrap().as_secs_f64();
        assert!((probe - config.lanes.law.probe_period_seconds).abs() < 1e-9);
        for (flag, default) in [
            ("law", "learnt"),
            ("mode", "adaptive"),
            ("replay-on-429", "all"),
            ("log", "info"),
            ("log-format", "text"),
        ] {
            assert_eq!(told(flag), default, "{flag}");
            assert_eq!(run(&format!("--{flag} {default} --state-dir /s")), run("--state-dir /s"), "{flag}");
        }
    }
}
