//! Listening sockets that were there before this process: from systemd (socket activation, sd_listen_fds(3)) or from the process this
//! one succeeds (`upgrade`). A socket belongs to the configured address it is bound to, whatever its name.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};

use super::error::StartError;
use crate::config::Io;
use crate::sys::inherit;
use crate::sys::net::{self, Address};

/// What this process was given at its start.
#[derive(Default, Debug)]
pub struct Inherited {
    sockets: Vec<(Address, OwnedFd)>,
    /// Where the process before us waits for the word that we serve.
    ready: Option<OwnedFd>,
    /// The driver of the process before us: a socket that both have open can only be blocking or not.
    io: Option<Io>,
}

impl Inherited {
    /// Takes what the environment names. Once in the life of a process, before it opens anything else.
    ///
    /// # Errors
    /// When the environment names what is not there.
    pub fn from_env() -> Result<Inherited, StartError> {
        Inherited::from_vars(&|name| std::env::var_os(name), std::process::id())
    }

    fn from_vars(var: &dyn Fn(&str) -> Option<OsString>, pid: u32) -> Result<Inherited, StartError> {
        let text = |name: &str| var(name).and_then(|value| value.into_string().ok());
        let broken = |error| StartError::Resources { what: "the sockets this process was to inherit", error };
        if let Some(list) = text(FDS_VAR) {
            let numbers = numbers(&list).map_err(broken)?;
            let ready: Option<RawFd> = text(READY_VAR).and_then(|number| number.parse().ok());
            let all: Vec<RawFd> = numbers.iter().copied().chain(ready).collect();
            let mut taken = inherit::take(&all).map_err(broken)?;
            let ready = ready.and_then(|_| taken.pop());
            let io = if text(DRIVER_VAR).as_deref() == Some("epoll") { Io::Epoll } else { Io::Uring };
            return Ok(Inherited { sockets: addressed(taken), ready, io: Some(io) });
        }
        // systemd names the process the sockets are for: a child of that process may see the same environment.
        let ours = text("LISTEN_PID").and_then(|value| value.parse().ok()) == Some(pid);
        let count: RawFd = text("LISTEN_FDS").and_then(|value| value.parse().ok()).unwrap_or(0);
        if !ours || count <= 0 {
            return Ok(Inherited::default());
        }
        let numbers: Vec<RawFd> = (0..count).map(|nth| SYSTEMD_FIRST + nth).collect();
        Ok(Inherited { sockets: addressed(inherit::take(&numbers).map_err(broken)?), ready: None, io: None })
    }

    /// As if these had been there at the start.
    #[cfg(test)]
    pub(super) fn of(sockets: Vec<OwnedFd>) -> Inherited {
        Inherited { sockets: addressed(sockets), ready: None, io: None }
    }

    /// The sockets bound to this address.
    pub(super) fn take(&mut self, address: &Address) -> Vec<OwnedFd> {
        let (taken, left) = std::mem::take(&mut self.sockets).into_iter().partition(|(at, _)| at == address);
        self.sockets = left;
        let taken: Vec<(Address, OwnedFd)> = taken;
        taken.into_iter().map(|(_, socket)| socket).collect()
    }

    /// The socket of the admin page.
    pub(super) fn take_admin(&mut self, address: SocketAddr) -> Option<OwnedFd> {
        self.take(&Address::Tcp(address)).into_iter().next()
    }

    pub(super) fn io(&self) -> Option<Io> {
        self.io
    }

    /// What no configured address belongs to is closed: nobody would accept there.
    pub(super) fn close_rest(&mut self) {
        for (address, _socket) in self.sockets.drain(..) {
            tracing::warn!("an inherited socket listens on {}, which the configuration does not name: it is closed", shown(&address));
        }
    }

