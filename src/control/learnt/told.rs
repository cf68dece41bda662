//! A number that the API announced, for the law to stand at.

use super::Learnt;
use super::round::Held;
use super::window::LongWindow;
use crate::control::LimitSource;

/// From here on a window is kept by counting what was sent in it, below by an even pace.
const LONG_SECONDS: f64 = 5.0;

impl Learnt {
    /// The API says that so many requests may be made in a window of so many seconds.
    pub(in crate::control) fn told(&mut self, now: f64, requests: u32, seconds: f64, source: LimitSource) {
        // The number is for all who share it.
        if self.contended.is_some() {
            return;
        }
        if seconds >= LONG_SECONDS {
            let known = self.window.is_some_and(|window| window.is_of(requests, seconds));
            if !known {
                let window = LongWindow::told(requests, seconds, source);
                self.window = Some(window);
                self.stand(now, 1.1 * window.rate());
            }
            return;
        }
        let told = Held::told(requests, seconds, source);
        let known = self.rounds.held().is_some_and(|held| (held.rate - told.rate).abs() < 1e-9 * told.rate);
        if known {
            return;
        }
        if let Some(held) = self.rounds.hold(now, told) {
            self.stand(now, held.pace());
        }
    }

    /// Others said how fast until now: a law that knows no limit yet goes on at the pace that was used.
    pub(in crate::control) fn take_over(&mut self, now: f64) {
        if self.starting {
            let used = self.history.recent(now, now - 5.0);
            self.rate = self.rate.max(used);
            self.base = self.rate;
        }
    }

    fn stand(&mut self, now: f64, rate: f64) {
        self.rate = rate;
        self.base = rate;
        self.peak = rate;
        self.starting = false;
        self.episode_at = now;
        self.pressed = 0.0;
        self.surplus = 0.0;
        self.hold = self.period();
    }
}
