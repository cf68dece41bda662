//! What would a rate-limited API do? Pure models of limits, and a simulated API over them.

mod account;
mod answer;
mod chance;
pub mod limits;
mod pace;
mod server;
mod settings;
mod tls;
mod words;

pub use account::{KeyStats, OthersStats, Stats, TimelineStats};
pub use server::{BindError, Sim, SimAccount};
pub use settings::SimSettings;
pub use words::{HeaderForm, KeyBy, ModelName, RetryAfter, SettingError, others_rate};
