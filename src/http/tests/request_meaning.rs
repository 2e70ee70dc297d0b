//! Request heads, a table per rule: framing, Connection, Upgrade, Expect, and fields that decide something.

use super::request;
use super::request::{accepted, refused, with};
use crate::http::{Framing, HeadLimits, Known, Parsed, RequestHead};

#[test]
fn rule_9_content_length() {
    for value in [
        "",
        "+1",
        "-1",
        " ",
        "1 2",
        "1,1",
        "1, 1",
        "0x1",
        "1_0",
        "1.0",
        "a",
        "1a",
        "\u{661}",
        "12345678901234567890",
        "9223372036854775808",
        "9999999999999999999",
        "00000000000000000001",
        "\"1\"",
        "1;a",
    ] {
        refused("rule 9", &with(&format!("Content-Length: {value}\r\n")), 400, "content_length");
    }
    refused("rule 9: even when equal", &with("Content-Length: 5\r\nContent-Length: 5\r\n"), 400, "two_lengths");
    refused("rule 9: zero is a length", &with("Content-Length: 0\r\nContent-Length: 0\r\n"), 400, "two_lengths");
    for (value, len) in [("0", 0), ("5", 5), ("\t 007 ", 7), ("9223372036854775807", i64::MAX.unsigned_abs())] {
        assert_eq!(accepted("rule 9", &with(&format!("content-length:{value}\r\n"))).framing, Framing::Length(len));
    }
}

#[test]
fn rule_10_transfer_encoding() {
    for (lines, status, reason) in [
        ("Transfer-Encoding: chunked, chunked\r\n", 400, "transfer_encoding"),
        ("Transfer-Encoding: identity\r\n", 400, "transfer_encoding"),
        ("Transfer-Encoding: gzip, chunked\r\n", 400, "transfer_encoding"),
        ("Transfer-Encoding: chunked,\r\n", 400, "transfer_encoding"),
        ("Transfer-Encoding: ,chunked\r\n", 400, "transfer_encoding"),
        ("Transfer-Encoding: \"chunked\"\r\n", 400, "transfer_encoding"),
        ("Transfer-Encoding: chunked;q=1\r\n", 400, "transfer_encoding"),
        ("Transfer-Encoding: chun ked\r\n", 400, "transfer_encoding"),
        ("Transfer-Encoding: \u{a0}chunked\r\n", 400, "transfer_encoding"),
        ("Transfer-Encoding: \r\n", 400, "transfer_encoding"),
        ("Transfer-Encoding: gzip\r\n", 501, "transfer_encoding"),
        ("Transfer-Encoding: xchunked\r\n", 501, "transfer_encoding"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400, "two_codings"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", 400, "length_and_coding"),
        ("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", 400, "length_and_coding"),
    ] {
        refused("rule 10", &with(lines), status, reason);
    }
    refused("rule 10: in 1.0", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "coding_in_http10");
    for value in ["chunked", "CHUNKED", " \tChunked "] {
        assert_eq!(accepted("rule 10", &with(&format!("Transfer-Encoding:{value}\r\n"))).framing, Framing::Chunked);
    }
}

#[test]
fn rule_11_no_framing_no_body_and_bodies_on_get_are_framed_alike() {
    assert_eq!(accepted("rule 11", &with("")).framing, Framing::None);
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        let bytes = format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
        assert_eq!(accepted("rule 11", bytes.as_bytes()).framing, Framing::Length(3));
    }
}

#[test]
fn rule_17_connection() {
    for (name, reason) in [
        ("Content-Length", "connection_protected"),
        ("transfer-encoding", "connection_protected"),
        ("close, Host", "connection_protected"),
        ("Authorization", "connection_protected"),
        ("x-api-key", "connection_protected"),
        ("Cookie", "connection_protected"),
        ("Content-Type", "connection_protected"),
        ("Cache-Control", "connection_protected"),
        ("X-Forwarded-For", "connection_protected"),
        ("x-forwarded-anything", "connection_protected"),
        ("Forwarded", "connection_protected"),
        ("x-real-ip", "connection_protected"),
        ("traceparent", "connection_protected"),
        ("Client-Cert", "connection_protected"),
        ("x-headrace-coalesce", "connection_protected"),
        ("x_forwarded_for", "connection_protected"),
        ("a b", "connection_token"),
        ("\"close\"", "connection_token"),
        ("close;x", "connection_token"),
        ("a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q", "connection_names"),
    ] {
        refused("rule 17", &with(&format!("Connection: {name}\r\n")), 400, reason);
    }
    refused("rule 17: each field of two", &with("Connection: close\r\nConnection: host\r\n"), 400, "connection_protected");
    accepted("rule 17: empty elements are no names", &with(&format!("Connection: {}close\r\n", ",".repeat(40))));
    let bytes = with("X-Hop: 1\r\nX-End: 2\r\nx-hop: 3\r\nConnection: , X-HOP ,,keep-alive,TE\r\nTE: trailers\r\n");
    let head = accepted("rule 17", &bytes);
    let classes: Vec<Known> = head.fields.iter().map(|field| field.known).collect();
    assert_eq!(classes, [Known::Host, Known::Named, Known::Other, Known::Named, Known::Connection, Known::Te]);
}

