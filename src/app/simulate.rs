//! `tidegate sim`, from its address to its last answer.

use super::{Ended, ListenError, Signals};
use crate::sim::{BindError, Sim, SimSettings};
use std::io;
use std::net::SocketAddr;
use std::path::Path;

/// Why there is no simulated API.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// Its address could not be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Its certificate could not be written.
    #[error(transparent)]
    Certificate(BindError),
    /// It stopped by itself.
    #[error("the simulated API stopped")]
    Stopped(#[from] io::Error),
}

/// Serves a simulated API until the first signal, and what has come by then; a second signal ends it at once.
/// Tells `greet` the address, and the file of its certificate if it has one.
///
/// # Errors
/// When the address cannot be had, or the certificate cannot be written.
pub async fn simulate(
    settings: SimSettings,
    mut signals: Signals,
    greet: impl FnOnce(&SimSettings, SocketAddr, Option<&Path>),
) -> Result<Ended, SimulateError> {
    let address = settings.listen;
    let sim = Sim::bind(settings.clone()).await.map_err(|error| match error {
        BindError::Address(cause) => ListenError { flag: "--listen", address, cause }.into(),
        BindError::Certificate { .. } => SimulateError::Certificate(error),
    })?;
    greet(&settings, sim.address(), sim.certificate());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = sim.serve(async {
        // The sender goes with this function: that is a stop as well.
        stopped.await.ok();
    });
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => return Ok(ended.map(|()| Ended::Drained)?),
        _first = signals.next() => drop(stop),
    }
    tokio::select! {
        ended = &mut serving => Ok(ended.map(|()| Ended::Drained)?),
        again = signals.next() => Ok(Ended::AtOnce(again)),
    }
}
