//! What a scenario's file may say: a workload, a modelled API, and goals.

pub(crate) mod figures;
pub(crate) mod play;

use serde::Deserialize;
use std::path::Path;

/// Every scenario of the folder, with its name, in order of name.
pub(crate) fn all() -> Vec<(String, Scenario)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut paths: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    let read = |path: std::path::PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# "), "{name}: a scenario says in its first line what it is about");
        let scenario = toml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, scenario)
    };
    paths.into_iter().map(read).collect()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// What people call it: P1 to P13 are the benchmarks that the law is designed for.
    #[serde(default)]
    pub(crate) id: Option<String>,
    pub(crate) server: Server,
    #[serde(default)]
    pub(crate) network: Wire,
    pub(crate) demand: Wanted,
    /// A class of its own, beside what is wanted.
    #[serde(default)]
    pub(crate) production: Option<Production>,
    /// Several proxies with as many clients each, one after the other.
    #[serde(default)]
    pub(crate) proxies: Option<Proxies>,
    pub(crate) run: Run,
    #[serde(default)]
    pub(crate) law: Option<String>,
    #[serde(default)]
    pub(crate) fixed_rate: Option<String>,
    /// The operator says that others use the limit.
    #[serde(default)]
    pub(crate) shared: bool,
    /// The share of a limit that stays unused.
    #[serde(default)]
    pub(crate) headroom: f64,
    /// Requests that an idle lane may send at once.
    #[serde(default)]
    pub(crate) burst: Option<u32>,
    /// What the operator lets lanes reach.
    #[serde(default)]
    pub(crate) ceiling: Option<String>,
    /// Limits that move: the new quotas, at a moment.
    #[serde(default)]
    pub(crate) change: Vec<Moved>,
    /// Seconds after which all clients use another credential.
    #[serde(default)]
    pub(crate) token_refresh_at: Option<f64>,
    /// What an earlier run stood at.
    #[serde(default)]
    pub(crate) remembered: Option<String>,
    #[serde(default)]
    pub(crate) restart: Option<Restart>,
    /// The proxy's clock leaps: when, and by how many seconds.
    #[serde(default)]
    pub(crate) clock: Vec<(f64, f64)>,
    pub(crate) goals: Goals,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Server {
    /// All must admit; none: no limit at all.
    pub(crate) limits: Vec<String>,
    pub(crate) model: String,
    #[serde(default)]
    pub(crate) burst: f64,
    pub(crate) retry_after: Waited,
    /// Credentials that clients are spread over, each with limits of its own.
    #[serde(default)]
    pub(crate) credentials: Option<u64>,
    /// Routes that the clients of each credential are spread over.
    #[serde(default)]
    pub(crate) routes: Option<u64>,
    /// Each of which the limits are on.
    #[serde(default)]
    pub(crate) per: Per,
    /// From such a moment on, the limits are each lane's own.
    #[serde(default)]
    pub(crate) parts_at: Option<f64>,
    /// Refusals say whom the limit is on.
    #[serde(default)]
    pub(crate) says_level: bool,
    #[serde(default)]
    pub(crate) headers: Option<Spoken>,
    /// What an unseen tenant asks for, evenly, in requests/s.
    #[serde(default)]
    pub(crate) others: Option<f64>,
    /// Refused requests are counted like the others.
    #[serde(default)]
    pub(crate) counts_refused: bool,
    /// Requests that it works on at once; what is let in beyond them waits.
    #[serde(default)]
    pub(crate) workers: Option<usize>,
    /// At the end of so many seconds, it answers for so many with errors of its own.
    #[serde(default)]
    pub(crate) breaks: Option<(f64, f64)>,
}

/// What limits are on.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Per {
    Route,
    #[default]
    Credential,
    Upstream,
}

/// What a refusal says of the time to wait.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Waited {
    /// Always so many seconds.
    Seconds(f64),
    Word(WaitWord),
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WaitWord {
    /// The seconds until reset, rounded up.
    Reset,
    /// The moment of the reset as a date.
    Date,
    /// A number below zero, which is not a wait.
    Negative,
    None,
}

