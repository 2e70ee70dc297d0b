//! Request targets and Host values (rules 6 to 8): which form a target has, whether its bytes are allowed, and what is
//! forwarded of it. The decision and the forwarding use the very same bytes: nothing is normalised, `plain` says whether a
//! router may want to refuse. Routing itself is `policy`.

use std::net::Ipv6Addr;

use super::head::{HeadError, Method};
use crate::sys::Span;

/// A checked target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Target {
    /// Origin form, or `*`.
    pub(super) target: Span,
    /// `target` without the query.
    pub(super) path: Span,
    /// Only from an absolute form.
    pub(super) authority: Option<Span>,
    /// See `RequestHead::path_plain`.
    pub(super) plain: bool,
}

/// Checks the target at `span` of `buffer`.
pub(super) fn read(buffer: &[u8], span: Span, method: Method) -> Result<Target, HeadError> {
    let text = span.of(buffer);
    // httparse has refused controls, blanks and DEL.
    let seen = classes_in(text);
    if seen & HIGH != 0 {
        return Err(HeadError::bad("target_byte"));
    }
    if seen & FRAGMENT != 0 {
        return Err(HeadError::bad("target_fragment"));
    }
    match text {
        [b'/', ..] => origin(buffer, span, None, seen),
        b"*" if method == Method::Options => Ok(Target { target: span, path: span, authority: None, plain: true }),
        _ => absolute(buffer, span),
    }
}

/// `seen` is what [`classes_in`] says of the target.
fn origin(buffer: &[u8], target: Span, authority: Option<Span>, seen: u8) -> Result<Target, HeadError> {
    let text = target.of(buffer);
    let path_len = if seen & QUERY == 0 { text.len() } else { memchr::memchr(b'?', text).unwrap_or(text.len()) };
    if seen & PERCENT != 0 {
        check_percents(text, path_len)?;
    }
    let start = target.range().start;
    let path = Span::new(start..start + path_len);
    // What is odd may stand in the query.
    let plain = seen & NOT_PLAIN == 0 || classes_in(path.of(buffer)) & NOT_PLAIN == 0;
    Ok(Target { target, path, authority, plain })
}

/// Every `%` has two hex digits behind it, and none in the path hides NUL, CR or LF.
fn check_percents(text: &[u8], path_len: usize) -> Result<(), HeadError> {
    for at in memchr::memchr_iter(b'%', text) {
        let Some(&[high, low]) = text.get(at + 1..at + 3) else { return Err(HeadError::bad("target_percent")) };
        if !high.is_ascii_hexdigit() || !low.is_ascii_hexdigit() {
            return Err(HeadError::bad("target_percent"));
        }
        if at < path_len && high == b'0' && matches!(low, b'0' | b'a' | b'A' | b'd' | b'D') {
            return Err(HeadError::bad("target_control"));
        }
    }
    Ok(())
}

/// Which of the byte classes below occur, and whether a segment begins with `/` or a dot: one pass without branches, for most targets
/// have nothing of it.
fn classes_in(text: &[u8]) -> u8 {
    let mut after_slash = 0;
    text.iter().fold(0, |seen, &byte| {
        let class = CLASS[usize::from(byte)];
        // A slash's bit moved to the place of the dot's (which slashes have too): both there is an odd segment.
        let pair = after_slash & class;
        after_slash = (class & SLASH) >> 1;
        seen | (class & !(SLASH | DOT)) | pair
    })
}

const QUERY: u8 = 1;
const PERCENT: u8 = 2;
const FRAGMENT: u8 = 4;
const HIGH: u8 = 8;
/// Bytes that some servers read as more than themselves in a path.
const ODD: u8 = 16;
/// In what [`classes_in`] says: an odd segment. In the table: `.` and `/`.
const DOT: u8 = 32;
const SLASH: u8 = 64;
const NOT_PLAIN: u8 = PERCENT | ODD | DOT;
const CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut at = 0x80;
    while at < 256 {
        class[at] = HIGH;
        at += 1;
    }
    class[b'?' as usize] = QUERY;
    class[b'%' as usize] = PERCENT;
    class[b'#' as usize] = FRAGMENT;
    class[b';' as usize] = ODD;
    class[b'\\' as usize] = ODD;
    class[b'.' as usize] = DOT;
    class[b'/' as usize] = DOT | SLASH;
    class
};

/// `http://authority/path?query`, scheme in any case.
fn absolute(buffer: &[u8], span: Span) -> Result<Target, HeadError> {
    let text = span.of(buffer);
    let scheme_len = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
        .map(<[u8]>::len)
        .ok_or(HeadError::bad("target_form"))?;
    let rest = &text[scheme_len..];
    let authority_len = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let begin = span.range().start + scheme_len;
    let authority = Span::new(begin..begin + authority_len);
    if !host_is_valid(authority.of(buffer)) {
        return Err(HeadError::bad("target_authority"));
    }
    let target = match rest.get(authority_len) {
        Some(b'/') => Span::new(begin + authority_len..span.end()),
        // An empty path means `/`: the scheme's last slash is such a byte, so the span stays one into the buffer.
        None => Span::new(begin - 1..begin),
        // `http://h?q` would need a `/` in front that is not there; nobody sends it.
        Some(_) => return Err(HeadError::bad("target_without_path")),
    };
    origin(buffer, target, Some(authority), classes_in(target.of(buffer)))
}

/// A Host value or authority: a non-empty reg-name, IPv4 or `[IPv6]`, with an optional port 0-65535. No user info, no comma.
pub(super) fn host_is_valid(host: &[u8]) -> bool {
    let (name_valid, port) = if let [b'[', rest @ ..] = host {
        let Some(end) = memchr::memchr(b']', rest) else { return false };
        let address = std::str::from_utf8(&rest[..end]).ok().and_then(|text| text.parse::<Ipv6Addr>().ok());
        (address.is_some(), &rest[end + 1..])
    } else {
        let end = memchr::memchr(b':', host).unwrap_or(host.len());
        (reg_name_is_valid(&host[..end]), &host[end..])
    };
    name_valid && port_is_valid(port)
}

/// RFC 3986 3.2.2, less the comma (rule 6), and without encoded blanks and controls.
fn reg_name_is_valid(name: &[u8]) -> bool {
    // Nearly every name is of these alone.
    if !name.is_empty() && name.iter().fold(true, |plain, byte| plain & (byte.is_ascii_alphanumeric() | matches!(byte, b'-' | b'.'))) {
        return true;
    }
    let mut rest = name;
    loop {
        rest = match rest {
            [] => return !name.is_empty(),
            [b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~', rest @ ..]
            | [b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=', rest @ ..] => rest,
            [b'%', b'0' | b'1', ..] | [b'%', b'2', b'0', ..] | [b'%', b'7', b'f' | b'F', ..] => return false,
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest,
            _ => return false,
        };
    }
}

/// Nothing, or `:` and 1 to 5 digits that are at most 65535.
fn port_is_valid(port: &[u8]) -> bool {
    match port {
        [] => true,
        [b':', digits @ ..] if (1..=5).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit) => {
            digits.iter().fold(0_u32, |sum, digit| sum * 10 + u32::from(digit - b'0')) <= 65535
        }
        _ => false,
    }
}
