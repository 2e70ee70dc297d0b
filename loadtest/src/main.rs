//! `headrace-loadtest`: closed-loop and open-loop load on an HTTP/1.1 server, with answers that can be checked against the mock.
//! The engine is `headrace::mock::client`; here are its arguments and what is printed. `upstream` is the light server behind what
//! is measured, `run` measures contenders side by side.

mod args;
mod machine;
mod print;
mod run;
#[cfg(test)]
mod tests;
mod upstream;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use headrace::mock::client::run_on_threads;

use args::{Args, Arguments, Command, Output};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.command {
        Some(Command::Upstream(args)) => upstream::run(args).map(|()| ExitCode::SUCCESS),
        Some(Command::Run(args)) => Ok(run::run(args)),
        Some(Command::Launch(args)) => Ok(run::launch(args)),
        None => load(&arguments.load),
    };
    outcome.unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "headrace-loadtest: {error}");
        ExitCode::FAILURE
    })
}

fn load(args: &Args) -> Result<ExitCode, String> {
    machine::prepare(args.core)?;
    machine::room_for(u64::from(args.connections))?;
    let report = run_on_threads(&args.load()?, args.threads).map_err(|error| error.to_string())?;
    let text = match args.output {
        Output::Human => print::human(args, &report),
        Output::Json => format!("{:#}", print::json(args, &report)),
    };
    // A reader that has gone is no failure.
    let _ = writeln!(std::io::stdout(), "{text}");
    // For scripts: wrong answers, or none at all, must not look like a measurement.
    Ok(if report.wrong > 0 || report.done == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
