//! Drives the batchers whose home is this shard: takes jobs in, makes the upstream calls they ask for, carries answers to the
//! shards where clients wait. What to call and when, and who gets what, is `batch::Home`'s decision.

use std::rc::Rc;

use bytes::Bytes;

use super::snapshot::Snapshot;
use super::upstream::{CallError, Channel, InFlight, outcome_of};
use super::{Message, Shard};
use crate::batch::{self, Answer, Call, CallBody, CallId, CallOutcome, Event, Job, LeaveReason, Outcome, Ticket};
use crate::http::{BodyDecoder, Field, Known, Method, write_end_to_end_fields};
use crate::mesh::ShardId;
use crate::metrics::{BatchReason, UpstreamOutcome};
use crate::policy::{Failure, Operation};
use crate::sys::{Instant, Parts};

use super::exchange::nanos;

impl Shard {
    /// A job for a lane whose home is here. One that was routed under a snapshot this shard has not got yet waits for it; one
    /// whose snapshot it has let go of is refused (its origin shard stood still for seconds).
    pub(super) fn take_job(&self, job: Job) {
        let Some(snapshot) = self.snapshot_of(job.generation) else {
            // They count up and may wrap: the distance says which is the newer.
            if job.generation.wrapping_sub(self.current.borrow().generation) < u32::MAX / 2 {
                self.early.borrow_mut().push_back(job);
            } else {
                let outcome = Outcome::Failed(batch::Failure::UpstreamUnreachable);
                let waited = self.rt.now().since(job.arrived);
                let answer = Answer { ticket: job.ticket, outcome, batch_items: 0, waited };
                self.post(ShardId(u32::from(job.ticket.shard)), Message::Answer(Box::new(answer)));
            }
            return;
        };
        let rules = snapshot.rules(job.model);
        let origin = ShardId(u32::from(job.ticket.shard));
        snapshot.metrics.batch_jobs(job.model, label(job.operation), origin, 1);
        self.home.borrow_mut().handle_job(job, &rules, self.rt.now());
    }

    pub(super) fn take_cancel(&self, ticket: Ticket) {
        self.early.borrow_mut().retain(|job| job.ticket != ticket);
        self.home.borrow_mut().handle_cancel(ticket, self.rt.now());
    }

    /// An answer for an exchange that waits here. One that comes for nobody is counted and dropped.
    pub(super) fn take_answer(&self, answer: Answer) {
        let mut tickets = self.tickets.borrow_mut();
        let ticket = answer.ticket;
        match tickets.waiting_mut(ticket) {
            Some(waiting) if waiting.answer.is_none() => {
                waiting.answer = Some(answer);
                self.rt.wake(waiting.task);
            }
            Some(_) => debug_assert!(false, "a second answer for one ticket"),
            None => drop(tickets.resolve(ticket)),
        }
    }

    /// The end of a turn: starts the calls that are due and carries out what the batchers decided. True when something happened.
    pub(super) fn drive_home(self: &Rc<Self>) -> bool {
        let now = self.rt.now();
        let mut moved = false;
        while let Some(call) = next(&self.home, |home| home.poll_call(now)) {
            moved = true;
            self.start_call(call);
        }
        while let Some(id) = next(&self.home, batch::Home::poll_abort) {
            moved = true;
            let task = self.calls.borrow_mut().remove(&id);
            if let Some(task) = task {
                self.rt.abort(task);
            }
        }
        while let Some(answer) = next(&self.home, batch::Home::poll_answer) {
            moved = true;
            let origin = ShardId(u32::from(answer.ticket.shard));
            if origin == self.id {
                self.take_answer(answer);
            } else {
                self.post(origin, Message::Answer(Box::new(answer)));
            }
        }
        while let Some(event) = next(&self.home, batch::Home::poll_event) {
            self.count_event(event);
        }
        moved
    }

    fn start_call(self: &Rc<Self>, call: Call) {
        let id = call.id;
        let Some(snapshot) = self.snapshot_of(call.generation) else {
            self.home.borrow_mut().handle_outcome(id, CallOutcome::NotSent, self.rt.now());
            return;
        };
        let shard = Rc::clone(self);
        let task = self.rt.spawn(async move {
            let mut begun = BegunCall { shard: &shard, id, outcome: None };
            begun.outcome = Some(run_call(&shard, &snapshot, call).await);
        });
        self.calls.borrow_mut().insert(id, task);
    }

