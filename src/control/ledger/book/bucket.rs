//! A budget that comes back token by token: how fast it does, and when the next request may leave.

use super::Book;
use super::timing::RUSH;

/// It takes this long, in seconds, to measure how fast a bucket fills.
const FILLING_SECONDS: f64 = 10.0;
/// Of a bucket, this share is kept, and so many tokens at least.
const KEPT_BUCKET: f64 = 0.1;
const KEPT_BUCKET_MIN: f64 = 3.0;

impl Book {
    /// As [`Book::hear`], of a bucket: what was let through, and did not leave it emptier, came back.
    pub(super) fn hear_bucket(&mut self, now: f64, sent_at: f64, used: u32, flying: usize, reset: f64) {
        self.window.begin(sent_at, now, reset);
        // Since the last answer it may have been full for a while, in which nothing came back.
        let came_back = self.refill.rate().map_or(0.0, |rate| rate * (sent_at - self.told_at));
        let was_never_full = used > 0 && came_back < f64::from(self.used);
        match self.filling.filter(|_| was_never_full) {
            Some((from, gone)) if sent_at - from >= FILLING_SECONDS => {
                let came = self.others.let_in(from, sent_at) as f64 + flying as f64;
                self.refill.measured((came - f64::from(used) + f64::from(gone)) / (sent_at - from));
            }
            Some(_) => (),
            None => self.filling = (used > 0).then_some((sent_at, used)),
        }
        (self.used, self.told_at, self.heard_at) = (used, sent_at, now);
    }

    /// As [`Book::ready_at`], of a bucket that fills at `rate`: the faster the more there is in it, so that it is nearly empty
    /// where more is wanted than comes back; whoever else takes from it sees as little, and goes as slowly.
    pub(super) fn ready_bucket(&self, now: f64, waiting: usize, flying: usize, rate: f64) -> f64 {
        let left = self.left(now, flying);
        if left < 1.0 {
            return now + (1.0 - left) / rate;
        }
        let kept =
            (KEPT_BUCKET * f64::from(self.requests)).max(KEPT_BUCKET_MIN).min(0.5 * f64::from(self.requests));
        if self.at_once > 1 && waiting as f64 <= f64::from(self.at_once).min(left - kept) {
            return self.last;
        }
        // Room that is to stay unused is not asked for by going slower than it comes back.
        let rush = if self.reserve > 0.0 { 1.0 } else { RUSH };
        let idle = self.reserve / f64::from(self.requests);
        self.last + 1.0 / (rate * (1.0 - idle) * (left / kept).min(rush))
    }
}
