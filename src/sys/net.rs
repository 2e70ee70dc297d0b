//! Sockets by number: made, bound, connected and asked without blocking. Which bytes flow over them is the drivers' matter.
//!
//! Sockets for io_uring are blocking ones (a non-blocking socket makes the ring answer EAGAIN instead of waiting); those for
//! epoll are not.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::fd::Fd;
use super::op::Parts;

/// Where to listen or to connect to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Address {
    fn to_sock_addr(&self) -> io::Result<SockAddr> {
        match self {
            Address::Tcp(addr) => Ok(SockAddr::from(*addr)),
            Address::Unix(path) => SockAddr::unix(path),
        }
    }
}

/// A listening socket. On TCP the port is shared (SO_REUSEPORT) so that each shard has its own queue, and TCP_NODELAY is set here
/// because accepted sockets inherit it.
///
/// # Errors
/// When the address cannot be bound.
pub fn listen(address: &Address, backlog: i32, nonblocking: bool) -> io::Result<Fd> {
    let addr = address.to_sock_addr()?;
    let socket = Socket::new(addr.domain(), Type::STREAM, None)?;
    if let Address::Tcp(_) = address {
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.set_tcp_nodelay(true)?;
        spare_loopback(&socket, &addr);
    }
    socket.set_nonblocking(nonblocking)?;
    socket.bind(&addr)?;
    socket.listen(backlog)?;
    Ok(Fd::adopt(OwnedFd::from(socket)))
}

/// On the loopback there is no path to probe: nothing is lost, nothing queues. Where the system's congestion control paces (bbr), each
/// message would pay for it with a timer; reno, which every kernel has, does not. Connections to a loopback endpoint use it, and those
/// that come in on a loopback listener, whose sockets inherit it; all others keep the system's choice. A refusal changes nothing.
fn spare_loopback(socket: &Socket, addr: &SockAddr) {
    if addr.as_socket().is_some_and(|addr| addr.ip().to_canonical().is_loopback()) {
        let _ = socket.set_tcp_congestion(b"reno");
    }
}

/// Takes over a listening socket. Whether it blocks is a property of the open file: all duplicates of one must want the same.
///
/// # Errors
/// When the descriptor is not open.
pub fn adopt_listener(socket: OwnedFd, nonblocking: bool) -> io::Result<Fd> {
    SockRef::from(&socket).set_nonblocking(nonblocking)?;
    Ok(Fd::adopt(socket))
}

/// An unconnected socket fit for `address`, and the address in the kernel's form.
///
/// # Errors
/// When the process is out of descriptors or a Unix path is too long.
pub fn socket(address: &Address, nonblocking: bool) -> io::Result<(Fd, Box<SockAddr>)> {
    let addr = address.to_sock_addr()?;
    let socket = Socket::new(addr.domain(), Type::STREAM, None)?;
    if addr.domain() != Domain::UNIX {
        socket.set_tcp_nodelay(true)?;
        spare_loopback(&socket, &addr);
    }
    socket.set_nonblocking(nonblocking)?;
    Ok((Fd::adopt(OwnedFd::from(socket)), Box::new(addr)))
}

/// Accepts one connection without waiting.
///
/// # Errors
/// `WouldBlock` when none waits; EMFILE and the like when resources are out.
pub fn accept(listener: Fd) -> io::Result<Fd> {
    let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
    Ok(Fd::adopt(rustix::net::accept_with(listener.borrow(), flags)?))
}

