//! The bare reverse proxy, once per runtime: read a request (head and body by content-length), send it as it came on a pooled upstream
//! connection, pass the answer on, keep both connections. No features and the same HTTP work everywhere, so what differs is the ground.
//! `benches/runtimes.rs` starts each in a process of its own and measures; `load` is the other side of them all.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "programs of their own, not shards: they read the clock, stop when they cannot go on, and say where they listen"
)]

pub mod glommio;
pub mod load;
pub mod monoio;
pub mod ours;

use std::net::SocketAddr;

/// Length of a message: head and body by content-length. `None`: the head is not all here.
///
/// # Panics
/// On what is not HTTP/1.1: this is a bench's own traffic.
#[must_use]
pub fn request_len(bytes: &[u8]) -> Option<usize> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut fields);
    let httparse::Status::Complete(head) = request.parse(bytes).expect("a request") else { return None };
    Some(head + content_length(request.headers))
}

/// As [`request_len`], of an answer.
///
/// # Panics
/// On what is not HTTP/1.1.
#[must_use]
pub fn answer_len(bytes: &[u8]) -> Option<usize> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut answer = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head) = answer.parse(bytes).expect("an answer") else { return None };
    Some(head + content_length(answer.headers))
}

fn content_length(fields: &[httparse::Header<'_>]) -> usize {
    let field = fields.iter().find(|field| field.name.eq_ignore_ascii_case("content-length")).expect("a content-length");
    std::str::from_utf8(field.value).ok().and_then(|text| text.parse().ok()).expect("a number")
}

/// Tells the parent where it can be reached.
pub(crate) fn listening(address: SocketAddr) {
    println!("{address}");
}

/// Bytes read at a time, everywhere.
pub const BUFFER: usize = 8192;
