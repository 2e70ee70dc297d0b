//! The request's body as it comes from the client: read whole for inspection, streamed on, or read away unwanted. Bounded in bytes
//! and in time; the framing itself is judged by `http::BodyDecoder`.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use super::connection::Connection;
use super::error::Error;
use super::exchange::After;
use super::{Shard, admit};
use crate::config::limits;
use crate::http::{BodyDecoder, CONTINUE, Framing};
use crate::metrics::ShedReason;
use crate::runtime::{Either, Rt, race};
use crate::sys::{Lease, Shared};

/// A body that is still, at least in part, to be read. What of it is held counts against `server.max_held` until this is dropped.
pub(super) struct RequestBody {
    pub(super) framing: Framing,
    pub(super) decoder: BodyDecoder,
    /// The client waits for 100 Continue.
    expects_continue: bool,
    /// Some of it was taken off the connection.
    pub(super) begun: bool,
    held: Held,
}

/// A body that was read whole.
pub(super) enum Whole {
    /// It lies where it came, in one piece or several.
    Leases(SmallVec<[Lease; 1]>),
    Gathered(Vec<u8>),
}

impl Whole {
    pub(super) fn len(&self) -> usize {
        match self {
            Whole::Leases(leases) => leases.iter().map(|lease| lease.len()).sum(),
            Whole::Gathered(vec) => vec.len(),
        }
    }

    pub(super) fn pieces(&self) -> SmallVec<[&[u8]; 8]> {
        match self {
            Whole::Leases(leases) => leases.iter().map(|lease| &**lease).collect(),
            Whole::Gathered(vec) => smallvec![&vec[..]],
        }
    }

    /// All of it in one piece: what came in several is copied together.
    pub(super) fn gather(&mut self, rt: &Rt) -> &[u8] {
        if let Whole::Leases(leases) = self
            && leases.len() != 1
        {
            *self = Whole::Gathered(gathered(rt, leases, 0));
        }
        match self {
            Whole::Leases(leases) => leases.first().map_or(&[], |lease| &**lease),
            Whole::Gathered(vec) => vec,
        }
    }

    /// In memory of its own.
    pub(super) fn into_vec(self, rt: &Rt) -> Vec<u8> {
        match self {
            Whole::Gathered(vec) => vec,
            Whole::Leases(leases) => gathered(rt, &leases, 0),
        }
    }

    /// To be sent once or several times. Stays where it came while receive buffers are plenty.
    pub(super) fn into_shared(self, rt: &Rt) -> SmallVec<[Shared; 1]> {
        match self {
            Whole::Leases(leases) if rt.buffers_plenty() => leases.into_iter().map(|lease| Shared::Lease(Rc::new(lease))).collect(),
            leases @ Whole::Leases(_) => smallvec![Shared::Bytes(Bytes::from(leases.into_vec(rt)))],
            Whole::Gathered(vec) => smallvec![Shared::Bytes(Bytes::from(vec))],
        }
    }
}

/// The bytes of `leases` in a vector with room for `len`.
fn gathered(rt: &Rt, leases: &[Lease], len: usize) -> Vec<u8> {
    let mut vec = rt.take_vec();
    vec.reserve(len.max(leases.iter().map(|lease| lease.len()).sum()));
    leases.iter().for_each(|lease| vec.extend_from_slice(lease));
    vec
}

/// This exchange's part of the shard's held bytes.
struct Held {
    shard: Rc<Cell<u64>>,
    bytes: u64,
}

impl Held {
    /// Makes this part `bytes` large, if the shard may hold that much.
    fn grow(&mut self, bytes: u64, max: u64) -> Result<(), Error> {
        let all = self.shard.get() - self.bytes + bytes;
        if all > max {
            return Err(Error::Shed(ShedReason::MemoryFull));
        }
        self.shard.set(all);
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shard.set(self.shard.get() - self.bytes);
    }
}

impl RequestBody {
    pub(super) fn new(shard: &Shard, framing: Framing, expects_continue: bool) -> RequestBody {
        let held = Held { shard: Rc::clone(&shard.held_bytes), bytes: 0 };
        RequestBody { framing, decoder: BodyDecoder::new(framing), expects_continue, begun: false, held }
    }

