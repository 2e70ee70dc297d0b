//! What stands in when a model's upstream cannot serve: the next model of its chain, or at last a canned answer. A call to a fallback is
//! forwarded alone, not merged. The chain's own chains are not followed; when it is exhausted, the last one's answer or error is the
//! client's.

use std::rc::Rc;

use bytes::Bytes;

use super::Shard;
use super::answer;
use super::body::Whole;
use super::connection::Connection;
use super::error::Error;
use super::exchange::{Answered, Request};
use super::forward::{ForwardPlan, admitted};
use super::respond::push_request_id;
use super::route::rendered;
use super::snapshot::Snapshot;
use super::split;
use super::wish::{self, add_body, wish_of_head};
use crate::batch::Failure;
use crate::config::{Canned, Fallback, ModelId};
use crate::http::{Framing, Method, Version, write_own_response};
use crate::json::Model;
use crate::llm::is_context_length;
use crate::metrics::FallbackReason;
use crate::policy::Operation;

/// A model call as it came, kept while something else may have to serve it.
pub(super) struct Spare {
    /// The request's head.
    head: Vec<u8>,
    body: Bytes,
    /// The model's name in the body.
    named: Model,
    asked: ModelId,
    chain: Vec<Fallback>,
    /// Links taken.
    taken: usize,
}

impl Spare {
    /// None when the model has no chain.
    pub(super) fn keep(
        shard: &Shard,
        snapshot: &Snapshot,
        asked: ModelId,
        head: &[u8],
        body: &mut Whole,
        named: Model,
    ) -> Option<Box<Spare>> {
        let chain = &snapshot.config.model(asked).resilience.fallback;
        if chain.is_empty() {
            return None;
        }
        let body = Bytes::copy_from_slice(body.gather(&shard.rt));
        Some(Box::new(Spare { head: head.to_vec(), body, named, asked, chain: chain.clone(), taken: 0 }))
    }

    /// The body with another model's name.
    fn body_for(&self, name: &str) -> Vec<u8> {
        let span = self.named.span.range();
        let mut body = Vec::with_capacity(self.body.len() + name.len() + 2);
        // With its quotes: the new name is escaped anew.
        body.extend_from_slice(&self.body[..span.start - 1]);
        // A string always serialises, and writing to a Vec cannot fail.
        let _ = serde_json::to_writer(&mut body, name);
        body.extend_from_slice(&self.body[span.end + 1..]);
        body
    }
}

impl Request {
    /// Whether something stands in when the present target fails.
    pub(super) fn has_fallback(&self) -> bool {
        self.spare.as_ref().is_some_and(|spare| spare.taken < spare.chain.len())
    }

    /// Whether something other than what was asked for serves it, or tried to.
    pub(super) fn fell_back(&self) -> bool {
        self.spare.as_ref().is_some_and(|spare| spare.taken > 0)
    }

    /// The name of the fallback that serves the request, for `x-headrace-fallback`.
    pub(super) fn served_by<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a str> {
        let spare = self.spare.as_ref()?;
        let link = spare.chain.get(spare.taken.checked_sub(1)?)?;
        Some(match link {
            Fallback::Model(model) => &snapshot.config.model(*model).name,
            Fallback::Canned(id) => &snapshot.config.canned[id.0 as usize].name,
        })
    }
}

/// Goes down the chain until something answers. Any error that no fallback can help, and the last one's, is returned.
pub(super) async fn go_on(
    shard: &Rc<Shard>,
    snapshot: &Rc<Snapshot>,
    connection: &mut Connection,
    request: &mut Request,
    mut error: Error,
) -> Result<Answered, Error> {
    // Its percentile is of the model that was asked for.
    request.hedged = None;
    loop {
        let Some(reason) = reason_of(&error) else { return Err(error) };
        let Some(spare) = request.spare.as_mut().filter(|spare| spare.taken < spare.chain.len()) else { return Err(error) };
        snapshot.metrics.fallback(spare.asked, reason);
        let is_first = spare.taken == 0;
        let link = spare.chain[spare.taken];
        spare.taken += 1;
        if is_first {
            split::record_failure(shard, snapshot, request);
        }
        let result = match link {
            Fallback::Canned(id) => return canned(shard, connection, request, &snapshot.config.canned[id.0 as usize]).await,
            Fallback::Model(model) => {
                let mut plan = plan_for(shard, snapshot, connection, request, model);
                admitted(shard, snapshot, connection, request, &mut plan).await
            }
        };
        match result {
            Ok(answered) => return Ok(answered),
            Err(next) => error = next,
        }
    }
}

