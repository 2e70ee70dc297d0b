//! One client connection from its first byte to its close: requests one after the other, answers in the same order. What an
//! exchange does is in `exchange`; here is only how it begins, and how a connection ends without cutting its last answer.

use std::rc::Rc;

use super::error::Error;
use super::exchange::{After, exchange};
use super::input::Input;
use super::read::{Next, next_request};
use super::respond::{Framed, write_error};
use super::{Shard, answer};
use crate::config::limits;
use crate::http::{RequestHead, client_addr_text};
use crate::llm::Dialect;
use crate::metrics::{Phase, Target};
use crate::runtime::{Either, Socket, race};
use crate::sys::Instant;

/// What a connection owns while it is open. Idle, it holds no buffer.
pub(super) struct Connection {
    pub(super) socket: Socket,
    pub(super) input: Input,
    pub(super) head: RequestHead,
    /// The client's address as `x-forwarded-for` says it; empty on Unix sockets.
    pub(super) client: String,
    /// When it was accepted, or when its last answer was sent.
    pub(super) since: Instant,
    /// Requests it has made.
    pub(super) requests: u64,
}

/// Serves one connection until it closes.
pub(super) fn serve(shard: Rc<Shard>, socket: Socket, open: Open) -> impl Future<Output = ()> {
    async move {
        // Named here, so that the block keeps it until the connection ends.
        let _open = &open;
        let client = socket.peer_addr().map(|addr| client_addr_text(addr.ip())).unwrap_or_default();
        let since = shard.rt.now();
        let mut connection = Connection { socket, input: Input::default(), head: RequestHead::new(), client, since, requests: 0 };
        loop {
            let after = match next_request(&shard, &mut connection).await {
                Next::Request => exchange(&shard, &mut connection).await,
                Next::Refused(error) => refuse(&shard, &mut connection, &error).await,
                Next::Closed => return close(&shard, &connection).await,
            };
            match after {
                After::KeepAlive => connection.since = shard.rt.now(),
                After::Linger => return linger(&shard, &mut connection).await,
                // Nobody reads what is still unsent.
                After::Cut => return,
                After::Reset => return connection.socket.reset_on_drop(),
            }
        }
    }
}

/// Closes an idle connection. When the client has not taken the end of its last answer, which was not waited for, it has left.
async fn close(shard: &Shard, connection: &Connection) {
    if !answer::flush(shard, &connection.socket).await {
        shard.current.borrow().metrics.client_closed(Phase::Relay);
    }
}

/// Answers a request whose head could not be used.
async fn refuse(shard: &Shard, connection: &mut Connection, error: &Error) -> After {
    let snapshot = shard.snapshot();
    snapshot.metrics.request(Target::None, error.status());
    let mut out = shard.rt.take_vec();
    write_error(&mut out, error, Framed { dialect: Dialect::OpenAi, close: true, head_only: false, request_id: &[] });
    match answer::send(shard, connection, out).await {
        Ok(()) => After::Linger,
        Err(_) => After::Cut,
    }
}

/// Ends a connection whose client may still be sending: a plain close would answer its bytes with RST, and that can destroy
/// the answer on its way. So: tell it that nothing more comes, read its rest away within bounds, then close.
async fn linger(shard: &Shard, connection: &mut Connection) {
    answer::flush(shard, &connection.socket).await;
    connection.socket.shutdown_write();
    let until = shard.rt.now() + limits::DRAIN_BODY_TIMEOUT;
    let mut left = limits::DRAIN_BODY_BYTES_MAX;
    while left > 0 {
        match race(connection.socket.recv(), shard.rt.sleep_until(until)).await {
            Either::First(Ok(Some(lease))) => left = left.saturating_sub(lease.len() as u64),
            _ => return,
        }
    }
}

/// Waits until the client is gone, gathering what it sends ahead. At the bound of sent-ahead bytes it stops looking, and so
/// does the kernel: a client that floods us is noticed to be gone when its answer cannot be sent.
pub(super) async fn client_gone(shard: &Shard, socket: &Socket, input: &mut Input) {
    loop {
        if input.len() >= limits::PIPELINED_BYTES_MAX {
            return std::future::pending().await;
        }
        match socket.recv().await {
            Ok(Some(lease)) => {
                input.push(&shard.rt, lease);
                input.settle(&shard.rt);
            }
            // A client that ended its side may read on, where it is allowed to.
            Ok(None) if shard.current.borrow().config.server.half_close => return std::future::pending().await,
            Ok(None) | Err(_) => return,
        }
    }
}

/// Counts an open connection, however it ends.
pub(super) struct Open {
    shard: Rc<Shard>,
    key: usize,
}

impl Open {
    /// Starts the task that serves a connection, for which a place was taken; the place is free again when it ends.
    pub(super) fn spawn<F: Future<Output = ()> + 'static>(shard: &Rc<Shard>, serve: impl FnOnce(Open) -> F) {
        shard.current.borrow().metrics.connection_opened();
        let key = shard.connections.borrow().vacant_key();
        let task = shard.rt.spawn(serve(Open { shard: Rc::clone(shard), key }));
        shard.connections.borrow_mut().insert(task);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shard.connections.borrow_mut().try_remove(self.key);
        self.shard.current.borrow().metrics.connection_closed();
        self.shard.port.give_place(self.shard.id);
        for task in self.shard.acceptors.borrow_mut().drain(..) {
            self.shard.rt.wake(task);
        }
    }
}
