//! One probe: connect, GET, the status line. A connection of its own each time, closed after it: what is asked is whether a new client
//! would be served.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// Where an endpoint listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Asks `address` for `path`; fine when the answer's status lies in `expect` and comes within `patience`.
///
/// # Errors
/// What went wrong, in words for the log.
pub(super) async fn probe(address: &Address, authority: &str, path: &str, expect: (u16, u16), patience: Duration) -> Result<(), String> {
    let status = match timeout(patience, ask(address, authority, path)).await {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err(format!("no answer came within {patience:?}")),
    };
    if (expect.0..=expect.1).contains(&status) { Ok(()) } else { Err(format!("GET {path} was answered with {status}")) }
}

async fn ask(address: &Address, authority: &str, path: &str) -> io::Result<u16> {
    let stream = match address {
        Address::Tcp(addr) => Stream::Tcp(TcpStream::connect(addr).await?),
        Address::Unix(path) => Stream::Unix(UnixStream::connect(path).await?),
    };
    let request = format!("GET {path} HTTP/1.1\r\nhost: {authority}\r\nuser-agent: headrace-probe\r\n\r\n");
    let mut rest = request.as_bytes();
    while !rest.is_empty() {
        let sent = stream.write(rest).await?;
        rest = rest.get(sent..).unwrap_or_default();
    }
    let mut answer = Vec::new();
    let mut piece = [0; 512];
    while answer.len() < STATUS_LINE {
        let count = stream.read(&mut piece).await?;
        if count == 0 {
            return Err(io::Error::other("the connection was closed before an answer"));
        }
        answer.extend_from_slice(piece.get(..count).unwrap_or_default());
    }
    status_of(&answer).ok_or_else(|| io::Error::other("the answer is not HTTP/1"))
}

/// From `HTTP/1.1 200`.
fn status_of(answer: &[u8]) -> Option<u16> {
    let line = answer.get(..STATUS_LINE)?;
    let digits = line.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5))?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

impl Stream {
    async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let done = match self {
                Stream::Tcp(stream) => {
                    stream.writable().await?;
                    stream.try_write(bytes)
                }
                Stream::Unix(stream) => {
                    stream.writable().await?;
                    stream.try_write(bytes)
                }
            };
            match done {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }

    async fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let done = match self {
                Stream::Tcp(stream) => {
                    stream.readable().await?;
                    stream.try_read(into)
                }
                Stream::Unix(stream) => {
                    stream.readable().await?;
                    stream.try_read(into)
                }
            };
            match done {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }
}

/// `HTTP/1.1 200`
const STATUS_LINE: usize = 12;
