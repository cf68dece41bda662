//! Is it a fixed window of a few seconds? The hypothesis that explains most limits, tried against what was seen.
//!
//! In a fixed window every refusal comes after exactly N accepted requests since the window's start. So: for each
//! possible phase of the window, count the accepted requests from its start to each refusal; where the counts agree,
//! they are N, and the phases that agree enclose the true one. This names N exactly from three or four refusals,
//! whatever the number is, and tells where departures must not fall.

use super::measure::History;
use std::cmp::Reverse;

/// The windows that are looked for, in seconds. Longer ones show themselves by blocks ([`super::window`]).
const WINDOWS_SECONDS: [f64; 4] = [1.0, 2.0, 5.0, 10.0];
/// Phases that are tried.
const PHASES: u32 = 240;
/// Refusals older than this say little of now: in windows, and in seconds at least.
const FRESH_WINDOWS: f64 = 12.0;
const FRESH_SECONDS: f64 = 40.0;
/// The window's number is this close to the pace (or within 0.35 requests of it).
const NEAR_PACE: f64 = 0.15;
/// The phases that agree must cover this share of the departures' interval; with three refusals, the larger one.
const PLATEAU: f64 = 0.2;
const PLATEAU_OF_THREE: f64 = 0.5;
/// No more of the circle than this need agree, in seconds.
const PLATEAU_SECONDS: f64 = 0.05;

/// A window that explains what was seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fit {
    /// Requests per window.
    pub(super) requests: u32,
    /// The window's length.
    pub(super) seconds: f64,
    /// A moment at which a window starts, as well as it is known.
    pub(super) boundary: f64,
}

impl Fit {
    pub(super) fn rate(&self) -> f64 {
        f64::from(self.requests) / self.seconds
    }
}

/// Fits a window to the first refusals of the last episodes (ascending send times), near `pace` requests/s.
pub(super) fn fit(history: &History, episodes: &[f64], pace: f64, now: f64) -> Option<Fit> {
    WINDOWS_SECONDS.into_iter().find_map(|seconds| fit_window(history, episodes, pace, now, seconds))
}

fn fit_window(history: &History, episodes: &[f64], pace: f64, now: f64, seconds: f64) -> Option<Fit> {
    let since = now - (FRESH_WINDOWS * seconds).max(FRESH_SECONDS);
    let fresh: Vec<f64> = episodes.iter().copied().filter(|at| *at > since).collect();
    let (first, newest) = (*fresh.first()?, *fresh.last()?);
    if fresh.len() < 3 || newest - first < 2.0 * seconds {
        return None;
    }
    let near = (NEAR_PACE * pace * seconds).max(0.35);
    let phase_of = |step: u32| seconds * f64::from(step) / f64::from(PHASES);
    let agreed: Vec<Option<u32>> = (0..PHASES)
        .map(|step| agreement(history, &fresh, phase_of(step), seconds))
        .map(|requests| requests.filter(|count| (f64::from(*count) - pace * seconds).abs() <= near))
        .collect();
    let needed = if fresh.len() < 4 { PLATEAU_OF_THREE } else { PLATEAU };
    let needed_seconds = (needed / pace).min(PLATEAU_SECONDS);
    // Where departures are regular, a start that is late by a slot agrees on one request less: the most is right.
    let mut runs = runs(&agreed);
    runs.retain(|run| run.length >= 2 && phase_of(run.length) >= needed_seconds);
    runs.sort_by_key(|run| Reverse((run.requests, run.length)));
    runs.into_iter().find_map(|run| {
        let boundary = start_of(newest, phase_of((run.start + run.length / 2) % PHASES), seconds);
        let fit = Fit { requests: run.requests, seconds, boundary };
        (!overfull(history, fit, newest - first)).then_some(fit)
    })
}

/// The start of the window that `at` lies in.
fn start_of(at: f64, phase: f64, seconds: f64) -> f64 {
    ((at - phase) / seconds).floor() * seconds + phase
}

/// The number of accepted requests before each refusal in its window, if (nearly) all agree on it.
fn agreement(history: &History, episodes: &[f64], phase: f64, seconds: f64) -> Option<u32> {
    let before = 1e-9;
    let counts =
        || episodes.iter().map(|at| history.accepted_in(start_of(*at, phase, seconds) - before, *at));
    let mut sorted: Vec<usize> = counts().collect();
    sorted.sort_unstable();
    let median = sorted.get(sorted.len() / 2).copied().filter(|count| *count >= 1)?;
    // Of large numbers, those that cross the boundary by scatter are many.
    let tolerance = if median >= 30 { 1 + median / 66 } else { 0 };
    let agree = counts().filter(|count| count.abs_diff(median) <= tolerance).count();
    let needed = if sorted.len() <= 4 { sorted.len() } else { sorted.len() - 1 };
    (agree >= needed).then(|| u32::try_from(median).ok()).flatten()
}

