//! From a request to its answer's body: which endpoint, which fault. No sockets, no waiting: an [`Answer`] says what is to be
//! waited for, and `connection` does it.

use super::chat::Chat;
use super::mark::Mark;
use super::stats::add;
use super::vector::splitmix64;
use super::{State, chat, embeddings};
use crate::http::Method;

/// What is to be done for one request; the body is in the vector given along.
#[derive(Debug)]
pub(super) enum Answer {
    /// Answer now.
    Now(Plain),
    /// Answer when the GPU has computed `items`; `cut` ends the connection in the middle of the body.
    Computed { items: u32, cut: bool },
    /// A chat: `delay` before each event, streamed or whole.
    Chat(Chat),
    /// Never; the client must leave.
    Never,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Plain {
    pub(super) status: u16,
    /// Rendered lines besides `server`.
    pub(super) fields: &'static [u8],
}

impl Plain {
    pub(super) const JSON: &'static [u8] = b"content-type: application/json\r\n";

    pub(super) const fn json(status: u16) -> Plain {
        Plain { status, fields: Plain::JSON }
    }
}

/// Finds out what to answer and writes the body into `out`.
pub(super) fn answer(state: &State, method: Method, path: &[u8], body: &[u8], out: &mut Vec<u8>) -> Answer {
    match (method, path) {
        (Method::Post, b"/v1/embeddings") => embeddings::answer(state, body, out),
        (Method::Post, b"/v1/chat/completions") => chat::answer(state, body, out),
        (Method::Get | Method::Head, b"/v1/models") => {
            out.extend_from_slice(b"{\"object\":\"list\",\"data\":[{\"id\":");
            out.extend_from_slice(&state.name_json);
            out.extend_from_slice(b",\"object\":\"model\",\"created\":0,\"owned_by\":\"headrace-mock\"}]}");
            Answer::Now(Plain::json(200))
        }
        (Method::Get | Method::Head, b"/health") => {
            out.extend_from_slice(b"{\"status\":\"ok\",\"server\":\"headrace-mock\"}");
            Answer::Now(Plain::json(200))
        }
        (Method::Get | Method::Head, b"/mock/stats") => {
            state.counters.read().write_json(out);
            Answer::Now(Plain::json(200))
        }
        (_, b"/mock/echo") => {
            out.extend_from_slice(body);
            Answer::Now(Plain { status: 200, fields: b"content-type: application/octet-stream\r\n" })
        }
        (_, b"/v1/embeddings" | b"/v1/chat/completions") => error(out, 405, "invalid_request_error", "the mock takes POST here"),
        (_, b"/v1/models" | b"/health" | b"/mock/stats") => error(out, 405, "invalid_request_error", "the mock takes GET here"),
        _ => error(out, 404, "invalid_request_error", "the mock does not know this path"),
    }
}

/// The fault for a body with these marks, when it is one that needs no computing; `input` is what a poisoned answer quotes.
pub(super) fn fault(state: &State, mark: Option<Mark>, input: &[u8], out: &mut Vec<u8>) -> Option<Answer> {
    match mark {
        Some(Mark::Poison) => {
            // FastAPI's words, with its habit of echoing what it was sent.
            out.extend_from_slice(
                b"{\"detail\":[{\"type\":\"value_error\",\"loc\":[\"body\",\"input\"],\"msg\":\"the mock was poisoned\",\"input\":",
            );
            out.extend_from_slice(input);
            out.extend_from_slice(b"}]}");
            Some(Answer::Now(Plain::json(400)))
        }
        Some(Mark::TooMany) => {
            error(out, 429, "rate_limit_error", "the mock was told to refuse");
            let fields = b"content-type: application/json\r\nretry-after: 1\r\n";
            Some(Answer::Now(Plain { status: 429, fields }))
        }
        Some(Mark::Unavailable) => Some(error(out, 503, "server_error", "the mock was told to be unavailable")),
        Some(Mark::Broken) => Some(error(out, 500, "server_error", "the mock was told to break")),
        Some(Mark::Stall) => Some(Answer::Never),
        Some(Mark::CloseMidBody | Mark::WrongCount | Mark::Reversed) | None if unlucky(state) => {
            Some(error(out, 503, "server_error", "the mock fails some calls at random"))
        }
        Some(Mark::CloseMidBody | Mark::WrongCount | Mark::Reversed) | None => None,
    }
}

/// An error in `OpenAI`'s envelope.
pub(super) fn error(out: &mut Vec<u8>, status: u16, kind: &str, message: &str) -> Answer {
    out.extend_from_slice(b"{\"error\":{\"message\":\"");
    // Constant texts without anything to escape.
    out.extend_from_slice(message.as_bytes());
    out.extend_from_slice(b"\",\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"param\":null,\"code\":");
    number(out, u64::from(status));
    out.extend_from_slice(b"}}");
    Answer::Now(Plain::json(status))
}

pub(super) fn number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// One draw of the configured error rate.
fn unlucky(state: &State) -> bool {
    if state.config.error_rate <= 0.0 {
        return false;
    }
    let draw = state.draws.get();
    add(&state.draws, 1);
    // 32 bits make an exact double.
    let high = u32::try_from(splitmix64(state.config.seed.wrapping_add(draw.wrapping_mul(DRAW_STEP))) >> 32).unwrap_or(0);
    f64::from(high) / 4_294_967_296.0 < state.config.error_rate
}

const DRAW_STEP: u64 = 0x9e37_79b9_7f4a_7c15;
