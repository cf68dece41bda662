//! Tidegate: an adaptive throttling proxy for rate-limited HTTP APIs.

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod control;
pub mod demo;
pub mod gate;
pub mod observe;
pub mod proxy;
pub mod sim;
pub mod telemetry;
