//! The program's log: lines on stderr, filtered by `HEADRACE_LOG` (`info` when unset; `debug`, `headrace::control=debug`, ...).
//! Shards do not log per request.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Begins to log. Once per process; a second call changes nothing.
pub fn init() {
    let wanted = std::env::var("HEADRACE_LOG").unwrap_or_default();
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).parse(&wanted);
    let mistake = filter.as_ref().err().map(ToString::to_string);
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let begun = tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(colour)
        // It would tell them on stderr, which is what failed, and panic when that fails too: a full disk must not end us.
        .log_internal_errors(false)
        .try_init();
    if let (Ok(()), Some(mistake)) = (begun, mistake) {
        tracing::warn!("HEADRACE_LOG={wanted:?} is no filter ({mistake}); logging at info");
    }
}
