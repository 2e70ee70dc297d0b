//! The phase "read": waits for a request's head on a connection, within the times that are allowed for it.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use super::Shard;
use super::connection::Connection;
use super::error::Error;
use crate::http::{HeadLimits, Parsed};
use crate::runtime::{Either, race};
use crate::sys::{Instant, Lease};

/// What came next on a connection.
pub(super) enum Next {
    /// A whole valid head lies parsed in `connection.head`, its bytes in front of `connection.input`.
    Request,
    /// Answer this and close.
    Refused(Error),
    /// Close without a word: the client left, was idle too long, or we drain.
    Closed,
}

pub(super) async fn next_request(shard: &Shard, connection: &mut Connection) -> Next {
    let limits = HeadLimits::default();
    let mut scanned = 0;
    let mut began: Option<Instant> = None;
    loop {
        if !connection.input.is_empty() {
            match connection.head.parse(connection.input.bytes(), &mut scanned, &limits) {
                Ok(Parsed::Complete) => return Next::Request,
                Ok(Parsed::Partial) => {
                    began = began.or(Some(shard.rt.now()));
                    connection.input.settle(&shard.rt);
                }
                Err(error) => return Next::Refused(Error::Head(error)),
            }
        }
        let deadline = deadline(shard, connection, began);
        match race(receive(shard, connection), shard.rt.sleep_until(deadline)).await {
            Either::First(Some(Ok(Some(lease)))) => connection.input.push(&shard.rt, lease),
            Either::First(_) => return Next::Closed,
            Either::Second(()) if began.is_some() => return Next::Refused(Error::HeadTimeout),
            Either::Second(()) => return Next::Closed,
        }
    }
}

/// A head has `header_timeout` from its first byte (the first one: from accept), a quiet connection `idle_timeout`.
fn deadline(shard: &Shard, connection: &Connection, began: Option<Instant>) -> Instant {
    let current = shard.current.borrow();
    let server = &current.config.server;
    match began {
        None if connection.requests > 0 => connection.since + server.idle_timeout,
        None => connection.since + server.header_timeout,
        Some(at) if connection.requests > 0 => at + server.header_timeout,
        Some(_) => connection.since + server.header_timeout,
    }
}

/// The next bytes; `None` when we drain and nothing of a request has come.
async fn receive(shard: &Shard, connection: &Connection) -> Option<io::Result<Option<Lease>>> {
    poll_fn(|_| match connection.socket.poll_recv() {
        Poll::Ready(received) => Poll::Ready(Some(received)),
        Poll::Pending if shard.draining.get() && !shard.leaving.get() && connection.input.is_empty() => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}
