//! After an answer: what it teaches, and whether the request waits for another turn.
//!
//! A refusal is read to its end first, if that is short and comes soon: its body may say more than its head, its
//! connection is free again, and it is the answer if time runs out.

use super::arriving::Arriving;
use super::body::Hold;
use super::error::ProxyError;
use super::message::Reply;
use super::signals::Said;
use super::{Call, Content, Shared, headers};
use crate::config::ReplayPolicy;
use crate::control::{Event, Outcome, Report};
use crate::gate::{Pass, clock};
use bytes::{Bytes, BytesMut};
use http::Method;
use http_body_util::BodyExt;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What an answer teaches, and the answer.
pub(super) struct Learnt {
    pub(super) report: Report,
    pub(super) result: Result<Reply<Content>, ProxyError>,
    /// When it was known.
    pub(super) at: Instant,
}

/// The answer of a request that waits for another turn.
pub(super) struct Kept {
    pub(super) reply: Reply<Content>,
    _hold: Hold,
}

impl Shared {
    /// What the answer, which came at `at`, teaches, and whether the request could be sent again; or an answer whose body
    /// has to be read for that, with what its head said.
    pub(super) fn learn(
        &self,
        sent: Result<Reply<Arriving>, ProxyError>,
        at: Instant,
        pass: &Pass,
        call: &Call<'_>,
    ) -> Result<Learnt, Box<(Reply<Arriving>, Said)>> {
        let mut reply = match sent {
            Ok(reply) => reply,
            Err(error) => {
                return Ok(Learnt { report: Report::new(Outcome::Failed, false), result: Err(error), at });
            }
        };
        let said = call.dialects.fields(reply.status, &reply.fields);
        headers::to_client(&mut reply.fields);
        let may_replay = self.may_replay(said.report.outcome, call);
        if may_replay || said.is_more_in_body(reply.status, &reply.fields, call.place.sign) {
            return Err(Box::new((reply, said)));
        }
        let reply = reply.map(|body| match body.into_whole() {
            Ok(bytes) => Content::Whole(bytes),
            Err(body) => Content::Coming(Bytes::new(), Box::new(body)),
        });
        Ok(Learnt { report: self.taken(said, pass), result: Ok(reply), at })
    }

    /// What an answer teaches with its body. What is too long or too slow to be read is passed on as it comes.
    pub(super) async fn learn_more(
        &self,
        (reply, mut said): (Reply<Arriving>, Said),
        pass: &Pass,
        call: &Call<'_>,
    ) -> Learnt {
        let Reply { status, reason, fields, body } = reply;
        let body = gather(body).await;
        if let Content::Whole(bytes) | Content::Cut(bytes, _) = &body {
            call.dialects.add(&mut said, (status, &fields), bytes, call.place.sign);
            said.report.replayable = self.may_replay(said.report.outcome, call);
        }
        let result = Ok(Reply { status, reason, fields, body });
        Learnt { report: self.taken(said, pass), result, at: clock::now() }
    }

    fn may_replay(&self, outcome: Outcome, call: &Call<'_>) -> bool {
        self.allows(outcome, &call.head.method) && call.replay.can_replay()
    }

    /// What was said, once it is told what of it made no sense.
    fn taken(&self, said: Said, pass: &Pass) -> Report {
        for signal in said.ignored {
            let (lane, signal) = (Arc::clone(pass.lane()), signal.into_owned());
            self.observer.event(&Event::SignalIgnored { lane, signal });
        }
        said.report
    }

    /// Keeps the answer of a request that waits, as long as there is memory for such.
    pub(super) fn keep(&self, reply: Reply<Content>) -> Option<Box<Kept>> {
        let bytes = match &reply.body {
            Content::Whole(bytes) | Content::Cut(bytes, _) | Content::Coming(bytes, _) => bytes.len(),
        };
        Some(Box::new(Kept { reply, _hold: Hold::take(&self.budget, bytes)? }))
    }

    /// May a request with this outcome be sent again, by the operator's policy and RFC 9110 9.2.2?
    fn allows(&self, outcome: Outcome, method: &Method) -> bool {
        match (outcome, self.settings.replay_on_429) {
            (Outcome::Limited(_), ReplayPolicy::All) => true,
            (Outcome::Limited(_), ReplayPolicy::Idempotent)
            | (Outcome::Overloaded(_), ReplayPolicy::All | ReplayPolicy::Idempotent) => {
                method.is_idempotent()
            }
            _ => false,
        }
    }
}

/// Reads a body, if it is short and comes soon.
async fn gather(mut body: Arriving) -> Content {
    let mut bytes = BytesMut::new();
    let mut patience = pin!(tokio::time::sleep(REFUSAL_PATIENCE));
    while bytes.len() <= REFUSAL_BYTES_MAX {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            () = &mut patience => break,
        };
        match frame {
            None => return Content::Whole(bytes.freeze()),
            Some(Err(error)) => return Content::Cut(bytes.freeze(), error),
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    bytes.extend_from_slice(data);
                }
            }
        }
    }
    Content::Coming(bytes.freeze(), Box::new(body))
}

/// A refusal's body is kept up to this size; a larger one is passed on instead of waited out.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// A refusal's body that takes longer than this is passed on.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(1);
