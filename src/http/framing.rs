//! Decides how a message's body ends from its Content-Length and Transfer-Encoding fields (rules 9 to 11, 23, 24). A message
//! with two readings has none: it is refused.

use super::head::{Field, Framing, HeadError, Method, Version, is_token_byte};
use super::known::{Known, KnownSet};

/// The framing of a request.
pub(super) fn of_request(fields: &[Field], seen: KnownSet, buffer: &[u8], version: Version) -> Result<Framing, HeadError> {
    if !seen.may_have(Known::ContentLength) && !seen.may_have(Known::TransferEncoding) {
        return Ok(Framing::None);
    }
    let mut framing = Framing::None;
    for field in fields {
        match (field.known, framing) {
            (Known::ContentLength, Framing::None) => framing = Framing::Length(length(field.value.of(buffer))?),
            (Known::ContentLength, Framing::Length(_)) => return Err(HeadError::bad("two_lengths")),
            (Known::TransferEncoding, Framing::None) => framing = coding(field.value.of(buffer), version)?,
            (Known::TransferEncoding, Framing::Chunked) => return Err(HeadError::bad("two_codings")),
            (Known::ContentLength | Known::TransferEncoding, _) => return Err(HeadError::bad("length_and_coding")),
            _ => {}
        }
    }
    Ok(framing)
}

/// What a response's head says about its body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Answer {
    pub(super) framing: Framing,
    /// The length a bodyless answer (HEAD, 304) declares for the body it would have had.
    pub(super) declared_length: Option<u64>,
}

/// The framing of a response to a request of `method`.
pub(super) fn of_response(fields: &[Field], buffer: &[u8], version: Version, status: u16, method: Method) -> Result<Answer, HeadError> {
    let bodyless = matches!(status, 100..=199 | 204 | 304) || method == Method::Head || (method == Method::Connect && status < 300);
    if bodyless {
        return Ok(Answer { framing: Framing::None, declared_length: declared(fields, buffer) });
    }
    let mut framing = Framing::UntilClose;
    for field in fields {
        match (field.known, framing) {
            (Known::ContentLength, Framing::UntilClose) => framing = Framing::Length(length(field.value.of(buffer))?),
            (Known::ContentLength, Framing::Length(first)) if length(field.value.of(buffer))? == first => {}
            (Known::ContentLength, Framing::Length(_)) => return Err(HeadError::bad("two_lengths")),
            (Known::TransferEncoding, Framing::UntilClose) => framing = coding(field.value.of(buffer), version)?,
            (Known::TransferEncoding, Framing::Chunked) => return Err(HeadError::bad("two_codings")),
            (Known::ContentLength | Known::TransferEncoding, _) => return Err(HeadError::bad("length_and_coding")),
            _ => {}
        }
    }
    Ok(Answer { framing, declared_length: None })
}

/// No body follows, so bad framing fields are harmless here; a length is passed on only when it is one clean number.
fn declared(fields: &[Field], buffer: &[u8]) -> Option<u64> {
    let mut lengths = fields.iter().filter(|field| field.known == Known::ContentLength);
    let first = length(lengths.next()?.value.of(buffer)).ok()?;
    let coded = fields.iter().any(|field| field.known == Known::TransferEncoding);
    (!coded && lengths.all(|other| length(other.value.of(buffer)) == Ok(first))).then_some(first)
}

/// Content-Length: 1 to 19 digits and nothing else, at most 2^63-1.
fn length(value: &[u8]) -> Result<u64, HeadError> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return Err(HeadError::bad("content_length"));
    }
    // Nineteen digits fit in a u64, so this cannot overflow; the signed bound is what every peer can hold.
    let length = value.iter().fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    if i64::try_from(length).is_err() {
        return Err(HeadError::bad("content_length"));
    }
    Ok(length)
}

/// Transfer-Encoding: `chunked` alone. Another single coding is well formed but unknown, hence 501.
fn coding(value: &[u8], version: Version) -> Result<Framing, HeadError> {
    if version == Version::Http10 {
        return Err(HeadError::bad("coding_in_http10"));
    }
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(Framing::Chunked);
    }
    let unknown = !value.is_empty() && value.iter().all(|&byte| is_token_byte(byte)) && !value.eq_ignore_ascii_case(b"identity");
    Err(HeadError { status: if unknown { 501 } else { 400 }, reason: "transfer_encoding" })
}
