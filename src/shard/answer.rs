//! Answers the gateway makes itself, and the sending of what is ready.

use super::Shard;
use super::connection::{Connection, client_gone};
use super::error::Error;
use super::exchange::{Answered, Request};
use super::respond::push_request_id;
use crate::http::{Method, Version, write_own_response};
use crate::runtime::{Either, Socket, race};
use crate::sys::Parts;

/// A body of our own, status 200.
pub(super) struct Own {
    pub(super) content_type: &'static str,
    pub(super) body: Vec<u8>,
}

pub(super) async fn own(shard: &Shard, connection: &mut Connection, request: &mut Request, own: Own) -> Result<Answered, Error> {
    request.keep_alive &= request.version == Version::Http11 && request.body.is_short();
    let mut fields = Vec::with_capacity(96);
    fields.extend_from_slice(b"content-type: ");
    fields.extend_from_slice(own.content_type.as_bytes());
    fields.extend_from_slice(b"\r\n");
    push_request_id(&mut fields, &request.id);
    let mut out = shard.rt.take_vec();
    write_own_response(&mut out, 200, &fields, own.body.len() as u64, !request.keep_alive);
    if request.method != Method::Head {
        out.extend_from_slice(&own.body);
    }
    send_last(shard, connection, request.keep_alive, out).await?;
    Ok(Answered { status: 200 })
}

/// Sends what is ready. A client that does not read is cut after `body_timeout`.
pub(super) async fn send(shard: &Shard, connection: &mut Connection, parts: impl Into<Parts>) -> Result<(), Error> {
    connection.socket.start_send(parts);
    sent(shard, connection).await
}

/// Sends the next piece of an answer that goes on. A small one is not waited for: the next piece, which may be long in coming, waits for
/// it instead. A client that does not read so keeps at most one such piece here, and is cut after `body_timeout` when the next has come.
pub(super) async fn send_on(shard: &Shard, connection: &mut Connection, parts: impl Into<Parts>) -> Result<(), Error> {
    let parts = parts.into();
    // Heard here, and not by being woken for it: that the kernel took the former piece, or that the client is gone.
    sent(shard, connection).await?;
    let small = is_small(&parts);
    connection.socket.start_send(parts);
    if small { Ok(()) } else { sent(shard, connection).await }
}

/// Sends the last piece of an answer. A small one on a connection that stays is not waited for: the exchange ends without being woken
/// once more only to hear that the kernel took it. Whoever sends or closes next waits for it, so a client that does not read keeps at
/// most one such piece here.
pub(super) async fn send_last(shard: &Shard, connection: &mut Connection, stays: bool, parts: impl Into<Parts>) -> Result<(), Error> {
    let parts = parts.into();
    if connection.socket.is_sending() {
        sent(shard, connection).await?;
    }
    let small = is_small(&parts);
    connection.socket.start_send(parts);
    if stays && small { Ok(()) } else { sent(shard, connection).await }
}

/// May be left to the kernel without being waited for.
fn is_small(parts: &Parts) -> bool {
    parts.len() <= UNWAITED_MAX && !parts.holds_lease()
}

/// Waits until the kernel has what [`send_last`] left behind, before the connection is closed.
pub(super) async fn flush(shard: &Shard, socket: &Socket) {
    if socket.is_sending() {
        let by = shard.rt.now() + shard.current.borrow().config.server.body_timeout;
        let _ = shard.rt.before(by, socket.sent()).await;
    }
}

/// Waits until everything queued is with the kernel.
pub(super) async fn sent(shard: &Shard, connection: &mut Connection) -> Result<(), Error> {
    let by = shard.rt.now() + shard.current.borrow().config.server.body_timeout;
    let Connection { socket, input, .. } = connection;
    let stalled = race(client_gone(shard, socket, input), shard.rt.sleep_until(by));
    match race(socket.sent(), stalled).await {
        Either::First(Ok(())) => Ok(()),
        Either::First(Err(_)) | Either::Second(_) => Err(Error::ClientGone),
    }
}

/// What a client that does not read may leave unsent here between two exchanges.
const UNWAITED_MAX: usize = 16 * 1024;
