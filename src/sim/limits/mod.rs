//! Pure models of what an API enforces: time comes in as seconds, a verdict goes out, and nothing else happens.
//!
//! # Why
//! Tests in virtual time and the simulated API over sockets must disagree about nothing, so there is one model
//! for both. Seconds are finite `f64` from an origin that the caller chooses; time that stands still or goes back is
//! read as the latest time seen.

mod announced;
mod limiter;
mod others;
mod several;

pub use announced::Announced;
pub use limiter::{Limiter, Model};
pub use others::OthersCount;
pub use several::{Change, Limits, Refused};
