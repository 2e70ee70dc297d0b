//! `headrace mock`: the built-in mock model server alone, with a GPU-shaped cost. What it answers is the mock room's matter.

use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use super::IoChoice;
use crate::config::ListenAddr;
use crate::config::units::{parse_duration, parse_size, show_duration};
use crate::mock::{MockConfig, Prefill, start};
use crate::sys::net::Address;

#[derive(Debug, Args)]
pub(crate) struct MockArgs {
    /// Where to listen: `127.0.0.1:8000` or `unix:/path`.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000", value_parser = crate::config::parse_listen)]
    pub(crate) listen: ListenAddr,
    /// What a call of n items costs: fixed part + part per item, one call at a time.
    #[arg(long, value_name = "A+B", default_value = "5ms+0.1ms")]
    pub(crate) cost: Cost,
    /// The model name it answers with.
    #[arg(long, default_value = "mock")]
    pub(crate) name: String,
    /// Elements of a vector.
    #[arg(long, value_name = "N", default_value_t = crate::mock::DIMS, value_parser = clap::value_parser!(u32).range(1..=i64::from(crate::mock::DIMS_MAX)))]
    pub(crate) dims: u32,
    /// Refuse calls of more items with 422, as TEI does.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_batch: Option<u32>,
    /// Words of a chat answer.
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) chat_events: u32,
    /// Time before each word of a chat answer.
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = duration)]
    pub(crate) chat_delay: Duration,
    /// Keep a KV cache of this size (64MiB): a chat's prompt then costs `--prefill` before the first word, and a tenth of it where its
    /// beginning is in the cache.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) kv_cache: Option<u64>,
    /// What a KiB of a prompt costs, one prompt at a time; with `--kv-cache`.
    #[arg(long, value_name = "TIME", default_value = "1ms", value_parser = duration, requires = "kv_cache")]
    pub(crate) prefill: Duration,
    /// Answer this share of the calls, 0 to 1, with 503.
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    pub(crate) error_rate: f64,
    /// What the errors are drawn from.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Which driver moves bytes.
    #[arg(long, value_name = "DRIVER", default_value = "auto")]
    pub(crate) io: IoChoice,
}

/// T(n) = fixed + n * per_item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cost {
    pub(crate) fixed: Duration,
    pub(crate) per_item: Duration,
}

impl FromStr for Cost {
    type Err = String;

    /// Reads `5ms+0.1ms`, or `5ms` alone (no part per item).
    fn from_str(text: &str) -> Result<Cost, String> {
        let (fixed, per_item) = text.split_once('+').unwrap_or((text, "0ms"));
        let part = |part: &str| {
            parse_duration(part.trim())
                .map_err(|_| format!("{part:?} is not a duration; write a fixed part and a part per item, like 5ms+0.1ms"))
        };
        Ok(Cost { fixed: part(fixed)?, per_item: part(per_item)? })
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|_| format!("{text:?} is not a duration; write a number and a unit, like 20ms"))
}

fn size(text: &str) -> Result<u64, String> {
    parse_size(text).map_err(|_| format!("{text:?} is not a size; write a number and a unit, like 64MiB"))
}

fn share(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|value| (0.0..=1.0).contains(value));
    value.ok_or_else(|| format!("{text:?} is not a share; write a number from 0 to 1"))
}

pub(crate) fn run(args: MockArgs) -> ExitCode {
    match serve(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            super::complain(&format!("headrace mock: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn serve(args: MockArgs) -> std::io::Result<()> {
    let cost = args.cost;
    let address = match args.listen {
        ListenAddr::Tcp(addr) => Address::Tcp(addr),
        ListenAddr::Unix(path) => Address::Unix(path),
    };
    let config = MockConfig {
        name: args.name,
        cost_base: cost.fixed,
        cost_per_item: cost.per_item,
        max_batch: args.max_batch,
        dims: args.dims,
        chat_events: args.chat_events,
        chat_delay: args.chat_delay,
        prefill: args.kv_cache.map(|cache_bytes| Prefill { per_kib: args.prefill, cache_bytes }),
        error_rate: args.error_rate,
        seed: args.seed,
        io: args.io.into(),
        ..MockConfig::default()
    };
    let mock = start(config, &address)?;
    super::complain(&format!(
        "headrace mock on {}, one call at a time, {} + n * {} ({}); stop with ctrl-c",
        mock.url(),
        show_duration(cost.fixed),
        show_duration(cost.per_item),
        mock.driver(),
    ));
    wait_for_the_end()?;
    mock.stop();
    Ok(())
}

/// Returns at SIGINT or SIGTERM.
///
/// # Errors
/// When signals cannot be watched.
pub(super) fn wait_for_the_end() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        Ok(())
    })
}
