//! What follows a try that did not end well: again, elsewhere, after a wait, or not at all. Whether it may be is policy's decision; here
//! are the things it decides on, and the wait, during which the client is watched.

use std::time::Duration;

use super::Shard;
use super::connection::{Connection, client_gone};
use super::error::Error;
use super::exchange::Request;
use super::snapshot::Snapshot;
use super::upstream::{CallError, Channel, InFlight};
use super::wish::Steered;
use crate::config::UpstreamId;
use crate::config::limits::ERROR_BODY_BYTES_MAX;
use crate::http::Framing;
use crate::llm::is_context_length;
use crate::metrics::UpstreamOutcome;
use crate::policy::{Attempt, Failure, Retry, backoff, decide, failure_of};
use crate::runtime::{Either, race};
use crate::sys::Instant;

/// What to do with an answer of 400 or more.
pub(super) enum Judged {
    Relay,
    /// Let it go and try again, not before so long.
    Again(Failure, Option<Duration>),
}

/// Looks at an answer whose status is 400 or more: whether it is a failure that is tried again, or one that a fallback serves better.
///
/// # Errors
/// The fallback's turn, or nobody is there any more.
#[expect(clippy::too_many_arguments, reason = "the exchange's state and the try, as in forward")]
pub(super) async fn judge(
    shard: &Shard,
    snapshot: &Snapshot,
    connection: &mut Connection,
    request: &Request,
    channel: &mut Channel,
    call: &InFlight,
    attempt: Attempt,
    by: Instant,
) -> Result<Judged, Error> {
    let status = channel.incoming.head.status;
    let asked = call.heed(shard, snapshot, &channel.incoming.head, channel.incoming.input.bytes());
    if let Some(failure) = failure_of(&attempt.rules, status)
        && decide(failure, attempt) != Retry::No
    {
        let other = snapshot.upstream(call.upstream()).has_other(call.endpoint, shard.rt.now());
        let asked = asked.filter(|_| !other);
        let patient = asked.is_none_or(|asked| asked <= attempt.rules.backoff_max);
        if patient && may_repeat(shard, snapshot, call.upstream()) {
            return Ok(Judged::Again(failure, asked));
        }
    }
    if !request.has_fallback() {
        return Ok(Judged::Relay);
    }
    if status >= 500 {
        return Err(Error::UpstreamFailed);
    }
    if matches!(status, 400 | 413 | 422) {
        peek_body(shard, connection, channel, by).await?;
        let incoming = &channel.incoming;
        let body = incoming.input.bytes().get(incoming.head.head_len..).unwrap_or_default();
        if is_context_length(status, body) {
            return Err(Error::ContextLength);
        }
    }
    Ok(Judged::Relay)
}

/// The tries of one request at one upstream.
pub(super) struct Tries {
    upstream: UpstreamId,
    pub(super) attempt: Attempt,
    /// At once, at this endpoint, on a connection made for it.
    pub(super) fresh: Option<u32>,
    /// The endpoint that failed last.
    avoid: Option<u32>,
}

impl Tries {
    pub(super) fn begin(snapshot: &Snapshot, request: &Request, upstream: UpstreamId) -> Tries {
        snapshot.upstream(upstream).budget.borrow_mut().handle_call();
        let attempt = Attempt {
            calls: 0,
            resent: false,
            answer_begun: false,
            body_held: true,
            idempotent: request.repeatable || request.method.is_idempotent(),
            rules: snapshot.config.upstream(upstream).resilience.retry,
        };
        Tries { upstream, attempt, fresh: None, avoid: None }
    }

    /// The endpoint for the next try.
    pub(super) fn pick(&self, shard: &Shard, snapshot: &Snapshot, request: &Request, steered: Option<&Steered>) -> Result<u32, Error> {
        if let Some(fresh) = self.fresh {
            return Ok(fresh);
        }
        let (upstream, now) = (snapshot.upstream(self.upstream), shard.rt.now());
        let picked = upstream.pick(shard, snapshot, self.upstream, steered, self.avoid, request.has_fallback());
        picked.ok_or_else(|| match upstream.health.borrow().paused_until(now) {
            Some(until) => Error::UpstreamPaused { retry_after: until.since(now) },
            None => Error::UpstreamUnreachable,
        })
    }

