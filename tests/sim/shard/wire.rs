//! HTTP/1.1 as the clients and the upstreams of the simulation read it: strict, whole messages, and the difference between an
//! end in good order and a cut.

use headrace::runtime::Socket;
use std::rc::Rc;

/// Why no (further) message came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Cut {
    /// The peer ended in good order, between messages or within one.
    Eof,
    /// The connection broke.
    Broken,
    /// What came is no HTTP.
    Malformed(String),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

/// A message's head.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) first: String,
    fields: Vec<(String, String)>,
}

/// Reads messages from one connection.
pub(crate) struct Reader {
    pub(crate) socket: Rc<Socket>,
    bytes: Vec<u8>,
}

impl Head {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn status(&self) -> Result<u16, Cut> {
        let rest = self.first.strip_prefix("HTTP/1.1 ").ok_or_else(|| malformed(&self.first))?;
        rest.get(..3).and_then(|digits| digits.parse().ok()).ok_or_else(|| malformed(&self.first))
    }

    pub(crate) fn closes(&self) -> bool {
        self.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// `otherwise`: what it means when neither field is there.
    pub(crate) fn framing(&self, otherwise: Framing) -> Result<Framing, Cut> {
        match (self.field("content-length"), self.field("transfer-encoding")) {
            (Some(len), None) => len.parse().map(Framing::Length).map_err(|_| malformed(len)),
            (None, Some("chunked")) => Ok(Framing::Chunked),
            (None, None) => Ok(otherwise),
            both => Err(malformed(&format!("{both:?}"))),
        }
    }
}

impl Reader {
    pub(crate) fn new(socket: Socket) -> Reader {
        Reader { socket: Rc::new(socket), bytes: Vec::new() }
    }

    /// Whether bytes of a message are here that was not read whole.
    pub(crate) fn has_begun(&self) -> bool {
        !self.bytes.is_empty()
    }

    pub(crate) async fn fill(&mut self) -> Result<(), Cut> {
        match self.socket.recv().await {
            Ok(Some(lease)) => {
                self.bytes.extend_from_slice(&lease);
                Ok(())
            }
            Ok(None) => Err(Cut::Eof),
            Err(_) => Err(Cut::Broken),
        }
    }

    pub(crate) async fn head(&mut self) -> Result<Head, Cut> {
        let end = loop {
            if let Some(end) = find(&self.bytes, b"\r\n\r\n") {
                break end;
            }
            self.fill().await?;
        };
        let text = String::from_utf8(self.bytes[..end].to_vec()).map_err(|_| malformed("a head that is not UTF-8"))?;
        self.bytes.drain(..end + 4);
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default().to_owned();
        let field = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
        let fields = lines.map(|line| field(line).ok_or_else(|| malformed(line))).collect::<Result<_, _>>()?;
        Ok(Head { first, fields })
    }

    pub(crate) async fn body(&mut self, framing: Framing) -> Result<Vec<u8>, Cut> {
        match framing {
            Framing::Length(len) => {
                while self.bytes.len() < len {
                    self.fill().await?;
                }
                Ok(self.bytes.drain(..len).collect())
            }
            Framing::Chunked => self.chunks().await,
            Framing::UntilClose => loop {
                match self.fill().await {
                    Ok(()) => {}
                    Err(Cut::Eof) => return Ok(std::mem::take(&mut self.bytes)),
                    Err(cut) => return Err(cut),
                }
            },
        }
    }

    async fn chunks(&mut self) -> Result<Vec<u8>, Cut> {
        let mut body = Vec::new();
        loop {
            let end = loop {
                match find(&self.bytes, b"\r\n") {
                    Some(end) => break end,
                    None => self.fill().await?,
                }
            };
            let line = String::from_utf8_lossy(&self.bytes[..end]).into_owned();
            let len = usize::from_str_radix(&line, 16).map_err(|_| malformed(&line))?;
            while self.bytes.len() < end + 2 + len + 2 {
                self.fill().await?;
            }
            body.extend_from_slice(&self.bytes[end + 2..end + 2 + len]);
            if self.bytes[end + 2 + len..][..2] != *b"\r\n" {
                return Err(malformed("a chunk without its end"));
            }
            self.bytes.drain(..end + 2 + len + 2);
            if len == 0 {
                return Ok(body);
            }
        }
    }
}

fn malformed(what: &str) -> Cut {
    Cut::Malformed(what.to_owned())
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// `body` in a few chunks.
pub(crate) fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in body.chunks(size.max(1)) {
        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}
