//! Response heads: as `request_head`, for what upstreams send. The first byte chooses the request's method.
#![cfg_attr(fuzzing, no_main)]

use headrace::http::{Framing, HeadLimits, Method, Parsed, ResponseEdit, ResponseHead, RetryAfter, Version, framing_for_client, write_response_head};
use headrace_fuzz::{cuts, kind};

headrace_fuzz::main!("response_head", target, TOKENS);

fn target(data: &[u8]) -> u64 {
    let Some((&choice, data)) = data.split_first() else { return 0 };
    let method = if choice % 4 == 0 { Method::Head } else { Method::Post };
    let limits = HeadLimits::answers();
    let mut head = ResponseHead::new();
    let verdict = head.parse(data, &mut 0, &limits, method);
    let mut cut = ResponseHead::new();
    let mut scanned = 0;
    let mut in_pieces = Ok(Parsed::Partial);
    for end in cuts(data) {
        in_pieces = cut.parse(&data[..end], &mut scanned, &limits, method);
        if in_pieces != Ok(Parsed::Partial) {
            break;
        }
    }
    assert_eq!(in_pieces, verdict);
    match verdict {
        Err(error) => {
            assert_eq!(error.status, 502);
            kind(error.reason)
        }
        Ok(Parsed::Partial) => kind("partial"),
        Ok(Parsed::Complete) => {
            assert_eq!(format!("{cut:?}"), format!("{head:?}"));
            read_again(&head, data, method, choice);
            let known: Vec<u64> = head.fields.iter().map(|field| kind(format!("{:?}", field.known))).collect();
            let asked = RetryAfter::of(&head, data).map(|asked| matches!(asked, RetryAfter::Until { .. }));
            kind((head.status, head.keep_alive, head.declared_length.is_some(), known, asked))
        }
    }
}

fn read_again(head: &ResponseHead, data: &[u8], method: Method, choice: u8) {
    assert!(head.head_len <= data.len() && (100..=599).contains(&head.status));
    assert!(!(head.keep_alive && head.framing == Framing::UntilClose));
    let client_version = if choice % 8 < 4 { Version::Http11 } else { Version::Http10 };
    let framing = framing_for_client(head.framing, client_version);
    let edit = ResponseEdit { framing, close: choice % 16 < 8, client_version, extra: &[("x-request-id", b"id")] };
    let mut out = Vec::new();
    write_response_head(&mut out, head, data, &edit);
    if head.fields.len() + 4 > HeadLimits::answers().fields {
        return;
    }
    let mut again = ResponseHead::new();
    let verdict = again.parse(&out, &mut 0, &HeadLimits { head_bytes: 1 << 21, field_bytes: 1 << 21, ..HeadLimits::answers() }, method);
    assert_eq!(verdict, Ok(Parsed::Complete), "{}", out.escape_ascii());
    assert_eq!((again.status, again.framing, again.head_len), (head.status, framing, out.len()));
}

const TOKENS: &[&str] = &[
    "\r\n",
    "\r\n\r\n",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.0 200\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 101 x\r\n",
    " 204 ",
    " 304 ",
    " 599 ",
    "Content-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive\r\n",
    "Retry-After: 1\r\n",
    "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
    "Date: Sunday, 06-Nov-94 08:49:37 GMT\r\n",
    "Sun Nov  6 08:49:37 1994",
    "X-Request-Id: other\r\n",
    "Set-Cookie: a=b\r\n",
    "Trailer: x\r\n",
];
