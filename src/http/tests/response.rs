//! Response heads, a table per rule. Every refusal is a 502.

use super::response;
use crate::http::{Framing, HeadLimits, Known, Method, Parsed, ResponseHead, Version};

fn refused(rule: &str, bytes: &[u8], reason: &str) {
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    match response(bytes, Method::Post) {
        Err(error) => assert_eq!((error.status, error.reason), (502, reason), "{rule}: {shown:?}"),
        Ok(head) => panic!("{rule}: accepted {shown:?} as {head:?}"),
    }
}

fn accepted(rule: &str, bytes: &[u8], method: Method) -> ResponseHead {
    response(bytes, method).unwrap_or_else(|error| panic!("{rule}: {error:?} for {:?}", String::from_utf8_lossy(bytes)))
}

fn ok_with(lines: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{lines}\r\n").into_bytes()
}

#[test]
fn a_plain_answer_is_read_whole() {
    let bytes = b"HTTP/1.1 200 All good\r\nContent-Type: a/b\r\nContent-Length: 2\r\nRetry-After: 7\r\n\r\nhi";
    let head = accepted("plain", bytes, Method::Post);
    assert_eq!((head.status, head.version, head.framing, head.keep_alive), (200, Version::Http11, Framing::Length(2), true));
    assert_eq!(head.reason.of(bytes), b"All good");
    assert_eq!(head.field(Known::RetryAfter).map(|value| value.of(bytes)), Some(&b"7"[..]));
    assert_eq!(&bytes[head.head_len..], b"hi");
}

#[test]
fn rule_1_and_3_lines() {
    for (bytes, reason) in [
        (&b"HTTP/1.1 200 OK\nA: b\r\n\r\n"[..], "bare_lf"),
        (b"HTTP/1.1 200 OK\r\nA: b\n\r\n", "bare_lf"),
        (b"HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n", "field_value"),
        (b"HTTP/1.1 200 OK\r\nA: b\0c\r\n\r\n", "field_value"),
        (b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "field_name"),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "obs_fold"),
        (b"HTTP/1.1 200 OK\r\n: b\r\n\r\n", "field_name"),
        (b"\r\nHTTP/1.1 200 OK\r\n\r\n", "status_line"),
        (b" HTTP/1.1 200 OK\r\n\r\n", "status_line"),
    ] {
        refused("rules 1 and 3", bytes, reason);
    }
    refused("rule 4", &ok_with("Transfer_Encoding: chunked\r\n"), "underscore_look_alike");
    accepted("rule 4: only framing matters here", &ok_with("X_Forwarded_For: 1\r\nContent-Length: 0\r\n"), Method::Get);
}

#[test]
fn rule_5_limits_of_answers() {
    let lines = |count: usize| "X: 1\r\n".repeat(count);
    accepted("rule 5", &ok_with(&lines(100)), Method::Get);
    refused("rule 5", &ok_with(&lines(101)), "too_many_fields");
    refused("rule 5", &ok_with(&format!("X: {}\r\n", "v".repeat(16 * 1024))), "field_too_long");
    let mebibyte = vec![b'H'; 1024 * 1024];
    let error = ResponseHead::new().parse(&mebibyte, &mut 0, &HeadLimits::answers(), Method::Get).unwrap_err();
    assert_eq!((error.status, error.reason), (502, "head_too_long"));
    assert_eq!(ResponseHead::new().parse(&mebibyte[1..], &mut 0, &HeadLimits::answers(), Method::Get), Ok(Parsed::Partial));
}

#[test]
fn rule_17_connection_in_answers() {
    refused("rule 17", &ok_with("Connection: content-length\r\n"), "connection_protected");
    refused("rule 17", &ok_with("Connection: Set-Cookie\r\n"), "connection_protected");
    let head = accepted("rule 17", &ok_with("Connection: x-a\r\nX-A: 1\r\nContent-Length: 0\r\n"), Method::Get);
    assert_eq!(head.fields[1].known, Known::Named);
}

