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

use std::io::{IsTerminal, Write};
use std::num::NonZeroU64;
use std::process::ExitCode;

use clap::Parser;
use headrace::mock::client::{Progress, monotonic, run_on_threads};

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
    machine::room_for(u64::from(args.connections) + u64::from(args.idle))?;
    // An open loop is to begin requests when they are due, not up to 50 us later, which is the kernel's usual slack; threads inherit it.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    let watched = std::io::stderr().is_terminal();
    let (mut before, mut before_at) = (Progress::default(), monotonic());
    let begun_at = before_at;
    let tell = |now: Progress| {
        let now_at = monotonic();
        if watched {
            let line = print::progress(now_at.since(begun_at).as_secs_f64(), before, now, now_at.since(before_at).as_secs_f64());
            let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
        }
        (before, before_at) = (now, now_at);
    };
    let report = run_on_threads(&args.load()?, args.threads, tell).map_err(|error| error.to_string())?;
    if watched {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
    if let Some(file) = &args.hdr {
        #[expect(clippy::disallowed_methods, reason = "a tool writes its file when the load is over")]
        std::fs::write(file, print::distribution(&report)).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    let text = match args.output {
        Output::Human => print::human(args, &report),
        Output::Json => format!("{:#}", print::json(args, &report)),
    };
    // A reader that has gone is no failure.
    let _ = writeln!(std::io::stdout(), "{text}");
    // For scripts: wrong answers, or none at all, must not look like a measurement.
    let nothing = report.done == 0 && report.idle.opened == 0 && report.streams.events == 0;
    Ok(if report.wrong > 0 || nothing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
