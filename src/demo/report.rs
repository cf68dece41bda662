//! The demo's outcome: as a table for a person, and as JSON for a program.

use super::load::Tally;
use crate::control::{LimitView, Quota};
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// What came of it.
#[derive(Clone, Debug)]
pub(super) struct Report {
    /// What the API allows.
    pub(super) limit: Quota,
    /// Callers at once.
    pub(super) sessions: usize,
    /// Straight to the API.
    pub(super) direct: Phase,
    /// Through Tidegate.
    pub(super) through: Phase,
    /// From when on the use of the limit is counted in the second phase.
    pub(super) settled_after: Duration,
    /// What Tidegate believes the limit to be.
    pub(super) learnt: Option<LimitView>,
}

/// One way to call the API: what the callers saw, and what the API saw.
#[derive(Clone, Debug)]
pub(super) struct Phase {
    /// How long.
    pub(super) lasted: Duration,
    /// The callers' side.
    pub(super) callers: Tally,
    /// Calls that the API let in.
    pub(super) api_accepted: u64,
    /// Calls that the API refused.
    pub(super) api_refused: u64,
    /// How much of what the API allows was used: 1 is all of it.
    pub(super) utilisation: f64,
}

/// The outcome as `--json` tells it; what is not known is null.
#[derive(Debug, Serialize)]
pub(super) struct Wire {
    limit_rps: f64,
    direct: WireDirect,
    through: WireThrough,
    learnt: Option<WireLearnt>,
}

#[derive(Debug, Serialize)]
struct WireDirect {
    requests: u64,
    ok: u64,
    throttled: u64,
}

#[derive(Debug, Serialize)]
struct WireThrough {
    requests: u64,
    ok: u64,
    /// Whatever a load tester reports as an error, 429s too.
    client_errors: u64,
    upstream_throttled: u64,
    /// 1.0 is all that the API allows.
    utilisation: f64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    queue_p50_ms: Option<f64>,
    upstream_p50_ms: Option<f64>,
}

#[derive(Debug, Serialize)]
struct WireLearnt {
    requests: f64,
    window_seconds: f64,
}

impl Report {
    /// For a program.
    pub(super) fn wire(&self) -> Wire {
        let (direct, through) = (&self.direct.callers, &self.through.callers);
        let tenths = |samples, percent| percentile(samples, percent).map(|ms| rounded(ms, 10.0));
        Wire {
            limit_rps: self.limit.rate().get(),
            direct: WireDirect { requests: direct.requests(), ok: direct.ok, throttled: direct.throttled },
            through: WireThrough {
                requests: through.requests(),
                ok: through.ok,
                client_errors: through.errors(),
                upstream_throttled: self.through.api_refused,
                utilisation: rounded(self.through.utilisation, 1e4),
                p50_ms: tenths(&through.total_ms, 50),
                p99_ms: tenths(&through.total_ms, 99),
                queue_p50_ms: tenths(&through.queue_ms, 50),
                upstream_p50_ms: tenths(&through.upstream_ms, 50),
            },
            learnt: self.learnt.as_ref().map(|limit| WireLearnt {
                requests: rounded(limit.requests, 100.0),
                window_seconds: rounded(limit.window_seconds, 1e3),
            }),
        }
    }