    pub(super) fn is_done(&self) -> bool {
        self.decoder.is_done()
    }

    /// What is left is known to be little enough to be read away.
    pub(super) fn is_short(&self) -> bool {
        // A client that was not told to continue may send its body or not: the connection cannot be read on. Unless it did.
        let may_come = !self.expects_continue || self.is_done();
        may_come && self.decoder.remaining().is_some_and(|left| left <= limits::DRAIN_BODY_BYTES_MAX)
    }

    /// Moves the whole body to `out`, when all of it has arrived behind the head already and it was sent with its length. False (and
    /// nothing is moved) otherwise.
    pub(super) fn take_arrived(&mut self, shard: &Shard, connection: &mut Connection, out: &mut Vec<u8>) -> bool {
        let Some(len) = self.arrived(connection) else { return false };
        let whole = &connection.input.bytes()[..len];
        out.extend_from_slice(whole);
        self.pass(whole);
        connection.input.consume(&shard.rt, len);
        true
    }

    /// Its length, when all of it lies behind the head.
    fn arrived(&self, connection: &Connection) -> Option<usize> {
        let Framing::Length(len) = self.framing else { return None };
        usize::try_from(len).ok().filter(|len| *len <= connection.input.len() && !self.begun)
    }

    /// The body's bytes came all at once, with their length.
    fn pass(&mut self, whole: &[u8]) {
        // Cannot fail: the length is known and the bytes are there.
        let _ = self.decoder.handle_bytes(whole);
        self.begun = true;
        self.expects_continue = false;
    }

    /// The whole body, at most `limit` bytes.
    pub(super) async fn read_whole(&mut self, shard: &Shard, connection: &mut Connection, limit: u64) -> Result<Whole, Error> {
        if self.decoder.remaining().is_some_and(|len| len > limit) {
            return Err(Error::BodyTooLarge { limit });
        }
        let max_held = shard.current.borrow().config.server.max_held_bytes;
        // A named length is reserved before a byte of it is read: who comes too late is told at once.
        self.held.grow(self.decoder.remaining().unwrap_or(0), max_held)?;
        if let Some(len) = self.arrived(connection) {
            return Ok(self.whole_arrived(shard, connection, len));
        }
        // Trusted up to a point: a client may name a length and never send it.
        let named = usize::try_from(self.decoder.remaining().unwrap_or(0)).unwrap_or(0).min(RESERVE_MAX);
        let mut whole = match self.framing {
            Framing::Length(_) => Whole::Leases(SmallVec::new()),
            _ => Whole::Gathered(shard.rt.take_vec()),
        };
        let began = shard.rt.now();
        while !self.is_done() {
            let quiet = shard.current.borrow().config.server.body_timeout;
            self.fill_within(shard, connection, patience(quiet, whole.len() as u64, shard.rt.now().since(began))).await?;
            self.begun = true;
            admit::may_gather(shard)?;
            match &mut whole {
                Whole::Leases(leases) => match self.keep_piece(shard, connection, leases)? {
                    true => {}
                    false => whole = Whole::Gathered(gathered(&shard.rt, leases, named)),
                },
                Whole::Gathered(vec) => self.gather_arrived(shard, connection, vec, limit, max_held)?,
            }
        }
        Ok(whole)
    }

    /// A body whose `len` bytes lie behind the head.
    fn whole_arrived(&mut self, shard: &Shard, connection: &mut Connection, len: usize) -> Whole {
        if let Some(lease) = connection.input.take_whole(len) {
            self.pass(&lease);
            return Whole::Leases(smallvec![lease]);
        }
        let mut vec = shard.rt.take_vec();
        self.take_arrived(shard, connection, &mut vec);
        Whole::Gathered(vec)
    }

    /// Keeps what has arrived where it lies. False when it is better copied: it is little, belongs in part to the next request, or
    /// buffers are not plenty.
    fn keep_piece(&mut self, shard: &Shard, connection: &mut Connection, leases: &mut SmallVec<[Lease; 1]>) -> Result<bool, Error> {
        let (len, left) = (connection.input.len(), self.decoder.remaining().unwrap_or(0));
        let worth = len >= PIECE_MIN || len as u64 == left;
        if !worth || len as u64 > left || leases.len() >= PIECES_MAX || !shard.rt.buffers_plenty() {
            return Ok(false);
        }
        let Some(lease) = connection.input.take_lease() else { return Ok(false) };
        self.decoder.handle_bytes(&lease).map_err(Error::Body)?;
        leases.push(lease);
        Ok(true)
    }

