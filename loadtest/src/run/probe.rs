//! One request by hand, to learn whether a contender answers and what. It is no load: a connection of its own, closed behind the answer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What came back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// As it came: still in chunks where it was sent in chunks.
    pub(crate) body: Vec<u8>,
}

const LIMIT: Duration = Duration::from_secs(5);
/// An answer beyond this is cut; a stream need not be read to its end.
const BODY_BYTES_MAX: u64 = 4 << 20;

/// POSTs one small model call. `model` is written as it is.
///
/// # Errors
/// For a person: what kept the answer from coming.
pub(crate) fn ask(port: u16, path: &str, model: &str) -> Result<Answer, String> {
    let fail = |error: std::io::Error| format!("127.0.0.1:{port}: {error}");
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), LIMIT).map_err(fail)?;
    stream.set_read_timeout(Some(LIMIT)).map_err(fail)?;
    let body = format!(r#"{{"model":"{model}","input":"is anybody there"}}"#);
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all([head.as_bytes(), body.as_bytes()].concat().as_slice()).map_err(fail)?;
    let mut answer = Vec::new();
    stream.take(BODY_BYTES_MAX).read_to_end(&mut answer).map_err(fail)?;
    parse(&answer).ok_or_else(|| format!("127.0.0.1:{port}: no HTTP answer: {}", begin(&answer)))
}

pub(crate) fn parse(answer: &[u8]) -> Option<Answer> {
    let status = answer.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    let head_end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(Answer { status: std::str::from_utf8(status).ok()?.parse().ok()?, body: answer.get(head_end + 4..)?.to_vec() })
}

impl Answer {
    /// Is it good? `expected` is the upstream's own answer where it must be the same.
    ///
    /// # Errors
    /// For a person: what is wrong with it.
    pub(crate) fn judge(&self, expected: Option<&Answer>) -> Result<(), String> {
        if self.status != 200 || self.body.is_empty() {
            return Err(format!("answers {} {}", self.status, begin(&self.body)));
        }
        match expected {
            Some(expected) if expected.body != self.body => {
                Err(format!("answers {} where the upstream answers {}", begin(&self.body), begin(&expected.body)))
            }
            _ => Ok(()),
        }
    }
}

fn begin(bytes: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(bytes).chars().take(120).collect();
    format!("{text:?}")
}
