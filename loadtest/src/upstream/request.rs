//! A request, read as it arrives: bytes in, what was asked out. What is answered is `server`'s matter.

use headrace::http::{BodyDecoder, Framing, HeadLimits, Method, Parsed, RequestHead, Version};
use serde::Deserialize;

/// One request, complete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Asked {
    pub(super) keep_alive: bool,
    /// HTTP/1.1: a stream may be sent in chunks.
    pub(super) chunks: bool,
    /// HEAD: the answer has no body.
    pub(super) headless: bool,
    /// A chat that wants its answer as events; at most this many.
    pub(super) stream: Option<u32>,
}

/// What the bytes so far mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// The request is not complete.
    More,
    /// The client waits to be told that it may send its body.
    Continue,
    Request(Asked),
}

/// Answered with this status, then the connection is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Refused {
    pub(super) status: u16,
    pub(super) reason: &'static str,
}

/// What a head means, without its places.
#[derive(Clone, Copy)]
struct Meaning {
    framing: Framing,
    asked: Asked,
    expect_continue: bool,
    is_chat: bool,
}

/// Parses heads for all connections. The last head that was refused nothing is kept with its meaning: a client under load sends
/// the same one again and again, and equal bytes have an equal meaning.
pub(super) struct Heads {
    head: RequestHead,
    last: Vec<u8>,
    meaning: Option<Meaning>,
}

/// One connection's reading.
#[derive(Default)]
pub(super) struct Inbox {
    /// A head of which only a part has come.
    held: Vec<u8>,
    scanned: usize,
    body: Option<(Meaning, BodyDecoder)>,
    /// A chat's body.
    text: Vec<u8>,
}

impl Heads {
    pub(super) fn new() -> Heads {
        Heads { head: RequestHead::new(), last: Vec::new(), meaning: None }
    }

    /// The head at the start of `buffer` and its length; `None` when it is not complete.
    fn parse(&mut self, buffer: &[u8], scanned: &mut usize) -> Result<Option<(Meaning, usize)>, Refused> {
        if let Some(meaning) = self.meaning.filter(|_| buffer.starts_with(&self.last)) {
            *scanned = 0;
            return Ok(Some((meaning, self.last.len())));
        }
        match self.head.parse(buffer, scanned, &HeadLimits::default()) {
            Err(error) => return Err(Refused { status: error.status, reason: error.reason }),
            Ok(Parsed::Partial) => return Ok(None),
            Ok(Parsed::Complete) => {}
        }
        let head = &self.head;
        let asked = Asked {
            keep_alive: head.keep_alive && head.version == Version::Http11,
            chunks: head.version == Version::Http11,
            headless: head.method == Method::Head,
            stream: None,
        };
        let is_chat = head.method == Method::Post && head.path.of(buffer).ends_with(b"/chat/completions");
        let meaning = Meaning { framing: head.framing, asked, expect_continue: head.expect_continue, is_chat };
        self.last.clear();
        self.last.extend_from_slice(&buffer[..head.head_len]);
        self.meaning = Some(meaning);
        Ok(Some((meaning, head.head_len)))
    }
}

impl Inbox {
    /// Reads on with `input`, not past the end of a request; returns how much of it was read.
    pub(super) fn handle_bytes(&mut self, heads: &mut Heads, input: &[u8]) -> Result<(usize, Found), Refused> {
        let mut used = 0;
        if self.body.is_none() {
            let Some((meaning, len)) = self.read_head(heads, input)? else { return Ok((input.len(), Found::More)) };
            used = len;
            self.body = Some((meaning, BodyDecoder::new(meaning.framing)));
            if meaning.expect_continue && used == input.len() {
                return Ok((used, Found::Continue));
            }
        }
        let Some((meaning, decoder)) = &mut self.body else { return Ok((used, Found::More)) };
        while !decoder.is_done() {
            if used == input.len() {
                return Ok((used, Found::More));
            }
            let step = decoder.handle_bytes(&input[used..]).map_err(|error| Refused { status: 400, reason: error.reason })?;
            if meaning.is_chat {
                self.text.extend_from_slice(&input[used + step.data.start..used + step.data.end]);
                if self.text.len() > CHAT_BYTES_MAX {
                    return Err(Refused { status: 413, reason: "body_too_large" });
                }
            }
            used += step.consumed;
        }
        let (meaning, mut asked) = (*meaning, meaning.asked);
        self.body = None;
        if meaning.is_chat {
            asked.stream = wanted_events(&self.text)?;
            self.text.clear();
        }
        Ok((used, Found::Request(asked)))
    }

