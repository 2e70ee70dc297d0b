//! Request heads, a table per rule.

use super::request;
use crate::http::{Framing, HeadError, HeadLimits, Known, Method, Parsed, RequestHead, Version};

/// A POST with these lines between Host and the empty line.
fn with(lines: &str) -> Vec<u8> {
    format!("POST /v1 HTTP/1.1\r\nHost: a\r\n{lines}\r\n").into_bytes()
}

fn refused(rule: &str, bytes: &[u8], status: u16, reason: &'static str) {
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    match request(bytes) {
        Err(error) => assert_eq!(error, HeadError { status, reason }, "{rule}: {shown:?}"),
        Ok(head) => panic!("{rule}: accepted {shown:?} as {head:?}"),
    }
}

fn accepted(rule: &str, bytes: &[u8]) -> RequestHead {
    request(bytes).unwrap_or_else(|error| panic!("{rule}: {error:?} for {:?}", String::from_utf8_lossy(bytes)))
}

#[test]
fn a_plain_request_is_read_whole() {
    let bytes =
        b"POST /v1/embeddings?x=1 HTTP/1.1\r\nHost: gw:8080\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"input\":1}x";
    let head = accepted("plain", bytes);
    assert_eq!((head.method, head.method_span.of(bytes)), (Method::Post, &b"POST"[..]));
    assert_eq!((head.target.of(bytes), head.path.of(bytes)), (&b"/v1/embeddings?x=1"[..], &b"/v1/embeddings"[..]));
    assert_eq!(head.host.map(|host| host.of(bytes)), Some(&b"gw:8080"[..]));
    assert_eq!((head.version, head.framing, head.keep_alive), (Version::Http11, Framing::Length(12), true));
    assert_eq!(head.field(Known::ContentType).map(|value| value.of(bytes)), Some(&b"application/json"[..]));
    assert_eq!(&bytes[head.head_len..], b"{\"input\":1}x");
    assert!(head.path_plain && !head.expect_continue && !head.upgrade);
}

