//! `POST /v1/embeddings`: all four input forms, floats or base64, a vector per item from its bytes alone.

use std::borrow::Cow;

use super::answer::{Answer, Plain, error, fault, number};
use super::mark::Mark;
use super::{DIMS_MAX, State, write_base64, write_numbers};
use crate::json::{EmbeddingsRequest, ItemKind, scan_embeddings};

/// The fields that change an answer's form. Looked for only where the body names one.
#[derive(serde::Deserialize)]
struct Form {
    encoding_format: Option<String>,
    dimensions: Option<u32>,
}

pub(super) fn answer(state: &State, body: &[u8], out: &mut Vec<u8>) -> Answer {
    let request = match scan_embeddings(body) {
        Ok(request) => request,
        Err(reason) => return error(out, 400, "invalid_request_error", reason.message),
    };
    let input = request.input.of(body);
    let mark = Mark::find(input);
    if let Some(answer) = fault(state, mark, input, out) {
        return answer;
    }
    if request.items.is_empty() {
        return error(
            out,
            400,
            "invalid_request_error",
            "the mock takes a text, texts, a list of tokens, or lists of tokens, none of them empty",
        );
    }
    let items = u32::try_from(request.items.len()).unwrap_or(u32::MAX);
    if let Some(most) = state.config.max_batch.filter(|most| items > *most) {
        return over_batch(state, items, most, out);
    }
    let Some((dims, base64)) = form(state, body) else {
        return error(out, 400, "invalid_request_error", "encoding_format must be float or base64, dimensions 1 to 4096");
    };
    let count = request.items.len() - usize::from(mark == Some(Mark::WrongCount));
    if write_answer(state, &request, body, Writing { dims, base64, count, reversed: mark == Some(Mark::Reversed) }, out).is_none() {
        out.clear();
        return error(out, 400, "invalid_request_error", "a text of the input is not Unicode");
    }
    Answer::Computed { items, cut: mark == Some(Mark::CloseMidBody) }
}

/// How the answer is to be written.
#[derive(Clone, Copy)]
struct Writing {
    dims: u32,
    base64: bool,
    count: usize,
    reversed: bool,
}

/// `None` when an item cannot be decoded.
fn write_answer(state: &State, request: &EmbeddingsRequest, body: &[u8], form: Writing, out: &mut Vec<u8>) -> Option<()> {
    let mut tokens = 0;
    out.extend_from_slice(b"{\"object\":\"list\",\"data\":[");
    for at in 0..form.count {
        let index = if form.reversed { form.count - 1 - at } else { at };
        let raw = request.items[index].of(body);
        let item = item_bytes(raw, request.kind)?;
        tokens += token_count(&item, request.kind);
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"object\":\"embedding\",\"index\":");
        number(out, index as u64);
        out.extend_from_slice(b",\"embedding\":");
        if form.base64 {
            write_base64(out, &item, form.dims);
        } else {
            write_numbers(out, &item, form.dims);
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"],\"model\":");
    out.extend_from_slice(&state.name_json);
    out.extend_from_slice(b",\"usage\":{\"prompt_tokens\":");
    number(out, tokens);
    out.extend_from_slice(b",\"total_tokens\":");
    number(out, tokens);
    out.extend_from_slice(b"}}");
    Some(())
}

/// The bytes a vector is made of: the decoded text, or the compact list of tokens. `None` when the text has half a surrogate pair.
fn item_bytes(raw: &[u8], kind: ItemKind) -> Option<Cow<'_, [u8]>> {
    match kind {
        ItemKind::Text if memchr::memchr(b'\\', raw).is_none() => raw.get(1..raw.len() - 1).map(Cow::Borrowed),
        ItemKind::Text => serde_json::from_slice::<String>(raw).ok().map(|text| Cow::Owned(text.into_bytes())),
        ItemKind::Tokens if raw.iter().any(u8::is_ascii_whitespace) => {
            Some(Cow::Owned(raw.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect()))
        }
        ItemKind::Tokens => Some(Cow::Borrowed(raw)),
    }
}

/// The mock's idea of a token: a byte of text, or one of the tokens it was given.
fn token_count(item: &[u8], kind: ItemKind) -> u64 {
    match kind {
        ItemKind::Text => item.len() as u64,
        ItemKind::Tokens => 1 + memchr::memchr_iter(b',', item).count() as u64,
    }
}

/// Dimensions and whether base64 is wanted; `None` when what was asked for cannot be.
fn form(state: &State, body: &[u8]) -> Option<(u32, bool)> {
    let names = |field: &[u8]| memchr::memmem::find(body, field).is_some();
    if !names(b"\"encoding_format\"") && !names(b"\"dimensions\"") {
        return Some((state.config.dims, false));
    }
    let form: Form = serde_json::from_slice(body).ok()?;
    let dims = form.dimensions.unwrap_or(state.config.dims);
    let base64 = match form.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return None,
    };
    (1..=DIMS_MAX).contains(&dims).then_some((dims, base64))
}

/// In the words of text-embeddings-inference (`router/src/http/server.rs`), on its `OpenAI` path.
fn over_batch(state: &State, items: u32, most: u32, out: &mut Vec<u8>) -> Answer {
    let status = state.config.over_batch_status;
    out.extend_from_slice(b"{\"message\":\"batch size ");
    number(out, u64::from(items));
    out.extend_from_slice(b" > maximum allowed batch size ");
    number(out, u64::from(most));
    out.extend_from_slice(b"\",\"code\":");
    number(out, u64::from(status));
    out.extend_from_slice(b",\"type\":\"validation\"}");
    Answer::Now(Plain::json(status))
}
