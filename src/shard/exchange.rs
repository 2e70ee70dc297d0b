//! The life of one request: calls the phases in order and does nothing else.

use std::rc::Rc;

use smallvec::SmallVec;

use super::body::RequestBody;
use super::coalesce::coalesce;
use super::connection::Connection;
use super::error::Error;
use super::fallback::{self, Spare};
use super::forward::admitted;
use super::gate::Permit;
use super::respond::{Framed, write_error};
use super::route::{Plan, decode, route};
use super::snapshot::Snapshot;
use super::upgrade::upgrade;
use super::{Shard, admit, answer, shadow, split};
use crate::config::ModelId;
use crate::http::{Method, Version};
use crate::llm::Dialect;
use crate::metrics::{Phase, Target};
use crate::policy::Claim;
use crate::sys::Instant;

/// What becomes of the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum After {
    KeepAlive,
    /// The answer was the last; the client may still be sending.
    Linger,
    /// Nobody to talk to, or the connection has lost its framing.
    Cut,
    /// The answer is cut and would look whole if the connection closed in good order.
    Reset,
}

/// What is known of a request once its head is read; outlives the head's bytes.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) version: Version,
    /// The connection may stay open after this exchange.
    pub(super) keep_alive: bool,
    pub(super) body: RequestBody,
    pub(super) id: SmallVec<[u8; 48]>,
    pub(super) dialect: Dialect,
    /// The path as it goes up, when it came in another spelling.
    pub(super) normal_path: Option<Vec<u8>>,
    pub(super) has_query: bool,
    pub(super) target: Target,
    /// Whose it is, where an upstream has a limit or lanes go by it.
    pub(super) claim: Claim,
    /// Its place at an upstream with a limit.
    pub(super) permit: Option<Box<Permit>>,
    /// The same request may be made twice without harm, though it is a POST.
    pub(super) repeatable: bool,
    /// A slow call for this model is doubled.
    pub(super) hedged: Option<ModelId>,
    /// For its fallbacks, when its model has some.
    pub(super) spare: Option<Box<Spare>>,
    /// For the metrics: where it is.
    pub(super) phase: Phase,
    pub(super) began: Instant,
    /// When the answer's head was here; zero until then.
    pub(super) headed: Instant,
}

/// How an answer went out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    pub(super) status: u16,
}

/// One request with its response.
pub(super) async fn exchange(shard: &Rc<Shard>, connection: &mut Connection) -> After {
    let snapshot = shard.snapshot();
    let _begun = Begun::exchange(&snapshot);
    connection.requests += 1;
    let mut request = Request::begin(shard, connection);
    let result = answered(shard, &snapshot, connection, &mut request).await;
    let (status, after) = match result {
        Ok(answered) => (answered.status, if request.keep_alive { After::KeepAlive } else { After::Linger }),
        Err(error) => (error.status(), conclude(shard, &snapshot, connection, &mut request, &error).await),
    };
    let after = match after {
        After::KeepAlive if !request.body.is_done() => {
            let after = request.body.discard(shard, connection).await;
            if after == After::Cut {
                // The answer stands: it was good, only what followed was not.
                let _ = answer::flush(shard, &connection.socket).await;
            }
            after
        }
        after => after,
    };
    snapshot.metrics.request(request.target, status);
    if snapshot.splits {
        split::record(shard, &snapshot, &request, status);
    }
    snapshot.metrics.phase(Phase::Exchange, nanos(shard.rt.now().since(request.began)));
    after
}

/// Counts an exchange as in flight, however it ends.
struct Begun<'a>(&'a Snapshot);

