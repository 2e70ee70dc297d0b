//! One started program: in a process group of its own, bound to its cores, its words in a log file. It ends with its handle, whatever way
//! the runner goes. Measuring it is `usage`'s business.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

use super::host::{self, Interrupts};
use super::usage;

/// What to start and where.
#[derive(Clone, Debug)]
pub(crate) struct Program<'a> {
    pub(crate) name: &'a str,
    pub(crate) command: &'a [String],
    pub(crate) env: &'a BTreeMap<String, String>,
    pub(crate) cores: &'a [usize],
    /// Its folder: working directory, log, and what it prints.
    pub(crate) folder: &'a Path,
}

#[derive(Debug)]
pub(crate) struct Child {
    name: String,
    process: std::process::Child,
    group: Pid,
    folder: PathBuf,
    ended: Option<ExitStatus>,
}

/// How long a program may take to end by itself.
const END_PATIENCE: Duration = Duration::from_secs(3);
const STEP: Duration = Duration::from_millis(10);
/// Lines of a log that a reason quotes.
const TAIL_LINES: usize = 3;

impl Child {
    /// # Errors
    /// For a person: what could not be started and why.
    pub(crate) fn start(program: &Program<'_>) -> Result<Child, String> {
        let fail = |error: std::io::Error| format!("{}: cannot be started: {error}", program.name);
        std::fs::create_dir_all(program.folder).map_err(fail)?;
        let file = |name: &str| File::create(program.folder.join(name)).map_err(fail);
        let cores: Vec<String> = program.cores.iter().map(ToString::to_string).collect();
        let mut command = Command::new(std::env::current_exe().map_err(fail)?);
        command.args(["launch", "--cores", &cores.join(","), "--parent", &std::process::id().to_string(), "--"]);
        command.args(program.command).envs(program.env).current_dir(program.folder);
        command.stdin(Stdio::null()).stdout(file(OUT)?).stderr(file(LOG)?).process_group(0);
        let process = command.spawn().map_err(fail)?;
        let group = i32::try_from(process.id()).ok().and_then(Pid::from_raw).ok_or_else(|| format!("{}: no process id", program.name))?;
        Ok(Child { name: program.name.to_owned(), process, group, folder: program.folder.to_owned(), ended: None })
    }

    /// All its processes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        usage::family(&usage::proc(), self.process.id())
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.process.try_wait().ok().flatten();
        }
        self.ended
    }

    /// An error that tells how it ended, if it has.
    pub(crate) fn alive(&mut self) -> Result<(), String> {
        match self.ended() {
            None => Ok(()),
            Some(status) => Err(format!("{} ended ({status}){}", self.name, self.tail())),
        }
    }

    /// Stops its processes where they stand, so that what they do in the background burdens nobody else's round.
    pub(crate) fn freeze(&self) {
        let _ = kill_process_group(self.group, Signal::STOP);
    }

    pub(crate) fn thaw(&self) {
        let _ = kill_process_group(self.group, Signal::CONT);
    }

    /// Waits until it ends by itself, calling `meanwhile` at every step.
    ///
    /// # Errors
    /// When it takes longer than `limit`, or the person wants an end.
    pub(crate) fn wait(&mut self, limit: Duration, signals: &Interrupts, mut meanwhile: impl FnMut()) -> Result<ExitStatus, String> {
        let until = host::now() + limit;
        loop {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            if host::now() > until {
                return Err(format!("{} has not ended after {limit:?}{}", self.name, self.tail()));
            }
            meanwhile();
            signals.pause(STEP)?;
        }
    }

    /// What it printed.
    pub(crate) fn printed(&self) -> String {
        read(&self.folder.join(OUT))
    }

    /// The last words of its log, to stand behind a reason.
    pub(crate) fn tail(&self) -> String {
        let text = [read(&self.folder.join(OUT)), read(&self.folder.join(LOG))].concat();
        let mut lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).rev().take(TAIL_LINES).collect();
        lines.reverse();
        if lines.is_empty() { String::new() } else { format!(": {}", lines.join(" | ").chars().take(400).collect::<String>()) }
    }
}

impl Drop for Child {
    /// Asks the group to end, waits, and takes what is left of it: workers may outlive their parent.
    fn drop(&mut self) {
        self.thaw();
        let _ = kill_process_group(self.group, Signal::TERM);
        let until = host::now() + END_PATIENCE;
        while (self.ended().is_none() || test_kill_process_group(self.group).is_ok()) && host::now() < until {
            sleep(STEP);
        }
        if test_kill_process_group(self.group).is_ok() {
            let _ = kill_process_group(self.group, Signal::KILL);
            if self.ended.is_none() {
                let _ = self.process.wait();
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a handle that is dropped cannot await; the wait is bounded")]
fn sleep(time: Duration) {
    std::thread::sleep(time);
}

fn read(place: &Path) -> String {
    #[expect(clippy::disallowed_methods, reason = "the runner is a tool, not a shard")]
    let bytes = std::fs::read(place);
    bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

const OUT: &str = "stdout";
const LOG: &str = "stderr";
