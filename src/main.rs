//! The command: parse, run, exit code. No logic.

use std::io::{self, Write};
use std::process::ExitCode;
use tidegate::app::{App, Ended, Signals, simulate};
use tidegate::cli::{self, Action, Greeting};
use tidegate::demo;
use tidegate::telemetry::logs;

fn main() -> ExitCode {
    let ended = match cli::parse(std::env::args_os()) {
        Ok(action) => act(action),
        Err(said) => {
            // Nobody may be reading any more; the exit code still says it.
            said.print().ok();
            return ExitCode::from(said.exit_code());
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
            Action::Run(config, file) => {
                let _last_lines = logs::install(config.log)?;
                let upstreams = config.upstreams.clone();
                let over_tls = config.tls.is_some();
                let app = App::start(*config)?;
                let greeting = Greeting {
                    upstreams: &upstreams,
                    file: file.as_deref(),
                    listen: app.listen(),
                    over_tls,
                    admin: app.admin(),
                };
                // Nobody may be reading: the proxy works all the same.
                greeting.write(&mut io::stdout()).ok();
                Ok(app.run(signals).await)
            }
            Action::Check(effective) => {
                io::stdout().write_all(effective.as_bytes())?;
                Ok(Ended::Drained)
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
