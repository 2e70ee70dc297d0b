//! Hands this process's listening sockets to a new one started from the same file, and waits until it serves. Who leaves, and how, is
//! `supervise`'s. Until the new one has said that it serves nothing changes here; if it never does, this process goes on.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::inherit::{DRIVER_VAR, FDS_VAR, READY_VAR};
use crate::sys::inherit::heirloom;

/// What a successor is started with.
#[derive(Debug)]
pub(super) struct Estate {
    /// The program's file as it was named when this process began: by now another one may stand there.
    program: PathBuf,
    arguments: Vec<OsString>,
    /// Duplicates of all listening sockets, the admin page's too.
    sockets: Vec<OwnedFd>,
    driver: &'static str,
}

/// Why there is no successor.
#[derive(Debug)]
pub(super) enum UpgradeError {
    Start {
        program: PathBuf,
        error: io::Error,
    },
    /// It ended, with this, before it served.
    Ended(String),
    Late,
}

impl fmt::Display for UpgradeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UpgradeError::Start { program, error } => write!(out, "{} cannot be started: {error}", program.display()),
            UpgradeError::Ended(how) => write!(out, "the new process ended before it served ({how}); its own lines say why"),
            UpgradeError::Late => write!(out, "the new process did not serve within {READY_TIMEOUT:?}, so it was ended"),
        }
    }
}

impl Estate {
    /// # Errors
    /// When descriptors are out.
    pub(super) fn new<'a>(sockets: impl IntoIterator<Item = &'a OwnedFd>, driver: &'static str) -> io::Result<Estate> {
        Ok(Estate {
            program: std::env::current_exe()?,
            arguments: std::env::args_os().skip(1).collect(),
            sockets: sockets.into_iter().map(OwnedFd::try_clone).collect::<io::Result<_>>()?,
            driver,
        })
    }

    /// Starts the successor and waits until it serves; its process id. Blocks.
    ///
    /// # Errors
    /// Why there is none; it was ended then.
    pub(super) fn hand_over(&self) -> Result<u32, UpgradeError> {
        let failed = |error| UpgradeError::Start { program: self.program.clone(), error };
        let (waiting, ready) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
        let child = self.start(&ready).map_err(failed)?;
        // The only writer that is left is the successor: when it ends, the pipe does.
        drop(ready);
        await_ready(child, &waiting)
    }

    fn start(&self, ready: &OwnedFd) -> io::Result<Child> {
        // Duplicates that an exec leaves open. They are closed here as soon as the child has its own.
        let left: Vec<OwnedFd> = self.sockets.iter().map(heirloom).collect::<io::Result<_>>()?;
        let ready = heirloom(ready)?;
        let numbers = left.iter().map(|socket| socket.as_raw_fd().to_string()).collect::<Vec<_>>().join(",");
        Command::new(&self.program)
            .args(&self.arguments)
            .env(FDS_VAR, numbers)
            .env(READY_VAR, ready.as_raw_fd().to_string())
            .env(DRIVER_VAR, self.driver)
            .env_remove("LISTEN_FDS")
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDNAMES")
            .spawn()
    }
}

fn await_ready(mut child: Child, waiting: &OwnedFd) -> Result<u32, UpgradeError> {
    let timeout = Timespec { tv_sec: i64::try_from(READY_TIMEOUT.as_secs()).unwrap_or(i64::MAX), tv_nsec: 0 };
    let mut polled = [PollFd::new(waiting, PollFlags::IN)];
    let heard = loop {
        match poll(&mut polled, Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other.unwrap_or(0) > 0,
        }
    };
    let mut word = [0; 8];
    if heard && rustix::io::read(waiting, &mut word).is_ok_and(|length| length > 0) {
        return Ok(child.id());
    }
    if !heard {
        let _ = child.kill();
    }
    let how = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
    Err(if heard { UpgradeError::Ended(how) } else { UpgradeError::Late })
}

/// Binding, resolving names and starting threads take milliseconds; a slow name server takes seconds.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
