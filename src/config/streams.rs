//! The times of a call, as they hold for one model or route.

use std::time::Duration;

use super::{Config, RouteId, Upstream};
use crate::config::ModelId;

/// How long the parts of a call may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// From the request's last byte to the answer's first; of an event stream to its first event.
    pub first_byte: Duration,
    /// Silence in an event stream that has begun.
    pub stream_idle: Duration,
    /// The whole call.
    pub total: Duration,
}

/// How a route serves websockets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WebSocket {
    /// Silence in both directions, after which both connections are closed. Default 5 min.
    pub idle_timeout: Duration,
}

impl Upstream {
    /// What holds where a model or route says nothing else.
    #[must_use]
    pub const fn timeouts(&self) -> Timeouts {
        Timeouts { first_byte: self.first_byte_timeout, stream_idle: self.stream_idle_timeout, total: self.total_timeout }
    }
}

impl Config {
    /// The times for a model's calls.
    #[must_use]
    pub fn model_timeouts(&self, id: ModelId) -> &Timeouts {
        &self.model(id).timeouts
    }

    /// The times for a route's calls.
    #[must_use]
    pub fn route_timeouts(&self, id: RouteId) -> &Timeouts {
        &self.route(id).timeouts
    }
}
