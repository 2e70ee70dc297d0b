//! Requests: one validating pass that finds the fields (our own for plain bodies, `serde_json` with `&RawValue` for all others and
//! for every refusal), then a walk over the bytes that were proved to be JSON. What the fields mean to routing or batching is decided
//! elsewhere.

use super::members::{members, members_in, slice_in};
use super::walk::Walk;
use super::{DEPTH_MAX, ITEMS_MAX, ScanError};
use crate::sys::Span;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use smallvec::SmallVec;
use std::borrow::Cow;

/// A model name as it stands in the body: the raw text between the quotes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Model {
    /// Without the quotes.
    pub span: Span,
    /// The text holds backslash escapes: compare with [`Model::is`], not byte by byte.
    pub escaped: bool,
}

impl Model {
    /// The name as text; borrowed unless it holds escapes. `body` is the one it was scanned from.
    #[must_use]
    pub fn decode(self, body: &[u8]) -> Cow<'_, str> {
        self.decode_raw(self.span.of(body))
    }

    /// The same of a body in pieces; empty when the name lies across two, which [`scan_model_in`] does not return.
    #[must_use]
    pub fn decode_in<'a>(self, pieces: &[&'a [u8]]) -> Cow<'a, str> {
        self.decode_raw(slice_in(pieces, self.span).unwrap_or_default())
    }

    fn decode_raw(self, raw: &[u8]) -> Cow<'_, str> {
        if !self.escaped {
            return String::from_utf8_lossy(raw);
        }
        let mut quoted = Vec::with_capacity(raw.len() + 2);
        quoted.push(b'"');
        quoted.extend_from_slice(raw);
        quoted.push(b'"');
        // A lone surrogate is JSON but not text: it names no model, so the raw spelling serves as well as any.
        serde_json::from_slice::<String>(&quoted).map_or_else(|_| String::from_utf8_lossy(raw), Cow::Owned)
    }

    /// Whether the body asks for the model called `name`.
    #[must_use]
    pub fn is(self, body: &[u8], name: &str) -> bool {
        if self.escaped { self.decode(body) == name } else { self.span.of(body) == name.as_bytes() }
    }
}

/// What routing needs of a model call's body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ModelRequest {
    pub model: Option<Model>,
    /// `"stream": true`.
    pub stream: bool,
}

/// What an item of an embeddings request is. Texts and tokens are never merged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ItemKind {
    Text,
    /// An array of token numbers.
    Tokens,
}

/// Item spans; one item, the usual case, needs no allocation.
pub type Items = SmallVec<[Span; 1]>;

/// An embeddings request cut into items. All spans lie in the scanned body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EmbeddingsRequest {
    pub model: Option<Model>,
    /// The whole value of `input`; what stands before and after it is part of the lane key.
    pub input: Span,
    /// The values that become elements of a merged `input` array. Empty when not mergeable.
    pub items: Items,
    pub kind: ItemKind,
    /// Why the request cannot share a call and goes upstream alone, unchanged; `None` when it can.
    pub solo: Option<&'static str>,
}

impl EmbeddingsRequest {
    /// Whether its items may share a call with other requests' items.
    #[must_use]
    pub const fn mergeable(&self) -> bool {
        self.solo.is_none()
    }
}

/// Finds the model and the stream flag of any model call's body.
///
/// # Errors
/// When the body is not a JSON object, names a field twice, nests deeper than [`DEPTH_MAX`], or the model is not a string.
pub fn scan_model(body: &[u8]) -> Result<ModelRequest, ScanError> {
    let [model, stream] = match members(body, [b"model", b"stream"]) {
        Some(found) => found,
        None => {
            let fields: ModelFields<'_> = parse(body)?;
            [fields.model, fields.stream].map(|raw| raw.map(|raw| span_of(body, raw.get().as_bytes())))
        }
    };
    let model = model.map(|value| model_of(value.of(body), value)).transpose()?;
    Ok(ModelRequest { model, stream: stream.is_some_and(|value| value.of(body) == b"true") })
}

/// As [`scan_model`], for a body in several pieces. `None`: not plain; put the pieces together and ask that.
///
/// # Errors
/// When the model is not a string.
#[must_use]
pub fn scan_model_in(pieces: &[&[u8]]) -> Option<Result<ModelRequest, ScanError>> {
    let [model, stream] = members_in(pieces, [b"model", b"stream"])?;
    let stream = stream.is_some_and(|value| slice_in(pieces, value) == Some(b"true"));
    let model = match model {
        Some(value) => Some(model_of(slice_in(pieces, value)?, value)),
        None => None,
    };
    Some(model.transpose().map(|model| ModelRequest { model, stream }))
}

/// The tokens a request lets the model write, by whichever of the dialects' names, from a body in one piece or several; `None` when it names none, or the body is not plain
/// JSON. For estimates only: nothing is validated.
#[must_use]
pub fn scan_output_tokens(pieces: &[&[u8]]) -> Option<u64> {
    let found = members_in(pieces, [b"max_tokens", b"max_completion_tokens", b"max_output_tokens"])?;
    found.into_iter().flatten().find_map(|value| std::str::from_utf8(slice_in(pieces, value)?).ok()?.parse().ok())
}

