//! Requests with a token, by the three ways through the gateway, and what their answers must be.

use crate::script::{Script, Shape};
use crate::token;

/// A way through the gateway.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// A configured path: forwarded, the body streamed when it is not here with the head.
    Route,
    /// A model call that is forwarded: its body is read whole first.
    Chat,
    /// A model call that is coalesced.
    Embed,
}

pub(crate) const WAYS: [Way; 3] = [Way::Route, Way::Chat, Way::Embed];

/// One request to come.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) way: Way,
    pub(crate) script: Script,
    pub(crate) token: String,
    /// Of [`Way::Route`].
    pub(crate) method: &'static str,
    /// Bytes of the body of [`Way::Route`].
    pub(crate) upload: usize,
    /// The request's body comes in chunks.
    pub(crate) chunked: bool,
    /// It asks for 100 Continue.
    pub(crate) expect: bool,
    pub(crate) http10: bool,
}

impl Ask {
    pub(crate) fn new(way: Way, script: Script) -> Ask {
        let token = token::fresh(0);
        Ask { way, script, token, method: "POST", upload: 40, chunked: false, expect: false, http10: false }
    }

    pub(crate) fn honest(way: Way) -> Ask {
        Ask::new(way, Script::HONEST)
    }

    /// Head and body, as they go over the wire.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let (head, body) = self.parts();
        [head, body].concat()
    }

    pub(crate) fn parts(&self) -> (Vec<u8>, Vec<u8>) {
        let body = self.body();
        let path = match self.way {
            Way::Route => format!("/s/{}/{}", self.script, self.token),
            Way::Chat => "/v1/chat/completions".to_owned(),
            Way::Embed => "/v1/embeddings".to_owned(),
        };
        let version = if self.http10 { "1.0" } else { "1.1" };
        let mut head = format!("{} {path} HTTP/{version}\r\nhost: gate\r\ncontent-type: application/json\r\n", self.method);
        if self.expect {
            head += "expect: 100-continue\r\n";
        }
        if self.chunked {
            head += &format!("x-upload: {}\r\ntransfer-encoding: chunked\r\n\r\n", body.len());
            return (head.into_bytes(), in_chunks(&body));
        }
        head += &format!("x-upload: {0}\r\ncontent-length: {0}\r\n\r\n", body.len());
        (head.into_bytes(), body)
    }

    fn body(&self) -> Vec<u8> {
        let Ask { script, token, .. } = self;
        match self.way {
            Way::Route => upload(token, self.upload),
            Way::Chat => {
                let stream = script.shape == Shape::Events;
                let body = serde_json::json!({
                    "model": "m", "stream": stream, "user": script.to_string(), "messages": [{"role": "user", "content": token}]
                });
                body.to_string().into_bytes()
            }
            Way::Embed => format!(r#"{{"model":"m","user":"{script}","input":"{token}"}}"#).into_bytes(),
        }
    }

    /// Whether `body` is the answer to this request.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn check(&self, body: &[u8]) -> Result<(), String> {
        if self.way == Way::Embed {
            return self.check_embedding(body);
        }
        let expected = if self.method == "HEAD" { Vec::new() } else { self.script.visible(&self.script.body(&self.token)) };
        if body == expected {
            return Ok(());
        }
        let same = body.iter().zip(&expected).take_while(|(one, other)| one == other).count();
        Err(format!("a body of {} bytes, {} expected, the first {same} are right", body.len(), expected.len()))
    }

    fn check_embedding(&self, body: &[u8]) -> Result<(), String> {
        let answer: serde_json::Value = serde_json::from_slice(body).map_err(|error| format!("no JSON: {error}"))?;
        let data = answer["data"].as_array().ok_or("no data")?;
        match &data[..] {
            [one] if one["index"] == 0 && one["embedding"] == self.token.as_str() => Ok(()),
            _ => Err(format!("data is not this request's element: {data:?}")),
        }
    }
}

/// What is sent up: a function of the token too.
pub(crate) fn upload(token: &str, len: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(len + token::LEN);
    while body.len() < len {
        body.extend_from_slice(token.as_bytes());
        body.push(b'^');
    }
    body.truncate(len);
    body
}

fn in_chunks(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 64);
    for piece in body.chunks(if body.len() > 4096 { 4096 } else { 16 }) {
        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}
