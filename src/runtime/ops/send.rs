//! Sending: parts are lent to the driver until they are sent; vectors come back to the runtime's store.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use super::Socket;
use crate::sys::Parts;

impl Socket {
    /// Sends all of `parts`, in order, after whatever is being sent.
    ///
    /// # Errors
    /// The connection's error; how much arrived is then unknown.
    pub async fn send(&self, parts: impl Into<Parts>) -> io::Result<()> {
        self.start_send(parts);
        self.sent().await
    }

    /// Queues `parts` without waiting. What is left unsent stays in memory: await [`Socket::sent`] before queueing much more.
    pub fn start_send(&self, parts: impl Into<Parts>) {
        let inner = &*self.rt.0;
        inner.sockets.borrow_mut().start_send(&mut **inner.driver.borrow_mut(), self.index, parts.into());
    }

    /// Waits until everything queued is sent.
    ///
    /// # Errors
    /// The connection's error.
    pub async fn sent(&self) -> io::Result<()> {
        poll_fn(|_| {
            let inner = &*self.rt.0;
            let mut sockets = inner.sockets.borrow_mut();
            let sending = sockets.is_sending(self.index);
            let stream = &mut sockets.streams[self.index];
            if let Some(errno) = stream.send_error {
                return Poll::Ready(Err(io::Error::from_raw_os_error(errno)));
            }
            if !sending {
                return Poll::Ready(Ok(()));
            }
            stream.writer = inner.tasks.current();
            Poll::Pending
        })
        .await
    }

    /// Whether something queued is not sent yet.
    #[must_use]
    pub fn is_sending(&self) -> bool {
        self.rt.0.sockets.borrow().is_sending(self.index)
    }

    /// Whether a send has failed: the peer is gone, and what is queued from now on is dropped.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.rt.0.sockets.borrow().streams[self.index].send_error.is_some()
    }

    /// Bytes the peer has taken since the connection was made; `None` where that is not known (Unix sockets). A system call.
    #[must_use]
    pub fn taken_bytes(&self) -> Option<u64> {
        let fd = self.fd();
        self.rt.0.driver.borrow().taken_bytes(fd)
    }

    /// Tells the peer that nothing more will be sent (FIN).
    pub fn shutdown_write(&self) {
        let fd = self.fd();
        self.rt.0.driver.borrow_mut().shutdown_write(fd);
    }
}