/// A merged call's answer of 400 or more that a fallback serves better.
pub(super) fn judge_merged(request: &Request, status: u16, body: &[Bytes]) -> Result<(), Error> {
    if !request.has_fallback() {
        return Ok(());
    }
    if status >= 500 {
        return Err(Error::UpstreamFailed);
    }
    if body.iter().any(|piece| is_context_length(status, piece)) {
        return Err(Error::ContextLength);
    }
    Ok(())
}

fn plan_for(shard: &Shard, snapshot: &Snapshot, connection: &Connection, request: &Request, model: ModelId) -> ForwardPlan {
    let kept = request.spare.as_ref().map(|spare| spare.head.as_slice()).unwrap_or_default();
    let target = snapshot.config.model(split::arm(shard, snapshot, model, &connection.head, kept));
    let (head, body) = match &request.spare {
        Some(spare) => (spare.head.as_slice(), spare.body_for(&target.name)),
        None => (&[][..], Vec::new()),
    };
    let framing = Framing::Length(body.len() as u64);
    let rendered = rendered(shard, snapshot, connection, head, request, target.upstream, framing);
    // Asked anew: another upstream may go by another field, and its prompts are remembered under its own model's name.
    let upstream = snapshot.config.upstream(target.upstream);
    let steered = wish_of_head(upstream, wish::Head { head: &connection.head, bytes: head, client: &connection.client });
    let steered = steered.map(|mut steered| {
        let path = request.normal_path.as_deref().unwrap_or_else(|| connection.head.path.of(head));
        if let Some(operation) = Operation::from_path(path) {
            add_body(&mut steered, upstream, operation, target.name.as_bytes(), &body);
        }
        steered
    });
    ForwardPlan::whole(shard, target.upstream, rendered, Whole::Gathered(body), steered)
}

/// Which fault leads on; none where the client's request is at fault, or a part of an answer is out.
fn reason_of(error: &Error) -> Option<FallbackReason> {
    Some(match error {
        Error::UpstreamUnreachable | Error::UpstreamBroken | Error::UpstreamPaused { .. } | Error::UpstreamAnswer(_) => {
            FallbackReason::Unreachable
        }
        Error::UpstreamTimeout => FallbackReason::Timeout,
        Error::UpstreamFailed => FallbackReason::Error,
        Error::ContextLength => FallbackReason::ContextLength,
        Error::Batch(failure) => match failure {
            Failure::UpstreamUnreachable | Failure::UpstreamBroken => FallbackReason::Unreachable,
            Failure::UpstreamTimeout => FallbackReason::Timeout,
            Failure::Overloaded { .. } => FallbackReason::Error,
            Failure::QueueFull { .. }
            | Failure::TenantShare { .. }
            | Failure::PredictedLate { .. }
            | Failure::DeadlineExceeded
            | Failure::AnswerTooLarge => return None,
        },
        _ => return None,
    })
}

async fn canned(shard: &Shard, connection: &mut Connection, request: &mut Request, canned: &Canned) -> Result<Answered, Error> {
    request.keep_alive &= request.version == Version::Http11 && request.body.is_short() && !shard.draining.get();
    let mut fields = Vec::with_capacity(160);
    for (name, value) in [("content-type", &canned.content_type), ("x-headrace-fallback", &canned.name)] {
        fields.extend_from_slice(name.as_bytes());
        fields.extend_from_slice(b": ");
        fields.extend_from_slice(value.as_bytes());
        fields.extend_from_slice(b"\r\n");
    }
    push_request_id(&mut fields, &request.id);
    let mut out = shard.rt.take_vec();
    write_own_response(&mut out, canned.status, &fields, canned.body.len() as u64, !request.keep_alive);
    if request.method != Method::Head && !matches!(canned.status, 204 | 304) {
        out.extend_from_slice(canned.body.as_bytes());
    }
    answer::send_last(shard, connection, request.keep_alive, out).await?;
    Ok(Answered { status: canned.status })
}
