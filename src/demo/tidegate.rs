//! The Tidegate of the demo: a whole one, in this process, on free ports, that is told nothing but the upstream.

use super::free_port;
use crate::app::App;
use crate::config::{Config, Upstream};
use crate::control::{LaneView, LimitView};
use anyhow::Context;
use std::net::SocketAddr;

/// A running Tidegate; dropping it ends it.
#[derive(Debug)]
pub(super) struct Tidegate {
    app: App,
}

impl Tidegate {
    /// Starts one in front of `upstream`.
    ///
    /// # Errors
    /// When no port can be had.
    pub(super) fn start(upstream: SocketAddr) -> anyhow::Result<Self> {
        let upstream: Upstream = format!("http://{upstream}").parse()?;
        let config = Config { listen: free_port(), admin: free_port(), ..Config::new(upstream) };
        let app = App::start(config).context("cannot start Tidegate for the demo")?;
        Ok(Self { app })
    }

    /// Where callers connect.
    pub(super) fn address(&self) -> SocketAddr {
        self.app.listen()
    }

    /// The limit that it believes in.
    pub(super) fn learnt(&self) -> Option<LimitView> {
        self.lane()?.limit
    }

    /// What it does now, in a few words.
    pub(super) fn says(&self) -> String {
        self.lane().map(|lane| in_short(&lane)).unwrap_or_default()
    }

    /// The lane of the demo's calls: they have one route and one token.
    fn lane(&self) -> Option<LaneView> {
        self.app.gate().snapshot().into_iter().max_by_key(|lane| lane.accepted_total)
    }
}

fn in_short(lane: &LaneView) -> String {
    let LaneView { queue_depth, pace, limit, .. } = lane;
    let learnt = limit.as_ref().map_or_else(
        || "learning".to_owned(),
        |limit| format!("learnt {:.1} in {:.1} s", limit.requests, limit.window_seconds),
    );
    format!("waiting {queue_depth:<4} pace {pace:.1}/s   {learnt}")
}
