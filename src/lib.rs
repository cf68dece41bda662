//! Tidegate: an adaptive throttling proxy for rate-limited HTTP APIs.

pub mod config;
pub mod control;
pub mod demo;
pub mod gate;
pub mod observe;
pub mod sim;
