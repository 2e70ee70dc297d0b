//! Everything that can keep an exchange from its answer, and the three questions each error answers: whose fault, whether to try
//! again, and a short constant reason. What it looks like on the wire is settled in `respond`.

use std::time::Duration;

use crate::batch::Failure;
use crate::http::{BodyError, HeadError};
use crate::json::ScanError;
use crate::metrics::{ShedReason, UpstreamOutcome};

/// Who caused an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    Client,
    Upstream,
    Gateway,
}

/// Why an exchange has no answer of an upstream.
#[derive(Clone, Debug)]
pub enum Error {
    /// The head is refused; where the next request begins is not known.
    Head(HeadError),
    HeadTimeout,
    BodyTimeout,
    /// More body than may be held for inspection.
    BodyTooLarge {
        limit: u64,
    },
    /// The body's framing is broken.
    Body(BodyError),
    /// The body is no JSON a model call can have.
    Json(ScanError),
    /// The path has no normal form, or one that hides something.
    Path,
    /// A compressed body where the model must be read from it.
    Encoded,
    ModelMissing,
    ModelUnknown,
    NoRoute,
    MethodNotAllowed,
    UpgradeRefused,
    /// A websocket that is not asked for as it must be.
    WebSocket(HeadError),
    /// No endpoint could be reached.
    UpstreamUnreachable,
    /// The connection died before the answer was whole; nothing of it went to the client.
    UpstreamBroken,
    /// Nothing came in time.
    UpstreamTimeout,
    /// It answered 5xx (or 429), and its answer was let go because something else was to be tried.
    UpstreamFailed,
    /// Every endpoint asked not to be called for a while.
    UpstreamPaused {
        retry_after: Duration,
    },
    /// The prompt is too long for the model, and its answer was let go because another was to be tried.
    ContextLength,
    /// Not HTTP that may be passed on.
    UpstreamAnswer(&'static str),
    /// What the lane's home said.
    Batch(Failure),
    /// Refused on purpose.
    Shed(ShedReason),
    /// The same, by an upstream's gate, which knows when there may be a place.
    Refused {
        reason: ShedReason,
        retry_after: Duration,
    },
    /// A part of the answer went to the client already: it can only be cut.
    Cut,
    /// An event stream was cut, and the client was told so by an event; how the call ended.
    StreamCut(UpstreamOutcome),
    /// There is nobody to answer.
    ClientGone,
}

impl Error {
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Error::Head(error) if error.status == 502 => Fault::Upstream,
            Error::Head(_)
            | Error::HeadTimeout
            | Error::BodyTimeout
            | Error::BodyTooLarge { .. }
            | Error::Body(_)
            | Error::Json(_)
            | Error::Path
            | Error::Encoded
            | Error::ModelMissing
            | Error::ModelUnknown
            | Error::NoRoute
            | Error::MethodNotAllowed
            | Error::UpgradeRefused
            | Error::ContextLength
            | Error::WebSocket(_)
            | Error::Refused { reason: ShedReason::TenantShare, .. }
            | Error::Batch(Failure::TenantShare { .. })
            | Error::ClientGone => Fault::Client,
            Error::UpstreamUnreachable
            | Error::UpstreamBroken
            | Error::UpstreamTimeout
            | Error::UpstreamFailed
            | Error::UpstreamPaused { .. }
            | Error::UpstreamAnswer(_)
            | Error::Cut
            | Error::StreamCut(_) => Fault::Upstream,
            Error::Batch(Failure::QueueFull { .. } | Failure::PredictedLate { .. }) | Error::Shed(_) | Error::Refused { .. } => {
                Fault::Gateway
            }
            Error::Batch(_) => Fault::Upstream,
        }
    }

    /// When the client may try again; `None`: not without a change.
    #[must_use]
    pub fn retry(&self) -> Option<Duration> {
        match self {
            Error::Refused { retry_after, .. } | Error::UpstreamPaused { retry_after } => Some(*retry_after),
            Error::Batch(
                Failure::QueueFull { retry_after }
                | Failure::TenantShare { retry_after }
                | Failure::PredictedLate { retry_after }
                | Failure::Overloaded { retry_after },
            ) => Some(*retry_after),
            Error::Batch(Failure::UpstreamUnreachable) | Error::UpstreamUnreachable | Error::Shed(_) => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    /// Short and constant: the value of `x-headrace-error` and the code in the body.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Error::Head(error) => error.reason,
            Error::HeadTimeout => "header_timeout",
            Error::BodyTimeout => "body_timeout",
            Error::BodyTooLarge { .. } => "body_too_large",
            Error::Body(error) => error.reason,
            Error::Json(error) => error.reason,
            Error::Path => "path_not_normal",
            Error::Encoded => "content_encoding",
            Error::ModelMissing => "model_missing",
            Error::ModelUnknown => "model_not_found",
            Error::NoRoute => "no_route",
            Error::MethodNotAllowed => "method_not_allowed",
            Error::UpgradeRefused => "upgrade_not_supported",
            Error::WebSocket(error) => error.reason,
            Error::UpstreamUnreachable => "upstream_unreachable",
            Error::UpstreamBroken => "upstream_broken",
            Error::UpstreamTimeout => "upstream_timeout",
            Error::UpstreamFailed => "upstream_failed",
            Error::UpstreamPaused { .. } => "upstream_paused",
            Error::ContextLength => "context_length_exceeded",
            Error::UpstreamAnswer(reason) => reason,
            Error::Batch(failure) => failure.reason(),
            Error::Shed(reason) | Error::Refused { reason, .. } => reason.as_str(),
            Error::Cut => "answer_cut",
            Error::StreamCut(UpstreamOutcome::StreamIdleTimeout) => "stream_idle_timeout",
            Error::StreamCut(UpstreamOutcome::FirstByteTimeout | UpstreamOutcome::TotalTimeout) => "upstream_timeout",
            Error::StreamCut(_) => "upstream_broken",
            Error::ClientGone => "client_closed",
        }
    }
}
