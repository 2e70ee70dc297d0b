//! The phase "admit": whether the gateway takes a request on now. First by the process's memory, when the head is read; then, when it is
//! known which upstream it is for, by that upstream's limit: at once, after a wait in line, or not at all. Without limits and with
//! memory in plenty it is a look at two numbers.

use std::cell::Cell;
use std::future::poll_fn;
use std::hash::BuildHasher;
use std::rc::Rc;
use std::task::Poll;

use foldhash::fast::FixedState;
use smallvec::SmallVec;

use super::Shard;
use super::connection::{Connection, client_gone};
use super::error::Error;
use super::exchange::{Request, nanos};
use super::forward::{ForwardBody, ForwardPlan};
use super::gate::{Gate, Turn, Waiting};
use super::route::Routed;
use super::snapshot::Snapshot;
use crate::config::{Config, Upstream, UpstreamId};
use crate::http::{Framing, Known};
use crate::json::scan_output_tokens;
use crate::mesh::{Level, ShardId, Shares};
use crate::metrics::{Phase, ShedReason};
use crate::policy::{Claim, Class, Place, Refusal, cost};
use crate::runtime::{Either, race};

/// Looks at a request whose head is read and whose body is not: refuses it where memory is short, and notes whose it is.
pub(super) fn look(
    shard: &Shard,
    snapshot: &Snapshot,
    connection: &Connection,
    request: &mut Request,
    routed: &Routed,
) -> Result<(), Error> {
    match shard.port.pressure() {
        Level::Fine => {}
        Level::Near if !is_to_be_held(connection, request, routed) => {}
        Level::Near | Level::Full => return Err(Error::Shed(ShedReason::MemoryFull)),
    }
    if snapshot.heeds_claims() {
        request.claim = claim(shard, snapshot, connection);
    }
    Ok(())
}

/// Whether memory is used up while a body is gathered: then it is given up.
pub(super) fn may_gather(shard: &Shard) -> Result<(), Error> {
    if shard.port.pressure() == Level::Full { Err(Error::Shed(ShedReason::MemoryFull)) } else { Ok(()) }
}

/// Takes a place at the upstream, where places are counted. `cost` estimates the request's when it must wait ([`estimate`]).
pub(super) async fn admit(
    shard: &Rc<Shard>,
    snapshot: &Rc<Snapshot>,
    connection: &mut Connection,
    request: &mut Request,
    upstream: UpstreamId,
    cost: impl FnOnce(&Request) -> u64,
) -> Result<(), Error> {
    let Some(gate) = snapshot.gate(upstream) else { return Ok(()) };
    request.permit = gate.at_once(shard, snapshot);
    if request.permit.is_some() {
        return Ok(());
    }
    request.phase = Phase::Admit;
    let cost = cost(request);
    Box::pin(wait(shard, snapshot, connection, request, gate, cost)).await
}

/// Stands in line until it is called, its time is over, another has its place, or the client leaves.
async fn wait(
    shard: &Rc<Shard>,
    snapshot: &Rc<Snapshot>,
    connection: &mut Connection,
    request: &mut Request,
    gate: &Rc<Gate>,
    cost: u64,
) -> Result<(), Error> {
    let Some(task) = shard.rt.current() else { return Err(Error::Shed(ShedReason::UpstreamFull)) };
    let claim = request.claim;
    let began = shard.rt.now();
    let refused = |reason| Error::Refused { reason, retry_after: gate.retry_after(claim, shard.rt.now()) };
    let waiting = Rc::new(Waiting { task, turn: Cell::new(Turn::Waits) });
    let place = gate.stand_in_line(shard, claim, cost, Rc::clone(&waiting)).map_err(|why| refused(reason(why)))?;
    snapshot.metrics.admission_waits(gate.upstream());
    let _in_line = InLine { shard, snapshot, gate, place, waiting: &waiting };
    let Connection { socket, input, .. } = &mut *connection;
    input.settle(&shard.rt);
    let by = began + gate.patience;
    let ended = match race(turn(&waiting), race(client_gone(shard, socket, input), shard.rt.sleep_until(by))).await {
        Either::First(turn) => turn,
        Either::Second(Either::First(())) => return Err(Error::ClientGone),
        Either::Second(Either::Second(())) => return Err(refused(ShedReason::QueueTimeout)),
    };
    if let Turn::PutOut(why) = ended {
        return Err(refused(reason(why)));
    }
    waiting.turn.set(Turn::Over);
    request.permit = Some(gate.permit(shard, snapshot));
    let waited = nanos(shard.rt.now().since(began));
    snapshot.metrics.admission_wait(gate.upstream(), waited);
    snapshot.metrics.phase(Phase::Admit, waited);
    Ok(())
}

