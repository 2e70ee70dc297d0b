//! `headrace demo`: gateway, mock model server and clients in one process; direct against coalesced, as a table.

use std::process::ExitCode;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Keep the gateway and the mock running after the table, until interrupted.
    #[arg(long)]
    pub(crate) keep: bool,
}

pub(crate) fn run(_args: DemoArgs) -> ExitCode {
    super::complain("headrace demo: not wired yet");
    ExitCode::FAILURE
}
