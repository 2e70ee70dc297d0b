//! The one place where an error becomes a status, fields and a body in the client's dialect.

use std::borrow::Cow;
use std::time::Duration;

use super::error::Error;
use crate::batch::Failure;
use crate::http::write_own_response;
use crate::llm::{Dialect, ErrorFacts};
use crate::metrics::{ShedReason, UpstreamOutcome};

/// How an error answer is framed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Framed<'a> {
    pub(super) dialect: Dialect,
    /// The connection ends after it.
    pub(super) close: bool,
    /// The request was HEAD: the answer has no body.
    pub(super) head_only: bool,
    /// Empty when the request had not got one yet.
    pub(super) request_id: &'a [u8],
}

impl Error {
    /// The status a client sees. 499 is nginx's for a client that left; it is only counted, never sent.
    pub(super) fn status(&self) -> u16 {
        match self {
            Error::Head(error) | Error::WebSocket(error) => error.status,
            Error::HeadTimeout | Error::BodyTimeout => 408,
            Error::BodyTooLarge { .. } => 413,
            Error::Body(_) | Error::Json(_) | Error::Path | Error::ModelMissing | Error::ContextLength => 400,
            Error::Encoded => 415,
            Error::ModelUnknown | Error::NoRoute => 404,
            Error::MethodNotAllowed => 405,
            Error::UpgradeRefused => 501,
            Error::UpstreamUnreachable | Error::UpstreamPaused { .. } | Error::Batch(Failure::UpstreamUnreachable) => 503,
            Error::StreamCut(UpstreamOutcome::FirstByteTimeout | UpstreamOutcome::StreamIdleTimeout | UpstreamOutcome::TotalTimeout) => 504,
            Error::UpstreamBroken | Error::UpstreamFailed | Error::UpstreamAnswer(_) | Error::Cut | Error::StreamCut(_) => 502,
            Error::Batch(Failure::UpstreamBroken | Failure::AnswerTooLarge) => 502,
            Error::UpstreamTimeout | Error::Batch(Failure::UpstreamTimeout | Failure::DeadlineExceeded) => 504,
            Error::Batch(Failure::QueueFull { .. } | Failure::TenantShare { .. }) => 429,
            Error::Batch(Failure::Overloaded { .. } | Failure::PredictedLate { .. }) => 503,
            Error::Shed(reason) | Error::Refused { reason, .. } => match reason {
                ShedReason::Limit | ShedReason::LaneFull | ShedReason::TenantShare => 429,
                _ => 503,
            },
            Error::ClientGone => 499,
        }
    }