/// What answers announce.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Spoken {
    /// How the seconds until reset are told.
    pub(crate) reset: Rounded,
    /// The window's length is told too.
    #[serde(default)]
    pub(crate) window: bool,
    /// Of this limit alone, by its place; else of all.
    #[serde(default)]
    pub(crate) of: Option<usize>,
    /// A lie: this share of what is allowed is told as if it were all.
    #[serde(default)]
    pub(crate) share: Option<f64>,
    /// On these answers alone.
    #[serde(default)]
    pub(crate) on: Answers,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Rounded {
    Up,
    Down,
    Nearest,
    Exact,
    /// Always 0.
    Zero,
    /// A lie: nothing is left, and that for days.
    Spent,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Answers {
    #[default]
    All,
    Accepted,
    Refused,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wire {
    pub(crate) rtt_ms: Option<f64>,
    pub(crate) jitter_ms: Option<f64>,
    pub(crate) service_ms: Option<f64>,
    pub(crate) service_jitter_ms: Option<f64>,
    /// The API stands still so often, and so long, in seconds.
    pub(crate) stall: Option<(f64, f64)>,
    /// Such a share of the requests takes so many seconds longer.
    pub(crate) straggle: Option<(f64, f64)>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    /// Each asks again as soon as it has its answer; with several proxies, so many of each.
    pub(crate) clients: Option<usize>,
    /// They come after so many seconds.
    #[serde(default)]
    pub(crate) clients_from: f64,
    /// Such a share of the requests is given up after so many seconds in the queue.
    pub(crate) impatient: Option<(f64, f64)>,
    pub(crate) burst_of: Option<usize>,
    pub(crate) burst_every_seconds: Option<f64>,
    pub(crate) poisson_per_second: Option<f64>,
    /// Every so many seconds clients move: all to the first lane, then over all again.
    #[serde(default)]
    pub(crate) gathers_every: Option<f64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Production {
    /// Its share of the lane.
    pub(crate) share: f64,
    /// What it asks for, evenly.
    pub(crate) per_second: f64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Proxies {
    pub(crate) count: usize,
    /// Seconds from the start of one to the start of the next.
    pub(crate) apart_seconds: f64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Restart {
    pub(crate) at: f64,
    /// It starts from what it learnt before.
    pub(crate) remembers: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Run {
    pub(crate) seconds: f64,
    /// From here on counts as steady.
    pub(crate) steady_from: f64,
    #[serde(default = "seeds")]
    pub(crate) seeds: u64,
}

fn seeds() -> u64 {
    20
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Moved {
    pub(crate) at: f64,
    pub(crate) limits: Vec<String>,
}

/// What is said of a limit.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Says {
    /// The word on pages.
    pub(crate) model: String,
    /// Requests in a window, in seconds; a twentieth off at most.
    pub(crate) requests: f64,
    pub(crate) window: f64,
}

/// Goals for the median run, and for the worst one (`worst_…`). Utilisation and shares are ratios.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Goals {
    /// What is said of the limit at the end; of the median run.
    pub(crate) says: Option<Says>,
    pub(crate) utilisation_min: Option<f64>,
    /// No more of the limit is used than that.
    pub(crate) utilisation_max: Option<f64>,
    pub(crate) worst_utilisation_min: Option<f64>,
    pub(crate) refused_share_max: Option<f64>,
    pub(crate) worst_refused_share_max: Option<f64>,
    pub(crate) refused_max: Option<f64>,
    pub(crate) worst_refused_max: Option<f64>,
    /// How often a limit was put above several lanes.
    pub(crate) joined_min: Option<f64>,
    pub(crate) worst_joined_max: Option<f64>,
    /// How often one was taken away.
    pub(crate) parted_min: Option<f64>,
    pub(crate) worst_parted_max: Option<f64>,
    /// Seconds until 95 % of the limit is used over five seconds.
    pub(crate) reaches_95_within: Option<f64>,
    /// Seconds after each change until 95 % of the new limit is used; in the order of the changes.
    pub(crate) tracks_within: Option<Vec<f64>>,
    pub(crate) refused_after_first_change_max: Option<f64>,
    /// Of the new credential's limit, in the ten seconds after the token refresh.
    pub(crate) utilisation_after_refresh_min: Option<f64>,
    /// Refused calls in the half minute after the restart.
    pub(crate) refused_after_restart_max: Option<f64>,
    /// Jain's index of what the credentials got, or the proxies.
    pub(crate) fairness_min: Option<f64>,
    pub(crate) worst_fairness_min: Option<f64>,
    pub(crate) mean_latency_max: Option<f64>,
    pub(crate) latency_p99_max: Option<f64>,
    /// The mean latency beyond that of an oracle that knows the limiter.
    pub(crate) mean_delay_max: Option<f64>,
    /// The wait of production's requests, all turns together, in seconds.
    pub(crate) production_wait_p99_max: Option<f64>,
    pub(crate) worst_production_wait_p99_max: Option<f64>,
    /// Requests a second that get through (for an API without limit).
    pub(crate) throughput_min: Option<f64>,
    pub(crate) worst_throughput_min: Option<f64>,
    /// The median time that a request spends with the API.
    pub(crate) api_latency_max: Option<f64>,
    /// The pace after errors of the API's own, as a share that it differs by from the one before.
    pub(crate) pace_moves_max: Option<f64>,
    /// Clients that get an error of ours or a 429; as a rule, none.
    #[serde(default)]
    pub(crate) client_errors_max: f64,
}