    /// Copies what has arrived.
    fn gather_arrived(
        &mut self,
        shard: &Shard,
        connection: &mut Connection,
        whole: &mut Vec<u8>,
        limit: u64,
        max_held: u64,
    ) -> Result<(), Error> {
        while !connection.input.is_empty() && !self.is_done() {
            let step = self.decoder.handle_bytes(connection.input.bytes()).map_err(Error::Body)?;
            whole.extend_from_slice(&connection.input.bytes()[step.data]);
            connection.input.consume(&shard.rt, step.consumed);
            if whole.len() as u64 > limit {
                return Err(Error::BodyTooLarge { limit });
            }
            if whole.len() as u64 > self.held.bytes {
                self.held.grow(whole.len() as u64, max_held)?;
            }
        }
        Ok(())
    }

    /// A second copy of so many bytes is kept: it counts as the first does.
    pub(super) fn hold_copy(&mut self, shard: &Shard, len: usize) -> Result<(), Error> {
        let max_held = shard.current.borrow().config.server.max_held_bytes;
        self.held.grow(self.held.bytes + len as u64, max_held)
    }

    /// Makes sure that there are bytes to look at, telling the client to go on if it waits for that.
    pub(super) async fn fill(&mut self, shard: &Shard, connection: &mut Connection) -> Result<(), Error> {
        let quiet = shard.current.borrow().config.server.body_timeout;
        self.fill_within(shard, connection, quiet).await
    }

    async fn fill_within(&mut self, shard: &Shard, connection: &mut Connection, patience: Duration) -> Result<(), Error> {
        if !connection.input.is_empty() {
            return Ok(());
        }
        if std::mem::take(&mut self.expects_continue) {
            connection.socket.start_send(CONTINUE);
        }
        let by = shard.rt.now() + patience;
        match race(connection.socket.recv(), shard.rt.sleep_until(by)).await {
            Either::First(Ok(Some(lease))) => {
                connection.input.push(&shard.rt, lease);
                Ok(())
            }
            Either::First(Ok(None) | Err(_)) => Err(Error::ClientGone),
            Either::Second(()) => Err(Error::BodyTimeout),
        }
    }

    /// Reads an unwanted rest away within bounds, so that the next request can be found; else the connection ends.
    pub(super) async fn discard(&mut self, shard: &Shard, connection: &mut Connection) -> After {
        if !self.is_short() {
            return After::Linger;
        }
        let until = shard.rt.now() + limits::DRAIN_BODY_TIMEOUT;
        match shard.rt.before(until, self.read_away(shard, connection)).await {
            Some(Ok(())) => After::KeepAlive,
            Some(Err(_)) | None => After::Cut,
        }
    }

    async fn read_away(&mut self, shard: &Shard, connection: &mut Connection) -> Result<(), Error> {
        while !self.is_done() {
            self.fill(shard, connection).await?;
            self.begun = true;
            let step = self.decoder.handle_bytes(connection.input.bytes()).map_err(Error::Body)?;
            connection.input.consume(&shard.rt, step.consumed);
        }
        Ok(())
    }
}

/// How long to wait for the next piece of a body that is held: silence is allowed as anywhere, but a body that only trickles would keep
/// what it reserved of `server.max_held` for as long as its client likes. `came` bytes of it are here, `elapsed` after its beginning.
fn patience(quiet: Duration, came: u64, elapsed: Duration) -> Duration {
    let allowed = quiet + Duration::from_secs(came / limits::HELD_BODY_PACE);
    quiet.min(allowed.saturating_sub(elapsed))
}

const RESERVE_MAX: usize = 1 << 20;
/// A smaller piece is not worth the receive buffer it lies in.
const PIECE_MIN: usize = 8 << 10;
/// Pieces of one body that stay in their buffers.
const PIECES_MAX: usize = 32;
