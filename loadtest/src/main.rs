//! `headrace-loadtest`: closed-loop and open-loop load on an HTTP/1.1 server, with answers that can be checked against the mock.
//! The engine is `headrace::mock::client`; here are its arguments and what is printed.

mod args;
mod print;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use headrace::mock::client::run_on_threads;

use args::{Args, Output};

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = args.load().and_then(|load| run_on_threads(&load, args.threads).map_err(|error| error.to_string()));
    let report = match outcome {
        Ok(report) => report,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "headrace-loadtest: {error}");
            return ExitCode::FAILURE;
        }
    };
    let text = match args.output {
        Output::Human => print::human(&args, &report),
        Output::Json => format!("{:#}", print::json(&args, &report)),
    };
    // A reader that has gone is no failure.
    let _ = writeln!(std::io::stdout(), "{text}");
    // For scripts: wrong answers, or none at all, must not look like a measurement.
    if report.wrong > 0 || report.done == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