impl<'a> Begun<'a> {
    fn exchange(snapshot: &'a Snapshot) -> Begun<'a> {
        snapshot.metrics.exchange_begun();
        Begun(snapshot)
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.0.metrics.exchange_ended();
    }
}

async fn answered(
    shard: &Rc<Shard>,
    snapshot: &Rc<Snapshot>,
    connection: &mut Connection,
    request: &mut Request,
) -> Result<Answered, Error> {
    request.phase = Phase::Route;
    let looked = route(snapshot, connection, request).and_then(|routed| {
        request.phase = Phase::Admit;
        admit::look(shard, snapshot, connection, request, &routed).map(|()| routed)
    });
    let routed = looked.inspect_err(|_| {
        // Refused: the head's bytes are used up all the same.
        let len = connection.head.head_len;
        connection.input.consume(&shard.rt, len);
    })?;
    request.phase = Phase::Decode;
    let mut plan = decode(shard, snapshot, connection, request, routed).await?;
    request.phase = Phase::Dispatch;
    if !snapshot.shadows.is_empty() {
        shadow::copy(shard, snapshot, request, &plan);
    }
    // In place where it is passed on: moved, it would be in the connection's state twice.
    let result = match plan {
        Plan::Own(own) => return answer::own(shard, connection, request, own).await,
        Plan::Forward(ref mut plan) => admitted(shard, snapshot, connection, request, plan).await,
        Plan::Upgrade(plan) => Box::pin(upgrade(shard, snapshot, connection, request, plan)).await,
        Plan::Coalesce(plan) => coalesce(shard, snapshot, connection, request, plan).await,
    };
    match result {
        // Rare, and as large as a whole forward: not a part of every connection's state.
        Err(error) if request.spare.is_some() => Box::pin(fallback::go_on(shard, snapshot, connection, request, error)).await,
        result => result,
    }
}

/// Answers with the error, where there is somebody to answer and nothing of an answer went out yet.
async fn conclude(shard: &Shard, snapshot: &Snapshot, connection: &mut Connection, request: &mut Request, error: &Error) -> After {
    match error {
        Error::ClientGone => {
            snapshot.metrics.client_closed(request.phase);
            return After::Cut;
        }
        Error::Cut => return After::Reset,
        // What was sent last says that it is cut; a reset could destroy it on its way.
        Error::StreamCut(_) => return After::Linger,
        Error::Shed(reason) | Error::Refused { reason, .. } => snapshot.metrics.shed(*reason),
        Error::Batch(failure) => super::coalesce::count_failure(&snapshot.metrics, *failure),
        _ => {}
    }
    // A broken or late body leaves the connection without framing.
    let framing_lost =
        matches!(error, Error::Body(_) | Error::BodyTimeout | Error::BodyTooLarge { .. } | Error::UpgradeRefused | Error::WebSocket(_));
    request.keep_alive &= !framing_lost && request.body.is_short();
    let mut out = shard.rt.take_vec();
    let framed =
        Framed { dialect: request.dialect, close: !request.keep_alive, head_only: request.method == Method::Head, request_id: &request.id };
    write_error(&mut out, error, framed);
    match answer::send(shard, connection, out).await {
        Ok(()) if request.keep_alive => After::KeepAlive,
        Ok(()) => After::Linger,
        Err(_) => After::Cut,
    }
}

impl Request {
    fn begin(shard: &Shard, connection: &Connection) -> Request {
        let head = &connection.head;
        let bytes = connection.input.bytes();
        let id = match head.request_id(bytes) {
            Some(id) => SmallVec::from_slice(id.of(bytes)),
            None => shard.new_request_id(),
        };
        Request {
            method: head.method,
            version: head.version,
            keep_alive: head.keep_alive && !shard.draining.get(),
            body: RequestBody::new(shard, head.framing, head.expect_continue),
            id,
            dialect: Dialect::OpenAi,
            normal_path: None,
            has_query: false,
            target: Target::None,
            claim: Claim::default(),
            permit: None,
            repeatable: false,
            hedged: None,
            spare: None,
            phase: Phase::Read,
            began: shard.rt.now(),
            headed: Instant::ZERO,
        }
    }
}

pub(super) fn nanos(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
