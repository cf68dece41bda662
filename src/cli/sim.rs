//! `tidegate sim`: the flags of the simulated API, and the [`SimSettings`] that they mean.

use super::run::address;
use crate::config::duration;
use crate::control::{Quota, QuotaError};
use crate::sim::{KeyBy, ModelName, RetryAfter, SimSettings};
use clap::Args;
use std::net::SocketAddr;
use std::time::Duration;

/// Be a rate-limited API, shaped like Genesys Cloud, to try things on
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Sim {
    /// Where it listens; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081", value_parser = address)]
    listen: SocketAddr,
    /// What it allows; several times: all must admit; "none": everything
    #[arg(long = "limit", value_name = "RATE", default_value = "10/s", value_parser = limit)]
    limits: Vec<Limit>,
    /// How it counts: fixed (windows on a grid in time) or anchored (a window opens with its first request)
    #[arg(long, value_name = "MODEL", default_value = "fixed")]
    model: ModelName,
    /// Shifts the windows of --model fixed against the start
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    phase: Duration,
    /// Who shares a limit: token (each Authorization has its own) or none (all share one)
    #[arg(long, value_name = "KEY", default_value = "token")]
    key: KeyBy,
    /// Paths that start so are limited, others are free
    #[arg(long, value_name = "PREFIX", default_value = "/")]
    path: String,
    /// What a 429 tells: whole seconds, reset (when the window ends) or none (no such header)
    #[arg(long, value_name = "WHAT", default_value = "1")]
    retry_after: RetryAfter,
    /// From a request's arrival to its answer
    #[arg(long, value_name = "TIME", default_value = "40ms", value_parser = duration)]
    latency: Duration,
    /// Mean of what is added to the latency at random
    #[arg(long, value_name = "TIME", default_value = "8ms", value_parser = duration)]
    jitter: Duration,
    /// Seeds what is random
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    seed: u64,
}

/// One `--limit`.
#[derive(Clone, Copy, Debug)]
enum Limit {
    Of(Quota),
    None,
}

impl Sim {
    pub(super) fn meant(self) -> SimSettings {
        let quota = |limit| match limit {
            Limit::Of(quota) => Some(quota),
            Limit::None => None,
        };
        SimSettings {
            listen: self.listen,
            limits: self.limits.into_iter().filter_map(quota).collect(),
            model: self.model,
            phase: self.phase,
            key: self.key,
            path: self.path,
            retry_after: self.retry_after,
            latency: self.latency,
            jitter: self.jitter,
            seed: self.seed,
        }
    }
}

fn limit(text: &str) -> Result<Limit, QuotaError> {
    if text == "none" { Ok(Limit::None) } else { text.parse().map(Limit::Of) }
}

const EXAMPLES: &str = "\
Examples:
  tidegate sim                                        10 a second, then 429 with Retry-After: 1
  tidegate sim --limit 300/min --model anchored --retry-after reset
  tidegate sim --limit 10/s --path /api/v2/conversations/messages
  curl -s http://127.0.0.1:8081/__sim/stats           an exact account of what it saw
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Action, parse};

    fn sim(args: &str) -> SimSettings {
        match parse(format!("tidegate sim {args}").split_whitespace().map(Into::into)).unwrap() {
            Action::Sim(settings) => settings,
            _ => unreachable!(),
        }
    }

    #[test]
    fn without_flags_it_is_the_api_of_the_founding_problem() {
        assert_eq!(sim(""), SimSettings::default());
    }

    #[test]
    fn flags_mean_what_they_say() {
        let settings =
            sim("--listen 127.0.0.1:0 --limit 10/s --limit 300/min --model anchored --phase 250ms \
             --key none --path /api --retry-after reset --latency 60ms --jitter 0ms --seed 7");
        assert_eq!(settings.listen.port(), 0);
        let limits: Vec<_> = settings.limits.iter().map(ToString::to_string).collect();
        assert_eq!(limits, ["10/s", "300/min"]);
        assert_eq!((settings.model, settings.key), (ModelName::Anchored, KeyBy::None));
        assert_eq!((settings.retry_after, settings.path.as_str()), (RetryAfter::Reset, "/api"));
        assert_eq!((settings.latency, settings.jitter), (Duration::from_millis(60), Duration::ZERO));
        assert_eq!((settings.phase, settings.seed), (Duration::from_millis(250), 7));
        assert!(sim("--limit none").limits.is_empty());
    }
}
