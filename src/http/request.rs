//! Parses request heads (rules 1 to 11, 17 to 21). Everything it accepts has one reading; what happens to an accepted request
//! is decided behind it.

use super::connection::{self, Options};
use super::framing;
use super::head::{self, Field, Framing, HeadError, HeadLimits, Method, Parsed, Version};
use super::known::{Known, KnownSet};
use super::scan::{self, Found, METHOD_BYTES_MAX};
use super::target::{self, Target};
use crate::sys::Span;

/// A request head as places in the buffer it was parsed from. Reusable: `parse` overwrites it and keeps its field list's
/// memory. After an error its contents mean nothing.
#[derive(Clone, Debug)]
pub struct RequestHead {
    pub method: Method,
    /// The method's text, case kept.
    pub method_span: Span,
    /// What to forward: origin form (or `*`). Of an absolute form the part from the path on.
    pub target: Span,
    /// `target` without the query.
    pub path: Span,
    /// False when a server may read the path as another one than its bytes say: `%`, `;`, `\`, `//` or a segment that starts
    /// with a dot is in it. A route that protects something should refuse such paths (rule 8).
    pub path_plain: bool,
    /// The one valid Host value, or the absolute form's authority, which replaces it. `None` only in HTTP/1.0.
    pub host: Option<Span>,
    pub version: Version,
    pub fields: Vec<Field>,
    /// The classes of `fields`.
    pub seen: KnownSet,
    /// Never `UntilClose`.
    pub framing: Framing,
    /// The client wants the connection kept after this exchange.
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends its body; false when it has none.
    pub expect_continue: bool,
    /// Asks for a websocket. The writers never forward it; a route that does not allow it serves plain HTTP/1.1.
    pub upgrade: bool,
    /// Bytes of the buffer up to the body, a skipped empty line in front included.
    pub head_len: usize,
}

impl Default for RequestHead {
    fn default() -> RequestHead {
        RequestHead::new()
    }
}

impl RequestHead {
    /// An empty head to parse into.
    #[must_use]
    pub fn new() -> RequestHead {
        RequestHead {
            method: Method::Other,
            method_span: Span::default(),
            target: Span::default(),
            path: Span::default(),
            path_plain: true,
            host: None,
            version: Version::Http11,
            fields: Vec::new(),
            seen: KnownSet::default(),
            framing: Framing::None,
            keep_alive: false,
            expect_continue: false,
            upgrade: false,
            head_len: 0,
        }
    }

    /// Parses the head at the start of `buffer`. `scanned` must be 0 for a new head and carries the search's place from call
    /// to call, so that a head in many pieces costs linear time; it is 0 again when the head is complete.
    ///
    /// # Errors
    /// The head must be refused with `status`, and the connection closed.
    pub fn parse(&mut self, buffer: &[u8], scanned: &mut usize, limits: &HeadLimits) -> Result<Parsed, HeadError> {
        // Usually the whole head is there and needs no search for its end. What is not taken at once gets its verdict below.
        if *scanned != 0 || !self.read_at_once(buffer, limits)? {
            let Some(found) = scan::request_head(buffer, scanned, limits)? else { return Ok(Parsed::Partial) };
            self.read_lines(buffer, found, limits)?;
        }
        self.refuse_repeats(buffer)?;
        self.read_host(buffer)?;
        let options = if self.seen.may_have(Known::Connection) { connection::read(&mut self.fields, buffer)? } else { Options::default() };
        self.framing = framing::of_request(&self.fields, self.seen, buffer, self.version)?;
        self.keep_alive = !options.close && (self.version == Version::Http11 || options.keep_alive);
        self.read_expect(buffer)?;
        self.upgrade = self.asks_for_websocket(buffer, options);
        Ok(Parsed::Complete)
    }

    /// The value of the first field of a class.
    #[must_use]
    pub fn field(&self, known: Known) -> Option<Span> {
        self.seen.may_have(known).then(|| head::first(&self.fields, known))?
    }

    /// The client's `x-request-id`, when it sent exactly one and it is sane: 1 to 128 bytes of letters, digits and `-._:/+=`.
    #[must_use]
    pub fn request_id(&self, buffer: &[u8]) -> Option<Span> {
        if !self.seen.may_have(Known::XRequestId) {
            return None;
        }
        let mut ids = self.fields.iter().filter(|field| field.known == Known::XRequestId);
        let id = ids.next()?.value;
        let sane = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._:/+=".contains(byte);
        (ids.next().is_none() && (1..=128).contains(&id.len) && id.of(buffer).iter().all(sane)).then_some(id)
    }

    /// Reads a head that lies whole and strict at the start of `buffer`. False: it does not, or not yet, or nobody knows why.
    fn read_at_once(&mut self, buffer: &[u8], limits: &HeadLimits) -> Result<bool, HeadError> {
        let text = &buffer[..buffer.len().min(limits.head_bytes)];
        if !text.first().is_some_and(|&byte| head::is_token_byte(byte)) {
            return Ok(false);
        }
        let mut lines = head::lines();
        let mut parsed = httparse::Request::new(&mut []);
        let Ok(httparse::Status::Complete(len)) = parsed.parse_with_uninit_headers(text, &mut lines) else { return Ok(false) };
        if !head::lines_end_strictly(&text[..len], parsed.headers) {
            return Ok(false);
        }
        self.take_lines(buffer, &parsed, limits)?;
        self.head_len = len;
        Ok(true)
    }

