//! Writes HTTP/1.1: what leaves is written from the parsed message with its own framing (rule 14), never copied lines. Nothing
//! here allocates besides growing `out`. Which edits apply (trust, credentials, ids) is the caller's knowledge.

use std::net::IpAddr;
use std::ops::Range;

use super::head::{Field, Framing, Method, Version};
use super::known::Known;
use super::request::RequestHead;
use super::response::ResponseHead;
use super::status::reason_phrase;

/// Ends a chunk's data.
pub const CHUNK_END: &[u8] = b"\r\n";
/// Ends a chunked body, without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// The interim answer to `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What the gateway changes in a request on its way up.
#[derive(Clone, Copy, Debug)]
pub struct RequestEdit<'a> {
    /// How the body will be sent, which need not be how it came. `UntilClose` does not exist for requests.
    pub framing: Framing,
    /// The peer's address in its canonical text (an IPv4 one is never written as IPv6); empty on a Unix socket.
    pub client_addr: &'a str,
    /// `http` or `https`: what the client spoke to us.
    pub proto: &'a str,
    /// The peer is a trusted proxy: its identity fields are kept and ours are added. Else they are removed and ours written.
    pub trust_forwarded: bool,
    /// Written as `x-request-id` when the client sent none or an insane one; empty writes none.
    pub request_id: &'a [u8],
    /// Send `authorization` and API keys of the client on.
    pub forward_authorization: bool,
    /// Also remove `x-headrace-coalesce`. Every other `x-headrace-*` is always removed.
    pub strip_coalesce: bool,
}

/// What the gateway changes in a response on its way down.
#[derive(Clone, Copy, Debug)]
pub struct ResponseEdit<'a> {
    /// How the body will be sent: take it from [`framing_for_client`], or `Length` for a body that was changed.
    pub framing: Framing,
    /// The connection ends after this answer. `UntilClose`, and `Chunked` to a 1.0 client, imply it.
    pub close: bool,
    /// A 1.0 client gets no chunks: the caller sends bare data and closes. It is told when the connection stays.
    pub client_version: Version,
    /// Lines of our own; a field of the same name from upstream is left out.
    pub extra: &'a [(&'a str, &'a [u8])],
}

/// A client's address for [`RequestEdit::client_addr`]: an IPv4 address that came through an IPv6 socket is written as IPv4.
#[must_use]
pub fn client_addr_text(addr: IpAddr) -> String {
    addr.to_canonical().to_string()
}

/// How an upstream's body is sent on: a body that ends with its connection is chunked anew, so that a cut shows (rule 24);
/// a 1.0 client reads to the close instead of chunks.
#[must_use]
pub const fn framing_for_client(upstream: Framing, client: Version) -> Framing {
    match (upstream, client) {
        (Framing::Chunked | Framing::UntilClose, Version::Http11) => Framing::Chunked,
        (Framing::Chunked | Framing::UntilClose, Version::Http10) => Framing::UntilClose,
        (framing, _) => framing,
    }
}

