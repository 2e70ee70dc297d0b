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

/// Sends what is ready. A client that does not read is cut after `server.write_timeout`.
pub(super) async fn send(shard: &Shard, connection: &mut Connection, parts: impl Into<Parts>) -> Result<(), Error> {
    connection.socket.start_send(parts);
    sent(shard, connection).await
}

/// Sends the next piece of an answer that goes on. A small one is not waited for: the next piece, which may be long in coming, waits for
/// it instead. A client that does not read so keeps at most one such piece here, and is cut after `write_timeout` when the next has come.
pub(super) fn send_on(shard: &Shard, connection: &mut Connection, parts: impl Into<Parts>) -> impl Future<Output = Result<(), Error>> {
    let parts = parts.into();
    async move {
        // Heard here, and not by being woken for it: that the kernel took the former piece, or that the client is gone.
        if connection.socket.is_sending() || connection.socket.has_failed() {
            sent(shard, connection).await?;
        }
        let small = is_small(&parts);
        connection.socket.start_send(parts);
        if small { Ok(()) } else { sent(shard, connection).await }
    }
}

/// Sends the last piece of an answer. A small one on a connection that stays is not waited for: the exchange ends without being woken
/// once more only to hear that the kernel took it. Whoever sends or closes next waits for it, so a client that does not read keeps at
/// most one such piece here.
pub(super) fn send_last(
    shard: &Shard,
    connection: &mut Connection,
    stays: bool,
    parts: impl Into<Parts>,
) -> impl Future<Output = Result<(), Error>> {
    let parts = parts.into();
    async move {
        if connection.socket.is_sending() {
            sent(shard, connection).await?;
        }
        let small = is_small(&parts);
        connection.socket.start_send(parts);
        if stays && small { Ok(()) } else { sent(shard, connection).await }
    }
}

/// May be left to the kernel without being waited for.
fn is_small(parts: &Parts) -> bool {
    parts.len() <= UNWAITED_MAX && !parts.holds_lease()
}

/// Waits until the kernel has what [`send_last`] left behind, before the connection is closed. False when the client did not take it.
pub(super) async fn flush(shard: &Shard, socket: &Socket) -> bool {
    if socket.is_sending() {
        let by = shard.rt.now() + shard.current.borrow().config.server.write_timeout;
        if shard.rt.before(by, socket.sent()).await.is_none() {
            return false;
        }
    }
    !socket.has_failed()
}

/// Waits until everything queued is with the kernel, for as long as the client takes some of it within each `server.write_timeout`.
pub(super) async fn sent(shard: &Shard, connection: &mut Connection) -> Result<(), Error> {
    let step = shard.current.borrow().config.server.write_timeout / STALL_STEPS;
    let Connection { socket, input, .. } = connection;
    let (mut taken, mut stalled) = (None, 0);
    loop {
        let late = race(client_gone(shard, socket, input), shard.rt.sleep_until(shard.rt.now() + step));
        match race(socket.sent(), late).await {
            Either::First(Ok(())) => return Ok(()),
            Either::First(Err(_)) | Either::Second(Either::First(())) => return Err(Error::ClientGone),
            Either::Second(Either::Second(())) => {
                // What the client took is asked for only here, where something is late already.
                let now_taken = Some(socket.taken_bytes());
                stalled = if now_taken == taken { stalled + 1 } else { 0 };
                taken = now_taken;
                if stalled == STALL_STEPS {
                    return Err(Error::ClientGone);
                }
            }
        }
    }
}

/// Looks at a client that does not read within one `server.write_timeout`: it is cut that much later at most.
const STALL_STEPS: u32 = 4;
/// What a client that does not read may leave unsent here between two exchanges.
const UNWAITED_MAX: usize = 16 * 1024;