#[test]
fn rule_19_switching_that_nobody_asked_for() {
    refused("rule 19", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", "switching_unasked");
}

#[test]
fn rule_22_interim_answers_have_no_body_and_the_final_one_follows() {
    let bytes = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx";
    let head = accepted("rule 22", bytes, Method::Get);
    assert!(head.is_interim());
    assert_eq!(head.framing, Framing::None);
    let last = accepted("rule 22", &bytes[head.head_len..], Method::Get);
    assert!(!last.is_interim());
    assert_eq!((last.status, last.framing), (200, Framing::Length(1)));
}

#[test]
fn rule_23_bodyless_answers() {
    for (status, method) in [(200, Method::Head), (404, Method::Head), (204, Method::Get), (304, Method::Get), (100, Method::Post)] {
        for (lines, declared) in [
            ("Content-Length: 9\r\n", Some(9)),
            ("Transfer-Encoding: chunked\r\n", None),
            ("Content-Length: 9\r\nTransfer-Encoding: chunked\r\n", None),
            ("Content-Length: 9\r\nContent-Length: 8\r\n", None),
            ("Content-Length: x\r\n", None),
            ("", None),
        ] {
            let bytes = format!("HTTP/1.1 {status} X\r\n{lines}\r\n");
            let head = accepted("rule 23", bytes.as_bytes(), method);
            assert_eq!((head.framing, head.declared_length, head.keep_alive), (Framing::None, declared, true), "{bytes:?}");
        }
    }
}

#[test]
fn rule_24_framing() {
    for (lines, reason) in [
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "length_and_coding"),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "length_and_coding"),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", "two_lengths"),
        ("Content-Length: 5, 5\r\n", "content_length"),
        ("Content-Length: -1\r\n", "content_length"),
        ("Content-Length: \r\n", "content_length"),
        ("Content-Length: 5\r\nContent-Length: x\r\n", "content_length"),
        ("Transfer-Encoding: gzip\r\n", "transfer_encoding"),
        ("Transfer-Encoding: gzip, chunked\r\n", "transfer_encoding"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "two_codings"),
    ] {
        refused("rule 24", &ok_with(lines), reason);
    }
    refused("rule 24", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "coding_in_http10");
    for (bytes, framing, keep_alive) in [
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 05\r\n\r\n"[..], Framing::Length(5), true),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", Framing::Chunked, true),
        (b"HTTP/1.1 200 OK\r\n\r\n", Framing::UntilClose, false),
        (b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n", Framing::UntilClose, false),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", Framing::Length(0), false),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", Framing::Length(0), false),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", Framing::Length(0), true),
    ] {
        let head = accepted("rule 24", bytes, Method::Post);
        assert_eq!((head.framing, head.keep_alive), (framing, keep_alive), "{}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn rule_25_status_line() {
    for (line, reason) in [
        ("HTTP/1.1 099 X", "status_code"),
        ("HTTP/1.1 600 X", "status_code"),
        ("HTTP/1.1 000 X", "status_code"),
        ("HTTP/1.1 20 X", "status_line"),
        ("HTTP/1.1 2000 X", "status_line"),
        ("HTTP/1.1 2x0 X", "status_line"),
        ("HTTP/1.1  200 X", "status_line"),
        ("HTTP/1.1\t200 X", "version"),
        ("HTTP/1.1 200\tX", "status_line"),
        ("HTTP/1.2 200 X", "version"),
        ("HTTP/2.0 200 X", "version"),
        ("http/1.1 200 X", "status_line"),
        ("HTTP/1.1", "version"),
        ("HTTP/1.1 200 a\0b", "status_line"),
        ("HTTP/1.1 200 a\rb", "status_line"),
        ("HTTP/1.1 200 a\x7fb", "status_line"),
    ] {
        refused("rule 25", format!("{line}\r\nContent-Length: 0\r\n\r\n").as_bytes(), reason);
    }
    for (line, status, text) in [
        ("HTTP/1.1 200 ", 200, &b""[..]),
        ("HTTP/1.1 200", 200, b""),
        ("HTTP/1.1 599 a b\tc", 599, b"a b\tc"),
        ("HTTP/1.1 299 \u{fc}x", 299, "\u{fc}x".as_bytes()),
        ("HTTP/1.1 200  two", 200, b" two"),
    ] {
        let bytes = format!("{line}\r\nContent-Length: 0\r\n\r\n");
        let head = accepted("rule 25", bytes.as_bytes(), Method::Get);
        assert_eq!((head.status, head.reason.of(bytes.as_bytes())), (status, text));
    }
}