    fn count_event(&self, event: Event) {
        let metrics = |generation: u32| self.snapshot_of(generation);
        match event {
            Event::BatchLeft { generation, model, operation, reason, items, jobs: _ } => {
                let Some(snapshot) = metrics(generation) else { return };
                snapshot.metrics.batch_left(model, label(operation), items, reason_label(reason));
                if reason == LeaveReason::Isolation {
                    snapshot.metrics.isolation_call(model);
                }
            }
            Event::JobLeft { generation, model, operation, waited } => {
                let Some(snapshot) = metrics(generation) else { return };
                snapshot.metrics.batch_wait(model, label(operation), nanos(waited));
            }
            Event::WentSolo { generation, model, .. } => {
                let Some(snapshot) = metrics(generation) else { return };
                snapshot.metrics.lane_solo(model);
            }
            Event::LanesFull => self.current.borrow().metrics.shed(crate::metrics::ShedReason::LanesFull),
            Event::Poisoned { .. } | Event::LearnedItems { .. } | Event::CancelledQueued | Event::CancelledSent | Event::Stale => {}
        }
    }
}

/// A call that tells its home how it ended, however that was: a task that panics must not leave its lane waiting for ever. (After
/// an abort the home takes no notice.)
struct BegunCall<'a> {
    shard: &'a Shard,
    id: CallId,
    outcome: Option<CallOutcome>,
}

impl Drop for BegunCall<'_> {
    fn drop(&mut self) {
        self.shard.calls.borrow_mut().remove(&self.id);
        let outcome = self.outcome.take().unwrap_or(CallOutcome::Broken);
        self.shard.home.borrow_mut().handle_outcome(self.id, outcome, self.shard.rt.now());
    }
}

/// One step of the home without holding its borrow across the work it asks for.
fn next<T>(home: &std::cell::RefCell<batch::Home>, poll: impl FnOnce(&mut batch::Home) -> Option<T>) -> Option<T> {
    poll(&mut home.borrow_mut())
}

/// Makes one upstream call and says what came of it.
async fn run_call(shard: &Shard, snapshot: &Rc<Snapshot>, call: Call) -> CallOutcome {
    let upstream = snapshot.config.model(call.model).upstream;
    let by = call.deadline.min(shard.rt.now() + snapshot.config.model(call.model).timeouts.total);
    let endpoint = snapshot.upstream(upstream).usable(call.endpoint, shard.rt.now());
    let mut fresh = false;
    loop {
        let in_flight = InFlight::begin(snapshot, upstream, endpoint, shard.rt.now());
        match one_call(shard, snapshot, &call, &in_flight, fresh, by).await {
            Ok((channel, outcome)) => {
                in_flight.finish(shard, outcome_of(channel.incoming.head.status));
                snapshot.upstream(upstream).check_in(endpoint, channel, shard.rt.now());
                return outcome;
            }
            Err(error) => {
                in_flight.finish(shard, error.outcome);
                if error.failure == Failure::StaleConnection && !fresh {
                    snapshot.metrics.upstream_retry(upstream);
                    fresh = true;
                    continue;
                }
                return failed(error);
            }
        }
    }
}

fn failed(error: CallError) -> CallOutcome {
    match error.failure {
        Failure::Connect => CallOutcome::NotSent,
        Failure::Timeout => CallOutcome::TimedOut,
        Failure::BadAnswer if error.reason == TOO_LARGE => CallOutcome::TooLarge,
        Failure::StaleConnection
        | Failure::Transport
        | Failure::BadAnswer
        | Failure::Refused
        | Failure::RateLimited
        | Failure::ServerError => CallOutcome::Broken,
    }
}

async fn one_call(
    shard: &Shard,
    snapshot: &Snapshot,
    call: &Call,
    in_flight: &InFlight,
    fresh: bool,
    by: Instant,
) -> Result<(Channel, CallOutcome), CallError> {
    let config = snapshot.config.upstream(in_flight.upstream());
    let mut channel = Channel::open(shard, snapshot, in_flight, fresh).await?;
    let authority = &config.endpoints[in_flight.endpoint as usize].authority;
    channel.start_send(message(shard, &call.body, authority));
    let first_byte_by = by.min(shard.rt.now() + snapshot.config.model(call.model).timeouts.first_byte);
    channel.incoming.read_head(&shard.rt, &channel.socket, Method::Post, first_byte_by).await?;
    in_flight.answered(shard.rt.now(), channel.incoming.head.status);
    let retry_after = in_flight.heed(shard, snapshot, &channel.incoming.head, channel.incoming.input.bytes());
    let merged = matches!(call.body, CallBody::Merged { .. });
    let head = &mut channel.incoming.head;
    // The client's own id is written by its own shard; a merged answer's fields were meant for nobody in particular.
    head.fields.retain(|field| goes_to_members(field, merged));
    let bytes = channel.incoming.input.bytes();
    let mut fields = Vec::with_capacity(128);
    write_end_to_end_fields(&mut fields, &head.fields, bytes);
    let status = head.status;
    let body = read_body(shard, &mut channel, config.max_response_bytes, by).await?;
    Ok((channel, CallOutcome::Answered { status, fields: Bytes::from(fields), body, retry_after }))
}

