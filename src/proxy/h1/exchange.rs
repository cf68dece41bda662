//! One exchange with an upstream: the request out, the answer's head in, both at the same time.
//!
//! It is the future of the request that it is for: no task runs for a connection, and nothing has to be told to one.

use super::super::arriving::Coming;
use super::super::error::BoxError;
use super::super::fields::Fields;
use super::super::grammar::{Fault, bad};
use super::super::message::Reply;
use super::super::pool::Lease;
use super::super::sending::Sending;
use super::super::upstream::Outgoing;
use super::answer::{Answer, Body, Reader};
use super::download::{Download, Until};
use super::link::Link;
use super::out::Out;
use super::write::Framing;
use super::{Limits, ask};
use crate::observe::ClosedBy;
use http::header::EXPECT;
use http::{HeaderValue, Method, StatusCode};
use http_body::Body as _;
use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A request on its way, and the head of its answer.
pub(in crate::proxy) struct Exchange {
    lease: Lease,
    upload: Upload,
    reader: Reader,
    /// The method is HEAD.
    head_alone: bool,
    /// Some of what is unread has not been looked at.
    is_fresh: bool,
    /// Answers before the answer.
    interims: usize,
}

/// A request on its way.
pub(super) struct Upload {
    /// Until all of it is taken.
    body: Option<Sending>,
    framing: Framing,
    /// How long the body waits to be asked for.
    uninvited: Option<Pin<Box<Sleep>>>,
    /// Some of it has left.
    has_begun: bool,
    /// The upstream takes no more of it.
    is_refused: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(in crate::proxy) enum Lost {
    #[error("what came is no answer: {}", .0.detail)]
    Nonsense(Fault),
    #[error("the connection was closed")]
    Closed,
    #[error("the connection failed")]
    Failed(#[from] io::Error),
    #[error("the request broke off")]
    Broken(#[source] BoxError),
}

impl Exchange {
    /// The exchange of `head` and `body` for an answer over `lease`.
    pub(in crate::proxy) fn new(
        mut lease: Lease,
        head: &Outgoing,
        host: &HeaderValue,
        body: Sending,
    ) -> Self {
        let body = Some(body).filter(|body| !body.is_end_stream());
        let framing = match body.as_ref().map(|body| body.size_hint().exact()) {
            None => Framing::Nothing,
            Some(Some(length)) => Framing::Exact(length),
            Some(None) => Framing::Chunked { trailers: true },
        };
        ask::head(head, host, framing, lease.link().out.bytes());
        let is_uninvited = body.is_some() && head.fields.has(&EXPECT);
        let uninvited = is_uninvited.then(|| Box::pin(sleep(PATIENCE)));
        let upload = Upload { body, framing, uninvited, has_begun: false, is_refused: false };
        let head_alone = head.method == Method::HEAD;
        Self { lease, upload, reader: Reader::default(), head_alone, is_fresh: false, interims: 0 }
    }

    /// Has nothing of the request left?
    pub(in crate::proxy) fn is_unsent(&self) -> bool {
        !self.upload.has_begun
    }

    /// Ready when `due` has come.
    pub(in crate::proxy) fn poll_patience(&mut self, due: Instant, cx: &mut Context<'_>) -> Poll<()> {
        self.lease.link().alarm.poll(cx, due)
    }

    /// Sends what can be sent, and reads until the answer's head is there.
    pub(in crate::proxy) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head, Lost>> {
        let polled = self.poll_answer(cx);
        if let Poll::Ready(Err(Lost::Closed | Lost::Failed(_))) = polled {
            self.lease.ended(ClosedBy::Upstream);
        }
        polled
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head, Lost>> {
        let mut room = [MaybeUninit::uninit(); HEAD_READ];
        loop {
            self.upload.poll(self.lease.link(), cx)?;
            if std::mem::take(&mut self.is_fresh) {
                let mut unread = std::mem::take(&mut self.lease.link().unread);
                let (answer, length) = self.look(&unread)?;
                bytes::Buf::advance(&mut unread, length);
                self.lease.link().unread = unread;
                if let Some(answer) = answer {
                    return Poll::Ready(Ok(Head(answer)));
                }
                // An interim answer may have asked for the body.
                self.upload.poll(self.lease.link(), cx)?;
            }
            let mut read = ReadBuf::uninit(&mut room);
            ready!(Pin::new(&mut self.lease.link().stream).poll_read(cx, &mut read))?;
            let new = read.filled();
            if new.is_empty() {
                return Poll::Ready(Err(Lost::Closed));
            }
            if !self.lease.link().unread.is_empty() {
                self.lease.link().unread.extend_from_slice(new);
                self.is_fresh = true;
                continue;
            }
            // The usual case: all of the head is here, and nothing has to be kept.
            let (answer, length) = self.look(new)?;
            self.lease.link().unread.extend_from_slice(new.get(length..).unwrap_or_default());
            if let Some(answer) = answer {
                return Poll::Ready(Ok(Head(answer)));
            }
        }
    }

    /// The answer, if its head is in `bytes`, and how many of them are done with.
    fn look(&mut self, bytes: &[u8]) -> Result<(Option<Answer>, usize), Lost> {
        let mut from = 0;
        loop {
            let rest = bytes.get(from..).unwrap_or_default();
            let found = self.reader.read(rest, self.head_alone, &LIMITS).map_err(Lost::Nonsense)?;
            let Some((answer, length)) = found else { return Ok((None, from)) };
            from += length;
            self.reader = Reader::default();
            let status = answer.reply.status;
            if !status.is_informational() {
                return Ok((Some(answer), from));
            }
            self.interims += 1;
            if status == StatusCode::SWITCHING_PROTOCOLS {
                return Err(Lost::Nonsense(bad("It switched protocols without being asked.")));
            }
            if self.interims > INTERIMS_MAX {
                return Err(Lost::Nonsense(bad("It sent interim answers without end.")));
            }
            if status == StatusCode::CONTINUE {
                self.upload.uninvited = None;
            }
        }
    }

    /// The answer, and what is to come of it. Its connection is kept for `keep` when all of it has come.
    pub(in crate::proxy) fn finish(
        self,
        Head(answer): Head,
        keep: impl FnOnce(&Fields) -> Duration,
    ) -> Reply<Coming> {
        let Self { mut lease, upload, .. } = self;
        let Answer { reply, keeps } = answer;
        let keep = keeps.then(|| keep(&reply.fields));
        let Reply { status, reason, fields, body } = reply;
        let until = match body {
            Body::Here(bytes) => {
                Download::end(lease, &upload, keep);
                return Reply { status, reason, fields, body: Coming::Whole(bytes) };
            }
            Body::Exact(length) => Until::Exact(length),
            Body::Chunked => Until::chunked(),
            Body::Close => Until::Close,
        };
        let is_early = !upload.is_over(lease.link());
        let download = Download::new(lease, until, keep, upload);
        let body = if is_early { Coming::apart(download) } else { Coming::Here(Box::new(download)) };
        Reply { status, reason, fields, body }
    }
}

/// The head of an answer.
pub(in crate::proxy) struct Head(Answer);

impl Upload {
    /// Has all of the request left?
    pub(super) fn is_over(&self, link: &Link) -> bool {
        self.body.is_none() && !self.is_refused && link.out.is_empty()
    }

    /// Sends what can be sent now.
    pub(super) fn poll(&mut self, link: &mut Link, cx: &mut Context<'_>) -> Result<(), Lost> {
        loop {
            let waits = self.fill(&mut link.out, cx)?;
            while !link.out.is_empty() {
                match link.poll_send(cx) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(Ok(count)) => self.has_begun |= count > 0,
                    // Why it takes no more of what it began to take may stand in the answer.
                    Poll::Ready(Err(error)) if self.has_begun && error.kind() != io::ErrorKind::TimedOut => {
                        self.is_refused = true;
                        self.body = None;
                        link.out = Out::default();
                    }
                    Poll::Ready(Err(error)) => return Err(error.into()),
                }
            }
            if waits || self.body.is_none() {
                return Ok(());
            }
        }
    }

    /// Puts what there is of the body behind what is to be sent. Whether it has to be waited for.
    fn fill(&mut self, out: &mut Out, cx: &mut Context<'_>) -> Result<bool, Lost> {
        while let Some(body) = self.body.as_mut().filter(|_| out.has_room()) {
            if let Some(patience) = &mut self.uninvited {
                if patience.as_mut().poll(cx).is_pending() {
                    return Ok(true);
                }
                self.uninvited = None;
            }
            let is_over = match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending => return Ok(true),
                Poll::Ready(Some(Err(error))) => return Err(Lost::Broken(error)),
                Poll::Ready(Some(Ok(frame))) => {
                    self.framing.frame(frame, out).map_err(|_| Lost::Broken(OtherLength.into()))?;
                    // Nothing can be put behind what is large.
                    body.is_end_stream() && out.has_room()
                }
                Poll::Ready(None) => true,
            };
            if is_over {
                self.body = None;
                if !self.framing.finish(out) {
                    return Err(Lost::Broken(OtherLength.into()));
                }
            }
        }
        Ok(false)
    }
}

/// A body is longer or shorter than was said.
#[derive(Debug, thiserror::Error)]
#[error("the body is not as long as was said")]
struct OtherLength;

/// What answers may have at most: far beyond what any has that is one.
pub(super) const LIMITS: Limits = Limits { head_bytes: 128 * 1024, fields: 200, chunk_line_bytes: 16 * 1024 };

/// Answers before the answer.
const INTERIMS_MAX: usize = 100;

/// How long to wait for 100 Continue before the body is sent all the same, as curl does.
const PATIENCE: Duration = Duration::from_secs(1);

/// Room for a head that comes; a longer one takes several reads.
const HEAD_READ: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::super::super::arriving::Arriving;
    use super::super::super::body::{Budget, Replay};
    use super::super::super::pool::{Bounds, Housed, Pool, Turn};
    use super::super::chunked::{Chunks, Piece};
    use super::super::cuts;
    use super::*;
    use crate::config::ProxySettings;
    use bytes::{Bytes, BytesMut};
    use http::HeaderMap;
    use http_body_util::channel::Channel;
    use http_body_util::{BodyExt, Full};
    use hyper_util::rt::TokioIo;
    use proptest::prelude::*;
    use std::convert::Infallible;
    use std::future::poll_fn;
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    /// A connection that takes so many bytes at once, and its other end.
    async fn connection(room: usize) -> (Arc<Pool>, Lease, DuplexStream) {
        let settings = ProxySettings::default();
        let pool = Arc::new(Pool::new(Bounds::of(&settings, 0, 1), false));
        let Ok(Turn::Place(place)) = pool.turn(false).await else { unreachable!("nothing is there") };
        let (ours, theirs) = duplex(room);
        let (room, making) = place.split();
        making.done(false);
        let housed = Housed::new(Box::new(TokioIo::new(ours)), room, Duration::from_secs(1));
        let lease = pool.adopt_http1(housed);
        (pool, lease, theirs)
    }

    fn outgoing(method: Method) -> Outgoing {
        Outgoing { method, target: "/".parse().unwrap(), fields: Fields::default() }
    }

    /// What an exchange comes to: the head, the body with its trailers if it is whole; and whether the connection is kept.
    type End = (Option<(String, Option<(Bytes, Option<HeaderMap>)>)>, bool);

    async fn end(
        lease: Lease,
        method: Method,
        body: Sending,
    ) -> Option<(String, Option<(Bytes, Option<HeaderMap>)>)> {
        let host = HeaderValue::from_static("api");
        let mut exchange = Exchange::new(lease, &outgoing(method), &host, body);
        let head = poll_fn(|cx| exchange.poll(cx)).await.ok()?;
        let reply = exchange.finish(head, |_| Duration::from_secs(9));
        let said = format!("{:?} {:?}", reply.status, reply.fields);
        let body = Arriving::new(reply.body, Duration::from_secs(9)).collect().await.ok();
        let body = body
            .map(|body| (body.trailers().cloned(), body.to_bytes()))
            .map(|(trailers, data)| (data, trailers));
        Some((said, body))
    }

    /// What comes of an answer that comes in pieces that end where `cuts` say.
    fn answered(method: &Method, bytes: &[u8], cuts: &[usize]) -> End {
        run(async {
            let (pool, lease, mut theirs) = connection(1 << 20).await;
            let feed = async {
                let mut from = 0;
                for to in cuts.iter().copied().chain([bytes.len()]) {
                    theirs.write_all(&bytes[from..to]).await.ok();
                    from = to;
                    sleep(Duration::from_millis(1)).await;
                }
                theirs.shutdown().await.ok();
            };
            let kept = async {
                let ended = end(lease, method.clone(), Sending::nothing()).await;
                let mut seen = crate::observe::Connections::default();
                pool.add_to(&mut seen);
                (ended, seen.idle == 1)
            };
            tokio::join!(feed, kept).1
        })
    }

    fn run<T>(work: impl Future<Output = T>) -> T {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().start_paused(true).build().unwrap().block_on(work)
    }

    const ANSWERS: [&str; 4] = [
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 11\r\n\r\nhello world",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5  \r\nhello\r\n6;x=y\r\n world\r\n0\r\nx-t: 1\r\n\r\n",
        "HTTP/1.0 404 Nowhere\r\nContent-Type: text/plain\r\n\r\nhello world",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 11\r\nKeep-Alive: timeout=5\r\n\r\n",
    ];

    #[test]
    fn an_answer_is_the_same_wherever_a_read_ends() {
        for (answer, whole) in ANSWERS.into_iter().zip([true, true, true, false]) {
            let method = Method::GET;
            let expected = answered(&method, answer.as_bytes(), &[]);
            let body = expected.0.as_ref().unwrap().1.as_ref().unwrap();
            assert_eq!(body.0, if whole { "hello world" } else { "" });
            for cut in 0..answer.len() {
                assert_eq!(answered(&method, answer.as_bytes(), &[cut]), expected, "{answer:?} at {cut}");
            }
        }
    }

    proptest! {
        #[test]
        fn where_reads_end_makes_no_difference_to_an_answer(
            which in 0..ANSWERS.len(),
            head_alone in any::<bool>(),
            place in 0..100_usize,
            byte in any::<u8>(),
            cuts in cuts(100),
        ) {
            let mut bytes = ANSWERS[which].as_bytes().to_vec();
            let length = bytes.len();
            bytes[place % length] = byte;
            let cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(length)).collect();
            let method = if head_alone { Method::HEAD } else { Method::GET };
            let (whole, pieces) = (answered(&method, &bytes, &[]), answered(&method, &bytes, &cuts));
            prop_assert_eq!(whole.0, pieces.0);
        }

        #[test]
        fn a_request_arrives_whole_however_little_is_taken(
            sizes in proptest::collection::vec(1_usize..9_000, 1..8),
            is_long in any::<bool>(),
            has_length in any::<bool>(),
            room in 1_usize..20_000,
        ) {
            run(async {
                let sizes: Vec<_> = sizes.into_iter().map(|size| if is_long { size } else { size % 50 + 1 }).collect();
                let pieces = sizes.iter().enumerate().map(|(index, size)| vec![u8::try_from(index).unwrap(); *size]);
                let pieces: Vec<Bytes> = pieces.map(Bytes::from).collect();
                let whole = pieces.concat();
                let budget = Arc::new(Budget::new(&ProxySettings::default()));
                let (mut sender, channel) = Channel::<Bytes, Infallible>::new(1);
                let replay = if has_length {
                    drop(channel);
                    Replay::new(Full::new(Bytes::from(whole.clone())), &budget)
                } else {
                    Replay::new(channel, &budget)
                };
                let (pool, lease, mut theirs) = connection(room).await;
                let feed = async move {
                    for piece in pieces {
                        sender.send_data(piece).await.ok();
                    }
                };
                let origin = async {
                    let mut bytes = BytesMut::new();
                    let end = loop {
                        if let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
                            break end + 4;
                        }
                        theirs.read_buf(&mut bytes).await.unwrap();
                    };
                    let head = String::from_utf8(bytes.split_to(end).to_vec()).unwrap();
                    assert_eq!(head.contains("transfer-encoding: chunked\r\n"), !has_length);
                    let (mut chunks, mut body) = (Chunks::new(), Vec::new());
                    loop {
                        if has_length {
                            body.extend_from_slice(&bytes.split());
                            if body.len() >= whole.len() {
                                break;
                            }
                        }
                        match chunks.next(&mut bytes, &LIMITS).map(|piece| piece.filter(|_| !has_length)) {
                            Ok(Some(Piece::Data(data))) => body.extend_from_slice(&data),
                            Ok(Some(Piece::End(_))) => break,
                            Ok(None) => assert!(theirs.read_buf(&mut bytes).await.unwrap() > 0),
                            Err(fault) => panic!("{fault:?}"),
                        }
                    }
                    theirs.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
                    assert!(body == whole && bytes.is_empty());
                };
                let ((), (), answer) = tokio::join!(feed, origin, end(lease, Method::POST, replay.start()));
                prop_assert!(answer.is_some());
                let mut seen = crate::observe::Connections::default();
                pool.add_to(&mut seen);
                prop_assert_eq!(seen.idle, 1, "it is kept");
                Ok(())
            })?;
        }
    }
}
