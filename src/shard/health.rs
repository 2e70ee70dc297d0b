//! What calls and probes say about endpoints, put into the words of policy's health, and what health did put into the metrics. Which
//! endpoint is used is asked in `upstream`.

use std::time::Duration;

use super::Shard;
use super::snapshot::Snapshot;
use super::upstream::{InFlight, Upstream};
use crate::config::limits::PAUSE_MAX;
use crate::config::{Breaker, Share, UpstreamId};
use crate::http::{ResponseHead, RetryAfter};
use crate::metrics::{BreakerTo, UpstreamOutcome};
use crate::policy::{BreakerState, CallEnd, Change, Tripped};

/// Which endpoints the control plane's probes find down, all of them at once: what is not in it is up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Probed {
    /// The snapshot whose ids these are.
    pub generation: u32,
    pub down: Vec<(UpstreamId, u32)>,
}

/// How a call's outcome counts. An answer is good whatever its status, and what came late says nothing, unless a rate is configured:
/// slow is not broken, stale is normal, cancelled says nothing.
pub(super) fn end_of(outcome: UpstreamOutcome, rules: &Breaker) -> CallEnd {
    use UpstreamOutcome as O;
    match outcome {
        O::Ok | O::ClientError | O::RateLimited => CallEnd::Good,
        O::ServerError if rules.error_rate == Share::NONE => CallEnd::Good,
        O::ServerError => CallEnd::Erred,
        O::ConnectFailed | O::ConnectTimeout | O::Transport | O::BadAnswer => CallEnd::Failed,
        O::FirstByteTimeout | O::StreamIdleTimeout | O::TotalTimeout
            if rules.error_rate != Share::NONE || rules.slow_rate != Share::NONE =>
        {
            CallEnd::Erred
        }
        O::FirstByteTimeout | O::StreamIdleTimeout | O::TotalTimeout | O::StaleConnection | O::Cancelled => CallEnd::Unknown,
    }
}

impl Upstream {
    /// Tells the metrics; the control plane makes the log's line of it.
    pub(super) fn changed(&self, snapshot: &Snapshot, id: UpstreamId, endpoint: u32, change: Change) {
        let (to, why) = match change {
            Change::Closed => (BreakerTo::Closed, 0),
            Change::HalfOpened => (BreakerTo::HalfOpen, 0),
            Change::Opened(why) => (BreakerTo::Open, number_of(why)),
        };
        snapshot.metrics.breaker(id, endpoint, to, why);
        self.show_readiness(snapshot, id, endpoint);
    }

    fn show_readiness(&self, snapshot: &Snapshot, id: UpstreamId, endpoint: u32) {
        let until = self.health.borrow().unhealthy_until(endpoint);
        snapshot.metrics.endpoint_unhealthy_until(id, endpoint, until);
    }
}

impl Snapshot {
    /// Takes over what the former snapshot knew of endpoints that are still there.
    pub(super) fn inherit(&self, former: &Snapshot) {
        for (id, config) in (0..).map(UpstreamId).zip(&self.config.upstreams) {
            let Some(theirs) = former.config.upstreams.iter().position(|other| other.name == config.name) else { continue };
            let (upstream, other) = (self.upstream(id), &former.upstreams[theirs]);
            for (endpoint, address) in (0..).zip(&config.endpoints) {
                let same = former.config.upstreams[theirs].endpoints.iter().position(|other| other.addr == address.addr);
                let Some(same) = same.and_then(|index| u32::try_from(index).ok()) else { continue };
                upstream.health.borrow_mut().inherit(endpoint, &other.health.borrow(), same);
                if config.resilience.probe.is_none() {
                    // Nobody would bring it back.
                    upstream.health.borrow_mut().handle_probe(endpoint, true, crate::sys::Instant::ZERO);
                }
                let at = match upstream.health.borrow().state(endpoint) {
                    BreakerState::Closed => BreakerTo::Closed,
                    BreakerState::Open => BreakerTo::Open,
                    BreakerState::HalfOpen => BreakerTo::HalfOpen,
                };
                self.metrics.breaker_stands(id, endpoint, at);
                upstream.show_readiness(self, id, endpoint);
            }
        }
    }
}

impl Shard {
    /// What the control plane's probes say now.
    pub(super) fn take_probed(&self, probed: &Probed) {
        let Some(snapshot) = self.snapshot_of(probed.generation) else { return };
        for (id, config) in (0..).map(UpstreamId).zip(&snapshot.config.upstreams) {
            if config.resilience.probe.is_none() {
                continue;
            }
            let upstream = snapshot.upstream(id);
            for (endpoint, _) in (0..).zip(&config.endpoints) {
                let up = !probed.down.contains(&(id, endpoint));
                if upstream.health.borrow_mut().handle_probe(endpoint, up, self.rt.now()) {
                    upstream.show_readiness(&snapshot, id, endpoint);
                }
            }
        }
    }
}

impl InFlight {
    /// An answer's head is here: heeds the pause it may ask for. A 429 to a client's own credential is that client's limit and holds
    /// nobody else back.
    pub(super) fn heed(&self, shard: &Shard, snapshot: &Snapshot, head: &ResponseHead, bytes: &[u8]) -> Option<Duration> {
        if !matches!(head.status, 429 | 503) {
            return None;
        }
        let asked = RetryAfter::of(head, bytes)?.wait(|| shard.rt.wall());
        let of_client = head.status == 429 && snapshot.config.upstream(self.upstream()).forward_authorization;
        if !of_client && !asked.is_zero() {
            let until = shard.rt.now() + asked.min(PAUSE_MAX);
            snapshot.upstream(self.upstream()).health.borrow_mut().handle_pause(self.endpoint, until);
            snapshot.metrics.endpoint_paused(self.upstream(), self.endpoint);
        }
        Some(asked)
    }
}

const fn number_of(why: Tripped) -> u64 {
    match why {
        Tripped::Failures => 1,
        Tripped::ErrorRate => 2,
        Tripped::SlowRate => 3,
        Tripped::Trial => 4,
    }
}

/// Why a breaker opened, in words, from the number that the metrics carry.
#[must_use]
pub fn why_opened(number: u64) -> &'static str {
    match number {
        1 => "failures in a row",
        2 => "the error rate",
        3 => "the rate of slow calls",
        4 => "a failed trial",
        _ => "no known reason",
    }
}
