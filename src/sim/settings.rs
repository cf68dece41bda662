//! What a simulated API is told: its limits, whom they count, and how it answers.

use super::words::{HeaderForm, KeyBy, ModelName, RetryAfter};
use crate::control::{Quota, Rate};
use crate::sim::limits::{Change, Limiter, Limits, Model};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Everything about one simulated API. The default is the API of the founding problem: 10 a second, `Retry-After: 1`.
#[derive(Clone, Debug, PartialEq)]
pub struct SimSettings {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// HTTPS with a certificate of its own, whose PEM is written into this folder; none: HTTP.
    pub tls: Option<PathBuf>,
    /// Its limits; all must admit. None: nothing is refused. With [`ModelName::Concurrency`] their requests count,
    /// their windows do not.
    pub limits: Vec<Quota>,
    /// How the first limit moves, in seconds since the start of the simulation.
    pub changes: Vec<Change>,
    /// How often an unseen tenant spends of each key's limits; none: nobody does.
    pub others: Option<Rate>,
    /// How the limits count.
    pub model: ModelName,
    /// With [`ModelName::Fixed`]: by how much the windows are shifted against the start of the simulation.
    pub phase: Duration,
    /// With [`ModelName::Bucket`]: how many requests a bucket holds, at least 1; none: as many as its limit's.
    pub burst: Option<u32>,
    /// Who shares a limit.
    pub key: KeyBy,
    /// Paths that start with this are limited; all others are free.
    pub path: String,
    /// What a 429 says of the time to wait.
    pub retry_after: RetryAfter,
    /// How every limited answer announces the limits.
    pub headers: HeaderForm,
    /// From a request's arrival to its answer; half of it passes before the limit is asked, half after. A 429
    /// does without the second half. With [`ModelName::Concurrency`] the limit is asked at once. At most an hour.
    pub latency: Duration,
    /// Mean of what is added to `latency` at random (exponential, half of it on either side, cut at ten times
    /// the mean). At most an hour.
    pub jitter: Duration,
    /// Seeds the jitter, the ids and the tokens.
    pub seed: u64,
}

impl Default for SimSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)),
            tls: None,
            limits: vec![Quota { requests: 10, window: Duration::from_secs(1) }],
            changes: Vec::new(),
            others: None,
            model: ModelName::default(),
            phase: Duration::ZERO,
            burst: None,
            key: KeyBy::default(),
            path: "/".to_owned(),
            retry_after: RetryAfter::default(),
            headers: HeaderForm::default(),
            latency: Duration::from_millis(40),
            jitter: Duration::from_millis(8),
            seed: 1,
        }
    }
}

impl SimSettings {
    /// The pure limits of one key, of which nothing is spent.
    pub fn fresh_limits(&self) -> Limits {
        let limiters = self.limits.iter().map(|quota| Limiter::new(*quota, self.counts(*quota))).collect();
        let limits = Limits::new(limiters).with_changes(self.changes.clone());
        match self.others {
            Some(rate) => limits.with_others(rate),
            None => limits,
        }
    }

    /// What is allowed at `now` (seconds since the start), as people write it.
    pub fn allowed_at(&self, now: f64) -> Vec<String> {
        let mut quotas = self.limits.clone();
        let moved = self.changes.iter().filter(|change| change.at_seconds <= now);
        let last = moved.max_by(|one, other| one.at_seconds.total_cmp(&other.at_seconds));
        if let (Some(first), Some(change)) = (quotas.first_mut(), last) {
            *first = change.quota;
        }
        quotas.into_iter().map(|quota| self.written(quota)).collect()
    }

    /// A limit as people write it.
    pub fn written(&self, quota: Quota) -> String {
        match self.model {
            ModelName::Concurrency => format!("{} at once", quota.requests),
            _ => quota.to_string(),
        }
    }

    /// The pure model that a limit follows.
    fn counts(&self, quota: Quota) -> Model {
        match self.model {
            ModelName::Fixed => Model::Fixed { phase_seconds: self.phase.as_secs_f64() },
            ModelName::Anchored => Model::Anchored,
            ModelName::Sliding => Model::Sliding,
            ModelName::Bucket => Model::Bucket { burst: self.burst.unwrap_or(quota.requests).into() },
            ModelName::Concurrency => Model::Concurrency,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(settings: &SimSettings, now: f64) -> Vec<(u32, Option<f64>)> {
        let announced = settings.fresh_limits().announced(now);
        announced.iter().map(|told| (told.allowed, told.reset_seconds)).collect()
    }

    #[test]
    fn the_limits_are_the_models() {
        let mut settings = SimSettings { phase: Duration::from_millis(250), ..SimSettings::default() };
        assert_eq!(told(&settings, 0.5), [(10, Some(0.75))]);
        settings.model = ModelName::Anchored;
        assert_eq!(told(&settings, 0.5), [(10, Some(0.0))]);
        settings.model = ModelName::Sliding;
        assert_eq!(told(&settings, 0.5), [(10, Some(0.0))]);
        settings.model = ModelName::Bucket;
        assert_eq!(told(&settings, 0.5), [(10, Some(0.0))], "a bucket holds a second's worth");
        settings.burst = Some(3);
        assert_eq!(told(&settings, 0.5), [(3, Some(0.0))]);
        settings.model = ModelName::Concurrency;
        assert_eq!(told(&settings, 0.5), [(10, None)]);
        assert_eq!(settings.allowed_at(0.0), ["10 at once"]);
    }

    #[test]
    fn others_spend_and_changes_move_what_a_key_gets() {
        let quota = |text: &str| text.parse().unwrap();
        let settings = SimSettings {
            limits: vec![quota("10/s"), quota("300/min")],
            changes: vec![
                Change { at_seconds: 9.0, quota: quota("7/s") },
                Change { at_seconds: 5.0, quota: quota("5/s") },
            ],
            others: Some(Rate::new(2.0)),
            ..SimSettings::default()
        };
        let mut limits = settings.fresh_limits();
        assert_eq!(limits.announced(4.75)[0].used, 2);
        assert_eq!(settings.allowed_at(4.75), ["10/s", "300/min"]);
        assert_eq!(limits.announced(5.0)[0].allowed, 5);
        assert_eq!(settings.allowed_at(5.0), ["5/s", "300/min"]);
        assert_eq!(settings.allowed_at(60.0), ["7/s", "300/min"]);
    }
}
