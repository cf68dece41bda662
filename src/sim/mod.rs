//! What would a rate-limited API do? Pure models of limits, and a simulated API over them.

mod account;
mod chance;
pub mod limits;
mod server;
mod settings;

pub use account::{KeyStats, Stats, TimelineStats};
pub use server::{Sim, SimAccount};
pub use settings::{KeyBy, ModelName, RetryAfter, SettingError, SimSettings};
