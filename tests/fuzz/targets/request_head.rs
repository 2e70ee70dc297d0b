//! Request heads: the verdict does not depend on how the bytes are cut, spans lie inside, and what is written from an accepted head
//! is accepted again with one reading.
#![cfg_attr(fuzzing, no_main)]

use headrace::http::{Framing, HeadLimits, Method, Parsed, RequestEdit, RequestHead, write_request_fields, write_request_line};
use headrace_fuzz::{cuts, kind};

headrace_fuzz::main!("request_head", target, TOKENS);

fn target(data: &[u8]) -> u64 {
    let limits = HeadLimits::default();
    let mut head = RequestHead::new();
    let verdict = head.parse(data, &mut 0, &limits);
    let mut cut = RequestHead::new();
    let mut scanned = 0;
    let mut in_pieces = Ok(Parsed::Partial);
    for end in cuts(data) {
        in_pieces = cut.parse(&data[..end], &mut scanned, &limits);
        if in_pieces != Ok(Parsed::Partial) {
            break;
        }
    }
    assert_eq!(in_pieces, verdict);
    match verdict {
        Err(error) => kind((error.status, error.reason)),
        Ok(Parsed::Partial) => kind("partial"),
        Ok(Parsed::Complete) => {
            assert_eq!(format!("{cut:?}"), format!("{head:?}"));
            read_again(&head, data);
            let known: Vec<u64> = head.fields.iter().map(|field| kind(format!("{:?}", field.known))).collect();
            kind((format!("{:?} {:?}", head.method, head.version), head.keep_alive, head.expect_continue, head.upgrade, known))
        }
    }
}

fn read_again(head: &RequestHead, data: &[u8]) {
    assert!(head.head_len <= data.len() && data[..head.head_len].ends_with(b"\r\n\r\n"));
    for field in &head.fields {
        assert!(field.name.end() <= head.head_len && field.value.end() <= head.head_len);
        assert!(!field.value.of(data).iter().any(|byte| b"\r\n\0".contains(byte)));
    }
    let client_addr = "127.0.0.1";
    let trust_forwarded = data.len().is_multiple_of(2);
    let edit = RequestEdit {
        framing: head.framing,
        client_addr,
        proto: "http",
        trust_forwarded,
        request_id: b"id",
        forward_authorization: data.len().is_multiple_of(3),
        strip_coalesce: true,
    };
    let mut out = Vec::new();
    write_request_line(&mut out, head, data, "up:1");
    write_request_fields(&mut out, head, data, &edit);
    let mut again = RequestHead::new();
    // Ours may add a little to a head that was just within the limits.
    let limits = HeadLimits { head_bytes: 128 * 1024, field_bytes: 32 * 1024, ..HeadLimits::default() };
    let verdict = again.parse(&out, &mut 0, &limits);
    if head.fields.len() + 8 > limits.fields {
        return;
    }
    assert_eq!(verdict, Ok(Parsed::Complete), "{}", out.escape_ascii());
    let empty = head.framing == Framing::None && matches!(again.framing, Framing::None | Framing::Length(0));
    assert!(again.framing == head.framing || empty);
    assert_eq!((again.method, again.head_len), (head.method, out.len()));
    assert_eq!(again.target.of(&out), head.target.of(data));
    assert!(again.method != Method::Connect && !again.upgrade && again.keep_alive);
}

const TOKENS: &[&str] = &[
    "\r\n",
    "\r\n\r\n",
    "GET / HTTP/1.1\r\n",
    "POST /v1/embeddings HTTP/1.1\r\n",
    "CONNECT",
    "OPTIONS * HTTP/1.1",
    "HTTP/1.0",
    "http://a:1/",
    "Host: a\r\n",
    "Content-Length: 5\r\n",
    "Content-Length",
    "Transfer-Encoding: chunked\r\n",
    "Transfer_Encoding",
    "chunked",
    "Connection: close\r\n",
    "Connection: keep-alive, x-a\r\n",
    "Expect: 100-continue\r\n",
    "Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
    "X-Forwarded-For: 1.2.3.4\r\n",
    "Forwarded: for=1\r\n",
    "X-Request-Id: r\r\n",
    "Authorization: Bearer s\r\n",
    "X-Headrace-Coalesce: never\r\n",
    "TE: trailers\r\n",
    "Cookie: a=b\r\n",
    "%00",
    "%2f",
    "[::1]:8080",
];
