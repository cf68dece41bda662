//! What would a rate-limited API do? Pure models of limits, and a simulated API over them.

pub mod limits;