    /// The rows of the table: a name, straight, through.
    fn rows(&self) -> Vec<[String; 3]> {
        let (direct, through) = (&self.direct, &self.through);
        let both =
            |name: &str, show: &dyn Fn(&Phase) -> String| [name.to_owned(), show(direct), show(through)];
        let blank = || [String::new(), String::new(), String::new()];
        vec![
            [String::new(), "straight to the API".into(), "through Tidegate".into()],
            both("duration", &|phase| format!("{} s", phase.lasted.as_secs())),
            blank(),
            ["WHAT THE CALLERS SAW".into(), String::new(), String::new()],
            both("calls answered", &|phase| grouped(phase.callers.requests())),
            both("  accepted (2xx)", &|phase| grouped(phase.callers.ok)),
            both("  refused (429)", &|phase| with_share(phase.callers.throttled, phase.callers.requests())),
            both("  other errors", &|phase| grouped(phase.callers.failed)),
            both("a call takes, median", &|phase| spell_ms(&phase.callers.total_ms, 50)),
            both("  99 of 100 at most", &|phase| spell_ms(&phase.callers.total_ms, 99)),
            both("  of it in the queue, median", &|phase| spell_ms(&phase.callers.queue_ms, 50)),
            both("  of it at the API, median", &|phase| spell_ms(&phase.callers.upstream_ms, 50)),
            blank(),
            ["WHAT THE API SAW".into(), String::new(), String::new()],
            both("calls let in", &|phase| grouped(phase.api_accepted)),
            both("calls refused (429)", &|phase| {
                with_share(phase.api_refused, phase.api_accepted + phase.api_refused)
            }),
            [
                "its limit used".into(),
                percent(direct.utilisation),
                format!("{} (from second {} on)", percent(through.utilisation), self.settled_after.as_secs()),
            ],
        ]
    }

    fn absorbed(&self) -> Option<String> {
        let refused = self.through.api_refused;
        (refused > 0 && self.through.callers.throttled == 0).then(|| {
            format!(
                "The API refused Tidegate {}: each was sent again in its turn, and no caller saw it.",
                times(refused)
            )
        })
    }

    fn learnt_in_words(&self) -> String {
        let Some(limit) = &self.learnt else {
            return "Tidegate was not told the limit, and has not learnt one in this time.".to_owned();
        };
        let own =
            if limit.says.is_empty() { String::new() } else { format!("\nIn its own words: {}", limit.says) };
        format!(
            "Tidegate was not told the limit. It learnt: {} requests in {} s.{own}",
            rounded(limit.requests, 10.0),
            rounded(limit.window_seconds, 10.0)
        )
    }

    fn meaning(&self) -> String {
        let rate = self.limit.rate().get();
        let (sessions, half) = (self.sessions, (self.sessions / 2).max(1));
        format!(
            "What it means: {sessions} sessions share {rate} calls a second, so each gets one every {} s. No client can \
             change that;\nit can only turn the rest into errors, or let them wait for their turn. Half the sessions \
             ({half}) wait half as long ({} s).",
            rounded(sessions as f64 / rate, 10.0),
            rounded(half as f64 / rate, 10.0),
        )
    }
}

/// For a person.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "An API that allows {}, and {} sessions that call it again as soon as they are answered:\n",
            self.limit, self.sessions
        )?;
        for [name, direct, through] in self.rows() {
            writeln!(f, "{}", format!("  {name:<30}{direct:<24}{through}").trim_end())?;
        }
        writeln!(f, "  (calls on their way at the end are in the API's numbers only)\n")?;
        if let Some(absorbed) = self.absorbed() {
            writeln!(f, "{absorbed}")?;
        }
        writeln!(f, "{}\n\n{}", self.learnt_in_words(), self.meaning())
    }
}

/// The nearest-rank percentile; none of nothing.
fn percentile(samples: &[f64], percent: usize) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

