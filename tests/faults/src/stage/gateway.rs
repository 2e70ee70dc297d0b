//! The gateway under test, in a process of its own, and what can be seen of it from outside: metrics, memory, handles, signals.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

pub(crate) struct Gateway {
    child: Mutex<Child>,
    pid: u32,
    pub(crate) addr: SocketAddr,
    admin: SocketAddr,
    /// Holds the configuration and what the process says.
    folder: PathBuf,
}

/// How to start one.
#[derive(Clone, Debug)]
pub(crate) struct Launch<'a> {
    pub(crate) bin: &'a Path,
    pub(crate) io: &'a str,
    /// `$LISTEN` and `$ADMIN` stand for addresses, `$FOLDER` for a folder of its own.
    pub(crate) config: String,
    /// A shell script that ends with `exec "$@"`, run in front; empty: none.
    pub(crate) wrapper: &'a str,
    /// Where it writes its log instead of a file in its folder.
    pub(crate) log: Option<&'a str>,
}

impl Gateway {
    /// Starts one and waits until it serves.
    ///
    /// # Errors
    /// What it said, when it ended instead.
    pub(crate) fn start(launch: &Launch<'_>) -> Result<Gateway, String> {
        let mut last = String::new();
        // A free port may be taken by somebody else before the program binds it: then others are tried.
        for _ in 0..5 {
            match Gateway::try_start(launch) {
                Ok(gateway) => return Ok(gateway),
                Err(why) => last = why,
            }
        }
        Err(last)
    }

    fn try_start(launch: &Launch<'_>) -> Result<Gateway, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("headrace-faults-{}-{number}", std::process::id()));
        let told = |error: std::io::Error| format!("{}: {error}", folder.display());
        fs::create_dir_all(&folder).map_err(told)?;
        let (addr, admin) = (free_port().map_err(told)?, free_port().map_err(told)?);
        let text = launch.config.replace("$LISTEN", &addr.to_string()).replace("$ADMIN", &admin.to_string());
        let text = text.replace("$FOLDER", &folder.display().to_string());
        fs::write(folder.join("headrace.toml"), text).map_err(told)?;
        let log = launch.log.map_or_else(|| folder.join("log"), PathBuf::from);
        let log = fs::OpenOptions::new().create(true).append(true).open(log).map_err(told)?;
        let mut command = if launch.wrapper.is_empty() {
            Command::new(launch.bin)
        } else {
            let mut shell = Command::new("sh");
            shell.args(["-c", launch.wrapper, "sh"]).arg(launch.bin);
            shell
        };
        command.args(["serve", "--shards", "2", "--io", launch.io, "--config"]).arg(folder.join("headrace.toml"));
        command.env("HEADRACE_FAULTS_FOLDER", &folder).env("HEADRACE_LOG", "info").env("NO_COLOR", "1");
        // With huge pages the kernel fills given-back pages in again, 2 MiB at a time and when it likes: memory would say nothing.
        command.env("MIMALLOC_ALLOW_THP", "0");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().map_err(told)?;
        let pid = child.id();
        let gateway = Gateway { child: Mutex::new(child), pid, addr, admin, folder };
        let begun = Instant::now();
        while begun.elapsed() < START_PATIENCE {
            if !gateway.is_alive() {
                return Err(gateway.log());
            }
            if gateway.page("/livez").is_some_and(|(status, _)| status == 200) {
                return Ok(gateway);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Err(format!("it does not serve after {START_PATIENCE:?}: {}", gateway.log()))
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.child.lock().is_ok_and(|mut child| matches!(child.try_wait(), Ok(None)))
    }

    /// What it said so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.folder.join("headrace.toml")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        signal_to(self.pid, signal);
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kilobytes.unwrap_or(0) << 10
    }

    /// Open handles.
    pub(crate) fn handles(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid)).map_or(0, Iterator::count)
    }

    /// Processor time so far, in hundredths of a second (proc(5): fields 14 and 15 of stat, the name in brackets skipped).
    pub(crate) fn cpu(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().skip(11).take(2);
        fields.filter_map(|field| field.parse::<u64>().ok()).sum()
    }

    pub(crate) fn metrics(&self) -> Option<Metrics> {
        self.page("/metrics").map(|(_, text)| Metrics(text))
    }

    fn page(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect_timeout(&self.admin, PAGE_PATIENCE).ok()?;
        stream.set_read_timeout(Some(PAGE_PATIENCE)).ok()?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n").as_bytes()).ok()?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n")?;
        Some((head.get(9..12)?.parse().ok()?, body.to_owned()))
    }

    /// Asks it to end, and says how it did; `None` when it did not.
    pub(crate) fn end(&self) -> Option<i32> {
        self.signal(Signal::TERM);
        let begun = Instant::now();
        while begun.elapsed() < START_PATIENCE {
            if let Ok(mut child) = self.child.lock()
                && let Ok(Some(status)) = child.try_wait()
            {
                return status.code();
            }
            std::thread::sleep(LOOK_EVERY);
        }
        None
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Only this child, and only while it has not been waited for.
        if let Ok(mut child) = self.child.lock() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The text of a scrape.
pub(crate) struct Metrics(String);

impl Metrics {
    /// The sum of a metric's samples whose labels contain each of these texts.
    pub(crate) fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let of = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let lines = self.0.lines().filter(of).filter(|line| labels.iter().all(|label| line.contains(label)));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }
}

pub(crate) fn signal_to(pid: u32, signal: Signal) {
    if let Some(pid) = pid_of(pid) {
        let _ = kill_process(pid, signal);
    }
}

fn pid_of(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

pub(crate) fn free_port() -> std::io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

const START_PATIENCE: Duration = Duration::from_secs(20);
const PAGE_PATIENCE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(5);
