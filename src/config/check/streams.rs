//! The times of a model's or a route's calls, and what a route says about websockets.

use std::time::Duration;

use super::super::raw::{At, RawRoute, RawTimeouts};
use super::super::{Timeouts, WebSocket, defaults, limits};
use super::server::TIMEOUT_MAX;
use super::{Checker, show_duration};

/// The names of the keys, for what is said about them.
pub(super) struct TimeoutKeys {
    first_byte: &'static str,
    stream_idle: &'static str,
    total: &'static str,
}

pub(super) const MODEL_KEYS: TimeoutKeys =
    TimeoutKeys { first_byte: "models.timeouts.first_byte", stream_idle: "models.timeouts.stream_idle", total: "models.timeouts.total" };
pub(super) const ROUTE_KEYS: TimeoutKeys =
    TimeoutKeys { first_byte: "routes.timeouts.first_byte", stream_idle: "routes.timeouts.stream_idle", total: "routes.timeouts.total" };

impl Checker {
    /// The upstream's times with what is written over them. A part that is longer than the whole is a mistake only where it was written
    /// here: the whole ends the call all the same.
    pub(super) fn timeouts(&mut self, raw: Option<&RawTimeouts>, upstream: Timeouts, keys: &TimeoutKeys) -> Timeouts {
        let Some(raw) = raw else { return upstream };
        let allowed = || Duration::from_millis(1)..=TIMEOUT_MAX;
        let timeouts = Timeouts {
            first_byte: self.duration(raw.first_byte.as_ref(), upstream.first_byte, allowed(), keys.first_byte),
            stream_idle: self.duration(raw.stream_idle.as_ref(), upstream.stream_idle, allowed(), keys.stream_idle),
            total: self.duration(raw.total.as_ref(), upstream.total, allowed(), keys.total),
        };
        let parts = [
            (keys.first_byte, raw.first_byte.as_ref(), timeouts.first_byte),
            (keys.stream_idle, raw.stream_idle.as_ref(), timeouts.stream_idle),
        ];
        for (key, found, part) in parts {
            if let Some(At { value, place }) = found
                && part > timeouts.total
            {
                let whole = show_duration(timeouts.total);
                let message = format!("`{key}` is {value:?}, longer than the whole call may take ({whole})");
                let help = format!("write at most \"{whole}\" or write a longer `total` beside it");
                self.mistakes.add(place, message, "never reached", help);
            }
        }
        timeouts
    }

    /// How often a quiet stream gets a sign of life.
    pub(super) fn stream_comments(&mut self, raw: Option<&At<String>>) -> Option<Duration> {
        let allowed = limits::STREAM_COMMENTS_MIN..=TIMEOUT_MAX;
        raw.map(|found| self.duration(Some(found), Duration::from_secs(15), allowed, "models.stream_comments"))
    }

    pub(super) fn websocket(&mut self, raw: &RawRoute) -> Option<WebSocket> {
        let allowed = Duration::from_millis(1)..=TIMEOUT_MAX;
        let found = raw.websocket_idle_timeout.as_ref();
        let idle_timeout = self.duration(found, defaults::WEBSOCKET_IDLE_TIMEOUT, allowed, "routes.websocket_idle_timeout");
        let is_on = raw.websocket.as_ref().map_or(defaults::WEBSOCKET, |found| found.value);
        is_on.then_some(WebSocket { idle_timeout })
    }
}
