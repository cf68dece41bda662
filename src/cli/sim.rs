//! `tidegate sim`: the flags of the simulated API, and the [`SimSettings`] that they mean.

use super::run::{address, own_state_dir};
use crate::config::duration;
use crate::control::{Quota, QuotaError, Rate};
use crate::sim::limits::Change;
use crate::sim::{HeaderForm, KeyBy, ModelName, RetryAfter, SimSettings, others_rate};
use clap::Args;
use clap::error::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Be a rate-limited API, shaped like Genesys Cloud, to try things on
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Sim {
    /// Where it listens; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081", value_parser = address)]
    listen: SocketAddr,
    /// Speak HTTPS, with a certificate made at the start; the greeting says in which file it is
    #[arg(long)]
    tls: bool,
    /// What it allows; several times: all must admit; "none": everything; a plain number with --model concurrency
    #[arg(long = "limit", value_name = "RATE", default_value = "10/s", value_parser = limit)]
    limits: Vec<Limit>,
    /// How it counts: fixed (windows on a grid in time), anchored (a window opens with its first request), sliding
    /// (the last window, wherever it starts), bucket (tokens that refill evenly) or concurrency (requests under way)
    #[arg(long, value_name = "MODEL", default_value = "fixed")]
    model: ModelName,
    /// How many requests the bucket of --model bucket holds, whatever --change does [default: its limit's]
    #[arg(long, value_name = "REQUESTS", value_parser = clap::value_parser!(u32).range(1..))]
    burst: Option<u32>,
    /// Shifts the windows of --model fixed against the start
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    phase: Duration,
    /// Moves the limit so long after the start, such as 60s=5/s; may be given several times
    #[arg(long = "change", value_name = "TIME=RATE", value_parser = moved)]
    changes: Vec<Moved>,
    /// An unseen tenant that spends of each limit so often, such as 1.5/s or 90/min
    #[arg(long, value_name = "RATE", value_parser = others_rate)]
    others: Option<Rate>,
    /// Who shares a limit: token (each Authorization has its own) or none (all share one)
    #[arg(long, value_name = "KEY", default_value = "token")]
    key: KeyBy,
    /// Paths that start so are limited, others are free
    #[arg(long, value_name = "PREFIX", default_value = "/", value_parser = path)]
    path: String,
    /// What a 429 tells: whole seconds, reset (seconds until the window ends), date (the same as an HTTP-date) or
    /// none (no such header)
    #[arg(long, value_name = "WHAT", default_value = "1")]
    retry_after: RetryAfter,
    #[arg(long, value_name = "FORM", default_value = "none", help = HEADERS)]
    headers: HeaderForm,
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
    AtOnce(u32),
    None,
}

/// One `--change`.
#[derive(Clone, Copy, Debug)]
struct Moved {
    after: Duration,
    to: Limit,
}

impl Sim {
    pub(super) fn meant(self) -> Result<SimSettings, clap::Error> {
        self.consistent()?;
        let limits = self.limits.iter().map(|limit| self.quota("--limit ", *limit));
        let limits: Vec<Quota> = limits.filter_map(Result::transpose).collect::<Result<_, _>>()?;
        let changes = self.changes.iter().map(|change| self.change(*change));
        let changes: Vec<Change> = changes.filter_map(Result::transpose).collect::<Result<_, _>>()?;
        if !changes.is_empty() && limits.len() != 1 {
            let why = "--change moves the limit, so there must be just one --limit: write for example --limit 10/s \
                       --change 60s=5/s";
            return Err(wrong(ErrorKind::ArgumentConflict, why));
        }
        Ok(SimSettings {
            listen: self.listen,
            tls: if self.tls { Some(folder()?) } else { None },
            limits,
            changes,
            others: self.others,
            model: self.model,
            phase: self.phase,
            burst: self.burst,
            key: self.key,
            path: self.path,
            retry_after: self.retry_after,
            headers: self.headers,
            latency: self.latency,
            jitter: self.jitter,
            seed: self.seed,
        })
    }