fn spell_ms(samples: &[f64], percent: usize) -> String {
    match percentile(samples, percent) {
        None => "-".to_owned(),
        Some(ms) if ms < 999.5 => format!("{ms:.0} ms"),
        Some(ms) => format!("{:.1} s", ms / 1_000.0),
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn with_share(part: u64, whole: u64) -> String {
    if part == 0 {
        return "0".to_owned();
    }
    format!("{} ({})", grouped(part), percent(part as f64 / whole.max(1) as f64))
}

fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{} times", grouped(count)) }
}

/// `12345` as `12,345`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn rounded(value: f64, steps_per_unit: f64) -> f64 {
    (value * steps_per_unit).round() / steps_per_unit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{LimitModel, LimitSource};

    fn report() -> Report {
        let direct =
            Tally { ok: 80, throttled: 36_012, total_ms: vec![23.0, 24.0, 25.0], ..Tally::default() };
        let through = Tally {
            ok: 350,
            total_ms: (1..=200).map(|n| 10_000.0 + f64::from(n)).collect(),
            queue_ms: vec![9_951.23, 9_951.26, 9_951.29],
            upstream_ms: vec![48.0],
            ..Tally::default()
        };
        Report {
            limit: "10/s".parse().unwrap(),
            sessions: 100,
            direct: Phase {
                lasted: Duration::from_secs(8),
                callers: direct,
                api_accepted: 80,
                api_refused: 36_020,
                utilisation: 1.0,
            },
            through: Phase {
                lasted: Duration::from_secs(36),
                callers: through,
                api_accepted: 351,
                api_refused: 9,
                utilisation: 0.993_754_2,
            },
            settled_after: Duration::from_secs(20),
            learnt: Some(LimitView {
                requests: 10.0,
                window_seconds: 1.0,
                model: LimitModel::FixedWindow,
                at_least: false,
                source: LimitSource::Learnt,
                confidence: 0.9,
                says: "ten a second".to_owned(),
            }),
        }
    }

    #[test]
    fn the_json_is_exactly_what_was_promised() {
        let expected = concat!(
            r#"{"limit_rps":10.0,"direct":{"requests":36092,"ok":80,"throttled":36012},"#,
            r#""through":{"requests":350,"ok":350,"client_errors":0,"upstream_throttled":9,"utilisation":0.9938,"#,
            r#""p50_ms":10100.0,"p99_ms":10198.0,"queue_p50_ms":9951.3,"upstream_p50_ms":48.0},"#,
            r#""learnt":{"requests":10.0,"window_seconds":1.0}}"#,
        );
        assert_eq!(serde_json::to_string(&report().wire()).unwrap(), expected);
    }

    #[test]
    fn a_429_is_an_error_to_the_caller() {
        let mut report = report();
        report.through.callers.throttled = 2;
        report.through.callers.failed = 1;
        let through = report.wire().through;
        assert_eq!((through.client_errors, through.requests), (3, 353));
    }

    #[test]
    fn what_is_not_known_is_null_and_said() {
        let mut report = report();
        report.learnt = None;
        report.through.callers = Tally::default();
        let told = serde_json::to_value(report.wire()).unwrap();
        assert!(told["learnt"].is_null() && told["through"]["p50_ms"].is_null(), "{told}");
        assert!(report.to_string().contains("has not learnt one"));
    }

    #[test]
    fn the_table_reads_well() {
        let expected = "\
An API that allows 10/s, and 100 sessions that call it again as soon as they are answered:

                                straight to the API     through Tidegate
  duration                      8 s                     36 s

  WHAT THE CALLERS SAW
  calls answered                36,092                  350
    accepted (2xx)              80                      350
    refused (429)               36,012 (99.8 %)         0
    other errors                0                       0
  a call takes, median          24 ms                   10.1 s
    99 of 100 at most           25 ms                   10.2 s
    of it in the queue, median  -                       10.0 s
    of it at the API, median    -                       48 ms

  WHAT THE API SAW
  calls let in                  80                      351
  calls refused (429)           36,020 (99.8 %)         9 (2.5 %)
  its limit used                100.0 %                 99.4 % (from second 20 on)
  (calls on their way at the end are in the API's numbers only)

The API refused Tidegate 9 times: each was sent again in its turn, and no caller saw it.
Tidegate was not told the limit. It learnt: 10 requests in 1 s.
In its own words: ten a second

What it means: 100 sessions share 10 calls a second, so each gets one every 10 s. No client can change that;
it can only turn the rest into errors, or let them wait for their turn. Half the sessions (50) wait half as long (5 s).
";
        assert_eq!(report().to_string(), expected);
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        assert_eq!(percentile(&[], 50), None);
        assert_eq!(percentile(&[7.0], 99), Some(7.0));
        assert_eq!(percentile(&[4.0, 1.0, 3.0, 2.0], 50), Some(2.0));
        assert_eq!(percentile(&[4.0, 1.0, 3.0, 2.0], 99), Some(4.0));
    }

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
