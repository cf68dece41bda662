//! The only reader of the monotonic clock, so that paused time in tests holds for the whole program.

use std::time::Instant;

/// Now, on the clock that the runtime's timers use.
#[expect(clippy::disallowed_methods, reason = "this is the one place that the ban points to")]
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