    /// Flags that belong to one model are told, not dropped, with another.
    fn consistent(&self) -> Result<(), clap::Error> {
        let model = self.model;
        let why = if self.burst.is_some() && model != ModelName::Bucket {
            format!(
                "--burst is what a bucket holds, and --model {model} has none: add --model bucket, or leave --burst out"
            )
        } else if !self.phase.is_zero() && model != ModelName::Fixed {
            format!(
                "--phase shifts windows on a grid, and --model {model} has none: add --model fixed, or leave --phase out"
            )
        } else if self.others.is_some() && model == ModelName::Concurrency {
            "--others asks at a rate, and --model concurrency counts requests under way: leave --others out, or choose \
             another model, such as --model fixed"
                .to_owned()
        } else if self.others.is_some() && self.limits.iter().all(|limit| matches!(limit, Limit::None)) {
            "--others spends of limits, and --limit none has none: leave --others out, or set a limit, such as --limit \
             10/s"
                .to_owned()
        } else {
            return Ok(());
        };
        Err(wrong(ErrorKind::ArgumentConflict, &why))
    }

    /// What a limit allows; none: everything. `flag` is what stands before it on the command line.
    fn quota(&self, flag: &str, limit: Limit) -> Result<Option<Quota>, clap::Error> {
        let why = match (limit, self.model) {
            (Limit::None, _) => return Ok(None),
            (Limit::AtOnce(requests), ModelName::Concurrency) => {
                return Ok(Some(Quota { requests, window: Duration::from_secs(1) }));
            }
            (Limit::Of(quota), ModelName::Concurrency) => format!(
                "--model concurrency counts requests under way, and {quota} is a rate: write a plain number, such as \
                 {flag}{}",
                quota.requests
            ),
            (Limit::Of(quota), _) => return Ok(Some(quota)),
            (Limit::AtOnce(requests), _) => format!(
                "{flag}{requests} does not say in what time: write a rate, such as {flag}{requests}/s, or add --model \
                 concurrency for so many at once"
            ),
        };
        Err(wrong(ErrorKind::ValueValidation, &why))
    }

    fn change(&self, change: Moved) -> Result<Option<Change>, clap::Error> {
        let flag = format!("--change {}s=", change.after.as_secs_f64());
        let quota = self.quota(&flag, change.to)?;
        Ok(quota.map(|quota| Change { at_seconds: change.after.as_secs_f64(), quota }))
    }
}

fn limit(text: &str) -> Result<Limit, QuotaError> {
    if text == "none" {
        return Ok(Limit::None);
    }
    // As many as a quota may have, so that both are bounded alike.
    match format!("{text}/s").parse::<Quota>() {
        Ok(quota) => Ok(Limit::AtOnce(quota.requests)),
        Err(_) => text.parse().map(Limit::Of),
    }
}

fn path(text: &str) -> Result<String, String> {
    if text.starts_with('/') {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "every path begins with a slash, so none begins with {text:?}: write for example \"/api\""
        ))
    }
}

fn moved(text: &str) -> Result<Moved, String> {
    let advice = || "write when and to what, such as \"60s=5/s\" or \"2m=300/min\"";
    let (after, to) =
        text.split_once('=').ok_or_else(|| format!("{text:?} is not a change: {}", advice()))?;
    let after = duration(after).map_err(|error| error.to_string())?;
    match limit(to).map_err(|error| error.to_string())? {
        Limit::None => Err(format!("{text:?} moves the limit away: {}", advice())),
        to => Ok(Moved { after, to }),
    }
}

/// Where the certificate goes.
fn folder() -> Result<PathBuf, clap::Error> {
    let why = "--tls writes its certificate below the home, and there is none: set HOME or XDG_STATE_HOME";
    own_state_dir().ok_or_else(|| wrong(ErrorKind::Io, why))
}

fn wrong(kind: ErrorKind, why: &str) -> clap::Error {
    super::wrong("sim", kind, why)
}

const HEADERS: &str = "How limited answers announce the limits: genesys (inin-ratelimit-count, -allowed, -reset), \
                       ietf (RateLimit-Policy, RateLimit), x-ratelimit (X-RateLimit-Limit, -Remaining, -Reset) or none";

