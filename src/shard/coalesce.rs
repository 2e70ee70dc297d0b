//! Dispatch, way 2: to the lane's home shard and back. The exchange leaves a ticket and waits; its client is watched all the while,
//! and when it leaves the home is told.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;

use super::answer;
use super::connection::{Connection, client_gone};
use super::error::Error;
use super::exchange::{Answered, Request, nanos};
use super::fallback::judge_merged;
use super::forward::Rendered;
use super::respond::push_request_id;
use super::snapshot::Snapshot;
use super::{Message, Shard, Waiting};
use crate::batch::{Answer, Failure, Job, Operation, Outcome, Ticket, lane_hash};
use crate::config::ModelId;
use crate::http::{Version, write_own_response};
use crate::json::EmbeddingsRequest;
use crate::mesh::ShardId;
use crate::metrics::{Phase, ShardMetrics, ShedReason};
use crate::runtime::{Either, race};
use crate::sys::{Parts, Span};

pub(super) struct CoalescePlan {
    pub(super) model: ModelId,
    pub(super) embeddings: EmbeddingsRequest,
    pub(super) rendered: Rendered,
    pub(super) body: Vec<u8>,
    /// Empty when none travels upstream.
    pub(super) credential: Bytes,
}

pub(super) fn coalesce(
    shard: &Rc<Shard>,
    snapshot: &Rc<Snapshot>,
    connection: &mut Connection,
    request: &mut Request,
    plan: CoalescePlan,
) -> impl Future<Output = Result<Answered, Error>> {
    async move {
        let Some(task) = shard.rt.current() else { return Err(Error::Shed(ShedReason::TicketsFull)) };
        let waiting = Waiting { task, answer: None };
        let ticket = shard.tickets.borrow_mut().insert(waiting).map_err(|_| Error::Shed(ShedReason::TicketsFull))?;
        let (job, home) = job(shard, snapshot, request, plan, ticket);
        let mut held = HeldTicket { shard, ticket, home, open: true };
        send_job(shard, snapshot, home, job)?;
        let began = shard.rt.now();
        let Connection { socket, input, .. } = &mut *connection;
        let answer = match race(answered(shard, ticket), client_gone(shard, socket, input)).await {
            Either::First(answer) => answer,
            Either::Second(()) => return Err(Error::ClientGone),
        };
        held.open = false;
        shard.tickets.borrow_mut().resolve(ticket);
        snapshot.metrics.phase(Phase::Dispatch, nanos(shard.rt.now().since(began)));
        request.phase = Phase::Relay;
        request.headed = shard.rt.now();
        match answer.outcome {
            Outcome::Failed(failure) => Err(Error::Batch(failure)),
            Outcome::Done { status, ref fields, ref body } => {
                if status >= 400 {
                    judge_merged(request, status, body)?;
                }
                let mut lines = shard.rt.take_vec();
                lines.extend_from_slice(fields);
                deliver(shard, snapshot, connection, request, answer, status, lines).await
            }
        }
    }
}

/// Sends a batch's answer, cut to this client's part, from where it lies.
fn deliver(
    shard: &Shard,
    snapshot: &Snapshot,
    connection: &mut Connection,
    request: &mut Request,
    answer: Answer,
    status: u16,
    mut fields: Vec<u8>,
) -> impl Future<Output = Result<Answered, Error>> {
    async move {
        request.keep_alive &= request.version == Version::Http11 && !shard.draining.get();
        push_request_id(&mut fields, &request.id);
        if snapshot.config.server.debug_headers {
            push_number(&mut fields, "x-headrace-batch-size", u64::from(answer.batch_items));
            push_number(&mut fields, "x-headrace-batch-wait-us", u64::try_from(answer.waited.as_micros()).unwrap_or(u64::MAX));
        }
        let Outcome::Done { body, .. } = answer.outcome else { return Err(Error::Cut) };
        let len: usize = body.iter().map(Bytes::len).sum();
        let mut out = shard.rt.take_vec();
        write_own_response(&mut out, status, &fields, len as u64, !request.keep_alive);
        shard.rt.keep_vec(fields);
        let mut parts = Parts::new();
        if len <= COPY_MAX {
            body.iter().for_each(|piece| out.extend_from_slice(piece));
            parts.push(out);
        } else {
            parts.push(out);
            body.into_iter().for_each(|piece| parts.push(piece));
        }
        answer::send_last(shard, connection, request.keep_alive, parts).await?;
        Ok(Answered { status })
    }
}

fn job(shard: &Shard, snapshot: &Snapshot, request: &Request, plan: CoalescePlan, ticket: Ticket) -> (Job, ShardId) {
    let CoalescePlan { model, embeddings, rendered, body, credential } = plan;
    let mut message = Vec::with_capacity(rendered.fields().len() + body.len());
    message.extend_from_slice(rendered.fields());
    let start = message.len();
    message.extend_from_slice(&body);
    let body_span = Span::new(start..message.len());
    for vec in [rendered.bytes, body] {
        shard.rt.keep_vec(vec);
    }
    let mut job = Job {
        ticket,
        generation: snapshot.generation,
        model,
        operation: Operation::Embeddings,
        claim: request.claim,
        hash: 0,
        credential,
        message: Bytes::from(message),
        body: body_span,
        request: embeddings,
        arrived: request.began,
        deadline: request.began + snapshot.config.model(model).batching.timeout,
    };
    job.hash = lane_hash(shard.lane_seed, &job.key());
    let home = job.hash % u64::from(shard.port.shards().max(1));
    (job, ShardId(u32::try_from(home).unwrap_or(0)))
}

fn send_job(shard: &Shard, snapshot: &Snapshot, home: ShardId, job: Job) -> Result<(), Error> {
    if home == shard.id {
        shard.take_job(job);
        return Ok(());
    }
    snapshot.metrics.cross_shard_job();
    shard.port.send(home, Message::Job(Box::new(job))).map_err(|_| Error::Shed(ShedReason::InboxFull))
}

async fn answered(shard: &Shard, ticket: Ticket) -> Answer {
    poll_fn(|_| match shard.tickets.borrow_mut().waiting_mut(ticket).and_then(|waiting| waiting.answer.take()) {
        Some(answer) => Poll::Ready(answer),
        None => Poll::Pending,
    })
    .await
}

/// A ticket that, unless its answer came, is cancelled here and at the home.
struct HeldTicket<'a> {
    shard: &'a Shard,
    ticket: Ticket,
    home: ShardId,
    open: bool,
}

impl Drop for HeldTicket<'_> {
    fn drop(&mut self) {
        if self.open {
            self.shard.tickets.borrow_mut().cancel(self.ticket);
            self.shard.post(self.home, Message::Cancel(self.ticket));
        }
    }
}

/// Failures that are the gateway's own refusals count as shed.
pub(super) fn count_failure(metrics: &ShardMetrics, failure: Failure) {
    match failure {
        Failure::QueueFull { .. } => metrics.shed(ShedReason::LaneFull),
        Failure::TenantShare { .. } => metrics.shed(ShedReason::TenantShare),
        Failure::PredictedLate { .. } => metrics.shed(ShedReason::PredictedLate),
        Failure::DeadlineExceeded => metrics.shed(ShedReason::Deadline),
        _ => {}
    }
}

fn push_number(fields: &mut Vec<u8>, name: &str, value: u64) {
    fields.extend_from_slice(name.as_bytes());
    fields.extend_from_slice(b": ");
    fields.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    fields.extend_from_slice(b"\r\n");
}

/// Bodies up to this are copied behind their head: cheaper than a vectored send.
const COPY_MAX: usize = 16 * 1024;