    fn read_lines(&mut self, buffer: &[u8], found: Found, limits: &HeadLimits) -> Result<(), HeadError> {
        let text = &buffer[found.start..found.end];
        let mut lines = head::lines();
        let mut parsed = httparse::Request::new(&mut []);
        let len = match parsed.parse_with_uninit_headers(text, &mut lines) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) => return Err(HeadError::bad("request_line")),
            Err(httparse::Error::Version) => return Err(version_error(text)),
            Err(error) => return Err(head::line_error(text, error)),
        };
        if len != text.len() {
            return Err(HeadError::bad("request_line"));
        }
        self.head_len = found.end;
        self.take_lines(buffer, &parsed, limits)
    }

    fn take_lines(&mut self, buffer: &[u8], parsed: &httparse::Request<'_, '_>, limits: &HeadLimits) -> Result<(), HeadError> {
        let (Some(method), Some(path), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
            return Err(HeadError::bad("request_line"));
        };
        if method.len() > METHOD_BYTES_MAX {
            return Err(HeadError::bad("method"));
        }
        if path.len() > limits.target_bytes {
            return Err(HeadError { status: 414, reason: "target_too_long" });
        }
        self.method = Method::of(method.as_bytes());
        self.method_span = head::span_of(buffer, method.as_bytes());
        self.version = if version == 0 { Version::Http10 } else { Version::Http11 };
        if self.method == Method::Connect {
            return Err(HeadError { status: 405, reason: "connect" });
        }
        let Target { target, path, authority, plain } = target::read(buffer, head::span_of(buffer, path.as_bytes()), self.method)?;
        (self.target, self.path, self.host, self.path_plain) = (target, path, authority, plain);
        self.seen = head::collect_fields(buffer, parsed.headers, limits, Known::is_look_alike, &mut self.fields)?;
        Ok(())
    }

    /// A field that has one value and decides something must not come twice: two readers may take different ones.
    fn refuse_repeats(&self, buffer: &[u8]) -> Result<(), HeadError> {
        for (at, field) in self.fields.iter().enumerate() {
            let single = field.known.is_credential() || field.known == Known::ContentType;
            let same = |later: &Field| later.known == field.known && later.name.of(buffer).eq_ignore_ascii_case(field.name.of(buffer));
            if single && self.fields[at + 1..].iter().any(same) {
                return Err(HeadError::bad("repeated_field"));
            }
        }
        Ok(())
    }

    /// Exactly one valid Host; an absolute form's authority must agree with it (rules 6 and 7).
    fn read_host(&mut self, buffer: &[u8]) -> Result<(), HeadError> {
        let mut hosts = self.fields.iter().filter(|field| field.known == Known::Host).map(|field| field.value);
        match (hosts.next(), hosts.next()) {
            (_, Some(_)) => return Err(HeadError::bad("two_hosts")),
            (None, None) if self.version == Version::Http11 => return Err(HeadError::bad("no_host")),
            (None, None) => {}
            (Some(host), None) => {
                if !target::host_is_valid(host.of(buffer)) {
                    return Err(HeadError::bad("host"));
                }
                if self.host.is_some_and(|authority| !authority.of(buffer).eq_ignore_ascii_case(host.of(buffer))) {
                    return Err(HeadError::bad("host_differs"));
                }
                self.host = self.host.or(Some(host));
            }
        }
        Ok(())
    }

    /// `100-continue`, once, or 417 (rule 21). Without a body there is nothing to wait for; HTTP/1.0 knows no 100.
    fn read_expect(&mut self, buffer: &[u8]) -> Result<(), HeadError> {
        self.expect_continue = false;
        if !self.seen.may_have(Known::Expect) {
            return Ok(());
        }
        for field in self.fields.iter().filter(|field| field.known == Known::Expect) {
            if self.expect_continue || !field.value.of(buffer).eq_ignore_ascii_case(b"100-continue") {
                return Err(HeadError { status: 417, reason: "expect" });
            }
            self.expect_continue = true;
        }
        let body_follows = !matches!(self.framing, Framing::None | Framing::Length(0));
        self.expect_continue &= body_follows && self.version == Version::Http11;
        Ok(())
    }

    fn asks_for_websocket(&self, buffer: &[u8], options: Options) -> bool {
        options.upgrade
            && self.method == Method::Get
            && self.version == Version::Http11
            && self.field(Known::Upgrade).is_some_and(|value| value.of(buffer).eq_ignore_ascii_case(b"websocket"))
    }
}

/// Which refusal a bad version earns (rule 2): other majors are 505, HTTP/2.0 and everything malformed is 400.
fn version_error(head: &[u8]) -> HeadError {
    if head.starts_with(b"PRI * HTTP/2.0\r\n\r\n") {
        return HeadError::bad("http2_preface");
    }
    let line = &head[..memchr::memchr(b'\r', head).unwrap_or(head.len())];
    let mut words = line.split(|&byte| byte == b' ').skip(2);
    match (words.next(), words.next()) {
        (Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor]), None)
            if major.is_ascii_digit() && minor.is_ascii_digit() && !matches!(major, b'1' | b'2') =>
        {
            HeadError { status: 505, reason: "version" }
        }
        _ => HeadError::bad("version"),
    }
}
