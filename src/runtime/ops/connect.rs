//! Connecting to a peer. How long that may take is the caller's matter: dropping the future gives the attempt up.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use super::{Rt, Socket};
use crate::sys::net::Address;

impl Rt {
    /// # Errors
    /// Why the connection could not be made.
    pub async fn connect(&self, address: &Address) -> io::Result<Socket> {
        let socket = self.start_connect(address)?;
        poll_fn(|_| {
            let inner = &*self.0;
            let mut sockets = inner.sockets.borrow_mut();
            let stream = &mut sockets.streams[socket.index];
            match stream.connected.take() {
                Some(result) => Poll::Ready(result),
                None => {
                    stream.writer = inner.tasks.current();
                    Poll::Pending
                }
            }
        })
        .await?;
        Ok(socket)
    }

    fn start_connect(&self, address: &Address) -> io::Result<Socket> {
        let mut driver = self.0.driver.borrow_mut();
        let (fd, op) = driver.socket(address)?;
        let mut sockets = self.0.sockets.borrow_mut();
        let index = sockets.add_stream(fd);
        sockets.start_connect(&mut **driver, index, op);
        Ok(Socket { rt: self.clone(), index })
    }
}