    /// After a try without an answer: whether to wait before the next (false: it goes at once, to the same endpoint).
    ///
    /// # Errors
    /// There is no next.
    pub(super) fn go_on_after(&mut self, shard: &Shard, snapshot: &Snapshot, endpoint: u32, error: &CallError) -> Result<bool, Error> {
        match decide(error.failure, self.attempt) {
            Retry::FreshConnection => {
                (self.attempt.resent, self.fresh) = (true, Some(endpoint));
                snapshot.metrics.upstream_retry(self.upstream);
                Ok(false)
            }
            Retry::OtherEndpoint if may_repeat(shard, snapshot, self.upstream) => Ok(true),
            Retry::OtherEndpoint | Retry::No => Err(error.error()),
        }
    }

    /// Waits until the next try, which goes elsewhere if it can.
    ///
    /// # Errors
    /// The client has left meanwhile, or there is no time for another.
    pub(super) async fn rest(
        &mut self,
        shard: &Shard,
        snapshot: &Snapshot,
        connection: &mut Connection,
        endpoint: u32,
        (failure, asked): (Failure, Option<Duration>),
        by: Instant,
    ) -> Result<(), Error> {
        (self.avoid, self.fresh) = (Some(endpoint), None);
        snapshot.metrics.upstream_retry(self.upstream);
        let other = snapshot.upstream(self.upstream).has_other(endpoint, shard.rt.now());
        let drawn = backoff(&self.attempt.rules, failure, self.attempt.calls, other, shard.random());
        let time = drawn.max(asked.unwrap_or_default());
        if time.is_zero() {
            return Ok(());
        }
        let until = shard.rt.now() + time;
        if until >= by {
            return Err(Error::UpstreamTimeout);
        }
        let Connection { socket, input, .. } = &mut *connection;
        match race(shard.rt.sleep_until(until), client_gone(shard, socket, input)).await {
            Either::First(()) => Ok(()),
            Either::Second(()) => Err(Error::ClientGone),
        }
    }
}

/// Whether the upstream's budget has another call in it. It is counted either way.
fn may_repeat(shard: &Shard, snapshot: &Snapshot, upstream: UpstreamId) -> bool {
    let may = snapshot.upstream(upstream).budget.borrow_mut().take(shard.rt.now());
    if !may {
        snapshot.metrics.retry_refused(upstream);
    }
    may
}

/// Waits until an answer's body has arrived whole behind its head, or as much of it as is looked at. It stays where it is: relayed it
/// is the same.
async fn peek_body(shard: &Shard, connection: &mut Connection, channel: &mut Channel, by: Instant) -> Result<(), Error> {
    let Channel { socket: upstream, incoming } = channel;
    loop {
        let head_len = incoming.head.head_len;
        let body = incoming.input.bytes().get(head_len..).unwrap_or_default();
        let whole = match incoming.head.framing {
            Framing::None => true,
            Framing::Length(len) => body.len() as u64 >= len,
            Framing::Chunked => body.ends_with(b"0\r\n\r\n"),
            Framing::UntilClose => false,
        };
        if whole || body.len() >= ERROR_BODY_BYTES_MAX {
            return Ok(());
        }
        let more = incoming.receive_or_end(&shard.rt, upstream, by, UpstreamOutcome::TotalTimeout);
        let Connection { socket, input, .. } = &mut *connection;
        match race(more, client_gone(shard, socket, input)).await {
            Either::First(Ok(true)) => {}
            Either::First(Ok(false)) => return Ok(()),
            Either::First(Err(error)) => return Err(error.error()),
            Either::Second(()) => return Err(Error::ClientGone),
        }
    }
}
