//! `headrace serve`: arguments, then the configuration, then the control plane until it ends.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::IoChoice;
use crate::config::units::parse_duration;
use crate::control::{self, Ended, Inherited, StartOptions};
use crate::sys::{GiveBack, give_back_memory};

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
    /// How long a shard looks for work before it sleeps, where that pays: lower latency for more processor time.
    #[arg(long, value_name = "DURATION", default_value = "0ms", value_parser = spin)]
    pub(crate) spin: Duration,
    /// Writes the process id here once it serves; after an upgrade, that of the new process.
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
}

/// Whole or not at all: whoever reads it finds a number.
#[expect(clippy::disallowed_methods, reason = "once, beside the shards' threads")]
fn write_pid(path: &Path) -> std::io::Result<()> {
    let beside = path.with_extension(format!("{}.tmp", std::process::id()));
    std::fs::write(&beside, format!("{}\n", std::process::id()))?;
    std::fs::rename(&beside, path)
}

pub(crate) fn run(args: ServeArgs) -> ExitCode {
    control::log::init();
    // Before anything is opened: what is inherited is known by its number.
    let inherited = match Inherited::from_env() {
        Ok(inherited) => inherited,
        Err(error) => {
            super::complain(&format!("headrace does not start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let (text, config) = match super::load_text(&args.config) {
        Ok(loaded) => loaded,
        Err(error) => {
            super::report_load_error(&args.config, &error);
            return ExitCode::FAILURE;
        }
    };
    let options = StartOptions {
        shards: args.shards,
        io: args.io.map(Into::into),
        config_path: Some(args.config),
        config_text: Some(text),
        spin: args.spin,
        signals: true,
        ..StartOptions::default()
    };
    let gateway = match control::start_with(config, options, inherited) {
        Ok(gateway) => gateway,
        Err(error) => {
            super::complain(&format!("headrace does not start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    if let Some(path) = &args.pid_file
        && let Err(error) = write_pid(path)
    {
        super::complain(&format!("{}: the process id cannot be written: {error}", path.display()));
    }
    // What the start needed; from here on this thread only waits.
    give_back_memory(GiveBack::All);
    match gateway.wait() {
        Ok(Ended::Clean) => {
            tracing::info!("headrace ends; everything begun was finished");
            ExitCode::SUCCESS
        }
        Ok(Ended::Cut) => {
            tracing::warn!("headrace ends; exchanges were cut");
            ExitCode::SUCCESS
        }
        Err(error) => {
            super::complain(&format!("headrace ends: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Above some milliseconds a wake-up costs nothing beside the wait, so more is a slip.
fn spin(text: &str) -> Result<Duration, String> {
    const MOST: Duration = Duration::from_millis(10);
    match parse_duration(text) {
        Ok(time) if time <= MOST => Ok(time),
        _ => Err("write 0ms (never) to 10ms, like 100us".to_owned()),
    }
}
