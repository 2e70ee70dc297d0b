//! `headrace mock`: the built-in mock model server alone, with a GPU-shaped cost.

use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use crate::config::units::parse_duration;

#[derive(Debug, Args)]
pub(crate) struct MockArgs {
    /// Where to listen: `127.0.0.1:8000` or `unix:/path`.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000", value_parser = crate::config::parse_listen)]
    pub(crate) listen: crate::config::ListenAddr,
    /// What a call of n items costs: fixed part + part per item, one call at a time.
    #[arg(long, value_name = "A+B", default_value = "5ms+0.1ms")]
    pub(crate) cost: Cost,
    /// The model name it answers with.
    #[arg(long, default_value = "mock")]
    pub(crate) name: String,
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

pub(crate) fn run(_args: MockArgs) -> ExitCode {
    super::complain("headrace mock: not wired yet");
    ExitCode::FAILURE
}
