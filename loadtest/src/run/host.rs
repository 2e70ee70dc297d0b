//! The machine and the moment: the clock, waiting that Ctrl-C ends at once, free ports, and what a figure must carry to be worth something
//! (date, processor, kernel, commit). It starts nothing.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use headrace::sys::cores::allowed_cores;
use serde::{Deserialize, Serialize};

/// What a person must know to place a figure.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) processor: String,
    pub(crate) kernel: String,
}

impl Machine {
    pub(crate) fn here() -> Machine {
        let about = read("/proc/cpuinfo");
        let processor = about.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name.to_owned()));
        Machine {
            cores: allowed_cores().len(),
            processor: processor.unwrap_or_else(|| "unknown processor".to_owned()),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

/// `2026-11-22 18:03 UTC`.
pub(crate) fn date() -> String {
    #[expect(clippy::disallowed_methods, reason = "a result carries its date; no shard is near")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    show_date(since.as_secs())
}

/// Seconds since 1970 as a date. The calendar repeats every 400 years of 146,097 days; years are counted from March so that the leap day
/// is the last of its year.
pub(crate) fn show_date(seconds: u64) -> String {
    let (days, of_day) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", of_day / 3_600, of_day / 60 % 60)
}

/// The commit of the checkout `folder` is in, with a mark when files differ from it.
pub(crate) fn commit(folder: &Path) -> String {
    let git = |args: &[&str]| {
        let done = Command::new("git").arg("-C").arg(folder).args(args).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        done.status.success().then(|| String::from_utf8_lossy(&done.stdout).trim().to_owned())
    };
    let Some(short) = git(&["rev-parse", "--short=10", "HEAD"]) else { return "unknown commit".to_owned() };
    // Documents are what a run writes; they change nothing that was measured.
    let changed = git(&["status", "--porcelain", "--untracked-files=no", "--", ":!docs", ":!*.md"]).is_none_or(|text| !text.is_empty());
    if changed { format!("{short} with changes") } else { short }
}

#[expect(clippy::disallowed_methods, reason = "the runner measures wall time; no shard is near")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A port of loopback nobody listens on, at `from` or the next above it.
pub(crate) fn free_port(from: u16) -> Result<u16, String> {
    #[expect(clippy::disallowed_methods, reason = "asks whether the port is free and lets go of it")]
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (from..from.saturating_add(500)).find(free).ok_or_else(|| format!("no free port from {from} on; choose another with --port"))
}

fn read(place: &str) -> String {
    #[expect(clippy::disallowed_methods, reason = "the runner is a tool, not a shard; /proc does not block")]
    std::fs::read_to_string(place).unwrap_or_default()
}

/// Ctrl-C and SIGTERM as something to ask for, so that the stack unwinds and every child is ended on its way.
pub(crate) struct Interrupts {
    signals: Receiver<&'static str>,
}

impl Interrupts {
    /// # Errors
    /// When signals cannot be watched.
    pub(crate) fn watch() -> Result<Interrupts, String> {
        let (tell, signals) = channel();
        let told = tell.clone();
        let watcher = move || {
            if let Err(error) = wait_for_signals(&tell) {
                let _ = told.send(error);
            }
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(watcher).map_err(|error| format!("signals: {error}"))?;
        Ok(Interrupts { signals })
    }

    /// Waits, or says that the person wants an end.
    pub(crate) fn pause(&self, time: Duration) -> Result<(), String> {
        use std::sync::mpsc::RecvTimeoutError;
        match self.signals.recv_timeout(time) {
            Ok(signal) => Err(format!("ended by {signal}")),
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => Err("the signal watcher has gone".to_owned()),
        }
    }
}

/// Tells of each signal; returns only when it cannot watch.
fn wait_for_signals(tell: &std::sync::mpsc::Sender<&'static str>) -> Result<(), &'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|_| "signals cannot be watched")?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(|_| "SIGINT cannot be watched")?;
        let mut terminate = signal(SignalKind::terminate()).map_err(|_| "SIGTERM cannot be watched")?;
        loop {
            let name = tokio::select! {
                _ = interrupt.recv() => "SIGINT",
                _ = terminate.recv() => "SIGTERM",
            };
            if tell.send(name).is_err() {
                return Ok(());
            }
        }
    })
}
