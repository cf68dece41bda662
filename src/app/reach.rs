//! Can the upstream be reached? A warning at the start, so that a typing error is found before the first request.

use crate::config::Upstream;
use crate::proxy::Client;

/// Connects to the first of the upstreams once as a request would, TLS included, and says so when that fails. It is no
/// reason to stop: the upstream may come up later. The others are only named: a list of regions is no list of what
/// will be used.
pub(super) async fn check(upstreams: Vec<(Upstream, Client)>) {
    let mut upstreams = upstreams.into_iter();
    let Some((upstream, client)) = upstreams.next() else { return };
    for (other, _) in upstreams {
        tracing::debug!(upstream = %other, "not tried before its first request");
    }
    match client.reach().await {
        Ok(()) => tracing::debug!(%upstream, "the upstream can be reached"),
        Err(error) => tracing::warn!(
            %upstream, %error,
            "the upstream cannot be reached now: requests are answered 502 or 504 until it can; is --upstream right?"
        ),
    }
}