    /// What, where, and what to do instead.
    fn message(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Error::Head(_) => "The request's head is not valid HTTP/1.1 or has two readings; see x-headrace-error for which rule it broke.",
            Error::HeadTimeout => "The request's head did not arrive in time (server.header_timeout).",
            Error::BodyTimeout => "The request's body stopped arriving (server.body_timeout).",
            Error::BodyTooLarge { limit } => {
                return Cow::Owned(format!("The request's body is larger than {limit} bytes (server.max_body)."));
            }
            Error::Body(_) => "The request's body is not framed as HTTP/1.1 asks.",
            Error::Json(error) => return Cow::Owned(format!("The request's body cannot be read: {error}.")),
            Error::Path => "The request's path has no single normal form; send it without dot segments and needless escapes.",
            Error::Encoded => "The request's body is compressed, so its model cannot be read; send it without content-encoding.",
            Error::ModelMissing => "The request names no model; add a string field `model`.",
            Error::ModelUnknown => "No configured model takes this name; GET /v1/models lists those there are.",
            Error::NoRoute => "Nothing is configured for this path; add a [[routes]] entry, or use a model call such as /v1/embeddings.",
            Error::MethodNotAllowed => "This path does not take this method.",
            Error::UpgradeRefused => "This path takes no websockets; send a plain HTTP/1.1 request, or set routes.websocket = true for it.",
            Error::WebSocket(_) => "A websocket is asked for with version 13, one key of 16 bytes in base64 and no body (RFC 6455).",
            Error::UpstreamUnreachable | Error::Batch(Failure::UpstreamUnreachable) => "No model server could be reached; try again.",
            Error::UpstreamBroken | Error::Batch(Failure::UpstreamBroken) => {
                "The model server closed the connection before its answer was whole."
            }
            Error::UpstreamTimeout | Error::Batch(Failure::UpstreamTimeout) => "The model server did not answer in time.",
            Error::UpstreamFailed => "The model server answered with an error, and so did what stands in for it; try again.",
            Error::UpstreamPaused { .. } => "Every model server asked not to be called for a while; see retry-after.",
            Error::ContextLength => "The prompt is too long for this model and for what stands in for it; shorten it.",
            Error::UpstreamAnswer(_) => "The model server's answer is not valid HTTP and was not passed on.",
            Error::Batch(Failure::AnswerTooLarge) => "The model server's answer is larger than upstreams.max_response.",
            Error::Batch(Failure::DeadlineExceeded) => "The request's time was over before an answer came (models.batching.timeout).",
            Error::Batch(Failure::QueueFull { .. }) | Error::Shed(ShedReason::LaneFull) => {
                "Too many requests wait for this model; try again later."
            }
            Error::Batch(Failure::Overloaded { .. }) => "The model server said it is overloaded; try again later.",
            Error::Refused { reason: ShedReason::TenantShare, .. } | Error::Batch(Failure::TenantShare { .. }) => {
                "Your own requests that wait for this model server are more than your share; send fewer at a time."
            }
            Error::Refused { reason: ShedReason::QueueTimeout, .. } => {
                "The model server is busy; the request has waited for as long as it may (upstreams.concurrency.queue_timeout)."
            }
            Error::Batch(Failure::PredictedLate { .. }) | Error::Refused { reason: ShedReason::PredictedLate, .. } => {
                "The model server is busy, and the request would have waited for longer than it may; try again later."
            }
            Error::Refused { .. } => "The model server is busy and too many requests wait for it already; try again later.",
            Error::Shed(ShedReason::MemoryFull) => {
                "The gateway's memory is nearly used up (server.memory_max, server.max_held); try again."
            }
            Error::Shed(_) => "The gateway is at a limit of its own and refused this request to protect the others; try again.",
            Error::Cut => "The answer was cut.",
            Error::StreamCut(UpstreamOutcome::StreamIdleTimeout) => {
                "The model server sent nothing for too long and the answer was cut (stream_idle_timeout); ask again."
            }
            Error::StreamCut(UpstreamOutcome::FirstByteTimeout | UpstreamOutcome::TotalTimeout) => {
                "The answer took too long and was cut (first_byte_timeout, total_timeout)."
            }
            Error::StreamCut(_) => "The model server closed the connection before its answer was whole; ask again.",
            Error::ClientGone => "The client has left.",
        })
    }
}

/// Writes a whole error answer: head and body, ready to send.
pub(super) fn write_error(out: &mut Vec<u8>, error: &Error, framed: Framed<'_>) {
    let status = error.status();
    let mut body = Vec::with_capacity(256);
    framed.dialect.write_error(&mut body, ErrorFacts { status, reason: error.reason(), message: &error.message() });
    let mut fields = Vec::with_capacity(160);
    fields.extend_from_slice(b"content-type: application/json\r\nx-headrace-error: ");
    fields.extend_from_slice(error.reason().as_bytes());
    fields.extend_from_slice(b"\r\n");
    if let Some(after) = error.retry() {
        push_retry_after(&mut fields, after);
    }
    if matches!(error, Error::MethodNotAllowed) {
        fields.extend_from_slice(b"allow: GET, HEAD\r\n");
    }
    if status == 426 {
        fields.extend_from_slice(b"upgrade: websocket\r\nsec-websocket-version: 13\r\n");
    }
    if !framed.request_id.is_empty() {
        push_request_id(&mut fields, framed.request_id);
    }
    write_own_response(out, status, &fields, body.len() as u64, framed.close);
    if !framed.head_only {
        out.extend_from_slice(&body);
    }
}

/// Writes the error as an event, for a client whose stream has begun.
pub(super) fn write_error_event(out: &mut Vec<u8>, error: &Error, dialect: Dialect) {
    dialect.write_error_event(out, ErrorFacts { status: error.status(), reason: error.reason(), message: &error.message() });
}

pub(super) fn push_request_id(fields: &mut Vec<u8>, id: &[u8]) {
    fields.extend_from_slice(b"x-request-id: ");
    fields.extend_from_slice(id);
    fields.extend_from_slice(b"\r\n");
}

/// Whole seconds, rounded up (RFC 9110 10.2.3), at least one.
fn push_retry_after(fields: &mut Vec<u8>, after: Duration) {
    let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
    fields.extend_from_slice(b"retry-after: ");
    fields.extend_from_slice(itoa::Buffer::new().format(seconds.max(1)).as_bytes());
    fields.extend_from_slice(b"\r\n");
}
