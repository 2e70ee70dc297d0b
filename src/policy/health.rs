//! Passive health of one upstream's endpoints, seen from one shard: what calls have shown, no probes. It counts only failures
//! of the endpoint (connect, transport, time-outs as the caller decides); an answer, and so a client's own 4xx, is a success.
//!
//! ```text
//!            3 failures in a row                backoff over
//!  healthy -----------------------> unhealthy ----------------> on trial
//!     ^                             (not used)                   |     |
//!     +---------------------- success ---------------------------+     | 1 failure: unhealthy again,
//!                                   ^----------------------------------+ backoff doubled
//! ```

use std::time::Duration;

use crate::sys::Instant;

/// Failures in a row that make an endpoint unhealthy.
const FAILURES_TO_UNHEALTHY: u32 = 3;
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// The health of all endpoints of one upstream, which are named by their index in the configuration.
#[derive(Clone, Debug)]
pub struct Health {
    endpoints: Box<[State]>,
}

#[derive(Clone, Copy, Default, Debug)]
struct State {
    failures: u32,
    /// Zero when healthy; else the length of the present or last backoff, without jitter.
    backoff: Duration,
    /// Not used before this; meaningless when healthy.
    until: Instant,
}

impl Health {
    /// All healthy.
    #[must_use]
    pub fn new(endpoints: u32) -> Health {
        Health { endpoints: vec![State::default(); endpoints as usize].into() }
    }

    /// A call got an answer, whatever its status. True when the endpoint was unhealthy and is restored.
    pub fn handle_success(&mut self, endpoint: u32) -> bool {
        let Some(state) = self.endpoints.get_mut(endpoint as usize) else { return false };
        let restored = !state.backoff.is_zero();
        // Compared first: the usual case writes nothing.
        if state.failures != 0 || restored {
            *state = State::default();
        }
        restored
    }

    /// A connect or a transport failed. `jitter` is a uniform random number: up to a quarter is added to the backoff, so that
    /// shards do not try again in step. True when the endpoint became unhealthy just now.
    pub fn handle_failure(&mut self, endpoint: u32, now: Instant, jitter: u32) -> bool {
        let Some(state) = self.endpoints.get_mut(endpoint as usize) else { return false };
        state.failures = state.failures.saturating_add(1);
        let resting = !state.backoff.is_zero() && now < state.until;
        // Calls that began before the backoff may fail during it: they say nothing new.
        if state.failures < FAILURES_TO_UNHEALTHY || resting {
            return false;
        }
        state.backoff = if state.backoff.is_zero() { BACKOFF_FIRST } else { (state.backoff * 2).min(BACKOFF_MAX) };
        state.until = now + state.backoff + (state.backoff / 4).mul_f64(f64::from(jitter) / f64::from(u32::MAX));
        true
    }

    /// Whether calls may go to `endpoint`. When all are unhealthy all are usable: an answer that may fail beats a refusal that
    /// must, and only calls can show that one is back.
    #[must_use]
    pub fn is_usable(&self, endpoint: u32, now: Instant) -> bool {
        match self.endpoints.get(endpoint as usize) {
            Some(state) => state.is_healthy(now) || !self.any_healthy(now),
            None => false,
        }
    }

    /// Whether some endpoint is healthy or on trial: the upstream's part of readiness. An endpoint on trial counts, because an
    /// instance that is not ready gets no calls that could restore it.
    #[must_use]
    pub fn any_healthy(&self, now: Instant) -> bool {
        self.endpoints.iter().any(|state| state.is_healthy(now))
    }

    /// Until when `endpoint` is unhealthy; [`Instant::ZERO`] when it is healthy (for the readiness figures in metrics).
    #[must_use]
    pub fn unhealthy_until(&self, endpoint: u32) -> Instant {
        self.endpoints.get(endpoint as usize).filter(|state| !state.backoff.is_zero()).map_or(Instant::ZERO, |state| state.until)
    }
}

impl State {
    fn is_healthy(&self, now: Instant) -> bool {
        self.backoff.is_zero() || now >= self.until
    }
}
