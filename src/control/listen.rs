//! Binds what clients connect to, before any shard starts: a TCP port once per shard (`SO_REUSEPORT`, so that each has its own
//! queue), a Unix path once, with a duplicate for each shard. Accepting is the shards' business.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::error::StartError;
use super::inherit::Inherited;
use crate::config::ListenAddr;
use crate::sys::net::{self, Address};

/// Everything bound.
#[derive(Debug)]
pub(super) struct Bound {
    /// By shard: one socket per entry of `server.listen`, in its order.
    pub(super) sockets: Vec<Vec<OwnedFd>>,
    /// The TCP ones, with the port the kernel chose for port 0.
    pub(super) addrs: Vec<SocketAddr>,
    /// What was bound, in the order of the configuration, as the start line shows it.
    pub(super) shown: Vec<ListenAddr>,
    pub(super) files: Vec<SocketFile>,
}

/// The file of a Unix listener; removed on drop unless another process has put its own there.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
    /// False once a successor listens there.
    ours: bool,
}

impl SocketFile {
    /// Leaves the file to a successor.
    pub(super) fn leave(mut self) {
        self.ours = false;
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.ours && identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// # Errors
/// The first address that cannot be bound; what was bound before it is released.
pub(super) fn bind(addresses: &[ListenAddr], shards: u32, inherited: &mut Inherited) -> Result<Bound, StartError> {
    let sockets = (0..shards).map(|_| Vec::with_capacity(addresses.len())).collect();
    let mut bound = Bound { sockets, addrs: Vec::new(), shown: Vec::new(), files: Vec::new() };
    for address in addresses {
        let result = match address {
            ListenAddr::Tcp(addr) => bound.tcp(*addr, inherited.take(&Address::Tcp(*addr))),
            ListenAddr::Unix(path) => bound.unix(path, inherited.take(&Address::Unix(path.clone()))),
        };
        result.map_err(|error| StartError::Listen { address: address.clone(), error })?;
    }
    Ok(bound)
}

impl Bound {
    /// Every socket that was there before has connections in its queue, so each finds a shard, whatever the number of either.
    fn tcp(&mut self, wanted: SocketAddr, there: Vec<OwnedFd>) -> io::Result<()> {
        let mut addr = wanted;
        let shards = self.sockets.len();
        // Beside a socket that does not share its port no other can be bound: then the shards share that one.
        let lacking = shards.saturating_sub(there.len());
        let shared: Vec<OwnedFd> = match there.first() {
            Some(first) if !net::shares_port(first) => {
                there.iter().cycle().take(lacking).map(OwnedFd::try_clone).collect::<io::Result<_>>()?
            }
            _ => Vec::new(),
        };
        let served = (there.len() + shared.len()).min(shards);
        for (nth, socket) in there.into_iter().chain(shared).enumerate() {
            self.sockets[nth % shards].push(socket);
        }
        for sockets in &mut self.sockets[served..] {
            let fd = net::listen(&Address::Tcp(addr), BACKLOG, false)?;
            // Port 0: the kernel chooses for the first shard, the others take the same.
            addr = net::local_addr(fd).unwrap_or(addr);
            sockets.push(fd.release());
        }
        self.addrs.push(addr);
        self.shown.push(ListenAddr::Tcp(addr));
        Ok(())
    }

    fn unix(&mut self, path: &Path, mut there: Vec<OwnedFd>) -> io::Result<()> {
        // All that a process had of it were duplicates of one.
        let socket = match there.pop() {
            Some(socket) => socket,
            None => listen_unix(path)?,
        };
        self.files.push(SocketFile { path: path.to_owned(), identity: identity(path)?, ours: true });
        for sockets in &mut self.sockets {
            sockets.push(socket.as_fd().try_clone_to_owned()?);
        }
        self.shown.push(ListenAddr::Unix(path.to_owned()));
        Ok(())
    }
}

fn listen_unix(path: &Path) -> io::Result<OwnedFd> {
    let address = Address::Unix(path.to_owned());
    let fd = match net::listen(&address, BACKLOG, false) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path, &address)? => {
            std::fs::remove_file(path)?;
            net::listen(&address, BACKLOG, false)?
        }
        result => result?,
    };
    Ok(fd.release())
}

/// Whether a socket's file was left behind by a process that is gone: nobody answers there.
fn is_stale(path: &Path, address: &Address) -> io::Result<bool> {
    if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file that is no socket is in the way: move it, or choose another path",
        ));
    }
    // Without blocking: a living listener whose queue is full would hold us up.
    let (fd, addr) = net::socket(address, true)?;
    let result = net::connect(fd, &addr);
    drop(fd.release());
    Ok(result.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused))
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Connections the kernel holds for a shard that is behind; it takes at most net.core.somaxconn (4096 by default).
const BACKLOG: i32 = 4096;
