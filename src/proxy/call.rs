//! What a request comes to before anything is waited for: something to send, or an answer at once.

use super::body::Replay;
use super::classify::{Intent, Wanted};
use super::error::{BoxError, ErrorKind, ProxyError};
use super::message::Asking;
use super::peer::Peer;
use super::signals::Dialects;
use super::traffic::Place;
use super::upstream::{Client, Outgoing};
use super::{Answer, Shared, forwarded, headers, respond};
use crate::gate::Caller;
use crate::observe::ADMISSION_QUOTA;
use bytes::Bytes;
use http::uri::Scheme;
use http::{Method, Response};
use http_body::Body;

/// A request on its way: where it belongs, and what is sent, as often as it takes.
pub(super) struct Call<'a> {
    pub(super) client: &'a Client,
    pub(super) dialects: &'a Dialects,
    pub(super) head: Outgoing,
    pub(super) replay: Replay,
    pub(super) place: Place<'a>,
}

/// Why a request is not sent.
pub(super) enum Early {
    /// In a box: few requests need it.
    Answer(Box<Answer>),
    Error(ProxyError),
}

impl From<ProxyError> for Early {
    fn from(error: ProxyError) -> Self {
        Self::Error(error)
    }
}

impl Early {
    fn ours(response: Response<Bytes>, local: &'static str) -> Self {
        Self::Answer(Box::new(Answer::ours(response, local)))
    }
}

impl Shared {
    /// What a request of `head` and `body` comes to, over one of `clients`.
    pub(super) fn call<'a, B>(
        &'a self,
        clients: &'a [Client],
        mut head: Box<Asking>,
        body: B,
        peer: Peer,
    ) -> Result<Call<'a>, Early>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if let Some(fault) = head.fault {
            return Err(ProxyError::from(fault).into());
        }
        let Wanted { site, target, place } = match self.classifier.intent(&mut head)? {
            Intent::Forward(wanted) => wanted,
            Intent::AnswerOptions => {
                return Err(Early::ours(respond::to_options(), "proxy_internal_response"));
            }
        };
        if head.method == Method::TRACE && !body.is_end_stream() {
            // HTTP/2 need not say how long it is.
            let why = "A TRACE has no body.";
            return Err(ProxyError::new(ErrorKind::BadRequest, why).into());
        }
        if let Some(quotas) = &self.quotas {
            let caller = place.credential.map_or(Caller::Address(peer.address), Caller::Credential);
            if let Err(wait) = quotas.admit(caller) {
                return Err(Early::ours(respond::to_caller_over_quota(wait), ADMISSION_QUOTA));
            }
        }
        let host = forwarded::host(&head, &self.settings.forwarded);
        headers::to_upstream(&mut head.fields, head.version, &self.via)?;
        let scheme = if peer.over_tls { Scheme::HTTPS } else { Scheme::HTTP };
        forwarded::tell(&mut head.fields, &self.settings.forwarded, peer.address, host, &scheme);
        let (client, dialects) = clients
            .get(site.place)
            .zip(self.dialects.get(site.place))
            .ok_or_else(|| ProxyError::new(ErrorKind::Internal, "There is no client for this upstream."))?;
        let head = *head;
        let head = Outgoing { method: head.method, target, fields: head.fields };
        Ok(Call { client, dialects, head, replay: Replay::new(body, &self.budget), place })
    }
}
