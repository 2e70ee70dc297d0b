//! The command line: one file per subcommand, human output by default.

/// Runs the program and returns its exit code: 0 fine, 1 the configuration or the run failed, 2 wrong arguments.
#[must_use]
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
