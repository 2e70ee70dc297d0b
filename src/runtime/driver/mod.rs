//! The seam between the shard loop and the world: sockets by number, operations in, completions out. Three drivers stand behind
//! it: `uring` and `epoll` for real sockets, `sim` for a pretend kernel with virtual time. It knows no tasks and no futures.

mod epoll;
pub mod sim;
#[cfg(test)]
mod tests;
mod uring;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use crate::sys::net::Address;
use crate::sys::{BufferPool, Completion, Fd, Op, OpId, RingStats, Wait};

pub use epoll::EpollDriver;
pub use sim::{SimDriver, SimKernel};
pub use uring::UringDriver;

/// What the shard loop needs of an operating system. Rules for every driver (`tests` holds them to it):
/// an operation's memory comes back with its last completion and not before; `cancel` only asks, the operation's own last
/// completion follows; `Recv` and `Accept` go on until a completion without `more`; `Recv` with no buffer left ends with ENOBUFS;
/// a `Send` completes with the bytes taken, at least one.
pub trait Driver {
    /// # Errors
    /// When the address cannot be bound.
    fn listen(&mut self, address: &Address, backlog: i32) -> io::Result<Fd>;

    /// Takes over a listening socket that was bound elsewhere and makes it blocking or not, as this driver needs it. The
    /// simulated driver has no descriptors to take.
    ///
    /// # Errors
    /// When the descriptor is no socket, or this driver cannot take one.
    fn adopt_listener(&mut self, socket: OwnedFd) -> io::Result<Fd> {
        drop(socket);
        Err(io::Error::new(io::ErrorKind::Unsupported, "this driver takes no sockets from outside"))
    }

    /// An unconnected socket for `address`, and the `Connect` operation for it.
    ///
    /// # Errors
    /// When descriptors are out.
    fn socket(&mut self, address: &Address) -> io::Result<(Fd, Op)>;

    /// Queues `op` for the next turn; `target` comes back with each completion.
    fn submit(&mut self, op: Op, target: u64) -> OpId;

    fn cancel(&mut self, id: OpId);

    /// Asks to end every operation on `fd`.
    fn cancel_all(&mut self, fd: Fd);

    /// Makes the one receive on `fd` end soon, before a close. Asks for no search through everything in flight, which `cancel_all` may.
    fn end_recv(&mut self, fd: Fd) {
        self.cancel_all(fd);
    }

    /// Closes `fd`, on which no operation is in flight.
    fn close(&mut self, fd: Fd);

    /// Whether a turn without waiting would bring a completion (may be wrong towards "no"). Used to spin; makes no system call.
    fn has_work(&mut self) -> bool;

    /// Submits, waits as told, and appends the completions to `out`.
    ///
    /// # Errors
    /// When the driver itself is broken (not an operation): the shard must end.
    fn turn(&mut self, wait: Wait, out: &mut Vec<Completion>) -> io::Result<()>;

    fn peer_addr(&self, fd: Fd) -> Option<SocketAddr>;

    fn local_addr(&self, fd: Fd) -> Option<SocketAddr>;

    /// Bytes the peer has taken since the connection was made, where that is known.
    fn taken_bytes(&self, fd: Fd) -> Option<u64> {
        let _ = fd;
        None
    }

    fn shutdown_write(&mut self, fd: Fd);

    /// Makes a later close send RST instead of FIN.
    fn reset_on_close(&mut self, fd: Fd);

    fn pool(&self) -> &BufferPool;

    /// "uring", "epoll" or "sim".
    fn name(&self) -> &'static str;

    /// Whether spinning before a sleep can pay: only where work shows without a system call.
    fn can_spin(&self) -> bool;

    /// Whether a turn that may wait returns at once and its sleep goes on until the next turn: where time is pretended, and other
    /// runtimes of the same thread run meanwhile. They must find this one asleep.
    fn sleeps_on(&self) -> bool {
        false
    }

    fn stats(&self) -> RingStats;
}
