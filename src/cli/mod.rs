//! The command line: what was typed, then what is meant. The one place that reads the environment and prints for
//! people.

mod greeting;
mod run;
mod sim;

pub use greeting::{greet_run, greet_sim};

use crate::config::Config;
use crate::sim::SimSettings;
use crate::telemetry::LogSettings;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use std::ffi::OsString;

/// What the command line asks for.
#[derive(Clone, Debug)]
pub enum Action {
    /// Be the proxy.
    Run(Box<Config>, LogSettings),
    /// Be a rate-limited API.
    Sim(Box<SimSettings>),
    /// Show what it does.
    Demo {
        /// For a program to read.
        json: bool,
    },
}

/// Reads the command line `args`, the program's name first.
///
/// # Errors
/// Help, version, or one message that says what is wrong; print it, and its exit code is 0 or 2.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Action, clap::Error> {
    match Typed::try_parse_from(args)?.command {
        Command::Run(typed) => typed.meant().map(|(config, logs)| Action::Run(Box::new(config), logs)),
        Command::Sim(typed) => typed.meant().map(|settings| Action::Sim(Box::new(settings))),
        Command::Demo { json } => Ok(Action::Demo { json }),
    }
}

/// An adaptive throttling proxy for rate-limited HTTP APIs.
///
/// It learns the limit that an API enforces, queues requests and sends them as fast as the API takes them, so that
/// its clients see no 429.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, after_help = EXAMPLES)]
struct Typed {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Sim(sim::Sim),
    /// Show what it does, in 45 seconds: 100 callers and a rate-limited API, without Tidegate and with it
    Demo {
        /// Print the outcome as JSON instead of a table
        #[arg(long)]
        json: bool,
    },
}

/// A mistake that clap's own rules do not find, told with the usage of `command`.
fn wrong(command: &str, kind: ErrorKind, why: &str) -> clap::Error {
    let mut typed = Typed::command();
    typed.build();
    match typed.find_subcommand_mut(command) {
        Some(command) => command.error(kind, why),
        None => typed.error(kind, why),
    }
}

const EXAMPLES: &str = "\
Examples:
  tidegate run --upstream https://api.mypurecloud.com   throttle what goes to this API
  tidegate demo                                         see it work, on this machine alone
  tidegate sim --limit 300/min                          a rate-limited API to try things on
  tidegate run --help                                   every option of the proxy

Exit codes: 0 done or drained, 1 could not start, 2 the command line is wrong, 130 or 143 ended at once by a second \
SIGINT or SIGTERM.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Typed::command().debug_assert();
    }

    #[test]
    fn what_is_wrong_is_said_with_exit_code_two() {
        for (args, says) in [
            (&["run", "--upstream", "api.example.com"][..], "https://api.mypurecloud.com"),
            (&["run", "--upstream", "http://u:secret@h"], "user information"),
            (&["run", "--upstream", "http://h", "--grace", "30"], "30s"),
            (&["run", "--upstream", "http://h", "--rate", "10/s"], "--law fixed"),
            (&["run", "--upstream", "http://h", "--law", "fixed"], "--rate"),
            (&["run", "--upstream", "http://h", "--law", "fixed", "--rate", "10"], "300/min"),
            (&["run", "--upstream", "http://h", "--listen", "8080"], "127.0.0.1:8080"),
            (&["run", "--upstream", "http://h", "--colour"], "--colour"),
            (&["run"], "--upstream"),
            (&["sim", "--model", "leaky"], "anchored"),
            (&["sim", "--model", "concurrency"], "--limit 10"),
            (&["sim", "--limit", "7"], "--limit 7/s"),
            (&["sim", "--limit", "0"], "300/min"),
            (&["sim", "--limit", "10/s", "--burst", "5"], "--model bucket"),
            (&["sim", "--model", "bucket", "--burst", "0"], "1.."),
            (&["sim", "--model", "sliding", "--phase", "1s"], "--model fixed"),
            (&["sim", "--change", "60s"], "60s=5/s"),
            (&["sim", "--change", "60=5/s"], "30s"),
            (&["sim", "--change", "60s=5"], "--change 60s=5/s"),
            (&["sim", "--change", "60s=none"], "60s=5/s"),
            (&["sim", "--limit", "none", "--change", "60s=5/s"], "one --limit"),
            (&["sim", "--limit", "9/s", "--limit", "90/min", "--change", "60s=5/s"], "one --limit"),
            (&["sim", "--model", "concurrency", "--limit", "5", "--change", "60s=5/s"], "--change 60s=5"),
            (&["sim", "--model", "concurrency", "--limit", "5", "--others", "1/s"], "--model fixed"),
            (&["sim", "--others", "lots"], "90/min"),
            (&["sim", "--headers", "github"], "x-ratelimit"),
            (&["sim", "--retry-after", "tomorrow"], "date"),
            (&["walk"], "walk"),
            (&[], "Usage"),
        ] {
            let line = std::iter::once("tidegate").chain(args.iter().copied()).map(OsString::from);
            let error = parse(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{args:?}");
            assert!(error.to_string().contains(says), "{args:?}: {error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
