//! The timer that wakes the gate: the kernel's, exact to a fraction of a millisecond, or the runtime's in tests.
//!
//! A wake-up costs more than a release, so at thousands of releases a second they are taken together: once the last eight
//! wake-ups were less than 450 µs apart on average, the next is no sooner than 300 µs after the last. Below that, nobody
//! is late for the sake of others. At 10 000/s a release costs a quarter less than with 200 µs (24 µs against 32 on a machine
//! with much other work), and p99 of its lateness is 0.33 ms instead of 0.22.
//!
//! The runtime's timer wheel rounds up to a millisecond (p99 of a release: 1.7 to 2.2 ms); a timerfd is late by
//! 0.05 to 0.3 ms (see benches), which at 10/s is the difference between holding a phase and drifting out of it.

use super::clock;
use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

/// What the driver sleeps on.
#[derive(Debug)]
pub struct Timer {
    kernel: Option<Kernel>,
    /// When the kernel's timer woke, lately.
    woke: VecDeque<Instant>,
}

impl Timer {
    /// The runtime's own timer: follows paused time.
    pub fn runtime() -> Self {
        Self { kernel: None, woke: VecDeque::new() }
    }

    /// The kernel's timer, where there is one. Call inside the runtime.
    ///
    /// # Errors
    /// When the kernel gives no timer (out of file descriptors); [`Timer::runtime`] serves then.
    pub fn precise() -> io::Result<Self> {
        Ok(Self { kernel: Kernel::open()?, woke: VecDeque::with_capacity(CROWD) })
    }

    /// Sleeps until `deadline`; for ever when there is none.
    pub(super) async fn sleep_until(&mut self, deadline: Option<Instant>) {
        let Some(deadline) = deadline else { return std::future::pending().await };
        let now = clock::now();
        let left = deadline.max(self.soonest(now)).saturating_duration_since(now);
        if left.is_zero() {
            // One turn for the others: a clock that lags its timer must not spin.
            return tokio::task::yield_now().await;
        }
        match &mut self.kernel {
            Some(kernel) if left < LONG => {
                if kernel.sleep(left).await.is_ok() {
                    if self.woke.len() >= CROWD {
                        self.woke.pop_front();
                    }
                    self.woke.push_back(clock::now());
                } else {
                    self.kernel = None;
                    self.woke.clear();
                    tokio::time::sleep_until(deadline.into()).await;
                }
            }
            _ => tokio::time::sleep_until(deadline.into()).await,
        }
    }

    /// When it may wake next.
    fn soonest(&self, now: Instant) -> Instant {
        let (Some(first), Some(last)) = (self.woke.front(), self.woke.back()) else { return now };
        let crowded = self.woke.len() >= CROWD && now.saturating_duration_since(*first) < CROWD_TIME;
        if crowded { *last + WAKES_APART } else { now }
    }
}

/// So many wake-ups within such a time are many: from then on two or more releases are taken at once.
const CROWD: usize = 8;
const CROWD_TIME: Duration = Duration::from_micros(3_600);
/// The time that the kernel's timer then leaves between two wake-ups.
const WAKES_APART: Duration = Duration::from_micros(300);
/// Beyond this the precision of the kernel's timer buys nothing.
const LONG: Duration = Duration::from_mins(1);

#[cfg(target_os = "linux")]
#[derive(Debug)]
struct Kernel(tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>);

#[cfg(target_os = "linux")]
impl Kernel {
    #[expect(
        deprecated,
        reason = "its soundness question is about borrowed descriptors: this one is owned, and the successor is an unsafe fn"
    )]
    fn open() -> io::Result<Option<Self>> {
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        Ok(Some(Self(tokio::io::unix::AsyncFd::with_interest(fd, tokio::io::Interest::READABLE)?)))
    }

    async fn sleep(&mut self, left: Duration) -> io::Result<()> {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};
        let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
        let at = Timespec { tv_sec: seconds, tv_nsec: i64::from(left.subsec_nanos()) };
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(
            &self.0,
            TimerfdTimerFlags::empty(),
            &Itimerspec { it_interval: never, it_value: at },
        )?;
        // The count of expiries need not be read: setting the timer anew makes it zero, and the next expiry tells of itself.
        // One that was told of after its sleep was given up wakes the next sleep at once, which looks in vain, once.
        self.0.readable().await?.clear_ready();
        Ok(())
    }
}

#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
struct Kernel;

#[cfg(not(target_os = "linux"))]
impl Kernel {
    fn open() -> io::Result<Option<Self>> {
        Ok(None)
    }

    async fn sleep(&mut self, left: Duration) -> io::Result<()> {
        tokio::time::sleep(left).await;
        Ok(())
    }
}
