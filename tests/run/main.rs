//! The program as its users have it: started as a process, talked to over sockets, ended by signals.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a panic is how a test fails, and time here is real"
)]

mod client;
mod config;
mod drain;
mod orders;
#[path = "../support/process.rs"]
mod process;
mod restart;
mod secrets;
mod start;
mod upstream;
