//! The life of an HTTP/1.1 connection: heads in, answers out, one after the other.
//!
//! While a request is served its connection is looked at too: for the next piece of its body if somebody wants it, and
//! for the client that leaves.

use super::super::Proxy;
use super::super::connection::{LINGER, linger};
use super::super::fields::Fields;
use super::super::message::{Asking, Reply};
use super::super::peer::Peer;
use super::super::respond::HEAD_TIMEOUT;
use super::super::socket::Transport;
use super::super::tracked::Tracked;
use super::body::{Asks, Body, Feed, body};
use super::date;
use super::head::{Head, OTHER_PROTOCOL};
use super::line::{Ended, Found, Line};
use super::write::{After, Asked, Framing, head};
use crate::config::ProxySettings;
use bytes::BytesMut;
use http::header::CONNECTION;
use http::{HeaderValue, Method, Uri, Version};
use http_body::Body as _;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::time::timeout;

/// Serves a connection of which `first` has been read, until it ends.
pub(in crate::proxy) async fn serve(
    transport: Transport,
    first: BytesMut,
    proxy: Proxy,
    peer: Peer,
    drain: watch::Receiver<bool>,
) {
    let settings = proxy.settings();
    let kept = kept_for(settings);
    let mut line = Line::new(transport, first, settings, drain);
    let ended = loop {
        let found = poll_fn(|cx| line.poll_head(cx)).await;
        let answered = match found {
            Ok(Err((OTHER_PROTOCOL, _))) => {
                tracing::debug!("a client speaks neither HTTP/1 nor HTTP/2");
                break Ended::Said;
            }
            Ok(found) => {
                let (asking, body, terms) = read(&mut line, found);
                let service = Box::pin(proxy.answer(asking, body, peer, |reply| reply));
                let mut exchange = Exchange { service: Some(service), download: None, terms };
                poll_fn(|cx| exchange.poll(&mut line, kept.as_ref(), cx)).await
            }
            Err(ended) => Err(ended),
        };
        match answered {
            Ok(true) => line.goes_on(),
            Ok(false) => break Ended::Said,
            Err(ended) => break ended,
        }
    };
    Box::pin(end(line, ended)).await;
}

/// What a kept connection is told of how long it is kept: a second less, so that no request crosses the close.
fn kept_for(settings: &ProxySettings) -> Option<HeaderValue> {
    let seconds = settings.keep_alive_idle.as_secs().checked_sub(1).filter(|seconds| *seconds > 0)?;
    HeaderValue::try_from(format!("timeout={seconds}")).ok()
}

/// One request and its answer. No `async fn`: what it keeps beside the service is part of each connection, idle or not.
struct Exchange<F> {
    /// Until it has answered.
    service: Option<Pin<Box<F>>>,
    /// From then on.
    download: Option<Download>,
    terms: Terms,
}

/// What is known of a request beside what is asked of the service.
struct Terms {
    asked: Asked,
    keeps: bool,
    upload: Upload,
}

/// A request's body on its way, if it has not come whole.
struct Upload {
    feed: Option<Feed>,
    /// The client waits for a word before it sends the body.
    is_uninvited: bool,
    /// It is too late for that word.
    is_answered: bool,
}

/// An answer on its way.
struct Download {
    /// What is to come of it.
    body: Option<Tracked>,
    framing: Framing,
    /// It does not come to its end.
    is_cut: bool,
    /// All of it is gone.
    is_sent: bool,
    /// No request follows.
    is_last: bool,
}

