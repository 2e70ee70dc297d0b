//! Parses response heads from upstreams (rules 3, 5, 17, 22 to 25). A head that has two readings is a 502. Whether a 1xx is
//! passed on, and whether the connection may be used again, is decided behind it.

use super::connection::{self, Options};
use super::framing::{self, Answer};
use super::head::{self, Field, Framing, HeadError, HeadLimits, Method, Parsed, Version};
use super::known::{Known, KnownSet};
use super::scan::{self, Found};
use crate::sys::Span;

/// A response head as places in the buffer it was parsed from. Reusable like `RequestHead`.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// 100-599. A 1xx (a 101 only with `parse_switch`) has `Framing::None`, and another head follows it.
    pub status: u16,
    /// May be empty.
    pub reason: Span,
    pub version: Version,
    pub fields: Vec<Field>,
    /// The classes of `fields`, those that were taken out since included.
    pub seen: KnownSet,
    pub framing: Framing,
    /// The length that an answer to HEAD or a 304 declares; no such body follows.
    pub declared_length: Option<u64>,
    /// The connection may be used again once the body is read to its end; never with `UntilClose`.
    pub keep_alive: bool,
    /// Bytes of the buffer up to the body.
    pub head_len: usize,
    /// A 101 was asked for.
    pub(super) may_switch: bool,
}

impl Default for ResponseHead {
    fn default() -> ResponseHead {
        ResponseHead::new()
    }
}

impl ResponseHead {
    /// An empty head to parse into.
    #[must_use]
    pub fn new() -> ResponseHead {
        ResponseHead {
            status: 0,
            reason: Span::default(),
            version: Version::Http11,
            fields: Vec::new(),
            seen: KnownSet::default(),
            framing: Framing::None,
            declared_length: None,
            keep_alive: false,
            head_len: 0,
            may_switch: false,
        }
    }

    /// Parses the head at the start of `buffer`, the answer to a request of `method`; `scanned` as for requests.
    ///
    /// # Errors
    /// The upstream's answer must not be used (`status` is always 502) and its connection must be closed.
    pub fn parse(&mut self, buffer: &[u8], scanned: &mut usize, limits: &HeadLimits, method: Method) -> Result<Parsed, HeadError> {
        self.parse_or_fault(buffer, scanned, limits, method).map_err(HeadError::upstream)
    }

    /// The value of the first field of a class.
    #[must_use]
    pub fn field(&self, known: Known) -> Option<Span> {
        self.seen.may_have(known).then(|| head::first(&self.fields, known))?
    }

    /// A 1xx: the final answer is still to come, right behind this head.
    #[must_use]
    pub const fn is_interim(&self) -> bool {
        matches!(self.status, 100..=199)
    }

    fn parse_or_fault(&mut self, buffer: &[u8], scanned: &mut usize, limits: &HeadLimits, method: Method) -> Result<Parsed, HeadError> {
        // As with requests: the usual answer's head needs no search for its end.
        if *scanned != 0 || !self.read_at_once(buffer, limits)? {
            let Some(found) = scan::response_head(buffer, scanned, limits)? else { return Ok(Parsed::Partial) };
            self.read_lines(buffer, found, limits)?;
        }
        let options = if self.seen.may_have(Known::Connection) { connection::read(&mut self.fields, buffer)? } else { Options::default() };
        let Answer { framing, declared_length } = framing::of_response(&self.fields, buffer, self.version, self.status, method)?;
        (self.framing, self.declared_length) = (framing, declared_length);
        let version_keeps = self.version == Version::Http11 || options.keep_alive;
        self.keep_alive = version_keeps && !options.close && framing != Framing::UntilClose;
        Ok(Parsed::Complete)
    }

    fn read_at_once(&mut self, buffer: &[u8], limits: &HeadLimits) -> Result<bool, HeadError> {
        let text = &buffer[..buffer.len().min(limits.head_bytes)];
        if text.first() != Some(&b'H') {
            return Ok(false);
        }
        let mut lines = head::lines();
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let Ok(httparse::Status::Complete(len)) = config.parse_response_with_uninit_headers(&mut parsed, text, &mut lines) else {
            return Ok(false);
        };
        if !head::lines_end_strictly(&text[..len], parsed.headers) {
            return Ok(false);
        }
        self.take_lines(buffer, 0, len, &parsed, limits)?;
        Ok(true)
    }

    fn read_lines(&mut self, buffer: &[u8], found: Found, limits: &HeadLimits) -> Result<(), HeadError> {
        let text = &buffer[found.start..found.end];
        let mut lines = head::lines();
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let len = match config.parse_response_with_uninit_headers(&mut parsed, text, &mut lines) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) => return Err(HeadError::bad("status_line")),
            Err(error) => return Err(head::line_error(text, error)),
        };
        if len != text.len() {
            return Err(HeadError::bad("status_line"));
        }
        self.take_lines(buffer, found.start, found.end, &parsed, limits)
    }

    fn take_lines(
        &mut self,
        buffer: &[u8],
        start: usize,
        end: usize,
        parsed: &httparse::Response<'_, '_>,
        limits: &HeadLimits,
    ) -> Result<(), HeadError> {
        let (Some(status), Some(version)) = (parsed.code, parsed.version) else {
            return Err(HeadError::bad("status_line"));
        };
        if !(100..=599).contains(&status) {
            return Err(HeadError::bad("status_code"));
        }
        if status == 101 && !self.may_switch {
            return Err(HeadError::bad("switching_unasked"));
        }
        self.status = status;
        self.version = if version == 0 { Version::Http10 } else { Version::Http11 };
        // httparse hides a reason with bytes from 0x80; it has checked it, so the line's rest is it.
        let next_line = match parsed.headers.first() {
            Some(line) => head::span_of(buffer, line.name.as_bytes()).range().start,
            None => end - 2,
        };
        let line_end = next_line - 2;
        self.reason = Span::new((start + STATUS_LINE_START).min(line_end)..line_end);
        self.head_len = end;
        self.seen = head::collect_fields(buffer, parsed.headers, limits, Known::is_framing_look_alike, &mut self.fields)?;
        Ok(())
    }
}

/// `HTTP/1.1 200 ` in front of the reason.
const STATUS_LINE_START: usize = 13;
