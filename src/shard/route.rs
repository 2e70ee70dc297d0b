//! The phases "route" and "decode": which upstream a request is for, and how it goes there. Rules and tables are policy's; scanning
//! is json's.

use bytes::Bytes;

use super::Shard;
use super::answer::Own;
use super::body::Whole;
use super::coalesce::CoalescePlan;
use super::connection::Connection;
use super::error::Error;
use super::exchange::Request;
use super::fallback::Spare;
use super::forward::{ForwardBody, ForwardPlan, Rendered};
use super::snapshot::Snapshot;
use super::split;
use super::upgrade::{UpgradePlan, allowed, push_upgrade};
use super::wish::{self, Steered, add_body, wants_body, wish_of_head};
use crate::config::{BatchingMode, ModelId, RouteId, Upstream, UpstreamId, defaults};
use crate::http::{Framing, Known, Method, RequestEdit, WebSocketAccept, write_request_fields, write_request_line};
use crate::json::{EmbeddingsRequest, Model, ModelRequest, ScanError, scan_embeddings, scan_model, scan_model_in};
use crate::llm::Dialect;
use crate::metrics::Target;
use crate::policy::{Operation, normal_form};

/// How a request is answered.
pub(super) enum Plan {
    Own(Own),
    Forward(ForwardPlan),
    Upgrade(UpgradePlan),
    Coalesce(CoalescePlan),
}

/// What the path alone says.
pub(super) enum Routed {
    Models,
    To(UpstreamId),
    WebSocket(RouteId, WebSocketAccept),
    Model(Operation),
}

/// Which way a request's path leads.
pub(super) fn route(snapshot: &Snapshot, connection: &Connection, request: &mut Request) -> Result<Routed, Error> {
    let bytes = connection.input.bytes();
    let mut scratch = Vec::new();
    let path = connection.head.path.of(bytes);
    // The way is decided on the normal form, and that very form goes up: never a decision on one spelling and another sent.
    let normal = if connection.head.path_plain { path } else { normal_form(path, &mut scratch).map_err(|_| Error::Path)? };
    if normal != path {
        request.normal_path = Some(normal.to_vec());
    }
    let path = normal;
    let operation = Operation::from_path(path);
    request.has_query = connection.head.target.len > connection.head.path.len;
    request.dialect = Dialect::of(operation);
    if let Some(route) = snapshot.router.resolve_path(path) {
        request.target = Target::Route(route);
        if connection.head.upgrade {
            return Ok(Routed::WebSocket(route, allowed(snapshot, connection, route)?));
        }
        return Ok(Routed::To(snapshot.config.route(route).upstream));
    }
    if connection.head.upgrade {
        return Err(Error::UpgradeRefused);
    }
    if path == b"/v1/models" && !snapshot.config.models.is_empty() {
        return match request.method {
            Method::Get | Method::Head => Ok(Routed::Models),
            _ => Err(Error::MethodNotAllowed),
        };
    }
    match operation {
        Some(operation) if !snapshot.config.models.is_empty() => Ok(Routed::Model(operation)),
        _ => Err(Error::NoRoute),
    }
}

/// Reads as much of the request as its dispatch needs, and renders what goes up.
pub(super) async fn decode(
    shard: &Shard,
    snapshot: &Snapshot,
    connection: &mut Connection,
    request: &mut Request,
    routed: Routed,
) -> Result<Plan, Error> {
    match routed {
        Routed::Models => {
            let len = connection.head.head_len;
            connection.input.consume(&shard.rt, len);
            Ok(Plan::Own(Own { content_type: "application/json", body: models(snapshot) }))
        }
        Routed::To(upstream) => Ok(Plan::Forward(streamed(shard, snapshot, connection, request, upstream))),
        Routed::WebSocket(route, accept) => Ok(Plan::Upgrade(websocket(shard, snapshot, connection, request, route, accept))),
        Routed::Model(operation) => model_call(shard, snapshot, connection, request, operation).await,
    }
}

/// A body nobody needs to look at: sent with the head when it is all here, else streamed.
fn streamed(shard: &Shard, snapshot: &Snapshot, connection: &mut Connection, request: &mut Request, upstream: UpstreamId) -> ForwardPlan {
    let bytes = connection.input.bytes();
    let mut rendered = rendered(shard, snapshot, connection, bytes, request, upstream, request.body.framing);
    let steered =
        wish_of_head(snapshot.config.upstream(upstream), wish::Head { head: &connection.head, bytes, client: &connection.client });
    rendered.ask_for_load(steered.as_deref());
    let len = connection.head.head_len;
    connection.input.consume(&shard.rt, len);
    let small = request.body.framing == Framing::None || request.body.take_arrived(shard, connection, &mut rendered.bytes);
    ForwardPlan { upstream, rendered, body: if small { ForwardBody::Small } else { ForwardBody::Streamed }, steered }
}