/// Makes a request of what was found, refused heads too: so that each is answered in its turn, and told.
fn read(line: &mut Line<'_>, found: Found) -> (Box<Asking>, Body, Terms) {
    match found {
        Ok(Head { mut asking, length, keeps, expects, trailers }) => {
            let (body, feed) = body(length, &mut line.unread);
            let head_alone = asking.method == Method::HEAD;
            let asked = Asked { version: asking.version, head_alone, trailers };
            let is_uninvited = expects && feed.is_some() && line.unread.is_empty();
            let upload = Upload { feed, is_uninvited, is_answered: false };
            asking.waits = is_uninvited;
            (asking, body, Terms { asked, keeps, upload })
        }
        Err((fault, method)) => {
            let head_alone = method == Some(Method::HEAD);
            let (method, version) = (method.unwrap_or_default(), Version::HTTP_11);
            let (uri, fields) = (Uri::default(), Fields::default());
            let asking = Box::new(Asking { method, uri, version, fields, waits: false, fault: Some(fault) });
            let asked = Asked { version: Version::HTTP_11, head_alone, trailers: false };
            let upload = Upload { feed: None, is_uninvited: false, is_answered: false };
            (asking, Body::none(), Terms { asked, keeps: false, upload })
        }
    }
}

impl<F: Future<Output = Reply<Tracked>>> Exchange<F> {
    /// Whether another request may follow, when this one is over.
    fn poll(
        &mut self,
        line: &mut Line<'_>,
        kept: Option<&HeaderValue>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<bool, Ended>> {
        if let Some(service) = &mut self.service {
            let reply = ready!(poll_reply(line, cx, service.as_mut(), &mut self.terms.upload))?;
            self.service = None;
            self.download = Some(self.terms.answer(line, kept, reply, cx));
        }
        let Some(download) = &mut self.download else { return Poll::Ready(Ok(false)) };
        if !download.is_sent {
            ready!(poll_answer(line, cx, download, &mut self.terms.upload))?;
            download.is_sent = true;
        }
        if download.is_last { Poll::Ready(Ok(false)) } else { poll_upload(line, cx, &mut self.terms.upload) }
    }
}

impl Terms {
    /// Writes the head of the answer.
    fn answer(
        &mut self,
        line: &mut Line<'_>,
        kept: Option<&HeaderValue>,
        reply: Reply<Tracked>,
        cx: &mut Context<'_>,
    ) -> Download {
        self.upload.is_answered = true;
        let body = &reply.body;
        let length = if body.is_end_stream() { Some(0) } else { body.size_hint().exact() };
        let framing = Framing::of(&reply, length, self.asked);
        let is_last = !self.keeps
            || framing == Framing::Close
            || line.is_draining()
            || reply.fields.has(&CONNECTION)
            || !self.upload.may_end(line, cx);
        let after = match kept {
            _ if is_last => After::Close,
            // One that speaks HTTP/1.0 is left with what it knows.
            Some(_) if self.asked.version == Version::HTTP_10 => After::Keep(None),
            kept => After::Keep(kept),
        };
        head(&reply, framing, self.asked, after, date::write, line.out.bytes());
        let body = Some(reply.body).filter(|_| framing != Framing::Nothing);
        Download { body, framing, is_cut: false, is_sent: false, is_last }
    }
}

fn poll_reply(
    line: &mut Line<'_>,
    cx: &mut Context<'_>,
    mut service: Pin<&mut impl Future<Output = Reply<Tracked>>>,
    upload: &mut Upload,
) -> Poll<Result<Reply<Tracked>, Ended>> {
    loop {
        if let Poll::Ready(reply) = service.as_mut().poll(cx) {
            return Poll::Ready(Ok(reply));
        }
        match upload.poll_next(line, cx) {
            Poll::Ready(given) => given?,
            Poll::Pending => return line.poll_gone(cx).map(|()| Err(Ended::Left)),
        }
    }
}

fn poll_answer(
    line: &mut Line<'_>,
    cx: &mut Context<'_>,
    download: &mut Download,
    upload: &mut Upload,
) -> Poll<Result<(), Ended>> {
    loop {
        let waits = download.fill(line, cx);
        let Poll::Ready(sent) = line.poll_send(cx) else { break };
        sent?;
        if download.body.is_none() {
            let is_hidden = download.framing == Framing::Close;
            return Poll::Ready(if download.is_cut { Err(Ended::Cut { is_hidden }) } else { Ok(()) });
        }
        if waits {
            break;
        }
    }
    // The upstream may answer while it still reads.
    while let Poll::Ready(given) = upload.poll_next(line, cx) {
        given?;
    }
    line.poll_gone(cx).map(|()| Err(Ended::Left))
}

/// After the answer: the rest of the request's body, as long as somebody reads it. Whether another request may follow.
fn poll_upload(line: &mut Line<'_>, cx: &mut Context<'_>, upload: &mut Upload) -> Poll<Result<bool, Ended>> {
    loop {
        let Some(feed) = &mut upload.feed else { return Poll::Ready(Ok(true)) };
        if !feed.is_open() {
            return Poll::Ready(Ok(feed.is_over()));
        }
        if feed.poll_asks(cx) == Asks::Left {
            return Poll::Ready(Ok(upload.may_end(line, cx)));
        }
        match upload.poll_next(line, cx) {
            Poll::Ready(given) => given?,
            Poll::Pending => {
                ready!(line.poll_gone(cx));
                return Poll::Ready(Err(Ended::Left));
            }
        }
    }
}

impl Upload {
    /// The next piece for who wants it; ready when it has been given.
    fn poll_next(&mut self, line: &mut Line<'_>, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        let Some(feed) = &mut self.feed else { return Poll::Pending };
        if feed.poll_asks(cx) != Asks::More || (self.is_uninvited && self.is_answered) {
            return Poll::Pending;
        }
        if std::mem::take(&mut self.is_uninvited) {
            line.out.bytes().extend_from_slice(CONTINUE);
        }
        if !self.is_answered {
            ready!(line.poll_send(cx))?;
        }
        line.poll_piece(cx, feed)
    }