const EXAMPLES: &str = "\
Examples:
  tidegate sim                                        10 a second, then 429 with Retry-After: 1
  tidegate sim --limit 300/min --model anchored --retry-after reset --headers genesys
  tidegate sim --limit 10/s --path /api/v2/conversations/messages
  tidegate sim --limit 240/30s --model sliding --headers ietf --retry-after date
  tidegate sim --limit 10/s --model bucket --burst 20 --headers x-ratelimit
  tidegate sim --limit 10 --model concurrency --latency 500ms
  tidegate sim --limit 300/min --others 1.5/s         somebody else spends of the same limit
  tidegate sim --limit 10/s --change 60s=5/s --change 120s=20/s
  tidegate sim --tls                                  HTTPS; the greeting tells what to trust
  curl -s http://127.0.0.1:8081/__sim/stats           an exact account of what it saw
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Action, parse};

    fn sim(args: &str) -> SimSettings {
        match parse(format!("tidegate sim {args}").split_whitespace().map(Into::into)).unwrap() {
            Action::Sim(settings) => *settings,
            _ => unreachable!(),
        }
    }

    #[test]
    fn without_flags_it_is_the_api_of_the_founding_problem() {
        assert_eq!(sim(""), SimSettings::default());
    }

    #[test]
    fn flags_mean_what_they_say() {
        let settings = sim("--listen 127.0.0.1:0 --limit 10/s --limit 300/min --model fixed --phase 250ms \
             --key none --path /api --retry-after reset --latency 60ms --jitter 0ms --seed 7");
        assert_eq!(settings.listen.port(), 0);
        let limits: Vec<_> = settings.limits.iter().map(ToString::to_string).collect();
        assert_eq!(limits, ["10/s", "300/min"]);
        assert_eq!((settings.model, settings.key), (ModelName::Fixed, KeyBy::None));
        assert_eq!((settings.retry_after, settings.path.as_str()), (RetryAfter::Reset, "/api"));
        assert_eq!((settings.latency, settings.jitter), (Duration::from_millis(60), Duration::ZERO));
        assert_eq!((settings.phase, settings.seed), (Duration::from_millis(250), 7));
        assert!(sim("--limit none").limits.is_empty());
    }

    #[test]
    fn what_would_have_no_effect_is_told() {
        for (args, word) in [
            ("--path api", "\"/api\""),
            ("--path http://127.0.0.1/api", "begins with a slash"),
            ("--limit none --others 1/s", "leave --others out"),
            ("--limit none --limit none --others 1/s", "leave --others out"),
            ("--limit 7 --model concurrency --others 1/s", "leave --others out"),
            ("--limit 10/s --burst 5", "leave --burst out"),
        ] {
            let typed = format!("tidegate sim {args}");
            let said = parse(typed.split_whitespace().map(Into::into)).unwrap_err().to_string();
            assert!(said.contains(word), "{args}: {said}");
        }
        assert!(sim("--limit none --limit 10/s --others 1/s").others.is_some());
    }

    #[test]
    fn each_model_has_its_flags() {
        let bucket = sim("--limit 10/s --model bucket --burst 20 --headers x-ratelimit --retry-after date");
        assert_eq!((bucket.model, bucket.burst), (ModelName::Bucket, Some(20)));
        assert_eq!((bucket.headers, bucket.retry_after), (HeaderForm::XRateLimit, RetryAfter::Date));
        let at_once = sim("--limit 7 --model concurrency --change 1m=9");
        assert_eq!(
            (at_once.allowed_at(59.0), at_once.allowed_at(60.0)),
            (vec!["7 at once".into()], vec!["9 at once".into()])
        );
        let moving = sim("--limit 10/s --change 2m=20/s --change 1500ms=300/min --others 90/min");
        assert_eq!(moving.others, Some(Rate::new(1.5)));
        for (now, allowed) in [(1.4, "10/s"), (1.5, "300/min"), (119.9, "300/min"), (120.0, "20/s")] {
            assert_eq!(moving.allowed_at(now), [allowed], "{now}");
        }
        assert_eq!(sim("--limit 240/30s --model sliding --headers ietf").headers, HeaderForm::Ietf);
        assert!(sim("--tls").tls.is_some_and(|folder| folder.ends_with("tidegate")));
    }
}
