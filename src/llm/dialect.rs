//! How an error made by the gateway looks in each API's own words, so that a client's library reads it like one of its provider's.
//! Which status and reason an error has is decided in `shard::respond`.

use crate::policy::Operation;

/// The envelope a client expects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// `{"error":{"message","type","param","code"}}`: `OpenAI`, vLLM and most others.
    OpenAi,
    /// The same, but for the events of a stream: `OpenAI`'s Responses API names them.
    Responses,
    /// `{"type":"error","error":{"type","message"}}`: Anthropic's Messages API.
    Anthropic,
}

/// What an error says, in no API's words.
#[derive(Clone, Copy, Debug)]
pub struct ErrorFacts<'a> {
    pub status: u16,
    /// Short and constant: the value of `x-headrace-error`.
    pub reason: &'a str,
    /// For a person: what, where, what to do instead. Never quotes a request.
    pub message: &'a str,
}

impl Dialect {
    /// The dialect of a model call, and of whatever is none.
    #[must_use]
    pub const fn of(operation: Option<Operation>) -> Dialect {
        match operation {
            Some(Operation::Messages) => Dialect::Anthropic,
            Some(Operation::Responses) => Dialect::Responses,
            _ => Dialect::OpenAi,
        }
    }

    /// Writes the envelope as JSON.
    pub fn write_error(self, out: &mut Vec<u8>, facts: ErrorFacts<'_>) {
        match self {
            Dialect::OpenAi | Dialect::Responses => {
                out.extend_from_slice(b"{\"error\":{\"message\":");
                push_text(out, facts.message);
                out.extend_from_slice(b",\"type\":\"");
                out.extend_from_slice(openai_type(facts.status).as_bytes());
                out.extend_from_slice(b"\",\"param\":null,\"code\":");
                push_text(out, facts.reason);
                out.extend_from_slice(b"}}");
            }
            Dialect::Anthropic => {
                out.extend_from_slice(b"{\"type\":\"error\",\"error\":{\"type\":\"");
                out.extend_from_slice(anthropic_type(facts.status).as_bytes());
                out.extend_from_slice(b"\",\"message\":");
                push_text(out, facts.message);
                out.extend_from_slice(b"}}");
            }
        }
    }

    /// Writes the error as an event of a stream that has begun, blank line and all. No end marker: the stream was cut, and the close that
    /// follows says so too.
    pub fn write_error_event(self, out: &mut Vec<u8>, facts: ErrorFacts<'_>) {
        match self {
            Dialect::OpenAi => {
                out.extend_from_slice(b"data: ");
                self.write_error(out, facts);
            }
            Dialect::Anthropic => {
                out.extend_from_slice(b"event: error\ndata: ");
                self.write_error(out, facts);
            }
            Dialect::Responses => {
                out.extend_from_slice(b"event: error\ndata: {\"type\":\"error\",\"code\":");
                push_text(out, facts.reason);
                out.extend_from_slice(b",\"message\":");
                push_text(out, facts.message);
                out.extend_from_slice(b",\"param\":null}");
            }
        }
        out.extend_from_slice(b"\n\n");
    }

    /// What is sent into a quiet stream to keep middleboxes from closing it. To be put between two events.
    #[must_use]
    pub const fn sign_of_life(self) -> &'static [u8] {
        match self {
            Dialect::OpenAi | Dialect::Responses => b": keep-alive\n\n",
            Dialect::Anthropic => b"event: ping\ndata: {\"type\": \"ping\"}\n\n",
        }
    }
}

/// `OpenAI`'s error types, by status.
const fn openai_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "server_error",
    }
}

/// Anthropic's error types, by status.
const fn anthropic_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        504 => "timeout_error",
        _ => "api_error",
    }
}

/// A JSON string. Messages are ours, but a configured name may be in them.
fn push_text(out: &mut Vec<u8>, text: &str) {
    // A string always serialises, and writing to a Vec cannot fail.
    let _ = serde_json::to_writer(out, text);
}
