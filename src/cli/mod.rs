//! The command line: what was typed, then what is meant. The one place that reads the environment and prints for
//! people.

mod greeting;
mod run;
mod sim;

pub use greeting::{Greeting, greet_sim};

use crate::config::{Config, ConfigProblems};
use crate::sim::SimSettings;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

/// What the command line asks for.
#[derive(Clone, Debug)]
pub enum Action {
    /// Be the proxy, as this file says, if there is one.
    Run(Box<Config>, Option<PathBuf>),
    /// Show this configuration.
    Check(String),
    /// Be a rate-limited API.
    Sim(Box<SimSettings>),
    /// Show what it does.
    Demo {
        /// For a program to read.
        json: bool,
    },
}

/// Why there is nothing to do.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// Help, version, or what is wrong with the command line.
    #[error(transparent)]
    Said(#[from] clap::Error),
    /// What is wrong with the configuration.
    #[error(transparent)]
    Problems(#[from] ConfigProblems),
}

impl Stop {
    /// Says it on stdout when it was asked for, else on stderr.
    ///
    /// # Errors
    /// When nobody reads there.
    pub fn print(&self) -> io::Result<()> {
        match self {
            Self::Said(said) => said.print(),
            Self::Problems(problems) => writeln!(io::stderr(), "{problems}"),
        }
    }

    /// 0 for help and version, 2 for a mistake.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Said(said) => u8::try_from(said.exit_code()).unwrap_or(MISTAKE),
            Self::Problems(_) => MISTAKE,
        }
    }
}

const MISTAKE: u8 = 2;

/// Reads the command line `args`, the program's name first, and the files that it names.
///
/// # Errors
/// Help, version, or what is wrong; print it, and end with its exit code.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Action, Stop> {
    match Typed::try_parse_from(args)?.command {
        Command::Run(typed) => {
            let file = typed.config.clone();
            Ok(Action::Run(Box::new(typed.meant()?.config), file))
        }
        Command::Check(typed) => Ok(Action::Check(typed.meant()?.effective)),
        Command::Sim(typed) => Ok(Action::Sim(Box::new(typed.meant()?))),
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
    /// Be the proxy: learn the API's limit, queue and pace what goes out
    #[command(after_help = run::EXAMPLES)]
    Run(run::Run),
    /// Print what a configuration file comes to, or every mistake in it
    #[command(after_help = run::CHECK_EXAMPLES)]
    Check(run::Run),
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
  tidegate run --config config/genesys.toml             as a file says: several hosts, routes, classes
  tidegate check --config config/genesys.toml           what such a file comes to, or what is wrong with it
  tidegate demo                                         see it work, on this machine alone
  tidegate sim --limit 300/min                          a rate-limited API to try things on
  tidegate run --help                                   every option of the proxy

Exit codes: 0 done or drained, 1 could not start, 2 the command line or the configuration is wrong, 130 or 143 ended at once by a second \
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