    /// Tells the process before us, if there is one, that it may leave.
    pub(super) fn say_ready(&mut self) {
        if let Some(ready) = self.ready.take() {
            // If it is gone there is nobody to tell.
            let _ = rustix::io::write(&ready, b"ready");
        }
    }
}

fn addressed(sockets: Vec<OwnedFd>) -> Vec<(Address, OwnedFd)> {
    let mut all = Vec::with_capacity(sockets.len());
    for socket in sockets {
        match net::listens_at(&socket) {
            Some(address) => all.push((address, socket)),
            None => tracing::warn!("an inherited descriptor is no listening stream socket: it is closed"),
        }
    }
    all
}

fn numbers(list: &str) -> io::Result<Vec<RawFd>> {
    let number = |part: &str| part.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("{FDS_VAR}={list}")));
    list.split(',').filter(|part| !part.is_empty()).map(number).collect()
}

fn shown(address: &Address) -> String {
    match address {
        Address::Tcp(addr) => addr.to_string(),
        Address::Unix(path) => format!("unix:{}", path.display()),
    }
}

/// From an upgraded process to its successor: the numbers of the listening sockets, of the pipe for its first word, and the driver.
pub(super) const FDS_VAR: &str = "HEADRACE_UPGRADE_FDS";
pub(super) const READY_VAR: &str = "HEADRACE_UPGRADE_READY";
pub(super) const DRIVER_VAR: &str = "HEADRACE_UPGRADE_DRIVER";
/// SD_LISTEN_FDS_START.
const SYSTEMD_FIRST: RawFd = 3;

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "sockets that somebody else made")]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::{AsRawFd, IntoRawFd};

    use super::{DRIVER_VAR, FDS_VAR, Inherited, READY_VAR};
    use crate::config::Io;
    use crate::sys::inherit::heirloom;
    use crate::sys::net::Address;

    fn from(vars: &[(&str, String)], pid: u32) -> Result<Inherited, super::StartError> {
        Inherited::from_vars(&|name| vars.iter().find(|(found, _)| *found == name).map(|(_, value)| value.into()), pid)
    }

    #[test]
    fn sockets_are_known_by_their_address() {
        let (one, other) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let (file, ready) = (std::fs::File::open("/dev/null").unwrap(), std::fs::File::open("/dev/null").unwrap());
        let left = [heirloom(&one).unwrap(), heirloom(&file).unwrap(), heirloom(&other).unwrap(), heirloom(&one).unwrap()];
        let list = left.iter().map(|fd| fd.as_raw_fd().to_string()).collect::<Vec<_>>().join(",");
        for socket in left {
            let _ = socket.into_raw_fd();
        }
        let ready = heirloom(&ready).unwrap().into_raw_fd();
        let vars = [(FDS_VAR, list), (READY_VAR, ready.to_string()), (DRIVER_VAR, "epoll".to_owned())];
        let mut inherited = from(&vars, 1).unwrap();
        assert_eq!((inherited.io(), inherited.ready.is_some(), inherited.sockets.len()), (Some(Io::Epoll), true, 3));
        assert_eq!(inherited.take(&Address::Tcp(one.local_addr().unwrap())).len(), 2);
        assert!(inherited.take_admin("127.0.0.1:1".parse().unwrap()).is_none());
        assert!(inherited.take_admin(other.local_addr().unwrap()).is_some());
        assert!(inherited.sockets.is_empty());
    }

    #[test]
    fn what_is_for_another_process_or_not_there_is_not_taken() {
        let vars = |pid: &str, count: &str| [("LISTEN_PID", pid.to_owned()), ("LISTEN_FDS", count.to_owned())];
        assert!(from(&vars("5", "1"), 6).unwrap().sockets.is_empty());
        assert!(from(&vars("6", "0"), 6).unwrap().sockets.is_empty());
        assert!(from(&[(FDS_VAR, "100000".to_owned())], 6).is_err());
        assert!(from(&[(FDS_VAR, "three".to_owned())], 6).is_err());
    }
}
