//! Threads that serve connections, each a runtime of its own with its own connections to the upstreams.
//!
//! # Why
//! What belongs to one connection stays on one core: its tasks never move, its upstream connection answers to the same
//! reactor, and no queue of tasks is shared. What requests have in common (the gate, the metrics, the replay budget)
//! is shared by all shards; the gate's driver and the admin pages live on the main runtime, so that a busy shard delays
//! no release.

use crate::proxy::Proxy;
use crate::proxy::accept::{self, Hand};
use std::io;
use std::num::NonZeroUsize;
use std::thread;
use tokio::runtime::Builder;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

/// The system refused what a shard needs.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot start a thread for connections: {0}; raise the limit of threads (ulimit -u) or set listen.shards = 1"
)]
pub struct ShardError(#[from] io::Error);

/// How many there are when `wanted` are asked for: 0 means one for each core.
pub(super) fn count(wanted: usize) -> usize {
    let cores = || thread::available_parallelism().map_or(1, NonZeroUsize::get);
    if wanted == 0 { cores().min(MOST) } else { wanted }
}

/// Starts a shard, whose end is a task of `ends`, and returns the way to give it connections. It ends by itself when
/// there is no such way any more and the last connection has gone, and at once when its task in `ends` is dropped.
pub(super) fn start(
    number: usize,
    proxy: Proxy,
    closed: &watch::Receiver<bool>,
    ends: &mut JoinSet<&'static str>,
) -> Result<Hand, ShardError> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (hand, arrivals) = accept::arrivals();
    let (stop, stopped) = oneshot::channel::<()>();
    let (say, ended) = oneshot::channel::<()>();
    let closed = closed.clone();
    thread::Builder::new().name(format!("shard-{number}")).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = accept::take(arrivals, proxy, closed) => (),
                _stop = stopped => (),
            }
        });
        // A look-up of a name may still hang in a thread of its own.
        runtime.shutdown_background();
        drop(say);
    })?;
    ends.spawn(async move {
        // An error says that the other end is gone, which is what is waited for, by a panic too.
        drop(ended.await);
        drop(stop);
        "a shard of connections"
    });
    Ok(hand)
}

/// Beyond this, more shards are more idle connections and nothing else.
const MOST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_one_for_each_core() {
        assert!((1..=MOST).contains(&count(0)));
        assert_eq!(count(7), 7);
    }
}