/// Begins to connect a non-blocking socket; `Ok(true)` when it is connected already.
///
/// # Errors
/// When the connection was refused at once.
pub fn connect(fd: Fd, addr: &SockAddr) -> io::Result<bool> {
    match SockRef::from(&fd.borrow()).connect(addr) {
        Ok(()) => Ok(true),
        // EAGAIN from a Unix socket means that the listener's queue is full: it is an error, there is nothing to wait for.
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a non-blocking connect is through.
///
/// # Errors
/// Why it failed.
pub fn connect_result(fd: Fd) -> io::Result<bool> {
    let borrowed = fd.borrow();
    let socket = SockRef::from(&borrowed);
    match socket.take_error()? {
        Some(error) => Err(error),
        None => Ok(socket.peer_addr().is_ok()),
    }
}

/// # Errors
/// `WouldBlock` when there is nothing to read; the connection's error otherwise.
pub fn recv(fd: Fd, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::net::recv(fd.borrow(), buffer, rustix::net::RecvFlags::empty())?.0)
}

/// Sends what the socket takes of `parts` in one call and returns how many bytes went.
///
/// # Errors
/// `WouldBlock` when the socket takes nothing now; the connection's error otherwise.
pub fn send(fd: Fd, parts: &Parts) -> io::Result<usize> {
    let mut slices = parts.slices();
    let (Some(first), second) = (slices.next(), slices.next()) else { return Ok(0) };
    let Some(second) = second else { return Ok(rustix::net::send(fd.borrow(), first, rustix::net::SendFlags::NOSIGNAL)?) };
    let mut all: smallvec::SmallVec<[io::IoSlice<'_>; 8]> = smallvec::SmallVec::new();
    all.extend([io::IoSlice::new(first), io::IoSlice::new(second)]);
    all.extend(slices.take(MAX_IOVECS - 2).map(io::IoSlice::new));
    let mut control = rustix::net::SendAncillaryBuffer::default();
    Ok(rustix::net::sendmsg(fd.borrow(), &all, &mut control, rustix::net::SendFlags::NOSIGNAL)?)
}

/// The peer's address; `None` for Unix sockets and for connections that are gone.
#[must_use]
pub fn peer_addr(fd: Fd) -> Option<SocketAddr> {
    SockRef::from(&fd.borrow()).peer_addr().ok()?.as_socket()
}

/// The address a socket is bound to; `None` for Unix sockets.
#[must_use]
pub fn local_addr(fd: Fd) -> Option<SocketAddr> {
    SockRef::from(&fd.borrow()).local_addr().ok()?.as_socket()
}

/// The address a socket that somebody else made is bound to, when it listens for connections.
#[must_use]
pub fn listens_at(socket: &OwnedFd) -> Option<Address> {
    let socket = SockRef::from(socket);
    if !socket.is_listener().ok()? || socket.r#type().ok()? != Type::STREAM {
        return None;
    }
    let addr = socket.local_addr().ok()?;
    addr.as_socket().map(Address::Tcp).or_else(|| addr.as_pathname().map(|path| Address::Unix(path.to_owned())))
}

/// Whether others may bind the same port beside this socket (`SO_REUSEPORT`).
#[must_use]
pub fn shares_port(socket: &OwnedFd) -> bool {
    SockRef::from(socket).reuse_port().unwrap_or(false)
}

/// Tells the peer that nothing more will be sent. A connection that is gone already needs no telling.
pub fn shutdown_write(fd: Fd) {
    let _ = SockRef::from(&fd.borrow()).shutdown(Shutdown::Write);
}

/// Ends the incoming side here, without a word to the peer: whoever waits for bytes sees the end of the stream.
pub fn shutdown_read(fd: Fd) {
    let _ = SockRef::from(&fd.borrow()).shutdown(Shutdown::Read);
}

/// Makes close send RST, so that a cut answer looks cut even when its length was not declared.
pub fn reset_on_close(fd: Fd) {
    let _ = SockRef::from(&fd.borrow()).set_linger(Some(std::time::Duration::ZERO));
}

/// Whether TCP_NODELAY is on, for tests.
#[must_use]
pub fn is_nodelay(fd: Fd) -> bool {
    SockRef::from(&fd.borrow()).tcp_nodelay().unwrap_or(false)
}

/// The kernel's UIO_MAXIOV.
pub(super) const MAX_IOVECS: usize = 1024;
