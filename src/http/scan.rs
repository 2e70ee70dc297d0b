//! Finds the end of a head, and refuses on the way what must not wait for it: bare LF, empty lines in front, a first byte that
//! cannot start a message, a head past its limit. Each byte is looked at once however the bytes arrive, and the verdict
//! depends on the bytes alone, not on how they were cut.

use super::head::{HeadError, HeadLimits, is_token_byte};

/// The longest method (rule 2).
pub(super) const METHOD_BYTES_MAX: usize = 32;
/// What a request line has besides method and target: two blanks and `HTTP/1.1`.
const REQUEST_LINE_REST: usize = 10;

/// A whole head in the buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Found {
    /// Where the start line begins: 0, or 2 after one skipped empty line.
    pub(super) start: usize,
    /// Just past the empty line that ends the head.
    pub(super) end: usize,
}

/// Looks for the end of a request head; `None` when more bytes are needed.
pub(super) fn request_head(buffer: &[u8], scanned: &mut usize, limits: &HeadLimits) -> Result<Option<Found>, HeadError> {
    let start = match buffer {
        [] | [b'\r'] => return Ok(None),
        [b'\r', b'\n', ..] => 2,
        [b'\r', ..] => return Err(HeadError::bad("bare_cr")),
        _ => 0,
    };
    match buffer.get(start) {
        None => return Ok(None),
        Some(b'\r') if start == 2 => return Err(HeadError::bad("empty_lines")),
        Some(b'\n') => return Err(HeadError::bad("bare_lf")),
        // TLS, HTTP/2 frames and other noise end here at once instead of waiting for a line end that may never come.
        Some(&byte) if !is_token_byte(byte) => return Err(HeadError::bad("request_line")),
        Some(_) => {}
    }
    let end = end_of_head(buffer, start, scanned, limits.head_bytes)?;
    if end.is_none() && buffer.len() >= limits.head_bytes {
        return Err(too_long(buffer.get(start..limits.head_bytes).unwrap_or_default(), limits));
    }
    Ok(end.map(|end| Found { start, end }))
}

/// Looks for the end of a response head; nothing may stand before its status line.
pub(super) fn response_head(buffer: &[u8], scanned: &mut usize, limits: &HeadLimits) -> Result<Option<Found>, HeadError> {
    match buffer.first() {
        None => return Ok(None),
        Some(b'H') => {}
        Some(_) => return Err(HeadError::bad("status_line")),
    }
    let end = end_of_head(buffer, 0, scanned, limits.head_bytes)?;
    if end.is_none() && buffer.len() >= limits.head_bytes {
        return Err(HeadError { status: 431, reason: "head_too_long" });
    }
    Ok(end.map(|end| Found { start: 0, end }))
}

/// Goes from line end to line end, from where the last call stopped.
fn end_of_head(buffer: &[u8], start: usize, scanned: &mut usize, head_bytes: usize) -> Result<Option<usize>, HeadError> {
    let window = &buffer[..buffer.len().min(head_bytes)];
    let from = (*scanned).clamp(start, window.len().max(start));
    for at in memchr::memchr_iter(b'\n', window.get(from..).unwrap_or_default()).map(|at| from + at) {
        if at == 0 || window[at - 1] != b'\r' {
            return Err(HeadError::bad("bare_lf"));
        }
        if at >= start + 3 && window[at - 2] == b'\n' {
            *scanned = 0;
            return Ok(Some(at + 1));
        }
    }
    *scanned = window.len();
    Ok(None)
}

/// A head past its limit: a target that alone is too long has its own status.
fn too_long(head: &[u8], limits: &HeadLimits) -> HeadError {
    let longest = limits.target_bytes + METHOD_BYTES_MAX + REQUEST_LINE_REST;
    match memchr::memchr(b'\r', head) {
        Some(line) if line <= longest => HeadError { status: 431, reason: "head_too_long" },
        _ => HeadError { status: 414, reason: "target_too_long" },
    }
}
