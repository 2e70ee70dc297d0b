//! Decides whether a failed call may be made again, where and when. It counts nothing and sends nothing. An answer is a failure here
//! only where `upstreams.retry.on` says so; else it is relayed, whatever its status (a merged call's answers are isolated in batch).
//!
//! The rule under all others: a request that is not safe to repeat reaches an upstream's application at most once (http-rules
//! P6). And once a byte went to the client, nothing is repeated.

use std::time::Duration;

use crate::config::{RetryRules, Share};
use crate::sys::Instant;

/// How a call failed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Failure {
    /// No connection was made (refused, unreachable, connect time-out): nothing was sent.
    Connect,
    /// A pooled connection was closed or reset and not one byte of an answer had come: the server closed it as idle while our
    /// request was on its way, and read nothing of it.
    StaleConnection,
    /// A connection that was made for this call, or that had begun to answer, was closed or reset.
    Transport,
    /// No first byte in time, or the whole call took too long. The model may still be at work on it.
    Timeout,
    /// The answer is not HTTP we accept.
    BadAnswer,
    /// The answer is 429: nothing was done.
    RateLimited,
    /// The answer is a 5xx.
    ServerError,
    /// A stream whose first event is an error that is not the client's fault: the server said that it did nothing.
    Refused,
}

/// What has happened to the request so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attempt {
    /// Calls made, this failed one included.
    pub calls: u32,
    /// A call of this request has already been made again because of a stale connection.
    pub resent: bool,
    /// A byte of an answer (its head included) went to the client.
    pub answer_begun: bool,
    /// The request's body (if any) is still held whole.
    pub body_held: bool,
    /// The method is safe or idempotent (GET, HEAD, OPTIONS, PUT, DELETE), or the caller knows the body to be.
    pub idempotent: bool,
    /// What the upstream's configuration allows.
    pub rules: RetryRules,
}

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Retry {
    /// Answer with the failure.
    No,
    /// At another endpoint if one is usable, else at the same.
    OtherEndpoint,
    /// At once, at the same endpoint, on a connection made for it (never a pooled one: the next may be as stale).
    FreshConnection,
}

/// Whether and where the request may go again. What it may cost is the [`Budget`]'s matter.
#[must_use]
pub fn decide(failure: Failure, attempt: Attempt) -> Retry {
    if attempt.answer_begun || !attempt.body_held {
        return Retry::No;
    }
    if failure == Failure::StaleConnection && !attempt.resent {
        return Retry::FreshConnection;
    }
    // The resending was not the server's fault, nor ours: it does not count.
    if attempt.calls >= attempt.rules.attempts + u32::from(attempt.resent) {
        return Retry::No;
    }
    let rules = attempt.rules;
    let allowed = match failure {
        Failure::Connect | Failure::Refused => rules.on_connect,
        // Not stale after all: a fresh connection never is. Treat it as what it looks like.
        Failure::StaleConnection | Failure::Transport => rules.on_reset && attempt.idempotent,
        Failure::RateLimited => rules.on_429,
        Failure::ServerError => rules.on_5xx && attempt.idempotent,
        Failure::Timeout | Failure::BadAnswer => false,
    };
    if allowed { Retry::OtherEndpoint } else { Retry::No }
}

/// How long to wait before the next call: exponential with full jitter (uniform from 0 to the bound, which doubles with each call), so
/// that clients that failed together do not come back together. None where nothing was sent and another endpoint is there to be tried.
#[must_use]
pub fn backoff(rules: &RetryRules, failure: Failure, calls: u32, other_endpoint: bool, draw: u32) -> Duration {
    if matches!(failure, Failure::Connect | Failure::Refused) && other_endpoint {
        return Duration::ZERO;
    }
    let doublings = calls.saturating_sub(1).min(16);
    let bound = rules.backoff.saturating_mul(1 << doublings).min(rules.backoff_max);
    bound.mul_f64(f64::from(draw) / f64::from(u32::MAX))
}

/// Whether a status is a failure that may be tried again, and which.
#[must_use]
pub fn failure_of(rules: &RetryRules, status: u16) -> Option<Failure> {
    match status {
        429 if rules.on_429 => Some(Failure::RateLimited),
        500..=599 if rules.on_5xx => Some(Failure::ServerError),
        _ => None,
    }
}

/// What retries of one upstream may cost, on one shard: a share of its calls beside a floor. Tokens come with calls and with time and
/// are kept for about ten seconds' worth of both, so that a server's death may be answered for, and a dying upstream gets no double load.
#[derive(Clone, Debug)]
pub struct Budget {
    share: f64,
    /// Retries that may be made now.
    tokens: f64,
    /// Calls since the last look.
    calls: u64,
    /// Calls of about the last ten seconds.
    recent: f64,
    looked: Instant,
}

impl Budget {
    #[must_use]
    pub fn new(share: Share) -> Budget {
        let share = f64::from(share.0) / f64::from(Share::ALL.0);
        Budget { share, tokens: FLOOR_PER_SECOND * KEPT_SECONDS, calls: 0, recent: 0.0, looked: Instant::ZERO }
    }

    /// A first call is made: a retry's own call does not count.
    pub fn handle_call(&mut self) {
        self.calls += 1;
    }

    /// Time has passed: takes what came in with calls and time. Now and then, so that an old plenty is forgotten.
    pub fn handle_time(&mut self, now: Instant) {
        let seconds = now.since(self.looked).as_secs_f64();
        self.looked = now;
        #[expect(clippy::cast_precision_loss, reason = "calls of a second")]
        let calls = std::mem::take(&mut self.calls) as f64;
        self.recent = self.recent * (-seconds / KEPT_SECONDS).exp() + calls;
        let most = FLOOR_PER_SECOND * KEPT_SECONDS + self.share * self.recent;
        self.tokens = (self.tokens + self.share * calls + FLOOR_PER_SECOND * seconds).min(most);
    }

    /// A retry is wanted: whether it may be made.
    pub fn take(&mut self, now: Instant) -> bool {
        self.handle_time(now);
        let has = self.tokens >= 1.0;
        if has {
            self.tokens -= 1.0;
        }
        has
    }
}

/// Retries a second that a quiet upstream may have: with one call a second 10 % would be none.
const FLOOR_PER_SECOND: f64 = 10.0;
const KEPT_SECONDS: f64 = 10.0;
