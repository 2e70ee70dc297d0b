//! Request heads, a table per rule: lines, limits, Host and target. Framing and connection are in `request_meaning`.

use super::request;
use crate::http::{Framing, HeadError, HeadLimits, Known, Method, Parsed, RequestHead, Version};

/// A POST with these lines between Host and the empty line.
pub(super) fn with(lines: &str) -> Vec<u8> {
    format!("POST /v1 HTTP/1.1\r\nHost: a\r\n{lines}\r\n").into_bytes()
}

pub(super) fn refused(rule: &str, bytes: &[u8], status: u16, reason: &'static str) {
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    match request(bytes) {
        Err(error) => assert_eq!(error, HeadError { status, reason }, "{rule}: {shown:?}"),
        Ok(head) => panic!("{rule}: accepted {shown:?} as {head:?}"),
    }
}

pub(super) fn accepted(rule: &str, bytes: &[u8]) -> RequestHead {
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
