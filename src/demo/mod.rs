//! What does Tidegate do for me? One process shows it: an API with a limit, callers without and with Tidegate between.

mod load;
mod progress;
mod report;
mod tidegate;

use crate::control::Quota;
use crate::gate::clock;
use crate::sim::{KeyBy, ModelName, RetryAfter, Sim, SimAccount, SimSettings, Stats};
use anyhow::Context;
use load::Load;
use progress::{Progress, TICK};
use report::{Phase, Report, grouped};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tidegate::Tidegate;
use tokio::task::JoinSet;

/// What is played.
#[derive(Clone, Debug)]
struct Plan {
    limit: Quota,
    latency: Duration,
    jitter: Duration,
    sessions: usize,
    direct: Duration,
    /// Between the two, so that the second does not pay for the first one's spent window.
    rest: Duration,
    through: Duration,
    /// From when on the second part's use of the limit is counted.
    settled_after: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            limit: Quota { requests: 10, window: Duration::from_secs(1) },
            latency: Duration::from_millis(40),
            jitter: Duration::from_millis(8),
            sessions: 100,
            direct: Duration::from_secs(8),
            rest: Duration::from_secs(1),
            through: Duration::from_secs(36),
            settled_after: Duration::from_secs(20),
        }
    }
}

impl Plan {
    fn api(&self) -> SimSettings {
        SimSettings {
            listen: free_port(),
            limits: vec![self.limit],
            model: ModelName::Fixed,
            key: KeyBy::None,
            retry_after: RetryAfter::Seconds(1),
            latency: self.latency,
            jitter: self.jitter,
            ..SimSettings::default()
        }
    }
}

/// Plays the demo, about 45 s. Progress goes to stderr; the outcome to stdout, as a table or as JSON.
///
/// # Errors
/// When no port can be had, or stdout is closed.
pub async fn run(json: bool) -> anyhow::Result<()> {
    let report = play(&Plan::default(), &mut Progress::on_stderr()).await?;
    let text = if json { serde_json::to_string(&report.wire())? + "\n" } else { format!("\n{report}") };
    io::stdout().lock().write_all(text.as_bytes()).context("cannot write the outcome to stdout")
}

async fn play(plan: &Plan, progress: &mut Progress<impl Write>) -> anyhow::Result<Report> {
    let sim = Sim::bind(plan.api()).await.context("no free port for the simulated API")?;
    let (api, account) = (sim.address(), sim.account());
    let mut tasks = JoinSet::new();
    tasks.spawn(sim.serve(std::future::pending()));

    let stage =
        Stage { name: "straight to the API", target: api, lasts: plan.direct, settled: Duration::ZERO };
    let direct = stage.play(plan, &account, progress, String::new).await;
    tokio::time::sleep(plan.rest).await;

    let tidegate = Tidegate::start(api)?;
    let stage = Stage {
        name: "through Tidegate",
        target: tidegate.address(),
        lasts: plan.through,
        settled: plan.settled_after,
    };
    let through = stage.play(plan, &account, progress, || tidegate.says()).await;
    let learnt = tidegate.learnt();
    drop(tidegate);

    Ok(Report {
        limit: plan.limit,
        sessions: plan.sessions,
        direct,
        through,
        settled_after: plan.settled_after,
        learnt,
    })
}

/// One way to call the API.
struct Stage {
    name: &'static str,
    target: SocketAddr,
    lasts: Duration,
    /// From when on the use of the limit is counted.
    settled: Duration,
}

impl Stage {
    async fn play(
        &self,
        plan: &Plan,
        account: &SimAccount,
        progress: &mut Progress<impl Write>,
        says: impl Fn() -> String,
    ) -> Phase {
        account.reset();
        let start = clock::now();
        let began_seconds = account.stats().now_seconds;
        let load = Load::start(self.target, plan.sessions);
        loop {
            let now = clock::now();
            let left = (start + self.lasts).saturating_duration_since(now);
            if left.is_zero() {
                break;
            }
            progress.show(now, &self.line(self.lasts.saturating_sub(left), load.counts(), &says()));
            tokio::time::sleep(left.min(TICK)).await;
        }
        let (stats, callers) = (account.stats(), load.tally());
        progress.finish(&self.line(self.lasts, load.counts(), &says()));
        Phase {
            lasted: self.lasts,
            callers,
            api_accepted: stats.accepted,
            api_refused: stats.refused,
            utilisation: utilisation(plan.limit, &stats, began_seconds + self.settled.as_secs_f64()),
        }
    }

