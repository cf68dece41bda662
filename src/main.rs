//! The command: parse, run, exit code. No logic.

use std::io::{self, Write};
use std::process::ExitCode;
use tidegate::app::{App, Ended, Signals, simulate};
use tidegate::cli::{self, Action};
use tidegate::demo;
use tidegate::telemetry::logs;

fn main() -> ExitCode {
    let ended = match cli::parse(std::env::args_os()) {
        Ok(action) => act(action),
        Err(said) => {
            // Nobody may be reading any more; the exit code still says it.
            said.print().ok();
            return ExitCode::from(u8::try_from(said.exit_code()).unwrap_or(2));
        }
    };
    match ended {
        Ok(ended) => ExitCode::from(ended.exit_code()),
        Err(error) => {
            writeln!(io::stderr(), "error: {error:#}").ok();
            ExitCode::FAILURE
        }
    }
}

fn act(action: Action) -> anyhow::Result<Ended> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let mut signals = Signals::catch()?;
        match action {
            Action::Run(config, logs) => {
                let _last_lines = logs::install(logs)?;
                let upstream = config.default_upstream().address.clone();
                let app = App::start(*config)?;
                // Nobody may be reading: the proxy works all the same.
                cli::greet_run(&mut io::stdout(), &upstream, app.listen(), app.admin()).ok();
                Ok(app.run(signals).await)
            }
            Action::Sim(settings) => {
                let greet = |settings: &_, address, certificate: Option<&_>| {
                    cli::greet_sim(&mut io::stdout(), settings, address, certificate).ok();
                };
                Ok(simulate(*settings, signals, greet).await?)
            }
            Action::Demo { json } => tokio::select! {
                played = demo::run(json) => played.map(|()| Ended::Drained),
                signal = signals.next() => Ok(Ended::AtOnce(signal)),
            },
        }
    });
    runtime.shutdown_background();
    ended
}
