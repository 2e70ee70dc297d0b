//! Receiving: leased buffers in the order they arrived, and the news that the peer has gone.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use super::Socket;
use crate::runtime::sockets::End;
use crate::sys::Lease;

impl Socket {
    /// The next bytes that arrived; `None` at the end of the stream. Return the lease soon (drop it): the pool is the shard's.
    ///
    /// # Errors
    /// The connection's error, once all bytes before it were read.
    pub async fn recv(&self) -> io::Result<Option<Lease>> {
        poll_fn(|_| self.poll_recv()).await
    }

    /// One look without waiting, registering the current task when there is nothing.
    pub fn poll_recv(&self) -> Poll<io::Result<Option<Lease>>> {
        let inner = &*self.rt.0;
        let mut sockets = inner.sockets.borrow_mut();
        let stream = &mut sockets.streams[self.index];
        if let Some(lease) = stream.arrived.pop_front() {
            sockets.arm_recv(&mut **inner.driver.borrow_mut(), self.index);
            return Poll::Ready(Ok(Some(lease)));
        }
        match stream.end {
            Some(End::Eof) => Poll::Ready(Ok(None)),
            Some(End::Failed(errno)) => Poll::Ready(Err(io::Error::from_raw_os_error(errno))),
            None => {
                stream.reader = inner.tasks.current();
                sockets.arm_recv(&mut **inner.driver.borrow_mut(), self.index);
                Poll::Pending
            }
        }
    }

    /// Takes what has arrived, without waiting and without registering.
    #[must_use]
    pub fn try_recv(&self) -> Option<Lease> {
        self.rt.0.sockets.borrow_mut().streams[self.index].arrived.pop_front()
    }

    /// Whether an idle connection must not be used again: it ended, failed, or bytes came that nobody asked for.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        let sockets = self.rt.0.sockets.borrow();
        let stream = &sockets.streams[self.index];
        stream.end.is_some() || !stream.arrived.is_empty() || stream.send_error.is_some()
    }

    /// Keeps a receive armed on an idle connection, so that its end is noticed while nobody reads.
    pub fn watch(&self) {
        let inner = &*self.rt.0;
        inner.sockets.borrow_mut().arm_recv(&mut **inner.driver.borrow_mut(), self.index);
    }
}
