//! What request and response heads share: the small types, the limits, the error, and the step from httparse's lines to
//! [`Field`]s. Start lines are in `request` and `response`, the search for a head's end is in `scan`.

use std::mem::MaybeUninit;

use super::known::{Known, KnownSet};
use crate::sys::Span;

/// A request method; its text, case kept, is in `RequestHead::method_span`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Patch,
    Options,
    Connect,
    Trace,
    Other,
}

impl Method {
    pub(super) fn of(text: &[u8]) -> Method {
        match text {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"DELETE" => Method::Delete,
            b"PATCH" => Method::Patch,
            b"OPTIONS" => Method::Options,
            b"CONNECT" => Method::Connect,
            b"TRACE" => Method::Trace,
            _ => Method::Other,
        }
    }

    /// A request of this method may be sent again after a fault (RFC 9110 9.2.2).
    #[must_use]
    pub const fn is_idempotent(self) -> bool {
        matches!(self, Method::Get | Method::Head | Method::Put | Method::Delete | Method::Options | Method::Trace)
    }
}

/// The two versions that are spoken here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    Http10,
    Http11,
}

/// One field line, as places in the buffer the head was parsed from. The value is trimmed of blanks at both ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    pub name: Span,
    pub value: Span,
    pub known: Known,
}

/// How a message's body ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// No body follows the head.
    None,
    /// This many bytes follow.
    Length(u64),
    Chunked,
    /// The end of the connection is the end of the body; responses only.
    UntilClose,
}

/// Bounds on a head; each has its own status (rule 5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeadLimits {
    /// Longest request target in bytes; 414 beyond it.
    pub target_bytes: usize,
    /// Longest field, name to end of value, in bytes; 431 beyond it.
    pub field_bytes: usize,
    /// Longest head in bytes, empty line included; 431 beyond it.
    pub head_bytes: usize,
    /// Most fields; 431 beyond it. Never more than [`FIELDS_MAX`], whatever stands here.
    pub fields: usize,
}

impl Default for HeadLimits {
    fn default() -> HeadLimits {
        HeadLimits { target_bytes: 8 * 1024, field_bytes: 16 * 1024, head_bytes: 64 * 1024, fields: FIELDS_MAX }
    }
}

impl HeadLimits {
    /// For answers from upstream: the same, with room for a head of 1 MiB.
    #[must_use]
    pub fn answers() -> HeadLimits {
        HeadLimits { head_bytes: 1024 * 1024, ..HeadLimits::default() }
    }
}

/// Fields one head may have: httparse's line table lives on the stack, so the number is fixed (3.2 KiB, never initialised).
pub(super) const FIELDS_MAX: usize = 100;

/// What a call of `parse` found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parsed {
    /// The whole head is there and valid; `head_len` bytes of the buffer are used up.
    Complete,
    /// Nothing wrong so far; call again with more bytes appended and the same `scanned`.
    Partial,
}

/// Why a head is refused. The connection must be closed after it: where the next message starts is no longer known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeadError {
    /// What to answer a client (400, 405, 414, 417, 431, 501, 505), or 502 for an upstream's head.
    pub status: u16,
    /// Short and constant, for logs and labels.
    pub reason: &'static str,
}

impl HeadError {
    pub(super) const fn bad(reason: &'static str) -> HeadError {
        HeadError { status: 400, reason }
    }

    /// The same fault, seen in an upstream's head.
    pub(super) const fn upstream(self) -> HeadError {
        HeadError { status: 502, reason: self.reason }
    }
}

/// httparse's lines before they become [`Field`]s; uninitialised, so that a head of five fields pays for five.
pub(super) type Lines<'b> = [MaybeUninit<httparse::Header<'b>>; FIELDS_MAX];

pub(super) const fn lines<'b>() -> Lines<'b> {
    [const { MaybeUninit::uninit() }; FIELDS_MAX]
}

/// Where `part`, a slice of `buffer`, lies in it.
pub(super) fn span_of(buffer: &[u8], part: &[u8]) -> Span {
    let start = part.as_ptr().addr().saturating_sub(buffer.as_ptr().addr());
    Span::new(start..start + part.len())
}

/// Turns httparse's lines into classified fields; refuses what httparse lets pass (rules 4 and 5). `look_alike` tells the names
/// with `_` that are not let in.
pub(super) fn collect_fields(
    buffer: &[u8],
    lines: &[httparse::Header<'_>],
    limits: &HeadLimits,
    look_alike: fn(&[u8]) -> bool,
    fields: &mut Vec<Field>,
) -> Result<KnownSet, HeadError> {
    fields.clear();
    let mut seen = KnownSet::default();
    if lines.len() > limits.fields {
        return Err(HeadError { status: 431, reason: "too_many_fields" });
    }
    for line in lines {
        let name = span_of(buffer, line.name.as_bytes());
        let value = span_of(buffer, line.value);
        if value.end().saturating_sub(name.range().start) > limits.field_bytes {
            return Err(HeadError { status: 431, reason: "field_too_long" });
        }
        let known = Known::of(line.name.as_bytes());
        if known == Known::Other && look_alike(line.name.as_bytes()) {
            return Err(HeadError::bad("underscore_look_alike"));
        }
        seen = seen.with(known);
        fields.push(Field { name, value, known });
    }
    Ok(seen)
}

/// Whether every line of a head that httparse took ends in CRLF (httparse lets a bare LF pass). `head` is the head's bytes alone.
pub(super) fn lines_end_strictly(head: &[u8], lines: &[httparse::Header<'_>]) -> bool {
    let strict = |end: usize| end >= 2 && head.get(end - 2..end) == Some(b"\r\n");
    head.ends_with(b"\r\n\r\n") && lines.iter().all(|line| strict(span_of(head, line.name.as_bytes()).range().start))
}

/// The reason for a head that httparse refused; `head` is whole, so `Partial` cannot be the cause.
pub(super) fn line_error(head: &[u8], error: httparse::Error) -> HeadError {
    let folded = memchr::memchr_iter(b'\n', head).any(|end| matches!(head.get(end + 1), Some(b' ' | b'\t')));
    HeadError::bad(match error {
        _ if folded => "obs_fold",
        httparse::Error::TooManyHeaders => return HeadError { status: 431, reason: "too_many_fields" },
        httparse::Error::HeaderName => "field_name",
        httparse::Error::HeaderValue => "field_value",
        httparse::Error::NewLine => "line_end",
        httparse::Error::Status => "status_line",
        httparse::Error::Token => "request_line",
        httparse::Error::Version => "version",
    })
}

/// The first field of a class.
pub(super) fn first(fields: &[Field], known: Known) -> Option<Span> {
    fields.iter().find(|field| field.known == known).map(|field| field.value)
}

/// RFC 9110 5.6.2.
pub(super) const fn is_token_byte(byte: u8) -> bool {
    matches!(byte,
        b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z')
}

/// Blanks at both ends off; bytes from 0x80 are never blank.
pub(super) fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}
