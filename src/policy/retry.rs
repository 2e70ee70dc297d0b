//! Decides whether a failed call may be made again, and where. It counts nothing and sends nothing. What the upstream answered
//! is not a failure here: an answer, whatever its status, is relayed (a merged call's answers are isolated in batch).
//!
//! The rule under all others: a request that is not safe to repeat reaches an upstream's application at most once (http-rules
//! P6). And once a byte went to the client, nothing is repeated.

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

/// Calls per request at most: the first and two more.
pub const CALLS_MAX: u32 = 3;

/// Whether and where the request may go again.
#[must_use]
pub fn decide(failure: Failure, attempt: Attempt) -> Retry {
    if attempt.answer_begun || !attempt.body_held || attempt.calls >= CALLS_MAX {
        return Retry::No;
    }
    match failure {
        Failure::Connect | Failure::Refused => Retry::OtherEndpoint,
        Failure::StaleConnection if !attempt.resent => Retry::FreshConnection,
        // Not stale after all: a fresh connection never is. Treat it as what it looks like.
        Failure::StaleConnection | Failure::Transport if attempt.idempotent => Retry::OtherEndpoint,
        Failure::StaleConnection | Failure::Transport | Failure::Timeout | Failure::BadAnswer => Retry::No,
    }
}
