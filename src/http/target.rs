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
    if text.iter().fold(false, |bad, &byte| bad | (byte >= 0x80)) {
        return Err(HeadError::bad("target_byte"));
    }
    if memchr::memchr(b'#', text).is_some() {
        return Err(HeadError::bad("target_fragment"));
    }
    match text {
        [b'/', ..] => origin(buffer, span, None),
        b"*" if method == Method::Options => Ok(Target { target: span, path: span, authority: None, plain: true }),
        _ => absolute(buffer, span),
    }
}

fn origin(buffer: &[u8], target: Span, authority: Option<Span>) -> Result<Target, HeadError> {
    let text = target.of(buffer);
    let path_len = memchr::memchr(b'?', text).unwrap_or(text.len());
    let path = Span::new(target.range().start..target.range().start + path_len);
    let path_bytes = path.of(buffer);
    for at in memchr::memchr_iter(b'%', text) {
        let Some(&[high, low]) = text.get(at + 1..at + 3) else { return Err(HeadError::bad("target_percent")) };
        if !high.is_ascii_hexdigit() || !low.is_ascii_hexdigit() {
            return Err(HeadError::bad("target_percent"));
        }
        if at < path_len && high == b'0' && matches!(low, b'0' | b'a' | b'A' | b'd' | b'D') {
            return Err(HeadError::bad("target_control"));
        }
    }
    let odd_byte = path_bytes.iter().any(|byte| matches!(byte, b'%' | b';' | b'\\'));
    let odd_segment = path_bytes.windows(2).any(|pair| matches!(pair, b"//" | b"/."));
    Ok(Target { target, path, authority, plain: !odd_byte && !odd_segment })
}

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
    origin(buffer, target, Some(authority))
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
