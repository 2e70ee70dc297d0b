//! Accepting connections: multishot, paused when nobody takes them.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::task::Poll;

use super::{Rt, Socket};
use crate::sys::net::Address;

/// A listening socket. Dropping it stops accepting; connections it had accepted for nobody are closed.
pub struct Listener {
    rt: Rt,
    index: usize,
}

impl Rt {
    /// # Errors
    /// When the address cannot be bound.
    pub fn listen(&self, address: &Address, backlog: i32) -> io::Result<Listener> {
        let fd = self.0.driver.borrow_mut().listen(address, backlog)?;
        let index = self.0.sockets.borrow_mut().add_listener(fd);
        Ok(Listener { rt: self.clone(), index })
    }

    /// Accepts on a socket that listens already: made before the shards started, or a duplicate of another shard's (a Unix
    /// path can be bound only once).
    ///
    /// # Errors
    /// When the descriptor is no socket, or the driver is the simulated one.
    pub fn adopt_listener(&self, socket: OwnedFd) -> io::Result<Listener> {
        let fd = self.0.driver.borrow_mut().adopt_listener(socket)?;
        let index = self.0.sockets.borrow_mut().add_listener(fd);
        Ok(Listener { rt: self.clone(), index })
    }
}

impl Listener {
    /// The next connection. While nobody awaits this, at most 64 are accepted ahead and the kernel's backlog holds the rest.
    ///
    /// # Errors
    /// What accept failed with (EMFILE, ENFILE, ENOMEM ...): wait a little and call again.
    pub async fn accept(&self) -> io::Result<Socket> {
        poll_fn(|_| {
            let inner = &*self.rt.0;
            let mut sockets = inner.sockets.borrow_mut();
            let listener = &mut sockets.listeners[self.index];
            if let Some(fd) = listener.accepted.pop_front() {
                let index = sockets.add_stream(fd);
                return Poll::Ready(Ok(Socket { rt: self.rt.clone(), index }));
            }
            if let Some(error) = listener.error.take() {
                return Poll::Ready(Err(error));
            }
            if sockets.is_exhausted(self.index) {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            }
            let listener = &mut sockets.listeners[self.index];
            listener.acceptor = inner.tasks.current();
            sockets.arm_accept(&mut **inner.driver.borrow_mut(), self.index);
            Poll::Pending
        })
        .await
    }

    /// Accepts nothing more: who comes from now on waits in the kernel's queue, for whoever else has this socket open.
    /// [`Listener::accept`] still gives out what was accepted before, and fails then.
    pub fn stop(&self) {
        let mut driver = self.rt.0.driver.borrow_mut();
        self.rt.0.sockets.borrow_mut().stop_listener(&mut **driver, self.index);
    }

    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.rt.0.sockets.borrow().listeners[self.index].stopped
    }

    /// Where it listens (with the port the kernel chose for port 0); `None` on Unix sockets.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        let fd = self.rt.0.sockets.borrow().listeners[self.index].fd;
        self.rt.0.driver.borrow().local_addr(fd)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut driver = self.rt.0.driver.borrow_mut();
        self.rt.0.sockets.borrow_mut().close_listener(&mut **driver, self.index);
    }
}