    fn line(&self, elapsed: Duration, (accepted, errors): (u64, u64), says: &str) -> String {
        let line = format!(
            "{:<20} {:>2} s of {:>2} s   accepted {:<6} errors {:<9} {says}",
            self.name,
            elapsed.as_secs(),
            self.lasts.as_secs(),
            grouped(accepted),
            grouped(errors),
        );
        line.trim_end().to_owned()
    }
}

/// How much of `limit` was used in the whole seconds after `from_seconds`: the seconds of the account are the
/// windows of the limit, so only whole ones are counted.
fn utilisation(limit: Quota, stats: &Stats, from_seconds: f64) -> f64 {
    let whole = |seconds: f64| Duration::try_from_secs_f64(seconds).map_or(0, |time| time.as_secs());
    let (from, to) = (whole(from_seconds.ceil()), whole(stats.now_seconds));
    let allowed = limit.rate().get() * to.saturating_sub(from) as f64;
    if allowed > 0.0 { stats.timeline.accepted_between(from, to) as f64 / allowed } else { 0.0 }
}

fn free_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::TimelineStats;

    fn stats(now_seconds: f64, first_second: u64, accepted: &[u32]) -> Stats {
        Stats {
            elapsed_seconds: now_seconds,
            now_seconds,
            requests: 0,
            accepted: 0,
            refused: 0,
            refused_share: 0.0,
            free: 0,
            tokens: 0,
            body_bytes: 0,
            bodies_cut: 0,
            others: None,
            utilisation: None,
            keys: Vec::new(),
            timeline: TimelineStats {
                first_second,
                accepted: accepted.to_vec(),
                refused: vec![0; accepted.len()],
            },
        }
    }

    #[test]
    fn only_whole_windows_are_counted() {
        let limit = "10/s".parse().unwrap();
        let stats = stats(13.4, 9, &[10, 3, 10, 8, 4]);
        let used = utilisation(limit, &stats, 10.2);
        assert!((used - 0.9).abs() < 1e-12, "seconds 11 and 12: {used}");
        assert!(utilisation(limit, &stats, 13.0).abs() < 1e-12);
    }

    #[test]
    fn the_line_says_how_far_it_is() {
        let stage = Stage {
            name: "through Tidegate",
            target: free_port(),
            lasts: Duration::from_secs(36),
            settled: TICK,
        };
        let line = stage.line(Duration::from_millis(12_300), (118, 0), "waiting 91");
        assert_eq!(line, "through Tidegate     12 s of 36 s   accepted 118    errors 0         waiting 91");
    }

    #[tokio::test]
    async fn callers_behind_tidegate_see_no_refusal() {
        let plan = Plan {
            limit: "20/s".parse().unwrap(),
            latency: Duration::from_millis(4),
            jitter: Duration::ZERO,
            sessions: 8,
            direct: Duration::from_millis(300),
            rest: Duration::ZERO,
            through: Duration::from_millis(2_500),
            settled_after: Duration::from_secs(1),
        };
        let report = play(&plan, &mut Progress::new(io::sink(), false)).await.unwrap();
        assert!(report.direct.callers.throttled > 0, "{report:?}");
        let callers = &report.through.callers;
        assert!(callers.ok > 0 && callers.errors() == 0, "{report:?}");
        assert_eq!(callers.queue_ms.len() as u64, callers.ok, "every answer says what it waited");
        assert_eq!(callers.upstream_ms.len() as u64, callers.ok);
    }

    #[tokio::test]
    async fn a_stage_tells_both_sides() {
        let plan = Plan {
            limit: "5/100ms".parse().unwrap(),
            latency: Duration::from_millis(4),
            jitter: Duration::ZERO,
            sessions: 4,
            ..Plan::default()
        };
        let sim = Sim::bind(plan.api()).await.unwrap();
        let stage = Stage {
            name: "test",
            target: sim.address(),
            lasts: Duration::from_millis(450),
            settled: Duration::ZERO,
        };
        let account = sim.account();
        let mut progress = Progress::new(io::sink(), false);
        let phase = tokio::select! {
            ended = sim.serve(std::future::pending()) => panic!("served until {ended:?}"),
            phase = stage.play(&plan, &account, &mut progress, String::new) => phase,
        };
        assert!(phase.callers.ok > 0 && phase.callers.throttled > 0, "{phase:?}");
        assert_eq!(phase.callers.failed, 0);
        let decided = phase.api_accepted + phase.api_refused;
        assert!(phase.callers.requests() <= decided && decided <= phase.callers.requests() + 4, "{phase:?}");
    }
}
