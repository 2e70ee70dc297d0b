//! Operations as futures: one file per operation. They register the polling task with the socket's state and leave the rest to
//! `sockets` and the driver.

mod accept;
mod connect;
mod hand_over;
mod recv;
mod send;
mod sleep;

use std::net::SocketAddr;

use super::Rt;

pub use accept::Listener;
pub use hand_over::Detached;
pub use sleep::Sleep;

/// One connected stream (TCP or Unix). Dropping it ends its operations and closes it.
pub struct Socket {
    rt: Rt,
    index: usize,
}

impl Socket {
    /// The index of a handle whose connection went elsewhere.
    const DETACHED: usize = usize::MAX;

    /// The other end's address; `None` on Unix sockets. A system call: ask once per connection.
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        let fd = self.rt.0.sockets.borrow().streams[self.index].fd;
        self.rt.0.driver.borrow().peer_addr(fd)
    }

    /// The descriptor's number, for tests that look at socket options.
    #[must_use]
    pub fn fd(&self) -> crate::sys::Fd {
        self.rt.0.sockets.borrow().streams[self.index].fd
    }

    /// Closes with RST instead of FIN when dropped, so that a cut answer looks cut.
    pub fn reset_on_drop(&self) {
        let fd = self.fd();
        self.rt.0.driver.borrow_mut().reset_on_close(fd);
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.index == Socket::DETACHED {
            return;
        }
        let mut driver = self.rt.0.driver.borrow_mut();
        self.rt.0.sockets.borrow_mut().close_stream(&mut **driver, self.index);
    }
}