fn goes_to_members(field: &Field, merged: bool) -> bool {
    if merged { matches!(field.known, Known::ContentType | Known::RetryAfter) } else { field.known != Known::XRequestId }
}

fn message(shard: &Shard, body: &CallBody, authority: &str) -> Parts {
    let mut out = shard.rt.take_vec();
    out.extend_from_slice(b"POST /v1/embeddings HTTP/1.1\r\nhost: ");
    out.extend_from_slice(authority.as_bytes());
    out.extend_from_slice(b"\r\n");
    match body {
        CallBody::Alone { message } if message.len() <= COPY_MAX => {
            out.extend_from_slice(message);
            Parts::from(out)
        }
        CallBody::Alone { message } => Parts::from(out).with(message.clone()),
        CallBody::Merged { body, len, credential } => {
            out.extend_from_slice(b"content-type: application/json\r\naccept: application/json\r\n");
            if !credential.is_empty() {
                out.extend_from_slice(b"authorization: ");
                out.extend_from_slice(credential);
                out.extend_from_slice(b"\r\n");
            }
            out.extend_from_slice(b"content-length: ");
            out.extend_from_slice(itoa::Buffer::new().format(*len).as_bytes());
            out.extend_from_slice(b"\r\n\r\n");
            let small = *len <= COPY_MAX;
            if small {
                body.iter().for_each(|piece| out.extend_from_slice(piece));
            }
            let mut parts = Parts::from(out);
            if !small {
                body.iter().for_each(|piece| parts.push(piece.clone()));
            }
            parts
        }
    }
}

/// The whole body of an answer whose head was read.
async fn read_body(shard: &Shard, channel: &mut Channel, limit: u64, by: Instant) -> Result<Bytes, CallError> {
    let too_large = CallError { reason: TOO_LARGE, ..CallError::new(Failure::BadAnswer, UpstreamOutcome::BadAnswer) };
    let incoming = &mut channel.incoming;
    let mut decoder = BodyDecoder::for_response(incoming.head.framing);
    let head_len = incoming.head.head_len;
    incoming.input.consume(&shard.rt, head_len);
    let named = decoder.remaining().unwrap_or(0);
    if named > limit {
        return Err(too_large);
    }
    let mut body = Vec::with_capacity(usize::try_from(named).unwrap_or(0).min(RESERVE_MAX));
    loop {
        while !incoming.input.is_empty() && !decoder.is_done() {
            let bad = |error: crate::http::BodyError| CallError {
                reason: error.reason,
                ..CallError::new(Failure::BadAnswer, UpstreamOutcome::BadAnswer)
            };
            let step = decoder.handle_bytes(incoming.input.bytes()).map_err(bad)?;
            body.extend_from_slice(&incoming.input.bytes()[step.data]);
            incoming.input.consume(&shard.rt, step.consumed);
        }
        if body.len() as u64 > limit {
            return Err(too_large);
        }
        if decoder.is_done() {
            return Ok(Bytes::from(body));
        }
        if !incoming.receive_or_end(&shard.rt, &channel.socket, by, UpstreamOutcome::TotalTimeout).await? {
            decoder.handle_eof().map_err(|_| CallError::new(Failure::Transport, UpstreamOutcome::Transport))?;
        }
    }
}

fn label(operation: batch::Operation) -> Operation {
    match operation {
        batch::Operation::Embeddings => Operation::Embeddings,
    }
}

fn reason_label(reason: LeaveReason) -> BatchReason {
    match reason {
        LeaveReason::Idle | LeaveReason::Slot => BatchReason::Idle,
        LeaveReason::Full => BatchReason::Full,
        LeaveReason::JustInTime => BatchReason::Ahead,
        LeaveReason::Delay => BatchReason::Delay,
        LeaveReason::Isolation => BatchReason::Isolation,
        LeaveReason::Solo => BatchReason::Solo,
    }
}

const TOO_LARGE: &str = "answer_too_large";
const COPY_MAX: usize = 64 * 1024;
const RESERVE_MAX: usize = 1 << 20;
