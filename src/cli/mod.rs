//! The command line: one file per subcommand, human output by default and `-o json` for programs. It reads arguments and files and
//! prints; what serving means is control's business.

mod check;
mod demo;
mod doctor;
mod mock;
mod probe;
mod rollback;
mod routes;
mod serve;

#[cfg(test)]
mod tests;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::config::Io;
pub(crate) use crate::control::{LoadError, load, load_text};

/// An edge gateway that turns many small client requests into the few full batches a GPU likes.
#[derive(Debug, Parser)]
#[command(name = "headrace", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve clients with a configuration.
    Serve(serve::ServeArgs),
    /// Put the last good configuration (server.state_dir) back in place and have the running process take it.
    Rollback(rollback::RollbackArgs),
    /// Check a configuration: every mistake at once, what was understood, the memory it allows.
    Check(check::CheckArgs),
    /// Show what coalescing does: gateway, mock model server and clients in one process.
    Demo(demo::DemoArgs),
    /// Run the mock model server alone.
    Mock(mock::MockArgs),
    /// Look at this machine: kernel, io_uring, limits, cores; what is missing and how to mend it.
    Doctor(doctor::DoctorArgs),
    /// Explain where a request would go.
    Routes(routes::RoutesArgs),
    /// Ask a running gateway whether it is ready (for container health checks).
    Probe(probe::ProbeArgs),
}

/// How a subcommand prints.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Human,
    /// For programs.
    Json,
}

/// `--io`: which driver moves bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum IoChoice {
    Auto,
    Uring,
    Epoll,
}

impl From<IoChoice> for Io {
    fn from(choice: IoChoice) -> Io {
        match choice {
            IoChoice::Auto => Io::Auto,
            IoChoice::Uring => Io::Uring,
            IoChoice::Epoll => Io::Epoll,
        }
    }
}

/// Runs the program and returns its exit code: 0 fine, 1 the configuration or the run failed, 2 wrong arguments.
#[must_use]
pub fn main() -> ExitCode {
    // clap prints help to stdout with 0 and mistakes in arguments to stderr with 2.
    match Arguments::parse().command {
        Command::Serve(args) => serve::run(args),
        Command::Rollback(args) => rollback::run(args),
        Command::Check(args) => check::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Mock(args) => mock::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Routes(args) => routes::run(args),
        Command::Probe(args) => probe::run(args),
    }
}

/// Tells on stderr why there is no configuration, with colour where a person reads it.
pub(crate) fn report_load_error(path: &Path, error: &LoadError) {
    match error {
        LoadError::File(error) => complain(&format!("{}: cannot be read: {error}", path.display())),
        LoadError::Mistakes(mistakes) => complain(mistakes.render(colour_on_stderr()).trim_end()),
    }
}

/// Prints to stdout. A reader that has gone (`headrace check | head`) is no failure.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints to stderr.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Prints a value as JSON on stdout.
pub(crate) fn say_json(value: &serde_json::Value) {
    say(&format!("{value:#}"));
}

/// Colour only for a terminal, and not when the person asked for none (<https://no-color.org>).
fn colour_on_stderr() -> bool {
    use std::io::IsTerminal;
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
