//! What the law believes, for a person: the limit in words, and how sure.

use super::Learnt;
use super::prior::Beginning;
use super::round::Source;
use crate::control::{LimitModel, LimitSource, LimitView};

impl Learnt {
    /// The limit in words, and how sure.
    pub(in crate::control) fn limit(&self) -> Option<LimitView> {
        let (requests, window_seconds) = self.believes()?;
        let episodes = self.episodes;
        let unit = match window_seconds {
            1.0 => "a second".to_owned(),
            60.0 => "a minute".to_owned(),
            seconds => format!("in {seconds} s"),
        };
        let (says, confidence) = if self.is_remembered() {
            (format!("{requests} requests {unit}: remembered from an earlier run, not met again yet"), 0.5)
        } else if self.began == Beginning::Below && episodes == 0 {
            (format!("about {requests} requests {unit}: what the lanes below it got through together"), 0.5)
        } else if self.window.is_some() {
            (format!("{requests} requests {unit}, then nothing until the window ends"), 0.8)
        } else if let Some(held) = self.rounds.held() {
            let (why, sure) = match held.source {
                Source::Told(_) => ("as the API announced", 0.98),
                Source::Fit => ("the window that explains the refusals", 0.95),
                Source::Round => ("the round number that the measures mean", 0.85),
            };
            (format!("{requests} requests {unit}: {why}, in {episodes} episodes"), sure - 5.0 * held.margin)
        } else if self.contended.is_some() {
            (format!("about {requests} requests {unit} of a limit that others share"), 0.5)
        } else if episodes < 2 {
            (
                format!(
                    "{requests} requests {unit} or less: let in during the last second before the first refusal"
                ),
                0.1,
            )
        } else {
            let sure = (0.2 + 0.1 * f64::from(episodes.min(5))).min(0.7);
            (format!("about {requests} requests {unit}: measured in {episodes} episodes"), sure)
        };
        let source = self.window.map(|window| window.source).or_else(|| match self.rounds.held()?.source {
            Source::Told(source) => Some(source),
            Source::Fit | Source::Round => None,
        });
        let is_window =
            self.window.is_some() || self.rounds.held().is_some_and(|held| held.source != Source::Round);
        let model = if is_window { LimitModel::FixedWindow } else { LimitModel::Unknown };
        let source = source.unwrap_or(LimitSource::Learnt);
        Some(LimitView { requests, window_seconds, model, at_least: false, source, confidence, says })
    }
}