fn websocket(
    shard: &Shard,
    snapshot: &Snapshot,
    connection: &mut Connection,
    request: &Request,
    route: RouteId,
    accept: WebSocketAccept,
) -> UpgradePlan {
    let config = snapshot.config.route(route);
    let mut rendered = rendered(shard, snapshot, connection, connection.input.bytes(), request, config.upstream, Framing::None);
    push_upgrade(&mut rendered.bytes);
    let len = connection.head.head_len;
    connection.input.consume(&shard.rt, len);
    let idle_timeout = config.websocket.map_or(defaults::WEBSOCKET_IDLE_TIMEOUT, |websocket| websocket.idle_timeout);
    UpgradePlan { upstream: config.upstream, rendered, accept, idle_timeout }
}

async fn model_call(
    shard: &Shard,
    snapshot: &Snapshot,
    connection: &mut Connection,
    request: &mut Request,
    operation: Operation,
) -> Result<Plan, Error> {
    let encoded = is_encoded(connection);
    if let Some(only) = snapshot.only_model
        && (encoded || !(may_coalesce(snapshot, only, operation) || steers_by_body(snapshot, only, operation)))
    {
        let only = split::arm(shard, snapshot, only, &connection.head, connection.input.bytes());
        request.target = Target::Model(only);
        request.repeatable = repeatable(snapshot, only, operation);
        let upstream = snapshot.config.model(only).upstream;
        return Ok(Plan::Forward(streamed(shard, snapshot, connection, request, upstream)));
    }
    if encoded {
        let len = connection.head.head_len;
        connection.input.consume(&shard.rt, len);
        return Err(Error::Encoded);
    }
    let limit = snapshot.config.server.max_body_bytes;
    // The head's bytes stand in front of the body's: rendered before they are used up, for any upstream.
    let never = wants_no_coalescing(connection);
    let credential = credential(connection);
    let held = Head::save(shard, connection);
    let mut body = request.body.read_whole(shard, connection, limit).await?;
    let (embeddings, scanned) = scan(shard, &mut body, operation.coalescible() && snapshot.coalesces).map_err(Error::Json)?;
    let named = scanned.model.ok_or(Error::ModelMissing)?;
    let asked = snapshot.router.resolve_model(named.decode_in(&body.pieces()).as_bytes());
    let model = asked.ok_or(Error::ModelUnknown)?;
    let model = split::arm(shard, snapshot, model, &connection.head, &held.bytes);
    request.target = Target::Model(model);
    request.repeatable = repeatable(snapshot, model, operation);
    request.hedged = (request.repeatable && !scanned.stream && snapshot.config.model(model).resilience.hedge.is_some()).then_some(model);
    request.spare = Spare::keep(shard, snapshot, model, &held.bytes, &mut body, named);
    if request.spare.is_some() {
        request.body.hold_copy(shard, body.len())?;
    }
    let upstream = snapshot.config.model(model).upstream;
    let mut steered = held.wish(snapshot, connection, upstream);
    if let Some(steered) = &mut steered {
        steer_by_body(shard, snapshot.config.upstream(upstream), steered, operation, named, &mut body);
    }
    let rendered = held.render(shard, snapshot, connection, request, upstream, body.len() as u64);
    // A body may end long after a reload, when the lane's home has let go of the configuration it began under.
    let current = snapshot.generation == shard.current.borrow().generation;
    // A merged call carries one credential, `authorization`; a key that travels in another field must not be left out of it.
    let forwards = snapshot.config.upstream(upstream).forward_authorization;
    let keyed = forwards && connection.head.field(Known::ApiKey).is_some();
    let alone = never || keyed || !current || request.has_query || request.method != Method::Post;
    match embeddings {
        Some(embeddings) if !alone && may_coalesce(snapshot, model, operation) => {
            let credential = if forwards { credential } else { Bytes::new() };
            Ok(Plan::Coalesce(CoalescePlan { model, embeddings, rendered, body: body.into_vec(&shard.rt), credential }))
        }
        _ => Ok(Plan::Forward(ForwardPlan::whole(shard, upstream, rendered, body, steered))),
    }
}

/// Finds what routing and batching need in the body; for batching it must lie in one piece.
fn scan(shard: &Shard, body: &mut Whole, coalesces: bool) -> Result<(Option<EmbeddingsRequest>, ModelRequest), ScanError> {
    if coalesces {
        let embeddings = scan_embeddings(body.gather(&shard.rt))?;
        let scanned = ModelRequest { model: embeddings.model, stream: false };
        return Ok((Some(embeddings), scanned));
    }
    let in_place = scan_model_in(&body.pieces());
    let scanned = in_place.unwrap_or_else(|| scan_model(body.gather(&shard.rt)))?;
    Ok((None, scanned))
}

