//! Handing an accepted connection to another shard, before anything was read from it or sent.

use super::super::Rt;
use super::Socket;
use crate::sys::Fd;

/// A connection on its way from one runtime to another. Dropped, it is closed.
#[derive(Debug)]
pub struct Detached {
    fd: Option<Fd>,
    /// A simulated number has no descriptor behind it.
    is_real: bool,
}

impl Socket {
    /// Takes the connection out of this runtime.
    ///
    /// # Errors
    /// Gives the socket back when something was begun on it: its operations belong to this runtime's ring.
    pub fn detach(mut self) -> Result<Detached, Socket> {
        let is_real = self.rt.driver_name() != "sim";
        let taken = self.rt.0.sockets.borrow_mut().take_untouched(self.index);
        let Some(fd) = taken else { return Err(self) };
        self.index = Socket::DETACHED;
        Ok(Detached { fd: Some(fd), is_real })
    }
}

impl Rt {
    /// Takes over a connection that another shard has accepted, with the same kind of driver.
    #[must_use]
    pub fn attach(&self, mut detached: Detached) -> Option<Socket> {
        let fd = detached.fd.take()?;
        let index = self.0.sockets.borrow_mut().add_stream(fd);
        Some(Socket { rt: self.clone(), index })
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        if let Some(fd) = self.fd.take().filter(|_| self.is_real) {
            drop(fd.release());
        }
    }
}