    /// Can the next request be found behind the body? If nobody reads it, what is there of it is got out of the way.
    fn may_end(&mut self, line: &mut Line<'_>, cx: &mut Context<'_>) -> bool {
        match &mut self.feed {
            Some(feed) if feed.poll_asks(cx) == Asks::Left => line.drain(cx, feed, !self.is_uninvited),
            _ => true,
        }
    }
}

impl Download {
    /// Puts what there is of the body behind what is to be sent. Whether it has to be waited for.
    fn fill(&mut self, line: &mut Line<'_>, cx: &mut Context<'_>) -> bool {
        while let Some(body) = self.body.as_mut().filter(|_| line.out.has_room()) {
            let is_over = match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending => return true,
                Poll::Ready(Some(Ok(frame))) => {
                    self.is_cut = self.framing.frame(frame, &mut line.out).is_err();
                    // Nothing can be put behind what is large.
                    self.is_cut || (body.is_end_stream() && line.out.has_room())
                }
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(%error, "an answer broke off");
                    self.is_cut = true;
                    true
                }
                Poll::Ready(None) => true,
            };
            if is_over {
                self.body = None;
                self.is_cut |= !self.is_cut && !self.framing.finish(&mut line.out);
            }
        }
        false
    }
}

/// The last of a connection.
async fn end(mut line: Line<'_>, ended: Ended) {
    match ended {
        Ended::Left => return,
        // The kernel need not hold what nobody takes either; and only a reset tells a hidden cut from a body's end.
        Ended::Stalled | Ended::Cut { is_hidden: true } => return reset(&line),
        // TLS does not say goodbye: so a client sees that there is more to come.
        Ended::Cut { is_hidden: false } => (),
        Ended::HeadLate | Ended::Said => {
            if ended == Ended::HeadLate {
                line.out.bytes().extend_from_slice(HEAD_TIMEOUT);
            }
            let last_words = async {
                // Whether it arrives or not, the connection is closed.
                let sent = poll_fn(|cx| line.poll_send(cx)).await;
                drop((sent, line.transport.shutdown().await));
            };
            drop(timeout(LINGER, last_words).await);
        }
    }
    let Some(stream) = line.transport.stream() else { return };
    if !linger(stream).await && !line.is_taken().await {
        reset(&line);
    }
}

/// Lets the connection end with a reset.
fn reset(line: &Line<'_>) {
    if let Some(stream) = line.transport.stream() {
        drop(stream.set_zero_linger());
    }
}

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