#[derive(Clone, Copy, Debug)]
struct Run {
    start: u32,
    length: u32,
    requests: u32,
}

/// The runs of neighbouring phases (round the circle) that agree on one number.
fn runs(agreed: &[Option<u32>]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (step, requests) in (0_u32..).zip(agreed) {
        let Some(requests) = *requests else { continue };
        match runs.last_mut() {
            Some(run) if run.requests == requests && run.start + run.length == step => run.length += 1,
            _ => runs.push(Run { start: step, length: 1, requests }),
        }
    }
    // The run that ends the circle goes on at its start.
    if let [first, .., last] = runs.as_mut_slice()
        && first.start == 0
        && last.start + last.length == PHASES
        && first.requests == last.requests
    {
        last.length += first.length;
        runs.remove(0);
    }
    runs
}

/// Did more than a few windows before the fitted one take more than its number? Then it is no such window.
fn overfull(history: &History, fit: Fit, span: f64) -> bool {
    let allowed = f64::from(fit.requests) + (0.03 * f64::from(fit.requests)).floor();
    let starts = (1..=60).map(|back| fit.boundary - f64::from(back) * fit.seconds);
    let (mut windows, mut over) = (0_u32, 0_u32);
    for start in starts.take_while(|start| *start >= fit.boundary - span) {
        windows += 1;
        if history.accepted_in(start, start + fit.seconds) as f64 > allowed {
            over += 1;
        }
    }
    f64::from(over) > 0.15 * f64::from(windows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::law::Answer;

    /// A pace of `pace` requests/s against a window of `requests` per `seconds` that starts at `phase`; gives the
    /// record and the first refusals of its episodes. After a refusal nothing is sent for a quarter of a second.
    fn played(pace: f64, requests: u32, seconds: f64, phase: f64) -> (History, Vec<f64>) {
        let mut history = History::default();
        let (mut episodes, mut spent, mut window, mut now) = (Vec::new(), 0, f64::NEG_INFINITY, 0.0);
        while now < 30.0 * seconds && episodes.len() < 5 {
            let start = start_of(now, phase, seconds);
            if start > window {
                (window, spent) = (start, 0);
            }
            let stamp = history.sent(now);
            let admitted = spent < requests;
            spent += u32::from(admitted);
            let answer = if admitted { Answer::Accepted } else { Answer::Refused { retry_after: Some(1.0) } };
            history.answered(now + 0.05, stamp, answer);
            while history.commit(now + 0.05).is_some() {}
            if !admitted {
                episodes.push(now);
            }
            now += 1.0 / pace + if admitted { 0.0 } else { 0.25 };
        }
        (history, episodes)
    }

    /// Never a wrong name; none where the phases that agree are too narrow to be sure of.
    #[test]
    fn the_window_is_named_whatever_its_number_length_and_phase() {
        let (mut named, mut asked) = (0, 0);
        for (pace, requests, seconds) in
            [(10.6, 10, 1.0), (7.3, 7, 1.0), (13.7, 13, 1.0), (10.4, 20, 2.0), (10.5, 50, 5.0), (2.2, 2, 1.0)]
        {
            for phase in [0.05, 0.31, 0.5, 0.77] {
                let (history, episodes) = played(pace, requests, seconds, phase * seconds);
                let found = fit(&history, &episodes, pace, *episodes.last().unwrap());
                let right =
                    found.is_none_or(|found| (found.rate() - f64::from(requests) / seconds).abs() < 1e-9);
                assert!(right, "{requests} in {seconds} s, phase {phase}: {found:?}");
                asked += 1;
                named += u32::from(found.is_some());
            }
        }
        assert!(named * 4 >= asked * 3, "{named} of {asked}");
    }

    #[test]
    fn the_boundary_is_known_within_a_departure() {
        let (history, episodes) = played(10.6, 10, 1.0, 0.31);
        let found = fit(&history, &episodes, 10.6, *episodes.last().unwrap()).unwrap();
        let off = (found.boundary - 0.31 + 0.5).rem_euclid(1.0) - 0.5;
        assert!(off.abs() < 0.1, "off by {off} s");
    }

    #[test]
    fn too_few_or_stale_refusals_name_nothing() {
        let (history, episodes) = played(10.6, 10, 1.0, 0.31);
        assert_eq!(fit(&history, &episodes[..2], 10.6, episodes[1]), None);
        assert_eq!(fit(&history, &episodes, 10.6, 1_000.0), None);
        assert_eq!(fit(&history, &[], 10.6, 1.0), None);
    }
}