#[test]
fn rule_1_line_ends() {
    for (bytes, reason) in [
        (&b"GET / HTTP/1.1\nHost: a\r\n\r\n"[..], "bare_lf"),
        (b"GET / HTTP/1.1\r\nHost: a\n\r\n", "bare_lf"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\n", "bare_lf"),
        (b"GET / HTTP/1.1\n\n", "bare_lf"),
        (b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "bare_lf"),
        (b"\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "bare_lf"),
        (b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", "bare_cr"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n", "field_value"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\r\n\r\n", "field_value"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX\r: b\r\n\r\n", "field_name"),
        (b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", "line_end"),
        (b"GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", "request_line"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\rX\r\n\r\n", "line_end"),
        (b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "empty_lines"),
        (b"\r\n\r\n", "empty_lines"),
    ] {
        refused("rule 1", bytes, 400, reason);
    }
    let head = accepted("rule 1: one empty line in front", b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(head.head_len, 29);
    // What can never become a head does not wait for its end.
    for bytes in [&b"\r\n\r"[..], b"GET / HTTP/1.1\n", b" ", b"\x16\x03\x01", b"\0", b"\rG", b"\n"] {
        assert!(RequestHead::new().parse(bytes, &mut 0, &HeadLimits::default()).is_err(), "{bytes:?}");
    }
}

#[test]
fn rule_2_request_line() {
    let long_method = format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(33));
    for (bytes, status, reason) in [
        (&b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"[..], 400, "request_line"),
        (b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400, "version"),
        (b"GET /  HTTP/3.0\r\nHost: a\r\n\r\n", 400, "version"),
        (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400, "line_end"),
        (b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "request_line"),
        (b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "request_line"),
        (b"GET /\tHTTP/1.1\r\nHost: a\r\n\r\n", 400, "request_line"),
        (b"GET / x HTTP/1.1\r\nHost: a\r\n\r\n", 400, "version"),
        (b"GET /\r\nHost: a\r\n\r\n", 400, "request_line"),
        (b"GET\r\nHost: a\r\n\r\n", 400, "request_line"),
        (b"G\r\n\r\n", 400, "request_line"),
        (b"G{T / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "request_line"),
        (b"GE\x80 / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "request_line"),
        (long_method.as_bytes(), 400, "method"),
        (b"GET / http/1.1\r\nHost: a\r\n\r\n", 400, "version"),
        (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 400, "version"),
        (b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400, "line_end"),
        (b"GET / HTTP/11.1\r\nHost: a\r\n\r\n", 400, "version"),
        (b"GET / HTTP/1\r\nHost: a\r\n\r\n", 400, "version"),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 400, "version"),
        (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505, "version"),
        (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505, "version"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "http2_preface"),
    ] {
        refused("rule 2", bytes, status, reason);
    }
    for (text, method) in [
        ("GET", Method::Get),
        ("HEAD", Method::Head),
        ("POST", Method::Post),
        ("PUT", Method::Put),
        ("DELETE", Method::Delete),
        ("PATCH", Method::Patch),
        ("OPTIONS", Method::Options),
        ("TRACE", Method::Trace),
        ("get", Method::Other),
        ("Post", Method::Other),
        ("M-SEARCH", Method::Other),
    ] {
        let bytes = format!("{text} / HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = accepted("rule 2", bytes.as_bytes());
        assert_eq!((head.method, head.method_span.of(bytes.as_bytes())), (method, text.as_bytes()));
    }
    assert_eq!(accepted("rule 2", format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(32)).as_bytes()).method, Method::Other);
}

#[test]
fn rule_3_field_lines() {
    for (lines, reason) in [
        ("X : y\r\n", "field_name"),
        ("X\t: y\r\n", "field_name"),
        (": y\r\n", "field_name"),
        ("X\r\n", "field_name"),
        ("X y: z\r\n", "field_name"),
        ("X(: z\r\n", "field_name"),
        ("X: y\r\n z\r\n", "obs_fold"),
        ("X: y\r\n\tz: 1\r\n", "obs_fold"),
        ("X:\r\n y\r\n", "obs_fold"),
    ] {
        refused("rule 3", &with(lines), 400, reason);
    }
    refused("rule 3: blank-led first line", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400, "obs_fold");
    let bytes = with("A:\t v\x20w \t\r\nB:\r\nC:  \r\nD: \u{a0}\u{fc}\u{a0} \r\n");
    let head = accepted("rule 3", &bytes);
    let values: Vec<&[u8]> = head.fields[1..].iter().map(|field| field.value.of(&bytes)).collect();
    assert_eq!(values, [&b"v w"[..], b"", b"", "\u{a0}\u{fc}\u{a0}".as_bytes()]);
}

#[test]
fn rule_3_every_byte_at_every_place_of_a_name_and_a_value() {
    const TOKEN: &[u8] = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    // Longer than two SIMD lanes, so that every lane of httparse meets every byte.
    for place in 0..70 {
        for byte in 0..=u8::MAX {
            let mut name = [b'n'; 70];
            name[place] = byte;
            let bytes = [b"GET / HTTP/1.1\r\nHost: a\r\n", &name[..], b": v\r\n\r\n"].concat();
            assert_eq!(request(&bytes).is_ok(), TOKEN.contains(&byte) || (byte == b':' && place > 0), "name: {byte:#x} at {place}");
            let mut value = [b'v'; 70];
            value[place] = byte;
            let bytes = [b"GET / HTTP/1.1\r\nHost: a\r\nX: ", &value[..], b"\r\n\r\n"].concat();
            let allowed = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
            assert_eq!(request(&bytes).is_ok(), allowed, "value: {byte:#x} at {place}");
        }
    }
}

#[test]
fn rule_4_underscore_look_alikes() {
    for name in [
        "Transfer_Encoding",
        "CONTENT_LENGTH",
        "X_Forwarded_For",
        "X-Forwarded_Proto",
        "X_Forwarded_Anything",
        "X_Real_IP",
        "x_api_key",
        "X_Headrace_Coalesce",
    ] {
        refused("rule 4", &with(&format!("{name}: 1\r\n")), 400, "underscore_look_alike");
    }
    accepted("rule 4: other underscores pass", &with("my_field: 1\r\n_: 2\r\nAccept_Encoding: x\r\n"));
}

#[test]
fn rule_5_limits() {
    let limits = HeadLimits { target_bytes: 20, field_bytes: 30, head_bytes: 200, fields: 4 };
    let parse = |bytes: &[u8]| RequestHead::new().parse(bytes, &mut 0, &limits).map_err(|error| (error.status, error.reason));
    let target = |len: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "t".repeat(len - 1)).into_bytes();
    assert_eq!(parse(&target(20)), Ok(Parsed::Complete));
    assert_eq!(parse(&target(21)), Err((414, "target_too_long")));
    assert_eq!(parse(&target(500)), Err((414, "target_too_long")), "also when the head is too long with it");
    assert_eq!(parse(&target(500)[..200]), Err((414, "target_too_long")), "and before its end has come");
    let field = |len: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "v".repeat(len - 3)).into_bytes();
    assert_eq!(parse(&field(30)), Ok(Parsed::Complete));
    assert_eq!(parse(&field(31)), Err((431, "field_too_long")));
    assert_eq!(parse(&field(300)), Err((431, "head_too_long")));
    assert_eq!(parse(&field(300)[..199]), Ok(Parsed::Partial));
    assert_eq!(parse(&field(300)[..200]), Err((431, "head_too_long")), "a head of 200 bytes would have ended");
    let fields = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(count - 1)).into_bytes();
    assert_eq!(parse(&fields(4)), Ok(Parsed::Complete));
    assert_eq!(parse(&fields(5)), Err((431, "too_many_fields")));
    accepted("rule 5: 100 fields", &fields(100));
    refused("rule 5: 101 fields", &fields(101), 431, "too_many_fields");
    let whole = HeadLimits { head_bytes: 200, ..HeadLimits::default() };
    for (len, verdict) in [(200, Ok(Parsed::Complete)), (201, Err(HeadError { status: 431, reason: "head_too_long" }))] {
        let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "v".repeat(len - 32));
        assert_eq!((bytes.len(), RequestHead::new().parse(bytes.as_bytes(), &mut 0, &whole)), (len, verdict));
    }
    let mut no_room = HeadLimits { head_bytes: 1, ..limits };
    for head_bytes in 0..4 {
        no_room.head_bytes = head_bytes;
        assert!(RequestHead::new().parse(b"\r\nGET / HTTP/1.1\r\n", &mut 0, &no_room).is_err());
    }
}

#[test]
fn rule_6_host() {
    refused("rule 6", b"GET / HTTP/1.1\r\n\r\n", 400, "no_host");
    refused("rule 6: even alike", &with("Host: a\r\n"), 400, "two_hosts");
    refused("rule 6: 1.0", b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400, "two_hosts");
    assert_eq!(accepted("rule 6: 1.0", b"GET / HTTP/1.0\r\n\r\n").host, None);
    for host in [
        "",
        "a b",
        "a,b",
        "a/b",
        "a?b",
        "a#b",
        "u@a",
        "a:b",
        "a:",
        ":80",
        "a:65536",
        "a:123456",
        "a:-1",
        "a:8 0",
        "a:80:80",
        "[::1",
        "::1",
        "[]",
        "[::g]",
        "[::1]x",
        "[::1]:",
        "[v1.a]",
        "[1.2.3.4]",
        "a]",
        "a%",
        "a%2",
        "a%zz",
        "a%00",
        "a%20b",
        "a%0d",
        "a%7f",
        "a\"",
        "a<",
        "a\\",
        "a\u{fc}",
        "a\tb",
    ] {
        refused("rule 6", format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes(), 400, "host");
    }
    for host in ["a", "A.b-c_d~1", "127.0.0.1", "127.0.0.1:8080", "[::1]", "[::ffff:1.2.3.4]:0", "a:65535", "a%41", "!$&'()*+;="] {
        let bytes = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(accepted("rule 6", bytes.as_bytes()).host.map(|span| span.of(bytes.as_bytes())), Some(host.as_bytes()));
    }
}

#[test]
fn rule_7_target_forms() {
    for (line, status, reason) in [
        ("GET a", 400, "target_form"),
        ("GET *", 400, "target_form"),
        ("OPTIONS **", 400, "target_form"),
        ("GET ftp://a/", 400, "target_form"),
        ("GET http:/a/", 400, "target_form"),
        ("GET ?x", 400, "target_form"),
        ("GET a:80", 400, "target_form"),
        ("GET /a#b", 400, "target_fragment"),
        ("GET http://a/#b", 400, "target_fragment"),
        ("GET http://u@a/", 400, "target_authority"),
        ("GET http:///x", 400, "target_authority"),
        ("GET http://a:b/", 400, "target_authority"),
        ("GET http://a,b/", 400, "target_authority"),
        ("GET http://b/", 400, "host_differs"),
        ("GET http://a:80/", 400, "host_differs"),
        ("GET http://a?q", 400, "target_without_path"),
        ("CONNECT a:80", 405, "connect"),
        ("CONNECT /", 405, "connect"),
    ] {
        refused("rule 7", format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), status, reason);
    }
    refused("rule 7: absolute form needs Host too", b"GET http://a/ HTTP/1.1\r\n\r\n", 400, "no_host");
    for (line, target, path) in [
        ("GET /", "/", "/"),
        ("GET /a?b?c", "/a?b?c", "/a"),
        ("GET /?", "/?", "/"),
        ("OPTIONS *", "*", "*"),
        ("GET http://a/b?c", "/b?c", "/b"),
        ("GET HTTPS://A/b", "/b", "/b"),
        ("GET http://a", "/", "/"),
        ("OPTIONS http://a", "/", "/"),
    ] {
        let bytes = format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = accepted("rule 7", bytes.as_bytes());
        assert_eq!(head.target.of(bytes.as_bytes()), target.as_bytes(), "{line}");
        assert_eq!(head.path.of(bytes.as_bytes()), path.as_bytes(), "{line}");
        assert!(head.host.unwrap().of(bytes.as_bytes()).eq_ignore_ascii_case(b"a"));
    }
    let bytes = b"GET http://a:1/ HTTP/1.0\r\n\r\n";
    assert_eq!(accepted("rule 7: the authority is the host", bytes).host.unwrap().of(bytes), b"a:1");
}

#[test]
fn rule_8_target_bytes() {
    for byte in 0..=u8::MAX {
        let bytes = [b"GET /a", &[byte][..], b"b HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        let allowed = (0x21..=0x7e).contains(&byte) && byte != b'%' && byte != b'#';
        assert_eq!(request(&bytes).is_ok(), allowed, "{byte:#x}");
    }
    for (target, reason) in [
        ("/\u{fc}", "target_byte"),
        ("/%", "target_percent"),
        ("/%1", "target_percent"),
        ("/%1?a", "target_percent"),
        ("/%gg", "target_percent"),
        ("/?a=%", "target_percent"),
        ("/a%00", "target_control"),
        ("/a%0d", "target_control"),
        ("/a%0D", "target_control"),
        ("/a%0a", "target_control"),
        ("/a%0Ab?c", "target_control"),
        ("http://a/%00", "target_control"),
    ] {
        refused("rule 8", format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), 400, reason);
    }
    for (target, plain) in [
        ("/v1/chat", true),
        ("/a.b/c..d", true),
        ("/?%2e=//..;", true),
        ("/a?%0a", true),
        ("/a/./b", false),
        ("/a/../b", false),
        ("/..", false),
        ("//a", false),
        ("/a//b", false),
        ("/%61", false),
        ("/a%2fb", false),
        ("/a\\b", false),
        ("/a;b", false),
    ] {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(accepted("rule 8", bytes.as_bytes()).path_plain, plain, "{target}");
    }
}

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
