//! What can go wrong between a configuration and a gateway that serves, each with what to do about it. Faults of requests are the
//! shard's.

use std::fmt;
use std::io;

use super::load::LoadError;
use super::resolve::ResolveError;
use crate::config::ListenAddr;
use crate::metrics::TooManySnapshots;

/// Why the gateway did not start. Nothing is left behind: no thread, no socket.
#[derive(Debug)]
pub enum StartError {
    /// Every endpoint whose name has no address.
    Resolve(Vec<ResolveError>),
    Listen {
        address: ListenAddr,
        error: io::Error,
    },
    Admin {
        address: std::net::SocketAddr,
        error: io::Error,
    },
    /// io_uring was demanded and refused.
    Ring {
        shard: u32,
        error: io::Error,
    },
    /// A thread, a descriptor or memory could not be had.
    Resources {
        what: &'static str,
        error: io::Error,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Resolve(errors) => write!(out, "{}", Lines(errors)),
            StartError::Listen { address, error } => {
                write!(out, "cannot listen on {}: {}", Shown(address), because(error))
            }
            StartError::Admin { address, error } => {
                write!(out, "cannot listen on {address} for the admin page (`admin.listen`): {}", because(error))
            }
            StartError::Ring { shard, error } => write!(
                out,
                "io_uring was asked for, and shard {shard} was refused it: {error}; `headrace doctor` says why and how to mend it, \
                 `--io auto` serves with epoll until then"
            ),
            StartError::Resources { what, error } => write!(out, "{what}: {error}; `headrace doctor` shows the limits"),
        }
    }
}

impl std::error::Error for StartError {}

/// Why a reload was refused. The former configuration goes on whole.
#[derive(Debug)]
pub enum ReloadError {
    /// The gateway was not started from a file.
    NoFile,
    Load(LoadError),
    /// These keys changed, which takes a restart.
    NeedsRestart(Vec<&'static str>),
    Resolve(Vec<ResolveError>),
    TooManySnapshots(TooManySnapshots),
    /// The gateway drains: nothing new begins.
    Draining,
}

impl fmt::Display for ReloadError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReloadError::NoFile => write!(out, "the gateway was not started from a file"),
            ReloadError::Load(error) => write!(out, "{error}"),
            ReloadError::NeedsRestart(keys) => {
                write!(out, "a changed {} takes a restart; nothing of the new configuration was applied", Keys(keys))
            }
            ReloadError::Resolve(errors) => write!(out, "{}", Lines(errors)),
            ReloadError::TooManySnapshots(error) => write!(out, "{error}"),
            ReloadError::Draining => write!(out, "the gateway drains"),
        }
    }
}

impl std::error::Error for ReloadError {}

/// Why a gateway that served ended by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunError {
    pub what: String,
}

impl fmt::Display for RunError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.what)
    }
}

impl std::error::Error for RunError {}

/// How a gateway that was asked to end did so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// Everything begun was finished.
    Clean,
    /// The drain timeout passed, or somebody was in a hurry: exchanges were cut.
    Cut,
}

/// An address as the configuration writes it.
pub(super) struct Shown<'a>(pub(super) &'a ListenAddr);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ListenAddr::Tcp(addr) => write!(out, "{addr}"),
            ListenAddr::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

/// What the kernel said, and what a person can do.
fn because(error: &io::Error) -> String {
    let mend = match error.kind() {
        io::ErrorKind::AddrInUse => "another process listens there: stop it or choose another address (`ss -ltnp` shows who)",
        io::ErrorKind::PermissionDenied => {
            "this user may not: choose a port from 1024 up or a folder it may write, or grant CAP_NET_BIND_SERVICE"
        }
        io::ErrorKind::AddrNotAvailable => "this host has no such address (`ip addr` shows those it has)",
        io::ErrorKind::NotFound => "the folder of the socket does not exist",
        _ => return error.to_string(),
    };
    format!("{error}; {mend}")
}

struct Lines<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for Lines<'_, T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, line) in self.0.iter().enumerate() {
            let between = if index == 0 { "" } else { "\n" };
            write!(out, "{between}{line}")?;
        }
        Ok(())
    }
}

struct Keys<'a>(&'a [&'static str]);

impl fmt::Display for Keys<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, key) in self.0.iter().enumerate() {
            let between = if index == 0 { "" } else { ", " };
            write!(out, "{between}`{key}`")?;
        }
        Ok(())
    }
}