/// Cuts an `OpenAI` embeddings request into items: `"a"` is one text, `["a","b"]` two, `[1,2]` one list of tokens,
/// `[[1],[2,3]]` two.
///
/// # Errors
/// As [`scan_model`], and when there is no `input`. An `input` of a shape that cannot be merged is no error: see
/// [`EmbeddingsRequest::solo`].
pub fn scan_embeddings(body: &[u8]) -> Result<EmbeddingsRequest, ScanError> {
    let [model, input] = match members(body, [b"model", b"input"]) {
        Some(found) => found,
        None => {
            let fields: EmbeddingsFields<'_> = parse(body)?;
            [fields.model, fields.input].map(|raw| raw.map(|raw| span_of(body, raw.get().as_bytes())))
        }
    };
    let model = model.map(|value| model_of(value.of(body), value)).transpose()?;
    let Some(input) = input else {
        return Err(ScanError { reason: "input_missing", message: "the body has no `input`", at: body.len() });
    };
    let mut request = EmbeddingsRequest { model, input, items: Items::new(), kind: ItemKind::Text, solo: None };
    match cut_items(body, input, &mut request.items) {
        Ok(kind) => request.kind = kind,
        Err(reason) => {
            request.items.clear();
            request.solo = Some(reason);
        }
    }
    Ok(request)
}

/// Fills `items` from the value at `input`; the error is the reason why it stays whole.
fn cut_items(body: &[u8], input: Span, items: &mut Items) -> Result<ItemKind, &'static str> {
    match body.get(input.start as usize) {
        Some(b'"') => {
            if input.len == 2 {
                return Err("empty_text");
            }
            items.push(input);
            return Ok(ItemKind::Text);
        }
        Some(b'[') => {}
        _ => return Err("input_shape"),
    }
    let mut walk = Walk::new(body, input.start as usize + 1);
    let mut kind = None;
    let mut whole = true;
    while let Some(element) = walk.next_element().map_err(|_| "input_shape")? {
        if items.len() == ITEMS_MAX {
            return Err("too_many_items");
        }
        let this = Element::of(element.of(body)).ok_or("input_shape")?;
        if *kind.get_or_insert(this) != this {
            return Err("mixed_input");
        }
        whole &= this == Element::Token;
        if !whole {
            items.push(element);
        }
    }
    match kind {
        None => Err("empty_input"),
        Some(Element::Text) => Ok(ItemKind::Text),
        Some(Element::Tokens) => Ok(ItemKind::Tokens),
        Some(Element::Token) => {
            items.push(input);
            Ok(ItemKind::Tokens)
        }
    }
}

/// What one element of an `input` array is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Element {
    Text,
    /// `[1,2]` inside the array: an item.
    Tokens,
    /// A number: the array itself is the item.
    Token,
}

impl Element {
    fn of(value: &[u8]) -> Option<Element> {
        match value {
            [b'"', b'"'] => None,
            [b'"', ..] => Some(Element::Text),
            [b'[', inner @ .., b']'] => {
                // A fold, not `all`: without the early way out the compiler takes many bytes at once.
                let plain =
                    inner.iter().fold(true, |plain, byte| plain & matches!(byte, b'0'..=b'9' | b',' | b' ' | b'\t' | b'\r' | b'\n'));
                let some = inner.iter().any(u8::is_ascii_digit);
                (plain && some).then_some(Element::Tokens)
            }
            digits if digits.iter().all(u8::is_ascii_digit) => Some(Element::Token),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct ModelFields<'a> {
    #[serde(default, borrow, deserialize_with = "present")]
    model: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "present")]
    stream: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct EmbeddingsFields<'a> {
    #[serde(default, borrow, deserialize_with = "present")]
    model: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "present")]
    input: Option<&'a RawValue>,
}

/// A field that is there, `null` included: serde would read `null` as absent, and `"model": null` names no model.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Validates the whole body and borrows the fields of `T`. A field named twice is an error: gateway and server might pick
/// different ones.
fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ScanError> {
    // Derived structs also accept an array of their fields.
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(ScanError { reason: "not_an_object", message: "the body is not a JSON object", at: 0 });
    }
    check_depth(body)?;
    serde_json::from_slice(body).map_err(|error| {
        let at = offset_of(body, error.line(), error.column());
        if error.is_data() {
            ScanError { reason: "duplicate_field", message: "a field is named twice", at }
        } else {
            ScanError { reason: "not_json", message: "the body is not JSON", at }
        }
    })
}

fn check_depth(body: &[u8]) -> Result<(), ScanError> {
    // As many opening brackets as the bound allows cannot nest deeper than it; few bodies need the slow count.
    if memchr::memchr2_iter(b'[', b'{', body).nth(DEPTH_MAX as usize).is_none() {
        return Ok(());
    }
    let mut depth = 0u32;
    let mut at = 0;
    while let Some(&byte) = body.get(at) {
        match byte {
            b'"' => at = super::walk::string_end(body, at).unwrap_or(body.len()) - 1,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return Err(ScanError { reason: "too_deep", message: "the body nests too deep", at });
        }
        at += 1;
    }
    Ok(())
}

/// `text` is what lies at `whole`.
fn model_of(text: &[u8], whole: Span) -> Result<Model, ScanError> {
    if text.first() != Some(&b'"') {
        return Err(ScanError { reason: "model_not_a_string", message: "`model` is not a string", at: whole.start as usize });
    }
    let span = Span { start: whole.start + 1, len: whole.len - 2 };
    Ok(Model { span, escaped: memchr::memchr(b'\\', text).is_some() })
}

/// Where `part`, a slice of `body`, lies in it.
fn span_of(body: &[u8], part: &[u8]) -> Span {
    let start = part.as_ptr().addr().saturating_sub(body.as_ptr().addr());
    Span::new(start..start + part.len())
}

/// Byte offset of a line and column as `serde_json` counts them (lines from 1, columns in bytes).
fn offset_of(body: &[u8], line: usize, column: usize) -> usize {
    let start = match line {
        0 | 1 => 0,
        _ => memchr::memchr_iter(b'\n', body).nth(line - 2).map_or(0, |newline| newline + 1),
    };
    (start + column.saturating_sub(1)).min(body.len())
}
