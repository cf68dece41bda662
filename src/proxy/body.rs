//! Request bodies that can be sent again: [`Replay`] reads ahead up to a bound and keeps what it read.
//!
//! # Why
//! hyper does not notice that a client left while its body is unread, so the body is read before the request
//! queues, up to a cap. What was read is copied into one growing buffer: a slice of hyper's read buffer would keep
//! all of that buffer alive, eight kilobytes for a client that sends one byte at a time.

use super::error::{BoxError, ErrorKind, ProxyError};
use super::headers;
use super::sending::Sending;
use crate::config::ProxySettings;
use crate::gate::clock;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Body;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::time::Sleep;

/// What bodies may take, each and together.
#[derive(Debug)]
pub(super) struct Budget {
    /// Per request.
    pub(super) request_bytes_max: usize,
    /// All requests together.
    pub(super) total_bytes_max: usize,
    /// A body that brings nothing for this long ends its request.
    pub(super) idle: Duration,
    /// Bytes that a body brings at least while it is waited for so long, or its request ends.
    pub(super) idle_bytes_min: u64,
    used: AtomicUsize,
}

impl Budget {
    pub(super) fn new(settings: &ProxySettings) -> Self {
        let idle = settings.body_idle;
        let idle_bytes_min = u64::from(settings.body_rate_min).saturating_mul(idle.as_secs());
        Self {
            request_bytes_max: settings.replay_bytes_max,
            total_bytes_max: settings.replay_bytes_total_max,
            idle,
            idle_bytes_min,
            used: AtomicUsize::new(0),
        }
    }

