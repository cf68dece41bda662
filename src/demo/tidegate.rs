//! The Tidegate of the demo: a whole one, in this process, on free ports. (Interim: waits for the composition root.)

use crate::control::LimitView;
use std::net::SocketAddr;

/// A running Tidegate.
#[derive(Debug)]
pub(super) struct Tidegate {
    address: SocketAddr,
    limit: Option<LimitView>,
}

impl Tidegate {
    /// Starts one in front of `upstream`.
    pub(super) async fn start(upstream: SocketAddr) -> anyhow::Result<Self> {
        std::future::ready(()).await;
        anyhow::bail!("there is no Tidegate yet to put before {upstream}")
    }

    /// Where callers connect.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The limit that it believes in.
    pub(super) fn learnt(&self) -> Option<LimitView> {
        self.limit.clone()
    }

    /// What it does now, in a few words.
    pub(super) fn says(&self) -> String {
        self.limit.as_ref().map(|limit| limit.says.clone()).unwrap_or_default()
    }

    /// Ends it.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        std::future::ready(Ok(())).await
    }
}