async fn turn(waiting: &Waiting) -> Turn {
    poll_fn(|_| match waiting.turn.get() {
        Turn::Waits => Poll::Pending,
        ended => Poll::Ready(ended),
    })
    .await
}

/// An exchange's place in line, left however the wait ends.
struct InLine<'a> {
    shard: &'a Shard,
    snapshot: &'a Snapshot,
    gate: &'a Gate,
    place: Place,
    waiting: &'a Waiting,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.snapshot.metrics.admission_waited(self.gate.upstream());
        match self.waiting.turn.get() {
            Turn::Waits => self.gate.leave_line(self.shard, self.place),
            // It was called and left in the same turn.
            Turn::Called => self.gate.give_back(self.shard),
            Turn::PutOut(_) | Turn::Over => {}
        }
    }
}

/// The limits of the one whose fault it is and of the upstream are told apart: 429 and 503 (respond).
fn reason(refusal: Refusal) -> ShedReason {
    match refusal {
        Refusal::Full => ShedReason::UpstreamFull,
        Refusal::Share => ShedReason::TenantShare,
        Refusal::Late => ShedReason::PredictedLate,
    }
}

/// A model call's body is held, and so is what has not arrived of it; other bodies are passed on as they come.
fn is_to_be_held(connection: &Connection, request: &Request, routed: &Routed) -> bool {
    let Routed::Model(_) = routed else { return false };
    let arrived = (connection.input.len() as u64).saturating_sub(connection.head.head_len as u64);
    match request.body.framing {
        Framing::None => false,
        Framing::Length(len) => len > arrived,
        Framing::Chunked | Framing::UntilClose => true,
    }
}

/// Whose a request is, by the fields that the configuration names.
fn claim(shard: &Shard, snapshot: &Snapshot, connection: &Connection) -> Claim {
    let admission = &snapshot.config.admission;
    let bytes = connection.input.bytes();
    let value = |name: &str| {
        let mut fields = connection.head.fields.iter();
        fields.find(|field| field.name.of(bytes).eq_ignore_ascii_case(name.as_bytes())).map(|field| field.value.of(bytes))
    };
    let class = admission.priority_header.as_deref().and_then(value).and_then(Class::from_word).unwrap_or_default();
    let named = admission.tenant_header.as_deref().and_then(value);
    let shown = || connection.head.field(Known::Authorization).or_else(|| connection.head.field(Known::ApiKey)).map(|span| span.of(bytes));
    let tenant = named.or_else(shown).map_or(0, |name| FixedState::with_seed(shard.lane_seed).hash_one(name));
    Claim { class, tenant }
}

/// What the request is taken to cost; asked only when it must wait.
pub(super) fn estimate(request: &Request, plan: &ForwardPlan) -> u64 {
    let pieces: SmallVec<[&[u8]; 8]> = match &plan.body {
        ForwardBody::Held(pieces) => pieces.iter().map(|piece| &**piece).collect(),
        ForwardBody::Small => {
            let message = plan.rendered.fields();
            memchr::memmem::find(message, b"\r\n\r\n").map(|at| &message[at + 4..]).into_iter().collect()
        }
        ForwardBody::Streamed => return cost(request.body.decoder.remaining(), None),
    };
    let len = pieces.iter().map(|piece| piece.len() as u64).sum();
    cost(Some(len), scan_output_tokens(&pieces))
}

/// The upstream a plan is for has a gate: what it says of the answer goes there.
pub(super) fn answered(shard: &Shard, request: &mut Request, status: u16) {
    if let Some(permit) = &mut request.permit {
        permit.handle_answer(status, shard.rt.now());
    }
}

/// As [`answered`], of a try that failed.
pub(super) fn failed(shard: &Shard, request: &mut Request, was_late: bool) {
    if let Some(permit) = &mut request.permit {
        permit.handle_failure(was_late, shard.rt.now());
    }
}

/// What the shards have at the upstreams, for the metrics; a snapshot that is replaced shows nothing any more.
pub(super) fn show_limits(snapshot: &Snapshot, is_current: bool) {
    for gate in snapshot.gates() {
        let limit = if is_current { gate.shown_limit() } else { 0 };
        snapshot.metrics.admission_limit(gate.upstream(), limit);
    }
}

/// The gates of a snapshot, by upstream; none at all where no upstream has a limit.
pub(super) fn gates(config: &Config, shares: &Shares, shard: ShardId) -> Box<[Option<Rc<Gate>>]> {
    if config.upstreams.iter().all(|upstream| upstream.concurrency.is_none()) {
        return Box::default();
    }
    let gate = |(id, upstream): (u32, &Upstream)| {
        let share = shares.of(id)?;
        upstream.concurrency.as_ref().map(|config| Rc::new(Gate::new(config, UpstreamId(id), shard, share)))
    };
    (0..).zip(&config.upstreams).map(gate).collect()
}