    fn read_head(&mut self, heads: &mut Heads, input: &[u8]) -> Result<Option<(Meaning, usize)>, Refused> {
        // The usual case is a head in one piece, which is read where it lies.
        if self.held.is_empty() {
            let found = heads.parse(input, &mut self.scanned)?;
            if found.is_none() {
                self.held.extend_from_slice(input);
            }
            return Ok(found);
        }
        let before = self.held.len();
        self.held.extend_from_slice(input);
        let found = heads.parse(&self.held, &mut self.scanned)?;
        if found.is_some() {
            self.held.clear();
        }
        Ok(found.map(|(meaning, len)| (meaning, len - before)))
    }
}

/// How many events a chat wants, at most; `None` when it wants no stream.
fn wanted_events(body: &[u8]) -> Result<Option<u32>, Refused> {
    #[derive(Deserialize)]
    struct Chat {
        stream: Option<bool>,
        max_tokens: Option<u32>,
    }
    let chat: Chat = serde_json::from_slice(body).map_err(|_| Refused { status: 400, reason: "not_a_chat" })?;
    Ok(chat.stream.unwrap_or(false).then(|| chat.max_tokens.unwrap_or(u32::MAX)))
}

/// A longer chat is refused with 413.
const CHAT_BYTES_MAX: usize = 4 << 20;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop loudly")]

    use super::{Asked, Found, Heads, Inbox, Refused};

    const PLAIN: Asked = Asked { keep_alive: true, chunks: true, headless: false, stream: None };

    /// What `bytes` mean when they come in pieces of `size`.
    fn read(bytes: &[u8], size: usize) -> Result<Vec<Found>, Refused> {
        let (mut heads, mut inbox, mut found) = (Heads::new(), Inbox::default(), Vec::new());
        for mut piece in bytes.chunks(size) {
            while !piece.is_empty() {
                let (used, what) = inbox.handle_bytes(&mut heads, piece)?;
                piece = &piece[used..];
                found.extend((what != Found::More).then_some(what));
            }
        }
        Ok(found)
    }

    #[test]
    fn any_cutting_reads_the_same_requests() {
        let chat = r#"{"stream":true,"max_tokens":7,"messages":[]}"#;
        let text = format!(
            "POST /v1/embeddings HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello\
             POST /v1/embeddings HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nagain\
             POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
             HEAD /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n\
             POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{chat}\
             GET / HTTP/1.0\r\n\r\n",
            chat.len()
        );
        let expected = [
            PLAIN,
            PLAIN,
            PLAIN,
            Asked { keep_alive: false, headless: true, ..PLAIN },
            Asked { stream: Some(7), ..PLAIN },
            Asked { keep_alive: false, chunks: false, ..PLAIN },
        ];
        for size in 1..=text.len() {
            assert_eq!(read(text.as_bytes(), size).unwrap(), expected.map(Found::Request), "in pieces of {size}");
        }
    }

    #[test]
    fn what_has_no_one_meaning_is_refused() {
        let post = "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc";
        for (text, status) in [
            ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n", 400),
            ("GET / HTTP/2.0\r\nhost: a\r\n\r\n", 400),
            (post, 400),
        ] {
            assert_eq!(read(text.as_bytes(), text.len()).unwrap_err().status, status, "{text}");
            assert_eq!(read(text.as_bytes(), 1).unwrap_err().status, status, "{text}");
        }
    }

    #[test]
    fn a_client_that_waits_is_told_once() {
        let head = b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
        let (mut heads, mut inbox) = (Heads::new(), Inbox::default());
        assert_eq!(inbox.handle_bytes(&mut heads, head).unwrap(), (head.len(), Found::Continue));
        assert_eq!(inbox.handle_bytes(&mut heads, b"ok").unwrap(), (2, Found::Request(PLAIN)));
        let whole = [&head[..], b"ok"].concat();
        assert_eq!(inbox.handle_bytes(&mut heads, &whole).unwrap(), (whole.len(), Found::Request(PLAIN)));
    }
}