    /// Bytes that are kept now.
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let more = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.total_bytes_max);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn give(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Memory for an answer that may be needed later, given back when dropped.
#[derive(Debug)]
pub(super) struct Hold {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Hold {
    /// `None` when all of the budget is taken.
    pub(super) fn take(budget: &Arc<Budget>, bytes: usize) -> Option<Self> {
        budget.take(bytes).then(|| Self { budget: Arc::clone(budget), bytes })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.budget.give(self.bytes);
    }
}

/// A request's body, and what has been kept of it.
#[derive(Debug)]
pub(super) struct Replay(Option<Arc<Mutex<Source>>>);

/// Incoming bodies, whatever brings them.
type Incoming = Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>;

impl Replay {
    pub(super) fn new<B>(body: B, budget: &Arc<Budget>) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if body.is_end_stream() {
            return Self(None);
        }
        let length = body.size_hint().exact();
        let incoming: Incoming = Box::pin(http_body_util::BodyExt::map_err(body, Into::into));
        let source = Source {
            incoming,
            length,
            budget: Arc::clone(budget),
            kept: VecDeque::new(),
            tail: BytesMut::new(),
            kept_bytes: 0,
            beyond: None,
            trailers: None,
            state: State::Open,
            retained: true,
            touched: false,
            is_delivered: false,
            attempt: 0,
            pace: Pace::default(),
            progress: clock::now(),
        };
        Self(Some(Arc::new(Mutex::new(source))))
    }

    /// Reads until the body is complete or its cap is reached.
    pub(super) async fn fill(&self) -> Result<(), ProxyError> {
        let Some(source) = &self.0 else { return Ok(()) };
        std::future::poll_fn(|cx| lock(source).poll_fill(cx)).await
    }

    /// Could it be sent once more, byte for byte?
    pub(super) fn can_replay(&self) -> bool {
        self.0.as_ref().is_none_or(|source| {
            let source = lock(source);
            source.retained && !matches!(source.state, State::Failed(_))
        })
    }

    /// Could it be sent after an attempt of which nothing left?
    pub(super) fn can_resend(&self) -> bool {
        self.can_replay() || self.0.as_ref().is_none_or(|source| !lock(source).touched)
    }

    /// When the client last brought something that was sent on directly.
    pub(super) fn progress(&self) -> Option<Instant> {
        self.0.as_ref().map(|source| lock(source).progress)
    }

    /// Why the client's body cannot be sent, if that is so.
    pub(super) fn failure(&self) -> Option<ProxyError> {
        match &lock(self.0.as_ref()?).state {
            State::Failed(failure) => Some(failure.to_error()),
            _ => None,
        }
    }

    /// The body for one attempt. Earlier ones end.
    pub(super) fn start(&self) -> Sending {
        self.0.as_ref().map_or_else(Sending::nothing, Sending::of)
    }

    /// Has all of the body been handed over to the connection of the latest attempt?
    pub(super) fn is_delivered(&self) -> bool {
        self.0.as_ref().is_none_or(|source| lock(source).is_delivered)
    }
}

/// A body as it comes from the client, and what is kept of it.
pub(super) struct Source {
    incoming: Incoming,
    /// The length that the client announced.
    pub(super) length: Option<u64>,
    budget: Arc<Budget>,
    /// What was read, in order; `tail` comes last.
    pub(super) kept: VecDeque<Bytes>,
    tail: BytesMut,
    pub(super) kept_bytes: usize,
    /// The chunk that no longer fitted.
    pub(super) beyond: Option<Bytes>,
    pub(super) trailers: Option<HeaderMap>,
    pub(super) state: State,
    /// Everything read so far is kept.
    pub(super) retained: bool,
    /// An attempt has taken something that is not kept.
    pub(super) touched: bool,
    /// The latest attempt has got all of it.
    pub(super) is_delivered: bool,
    /// Which attempt may read; earlier ones end.
    pub(super) attempt: u32,
    pace: Pace,
    progress: Instant,
}

/// How fast a body comes, counted while it is waited for: what we keep waiting is not the client's doing.
#[derive(Debug, Default)]
struct Pace {
    /// Since when it is waited for, and until when.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
    /// How long it was waited for since the count began.
    waited: Duration,
    /// What came since.
    bytes: u64,
}

impl Pace {
    /// Something came.
    fn came(&mut self, bytes: usize) {
        if let Some((since, _)) = self.waiting.take() {
            self.waited += clock::now().saturating_duration_since(since);
        }
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// Nothing is there; `Err` when that has been so for too long, or too little came meanwhile.
    fn poll_wait(&mut self, cx: &mut Context<'_>, budget: &Budget) -> Result<(), Failure> {
        if self.waited >= budget.idle {
            if self.bytes < budget.idle_bytes_min {
                return Err(Failure::Slow);
            }
            (self.waited, self.bytes) = (Duration::ZERO, 0);
        }
        // Who has brought enough for now still has to go on.
        let is_enough = self.bytes >= budget.idle_bytes_min;
        let patience = if is_enough { budget.idle } else { budget.idle.saturating_sub(self.waited) };
        let start = || (clock::now(), Box::pin(tokio::time::sleep(patience)));
        let (_, sleep) = self.waiting.get_or_insert_with(start);
        if sleep.as_mut().poll(cx).is_pending() {
            return Ok(());
        }
        Err(if is_enough || self.bytes == 0 { Failure::Idle } else { Failure::Slow })
    }
}

/// How far a body has come.
#[derive(Debug)]
pub(super) enum State {
    Open,
    Ended,
    Failed(Failure),
}

/// Why a body does not go on.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the request body broke off: {0}")]
    Broken(String),
    #[error("the request body brought nothing for too long")]
    Idle,
    #[error("the request body came too slowly")]
    Slow,
    #[error("another attempt sends this body")]
    Superseded,
}

impl Failure {
    fn to_error(&self) -> ProxyError {
        match self {
            Self::Idle | Self::Slow => ProxyError::new(
                ErrorKind::BodyTimeout,
                "The request body did not arrive in time. Nothing of the request was answered by the API.",
            ),
            Self::Broken(_) | Self::Superseded => {
                ProxyError::new(ErrorKind::BodyBroken, "The request body broke off.").because(self.clone())
            }
        }
    }
}

impl Source {
    /// From now on only the attempt whose number this returns may read.
    pub(super) fn begin_attempt(&mut self) -> u32 {
        self.attempt += 1;
        self.is_delivered = false;
        self.seal();
        self.attempt
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ProxyError>> {
        loop {
            match &self.state {
                State::Ended => return Poll::Ready(Ok(())),
                State::Failed(failure) => return Poll::Ready(Err(failure.to_error())),
                State::Open if !self.retained => return Poll::Ready(Ok(())),
                State::Open => (),
            }
            let was_retained = self.retained;
            match ready!(self.poll_next(cx)) {
                Some(Ok(data)) if was_retained && !self.retained => self.beyond = Some(data),
                _ => (),
            }
        }
    }

    /// The next chunk from the client, kept if it may be. Trailers are put aside.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        loop {
            let frame = match self.incoming.as_mut().poll_frame(cx) {
                Poll::Pending => match self.pace.poll_wait(cx, &self.budget) {
                    Ok(()) => return Poll::Pending,
                    Err(failure) => return Poll::Ready(Some(Err(self.fail(failure)))),
                },
                Poll::Ready(frame) => frame,
            };
            let came = match &frame {
                Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
                _ => 0,
            };
            self.pace.came(came);
            self.progress = clock::now();
            match frame {
                None => {
                    self.state = State::Ended;
                    return Poll::Ready(None);
                }
                Some(Err(error)) => {
                    return Poll::Ready(Some(Err(self.fail(Failure::Broken(error.to_string())))));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        if self.incoming.is_end_stream() {
                            self.state = State::Ended;
                        }
                        self.keep(&data);
                        return Poll::Ready(Some(Ok(data)));
                    }
                    Err(frame) => {
                        self.trailers = frame.into_trailers().ok();
                        if let Some(trailers) = &mut self.trailers {
                            headers::trailing(trailers);
                        }
                    }
                },
            }
        }
    }

    fn keep(&mut self, data: &Bytes) {
        if !self.retained {
            return;
        }
        let fits = self.kept_bytes + data.len() <= self.budget.request_bytes_max;
        if fits && self.budget.take(data.len()) {
            self.kept_bytes += data.len();
            self.tail.extend_from_slice(data);
        } else {
            self.retained = false;
            self.seal();
        }
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            let sealed = std::mem::take(&mut self.tail).freeze();
            self.kept.push_back(sealed);
        }
    }

    pub(super) fn release(&mut self, bytes: usize) {
        self.kept_bytes -= bytes;
        self.budget.give(bytes);
    }

    fn fail(&mut self, failure: Failure) -> Failure {
        self.state = State::Failed(failure.clone());
        failure
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.budget.give(self.kept_bytes);
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("kept_bytes", &self.kept_bytes)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

pub(super) fn lock(source: &Mutex<Source>) -> MutexGuard<'_, Source> {
    source.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body::Frame;
    use http_body_util::BodyExt;
    use proptest::prelude::*;
    use std::convert::Infallible;

    fn budget(replay_bytes_max: usize, replay_bytes_total_max: usize) -> Arc<Budget> {
        let settings = ProxySettings { replay_bytes_max, replay_bytes_total_max, ..ProxySettings::default() };
        Arc::new(Budget::new(&settings))
    }

    /// A body in pieces, with no announced length.
    struct Pieces(VecDeque<Frame<Bytes>>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(Ok))
        }
    }

    fn pieces(sizes: &[usize], trailers: Option<HeaderMap>) -> (Pieces, Vec<u8>) {
        let mut whole = Vec::new();
        let mut frames = VecDeque::new();
        for (index, size) in sizes.iter().enumerate() {
            let data = vec![u8::try_from(index % 256).unwrap(); *size];
            whole.extend_from_slice(&data);
            frames.push_back(Frame::data(Bytes::from(data)));
        }
        frames.extend(trailers.map(Frame::trailers));
        (Pieces(frames), whole)
    }

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(work)
    }

    proptest! {
        #[test]
        fn every_attempt_sends_the_same_bytes_and_memory_comes_back(
            sizes in proptest::collection::vec(0_usize..60, 0..20),
            cap in 0_usize..600,
            total in 0_usize..600,
            is_filled in any::<bool>(),
            broken_off in proptest::collection::vec(0_usize..5, 0..3),
            has_trailers in any::<bool>(),
        ) {
            run(async {
                let trailers = has_trailers.then(|| HeaderMap::from_iter([(http::header::ETAG, "x".parse().unwrap())]));
                let (body, whole) = pieces(&sizes, trailers.clone());
                let budget = budget(cap, total);
                let replay = Replay::new(body, &budget);
                if is_filled {
                    replay.fill().await.unwrap();
                    prop_assert!(budget.used() <= cap.min(total));
                    prop_assert_eq!(replay.can_replay(), whole.len() <= cap.min(total));
                }
                // Attempts that were broken off somewhere; the next may follow as long as it can be replayed.
                for frames in broken_off {
                    let mut attempt = replay.start();
                    for _ in 0..frames {
                        let _frame = attempt.frame().await;
                    }
                    if !replay.can_resend() {
                        return Ok(());
                    }
                }
                let sent = replay.start().collect().await.unwrap();
                prop_assert_eq!(sent.trailers(), trailers.as_ref());
                prop_assert_eq!(&sent.to_bytes()[..], &whole[..]);
                prop_assert!(replay.is_delivered());
                if replay.can_replay() {
                    prop_assert_eq!(&replay.start().collect().await.unwrap().to_bytes()[..], &whole[..]);
                }
                drop(replay);
                prop_assert_eq!(budget.used(), 0);
                Ok(())
            })?;
        }
    }

    #[test]
    fn an_earlier_attempt_ends_when_the_next_begins() {
        run(async {
            let (body, _) = pieces(&[3, 3], None);
            let replay = Replay::new(body, &budget(100, 100));
            let mut first = replay.start();
            assert!(first.frame().await.unwrap().is_ok());
            let second = replay.start();
            assert!(first.frame().await.unwrap().is_err());
            assert_eq!(second.collect().await.unwrap().to_bytes(), &[0, 0, 0, 1, 1, 1][..]);
        });
    }

    #[test]
    fn a_body_without_end_is_a_failure_and_a_known_length_is_told() {
        run(async {
            let budget = budget(100, 100);
            let known = Replay::new(http_body_util::Full::new(Bytes::from_static(b"abc")), &budget);
            assert_eq!(known.start().size_hint().exact(), Some(3));
            let (sender, silent) = http_body_util::channel::Channel::<Bytes, Infallible>::new(1);
            let replay = Replay::new(silent, &budget);
            assert_eq!(replay.fill().await.unwrap_err().kind, ErrorKind::BodyTimeout);
            assert_eq!(replay.failure().unwrap().kind, ErrorKind::BodyTimeout);
            assert!(!replay.can_replay());
            drop(sender);
        });
    }

    /// How long a body that brings `bytes` every `period`, a hundred times, is read, and why no longer.
    async fn read_at(bytes: usize, period: Duration) -> (Duration, Option<ErrorKind>) {
        let (mut sender, body) = http_body_util::channel::Channel::<Bytes, Infallible>::new(1);
        let replay = Replay::new(body, &budget(1_000_000, 1_000_000));
        let start = clock::now();
        let feed = async move {
            for _ in 0..100 {
                tokio::time::sleep(period).await;
                sender.send_data(Bytes::from(vec![0; bytes])).await.unwrap();
            }
            drop(sender);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            filled = replay.fill() => (clock::now() - start, filled.err().map(|error| error.kind)),
            () = feed => unreachable!(),
        }
    }

    #[test]
    fn a_body_that_trickles_is_given_up_and_one_that_is_only_slow_is_not() {
        run(async {
            let seconds = Duration::from_secs;
            for (bytes, period) in [(1, 1), (1_000, 3), (100_000, 31)] {
                let (after, failure) = read_at(bytes, seconds(period)).await;
                assert_eq!(failure, Some(ErrorKind::BodyTimeout));
                assert!(after >= seconds(30) && after < seconds(31), "{bytes} {period}: {after:?}");
            }
            // 600 bytes/s, in pieces that are five seconds apart.
            let (after, failure) = read_at(3_000, seconds(5)).await;
            assert_eq!(failure, None);
            assert!(after >= seconds(500), "{after:?}");
        });
    }
}
