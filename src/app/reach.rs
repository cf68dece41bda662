//! Can the upstream be reached? A warning at the start, so that a typing error is found before the first request.

use crate::config::Upstream;
use crate::proxy::Client;

/// Connects once as a request would, TLS included, and says so when that fails. It is no reason to stop: the upstream
/// may come up later.
pub(super) async fn check(upstream: Upstream, client: Client) {
    match client.reach().await {
        Ok(()) => tracing::debug!(%upstream, "the upstream can be reached"),
        Err(error) => tracing::warn!(
            %upstream, %error,
            "the upstream cannot be reached now: requests are answered 502 or 504 until it can; is --upstream right?"
        ),
    }
}