fn steer_by_body(shard: &Shard, upstream: &Upstream, steered: &mut Steered, operation: Operation, named: Model, body: &mut Whole) {
    let name = named.decode_in(&body.pieces()).into_owned();
    let prompt = if upstream.steering.prefix_affinity.is_some() { body.gather(&shard.rt) } else { &[] };
    add_body(steered, upstream, operation, name.as_bytes(), prompt);
}

/// Calls that generate nothing do no harm when they are made twice; of the others the operator may say so.
fn repeatable(snapshot: &Snapshot, model: ModelId, operation: Operation) -> bool {
    operation.is_repeatable() || snapshot.config.model(model).resilience.idempotent
}

fn may_coalesce(snapshot: &Snapshot, model: ModelId, operation: Operation) -> bool {
    operation.coalescible() && snapshot.config.model(model).batching.mode != BatchingMode::Off
}

fn steers_by_body(snapshot: &Snapshot, model: ModelId, operation: Operation) -> bool {
    wants_body(snapshot.config.upstream(snapshot.config.model(model).upstream), operation)
}

fn wants_no_coalescing(connection: &Connection) -> bool {
    let bytes = connection.input.bytes();
    connection.head.field(Known::HeadraceCoalesce).is_some_and(|value| value.of(bytes).eq_ignore_ascii_case(b"never"))
}

/// A body in a coding we would have to undo before we could look at it.
fn is_encoded(connection: &Connection) -> bool {
    let bytes = connection.input.bytes();
    let mut content = connection.head.fields.iter().filter(|field| field.known == Known::Content);
    content.any(|field| {
        field.name.of(bytes).eq_ignore_ascii_case(b"content-encoding") && !field.value.of(bytes).eq_ignore_ascii_case(b"identity")
    })
}

fn credential(connection: &Connection) -> Bytes {
    let bytes = connection.input.bytes();
    match connection.head.field(Known::Authorization) {
        Some(value) => Bytes::copy_from_slice(value.of(bytes)),
        None => Bytes::new(),
    }
}

/// A request's head, kept until it is known where the request goes: the body behind it must be read first.
struct Head {
    bytes: Vec<u8>,
}

impl Head {
    fn save(shard: &Shard, connection: &mut Connection) -> Head {
        let mut bytes = shard.rt.take_vec();
        let len = connection.head.head_len;
        bytes.extend_from_slice(&connection.input.bytes()[..len]);
        connection.input.consume(&shard.rt, len);
        Head { bytes }
    }

    fn wish(&self, snapshot: &Snapshot, connection: &Connection, upstream: UpstreamId) -> Option<Box<Steered>> {
        let head = wish::Head { head: &connection.head, bytes: &self.bytes, client: &connection.client };
        wish_of_head(snapshot.config.upstream(upstream), head)
    }

    fn render(
        self,
        shard: &Shard,
        snapshot: &Snapshot,
        connection: &Connection,
        request: &Request,
        upstream: UpstreamId,
        len: u64,
    ) -> Rendered {
        let rendered = rendered(shard, snapshot, connection, &self.bytes, request, upstream, Framing::Length(len));
        shard.rt.keep_vec(self.bytes);
        rendered
    }
}

pub(super) fn rendered(
    shard: &Shard,
    snapshot: &Snapshot,
    connection: &Connection,
    bytes: &[u8],
    request: &Request,
    upstream: UpstreamId,
    framing: Framing,
) -> Rendered {
    let edit = RequestEdit {
        framing,
        client_addr: &connection.client,
        proto: "http",
        trust_forwarded: snapshot.config.server.trust_forwarded,
        request_id: &request.id,
        forward_authorization: snapshot.config.upstream(upstream).forward_authorization,
        strip_coalesce: true,
    };
    let mut out = shard.rt.take_vec();
    match &request.normal_path {
        None => write_request_line(&mut out, &connection.head, bytes, ""),
        Some(path) => {
            out.extend_from_slice(connection.head.method_span.of(bytes));
            out.push(b' ');
            out.extend_from_slice(path);
            out.extend_from_slice(&connection.head.target.of(bytes)[connection.head.path.len as usize..]);
            out.extend_from_slice(b" HTTP/1.1\r\nhost: \r\n");
        }
    }
    // The authority is put in per endpoint.
    let host_at = out.len() - 2;
    write_request_fields(&mut out, &connection.head, bytes, &edit);
    Rendered { bytes: out, host_at }
}

/// `GET /v1/models`: what the configuration takes by name. `*` is no name a client could ask for.
fn models(snapshot: &Snapshot) -> Vec<u8> {
    let entries = snapshot.config.written_models().filter(|model| model.name != "*");
    let data: Vec<serde_json::Value> =
        entries.map(|model| serde_json::json!({"id": model.name, "object": "model", "created": 0, "owned_by": "headrace"})).collect();
    serde_json::json!({"object": "list", "data": data}).to_string().into_bytes()
}
