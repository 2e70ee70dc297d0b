//! `headrace serve`: arguments, then the configuration, then the control plane until it ends.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::IoChoice;

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Shards to start, in place of `server.shards`.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) shards: Option<u32>,
    /// The driver, in place of `server.io`.
    #[arg(long, value_name = "DRIVER")]
    pub(crate) io: Option<IoChoice>,
}

pub(crate) fn run(_args: ServeArgs) -> ExitCode {
    super::complain("headrace serve: not wired yet");
    ExitCode::FAILURE
}