/// The request line and Host, for the endpoint `authority`: `POST /x HTTP/1.1\r\nhost: a\r\n`.
pub fn write_request_line(out: &mut Vec<u8>, head: &RequestHead, buffer: &[u8], authority: &str) {
    let (method, target) = (head.method_span.of(buffer), head.target.of(buffer));
    out.reserve(method.len() + target.len() + authority.len() + 20);
    out.extend_from_slice(method);
    out.push(b' ');
    out.extend_from_slice(target);
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    out.extend_from_slice(authority.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The rest of a request's head: the end-to-end fields, ours, the framing field, the empty line. No Host: a coalesced job is
/// rendered before its endpoint is known.
pub fn write_request_fields(out: &mut Vec<u8>, head: &RequestHead, buffer: &[u8], edit: &RequestEdit<'_>) {
    let client_request_id = head.request_id(buffer).is_some();
    let mut lines = Lines::new(buffer);
    for field in &head.fields {
        let keep = match field.known {
            known if known.is_hop_by_hop() => false,
            Known::Host | Known::Expect | Known::Headrace => false,
            Known::HeadraceCoalesce => !edit.strip_coalesce,
            // Ours joins theirs in one line below.
            Known::XForwardedFor => edit.trust_forwarded && edit.client_addr.is_empty(),
            known if known.is_identity() => edit.trust_forwarded,
            known if known.is_credential() => edit.forward_authorization,
            Known::XRequestId => client_request_id,
            _ => true,
        };
        if keep {
            lines.push(out, field);
        }
    }
    lines.finish(out);
    write_identity(out, head, buffer, edit);
    if !client_request_id && !edit.request_id.is_empty() {
        push_field(out, b"x-request-id", edit.request_id);
    }
    match edit.framing {
        Framing::Length(len) => push_length(out, len),
        Framing::Chunked => out.extend_from_slice(CHUNKED_LINE),
        // Methods that mean a body say that theirs is empty (RFC 9110 8.6), else some servers answer 411.
        Framing::None | Framing::UntilClose if matches!(head.method, Method::Post | Method::Put | Method::Patch) => push_length(out, 0),
        Framing::None | Framing::UntilClose => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// A response's head as it goes to the client.
pub fn write_response_head(out: &mut Vec<u8>, head: &ResponseHead, buffer: &[u8], edit: &ResponseEdit<'_>) {
    push_status_line(out, head.status, head.reason.of(buffer));
    let mut lines = Lines::new(buffer);
    for field in &head.fields {
        let replaced = || edit.extra.iter().any(|(extra, _)| extra.as_bytes().eq_ignore_ascii_case(field.name.of(buffer)));
        if goes_down(field) && !replaced() {
            lines.push(out, field);
        }
    }
    lines.finish(out);
    for (name, value) in edit.extra {
        push_field(out, name.as_bytes(), value);
    }
    if head.is_interim() {
        out.extend_from_slice(b"\r\n");
        return;
    }
    let mut close = edit.close;
    match edit.framing {
        Framing::Length(len) if head.status != 204 => push_length(out, len),
        Framing::Chunked if edit.client_version == Version::Http11 => out.extend_from_slice(CHUNKED_LINE),
        Framing::Chunked | Framing::UntilClose => close = true,
        Framing::None | Framing::Length(_) => {
            if let Some(len) = head.declared_length.filter(|_| head.status != 204) {
                push_length(out, len);
            }
        }
    }
    push_connection(out, close, edit.client_version);
    out.extend_from_slice(b"\r\n");
}

/// The fields of an answer that go further than one hop, as `name: value\r\n` lines: how an upstream's answer is carried
/// across shards. Framing, hop-by-hop fields, those named in `Connection` and `x-headrace-*` stay behind.
pub fn write_end_to_end_fields(out: &mut Vec<u8>, fields: &[Field], buffer: &[u8]) {
    let mut lines = Lines::new(buffer);
    for field in fields.iter().filter(|field| goes_down(field)) {
        lines.push(out, field);
    }
    lines.finish(out);
}

/// Writes fields one after the other. Those that stand in the buffer just as they would be written, one behind the other, are copied in
/// one piece: the bytes are the same, the copies fewer.
struct Lines<'a> {
    buffer: &'a [u8],
    /// Lines that are still to be copied.
    run: Range<usize>,
}

impl<'a> Lines<'a> {
    fn new(buffer: &'a [u8]) -> Lines<'a> {
        Lines { buffer, run: 0..0 }
    }

    fn push(&mut self, out: &mut Vec<u8>, field: &Field) {
        let (start, end) = (field.name.range().start, field.value.end() + 2);
        let clean = field.value.range().start == field.name.end() + 2
            && self.buffer.get(field.name.end()..field.name.end() + 2) == Some(b": ")
            && self.buffer.get(field.value.end()..end) == Some(b"\r\n");
        if clean && self.run.end == start {
            self.run.end = end;
            return;
        }
        self.flush(out);
        if clean {
            self.run = start..end;
        } else {
            push_field(out, field.name.of(self.buffer), field.value.of(self.buffer));
        }
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.buffer.get(std::mem::take(&mut self.run)).unwrap_or_default());
    }

    fn finish(mut self, out: &mut Vec<u8>) {
        self.flush(out);
    }
}

/// The head of an answer that the gateway makes itself or cut from a batch. `fields` are rendered lines. To a 1.0 client say
/// `close`.
pub fn write_own_response(out: &mut Vec<u8>, status: u16, fields: &[u8], body_len: u64, close: bool) {
    out.reserve(fields.len() + 96);
    push_status_line(out, status, reason_phrase(status).as_bytes());
    out.extend_from_slice(fields);
    if !matches!(status, 100..=199 | 204 | 304) {
        push_length(out, body_len);
    }
    push_connection(out, close, Version::Http11);
    out.extend_from_slice(b"\r\n");
}

/// The size line of a chunk of `len` bytes. A chunk of 0 bytes would end the body, so it writes nothing.
pub fn write_chunk_header(out: &mut Vec<u8>, len: usize) {
    if len == 0 {
        return;
    }
    let digit_count = len.ilog2() / 4 + 1;
    for place in (0..digit_count).rev() {
        out.push(HEX[(len >> (4 * place)) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Who the client is, in our words, behind what a trusted proxy said.
fn write_identity(out: &mut Vec<u8>, head: &RequestHead, buffer: &[u8], edit: &RequestEdit<'_>) {
    let said = |known: Known| edit.trust_forwarded && head.field(known).is_some();
    if !edit.client_addr.is_empty() {
        out.extend_from_slice(b"x-forwarded-for: ");
        for field in head.fields.iter().filter(|field| edit.trust_forwarded && field.known == Known::XForwardedFor) {
            out.extend_from_slice(field.value.of(buffer));
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(edit.client_addr.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if !edit.proto.is_empty() && !said(Known::XForwardedProto) {
        push_field(out, b"x-forwarded-proto", edit.proto.as_bytes());
    }
    if let Some(host) = head.host.filter(|_| !said(Known::XForwardedHost)) {
        push_field(out, b"x-forwarded-host", host.of(buffer));
    }
}

/// Whether a response's field goes to the client. The gateway's own marks are its own: an upstream must not be able to set
/// them.
const fn goes_down(field: &Field) -> bool {
    !field.known.is_hop_by_hop() && !matches!(field.known, Known::Headrace | Known::HeadraceCoalesce)
}

fn push_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn push_length(out: &mut Vec<u8>, len: u64) {
    push_field(out, b"content-length", itoa::Buffer::new().format(len).as_bytes());
}

fn push_status_line(out: &mut Vec<u8>, status: u16, reason: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
}

fn push_connection(out: &mut Vec<u8>, close: bool, client: Version) {
    if close {
        out.extend_from_slice(b"connection: close\r\n");
    } else if client == Version::Http10 {
        out.extend_from_slice(b"connection: keep-alive\r\n");
    }
}

const CHUNKED_LINE: &[u8] = b"transfer-encoding: chunked\r\n";
const HEX: &[u8; 16] = b"0123456789abcdef";