#[test]
fn keep_alive_by_version_and_connection() {
    for (version, connection, keep) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: Keep-Alive, CLOSE\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: x, close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        let bytes = format!("GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n");
        assert_eq!(accepted("keep-alive", bytes.as_bytes()).keep_alive, keep, "{version} {connection}");
    }
}

#[test]
fn rule_19_only_a_websocket_upgrade_counts() {
    for (method, lines, upgrade) in [
        ("GET", "Connection: Upgrade\r\nUpgrade: WebSocket\r\n", true),
        ("GET", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n", false),
        ("GET", "Upgrade: websocket\r\n", false),
        ("GET", "Connection: upgrade\r\n", false),
        ("POST", "Connection: upgrade\r\nUpgrade: websocket\r\n", false),
    ] {
        let bytes = format!("{method} / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        assert_eq!(accepted("rule 19", bytes.as_bytes()).upgrade, upgrade, "{lines}");
    }
}

#[test]
fn rule_20_a_head_ends_where_the_next_begins() {
    let one = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n";
    let bytes = [&one[..], b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
    let mut head = RequestHead::new();
    let mut scanned = 0;
    let limits = HeadLimits::default();
    assert_eq!(head.parse(&bytes[..20], &mut scanned, &limits), Ok(Parsed::Partial));
    assert_eq!(scanned, 20);
    assert_eq!(head.parse(&bytes, &mut scanned, &limits), Ok(Parsed::Complete));
    assert_eq!((head.head_len, scanned), (one.len(), 0));
    assert_eq!(head.parse(&bytes[head.head_len..], &mut scanned, &limits), Ok(Parsed::Complete));
    assert_eq!(head.target.of(&bytes[one.len()..]), b"/2");
}

#[test]
fn rule_21_expect() {
    for lines in [
        "Expect: 200-ok\r\n",
        "Expect: \r\n",
        "Expect: 100-continue, x\r\n",
        "Expect: 100-continue\r\nExpect: 100-continue\r\n",
        "Expect: 100-continue;a\r\n",
    ] {
        refused("rule 21", &with(lines), 417, "expect");
    }
    for (version, lines, waits) in [
        ("1.1", "Expect: 100-Continue\r\nContent-Length: 5\r\n", true),
        ("1.1", "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", true),
        ("1.1", "Expect: 100-continue\r\nContent-Length: 0\r\n", false),
        ("1.1", "Expect: 100-continue\r\n", false),
        ("1.0", "Expect: 100-continue\r\nContent-Length: 5\r\n", false),
        ("1.1", "Content-Length: 5\r\n", false),
    ] {
        let bytes = format!("POST / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
        assert_eq!(accepted("rule 21", bytes.as_bytes()).expect_continue, waits, "{lines}");
    }
}

#[test]
fn single_value_fields_must_not_repeat() {
    for lines in
        ["Authorization: a\r\nauthorization: b\r\n", "x-api-key: a\r\nX: 1\r\nX-Api-Key: a\r\n", "Content-Type: a\r\nContent-Type: a\r\n"]
    {
        refused("repeats", &with(lines), 400, "repeated_field");
    }
    accepted("repeats", &with("Accept: a\r\nAccept: b\r\nx-api-key: 1\r\napi-key: 1\r\n"));
}

#[test]
fn a_sane_request_id_is_the_clients_own() {
    let long = "a".repeat(129);
    for (lines, sane) in [
        ("X-Request-ID: 0af7-65._:/+=Z\r\n".to_owned(), true),
        (String::new(), false),
        ("X-Request-ID: \r\n".to_owned(), false),
        ("X-Request-ID: a b\r\n".to_owned(), false),
        ("X-Request-ID: a\"b\r\n".to_owned(), false),
        ("X-Request-ID: a\u{fc}\r\n".to_owned(), false),
        ("X-Request-ID: a\r\nX-Request-ID: a\r\n".to_owned(), false),
        (format!("X-Request-ID: {long}\r\n"), false),
        (format!("X-Request-ID: {}\r\n", &long[1..]), true),
    ] {
        let bytes = with(&lines);
        assert_eq!(accepted("id", &bytes).request_id(&bytes).is_some(), sane, "{lines}");
    }
}

#[test]
fn a_head_is_reused_without_what_was_in_it() {
    let mut head = RequestHead::new();
    let limits = HeadLimits::default();
    let full = b"GET http://b/x HTTP/1.1\r\nHost: b\r\nConnection: close, upgrade\r\nUpgrade: websocket\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(head.parse(full, &mut 0, &limits), Ok(Parsed::Complete));
    let plain = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(head.parse(plain, &mut 0, &limits), Ok(Parsed::Complete));
    assert_eq!(format!("{head:?}"), format!("{:?}", request(plain).unwrap()));
}
