//! Reads requests as the strictest server would: whatever two parsers could read in two ways is refused with its reason. Written
//! anew, from RFC 9112, so that it shares no mistake with the gateway's own parser.

use std::io::{self, Read};

#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

pub(crate) enum Refused {
    /// The connection ended; true in the middle of a request.
    Ended(bool),
    /// Why the request has two readings.
    Ambiguous(String),
}

impl From<io::Error> for Refused {
    fn from(_: io::Error) -> Refused {
        Refused::Ended(true)
    }
}

pub(crate) struct Reader<R> {
    stream: R,
    buffer: Vec<u8>,
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(stream: R) -> Reader<R> {
        Reader { stream, buffer: Vec::new() }
    }

    pub(crate) fn request(&mut self) -> Result<Seen, Refused> {
        if self.buffer.is_empty() && !self.fill()? {
            return Err(Refused::Ended(false));
        }
        let line = self.line()?;
        let mut parts = line.split(' ');
        let (Some(method), Some(target), Some("HTTP/1.1"), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(ambiguous("request line", &line));
        };
        if method.is_empty() || !method.bytes().all(is_token) || target.is_empty() || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ambiguous("request line", &line));
        }
        let mut seen = Seen { method: method.to_owned(), target: target.to_owned(), fields: Vec::new(), body: Vec::new() };
        self.fields(&mut seen)?;
        self.body(&mut seen)?;
        Ok(seen)
    }

    fn fields(&mut self, seen: &mut Seen) -> Result<(), Refused> {
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| ambiguous("no colon", &line))?;
            if name.is_empty() || !name.bytes().all(is_token) {
                return Err(ambiguous("field name", &line));
            }
            if value.bytes().any(|byte| byte < 0x20 && byte != b'\t' || byte == 0x7f) {
                return Err(ambiguous("control character", &line));
            }
            seen.fields.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
        }
        let count = |name: &str| seen.fields.iter().filter(|(found, _)| found == name).count();
        if count("host") != 1 {
            return Err(ambiguous("not one host", &format!("{seen:?}")));
        }
        if count("content-length") + count("transfer-encoding") > 1 {
            return Err(ambiguous("two framings", &format!("{seen:?}")));
        }
        // Hop-by-hop fields end at the gateway (RFC 9110 7.6.1).
        let hop = ["connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade"];
        match hop.iter().find(|name| count(name) > 0) {
            Some(name) => Err(ambiguous("hop-by-hop", name)),
            None => Ok(()),
        }
    }

    fn body(&mut self, seen: &mut Seen) -> Result<(), Refused> {
        if let Some(len) = seen.field("content-length") {
            if len.is_empty() || !len.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(ambiguous("content-length", len));
            }
            let len: usize = len.parse().map_err(|_| ambiguous("content-length", len))?;
            seen.body = self.take(len)?;
            return Ok(());
        }
        match seen.field("transfer-encoding") {
            None => return Ok(()),
            Some("chunked") => {}
            Some(other) => return Err(ambiguous("transfer-encoding", other)),
        }
        loop {
            let line = self.line()?;
            // No sign, no blank, no extension: only digits.
            let len = (line.len() <= 16 && !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_hexdigit()))
                .then(|| usize::from_str_radix(&line, 16).ok())
                .flatten()
                .ok_or_else(|| ambiguous("chunk length", &line))?;
            if len == 0 {
                return if self.line()?.is_empty() { Ok(()) } else { Err(ambiguous("trailers", "")) };
            }
            seen.body.extend(self.take(len)?);
            if self.take(2)? != b"\r\n" {
                return Err(ambiguous("chunk end", ""));
            }
        }
    }

    /// A line without its CRLF. A bare CR or LF, a NUL or a byte above 0x7f outside a body is refused.
    fn line(&mut self) -> Result<String, Refused> {
        let end = loop {
            if let Some(at) = self.buffer.iter().position(|byte| *byte == b'\n') {
                break at;
            }
            if !self.fill()? {
                return Err(Refused::Ended(true));
            }
        };
        let line: Vec<u8> = self.buffer.drain(..=end).collect();
        let text = String::from_utf8_lossy(&line).into_owned();
        match text.strip_suffix("\r\n") {
            Some(inner) if !inner.contains(['\r', '\0']) => Ok(inner.to_owned()),
            _ => Err(ambiguous("line end", &text)),
        }
    }

    fn take(&mut self, len: usize) -> Result<Vec<u8>, Refused> {
        while self.buffer.len() < len {
            if !self.fill()? {
                return Err(Refused::Ended(true));
            }
        }
        Ok(self.buffer.drain(..len).collect())
    }

    fn fill(&mut self) -> Result<bool, Refused> {
        let mut piece = [0; 64 << 10];
        let count = self.stream.read(&mut piece)?;
        self.buffer.extend_from_slice(&piece[..count]);
        Ok(count > 0)
    }
}

fn ambiguous(what: &str, where_: &str) -> Refused {
    Refused::Ambiguous(format!("{what}: {where_:?}"))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[test]
fn the_strict_reader_refuses_what_it_should() {
    let read = |text: &str| Reader::new(io::Cursor::new(text.as_bytes().to_vec())).request();
    let good = "POST /a HTTP/1.1\r\nhost: g\r\ncontent-length: 2\r\n\r\nok";
    assert!(read(good).is_ok_and(|seen| seen.body == b"ok"));
    let chunked = "POST /a HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    assert!(read(chunked).is_ok_and(|seen| seen.body == b"ok"));
    for (text, from, to) in [
        (good, "HTTP/1.1", "HTTP/1.0"),
        (good, "/a ", "/a  "),
        (good, "host: g", "host : g"),
        (good, "host: g\r\n", ""),
        (good, "host: g\r\n", "host: g\r\nhost: g\r\n"),
        (good, "host: g\r\n", "host: g\n"),
        (good, "host: g", "host: \rg"),
        (good, "host: g\r\n", "host: g\r\n folded\r\n"),
        (good, "h: 2", "h: +2"),
        (good, "h: 2", "h: 2, 2"),
        (good, "host", "transfer-encoding: chunked\r\nhost"),
        (good, "host", "connection: close\r\nhost"),
        (chunked, "2\r\n", "2;x=y\r\n"),
        (chunked, "2\r\n", "0x2\r\n"),
        (chunked, "ok\r\n", "okxx"),
        (chunked, "chunked", "identity, chunked"),
    ] {
        let bad = text.replacen(from, to, 1);
        assert_ne!(bad, text);
        assert!(matches!(read(&bad), Err(Refused::Ambiguous(_))), "{bad}");
    }
    assert!(matches!(read(&good[..30]), Err(Refused::Ended(true))));
}
