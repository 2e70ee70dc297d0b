//! What leaves: transcripts of heads in and heads out.

use std::net::{IpAddr, Ipv6Addr};

use super::{request, response};
use crate::http::{
    Framing, LAST_CHUNK, Method, RequestEdit, ResponseEdit, Version, client_addr_text, framing_for_client, write_chunk_header,
    write_end_to_end_fields, write_own_response, write_request_fields, write_request_line, write_response_head,
};

const EDIT: RequestEdit<'static> = RequestEdit {
    framing: Framing::Length(2),
    client_addr: "10.1.2.3",
    proto: "http",
    trust_forwarded: false,
    request_id: b"id-1",
    forward_authorization: false,
    strip_coalesce: true,
};

fn sent_up(bytes: &str, edit: &RequestEdit<'_>) -> String {
    let head = request(bytes.as_bytes()).unwrap();
    let mut out = Vec::new();
    write_request_line(&mut out, &head, bytes.as_bytes(), "gpu:8000");
    write_request_fields(&mut out, &head, bytes.as_bytes(), edit);
    String::from_utf8(out).unwrap()
}

fn sent_down(bytes: &str, method: Method, edit: &ResponseEdit<'_>) -> String {
    let head = response(bytes.as_bytes(), method).unwrap();
    let mut out = Vec::new();
    write_response_head(&mut out, &head, bytes.as_bytes(), edit);
    String::from_utf8(out).unwrap()
}

fn down(framing: Framing) -> ResponseEdit<'static> {
    ResponseEdit { framing, close: false, client_version: Version::Http11, extra: &[] }
}

#[test]
fn rule_14_a_request_is_written_anew() {
    let bytes =
        "POST http://Gw/v1/x?y HTTP/1.1\r\nHOST:gw\r\nAccept-Encoding:br  \r\nContent-Length: 0002\r\ncookie: a\r\nX-Mixed:\tv\r\n\r\n";
    assert_eq!(
        sent_up(bytes, &EDIT),
        "POST /v1/x?y HTTP/1.1\r\nhost: gpu:8000\r\nAccept-Encoding: br\r\ncookie: a\r\nX-Mixed: v\r\nx-forwarded-for: 10.1.2.3\r\n\
         x-forwarded-proto: http\r\nx-forwarded-host: Gw\r\nx-request-id: id-1\r\ncontent-length: 2\r\n\r\n"
    );
}

#[test]
fn rule_17_nothing_that_ends_at_this_hop_goes_on() {
    let bytes = "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Hop, upgrade, te\r\nx-hop: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nTE: trailers\r\n\
                 Trailer: x\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\nProxy-Authorization: x\r\nProxy-Authenticate: x\r\nTransfer-Encoding: chunked\r\n\
                 Expect: 100-continue\r\nX-Headrace-Coalesce: off\r\nX-Headrace-Error: y\r\nAuthorization: s\r\nX-Api-Key: s\r\nX-End: 2\r\n\r\n";
    let edit = RequestEdit { framing: Framing::Chunked, client_addr: "", proto: "", request_id: b"", ..EDIT };
    assert_eq!(
        sent_up(bytes, &edit),
        "GET / HTTP/1.1\r\nhost: gpu:8000\r\nX-End: 2\r\nx-forwarded-host: a\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let open = RequestEdit { forward_authorization: true, strip_coalesce: false, ..edit };
    assert_eq!(
        sent_up(bytes, &open),
        "GET / HTTP/1.1\r\nhost: gpu:8000\r\nX-Headrace-Coalesce: off\r\nAuthorization: s\r\nX-Api-Key: s\r\nX-End: 2\r\nx-forwarded-host: a\r\n\
         transfer-encoding: chunked\r\n\r\n"
    );
}

#[test]
fn rule_18_identity_is_ours_unless_the_peer_is_trusted() {
    let bytes = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: h\r\n\
                 X-Forwarded-Port: 9\r\nX-Real-IP: 1.1.1.1\r\nClient-Cert: x\r\nX-Forwarded-For: 2.2.2.2\r\nX-Request-Id: theirs\r\n\r\n";
    let edit = RequestEdit { framing: Framing::None, ..EDIT };
    assert_eq!(
        sent_up(bytes, &edit),
        "GET / HTTP/1.1\r\nhost: gpu:8000\r\nX-Request-Id: theirs\r\nx-forwarded-for: 10.1.2.3\r\nx-forwarded-proto: http\r\n\
         x-forwarded-host: a\r\n\r\n"
    );
    let mapped = client_addr_text(IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0x0a01, 0x0203)));
    let trusted = RequestEdit { trust_forwarded: true, client_addr: &mapped, ..edit };
    assert_eq!(
        sent_up(bytes, &trusted),
        "GET / HTTP/1.1\r\nhost: gpu:8000\r\nForwarded: for=1.1.1.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: h\r\nX-Forwarded-Port: 9\r\n\
         X-Real-IP: 1.1.1.1\r\nClient-Cert: x\r\nX-Request-Id: theirs\r\nx-forwarded-for: 1.1.1.1, 2.2.2.2, 10.1.2.3\r\n\r\n"
    );
    let unix = RequestEdit { client_addr: "", ..trusted };
    assert!(sent_up(bytes, &unix).contains("X-Forwarded-For: 1.1.1.1\r\n"), "without an address of ours theirs stay as they are");
}

#[test]
fn an_insane_request_id_is_replaced() {
    let bytes = "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: a b\r\nX-Request-Id: c\r\n\r\n";
    let edit = RequestEdit { framing: Framing::None, client_addr: "", proto: "", ..EDIT };
    assert_eq!(sent_up(bytes, &edit), "GET / HTTP/1.1\r\nhost: gpu:8000\r\nx-forwarded-host: a\r\nx-request-id: id-1\r\n\r\n");
}

#[test]
fn methods_that_mean_a_body_say_that_it_is_empty() {
    let edit = RequestEdit { framing: Framing::None, ..EDIT };
    for (method, said) in [("POST", true), ("PUT", true), ("PATCH", true), ("GET", false), ("DELETE", false)] {
        let sent = sent_up(&format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"), &edit);
        assert_eq!(sent.contains("content-length: 0\r\n"), said, "{method}");
    }
}

#[test]
fn an_answer_is_written_anew() {
    let bytes = "HTTP/1.0 203 Fine \u{fc}\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\nContent-Length: 5\r\nset-cookie: a\r\nSet-Cookie: b\r\n\
                 X-Headrace-Error: fake\r\nX-Request-Id: theirs\r\nRetry-After: 1\r\n\r\n";
    let edit = ResponseEdit { extra: &[("x-request-id", b"ours"), ("x-headrace-batch-size", b"7")], ..down(Framing::Length(5)) };
    assert_eq!(
        sent_down(bytes, Method::Get, &edit),
        "HTTP/1.1 203 Fine \u{fc}\r\nset-cookie: a\r\nSet-Cookie: b\r\nRetry-After: 1\r\nx-request-id: ours\r\nx-headrace-batch-size: 7\r\n\
         content-length: 5\r\n\r\n"
    );
    let head = response(bytes.as_bytes(), Method::Get).unwrap();
    let mut lines = Vec::new();
    write_end_to_end_fields(&mut lines, &head.fields, bytes.as_bytes());
    assert_eq!(lines, b"set-cookie: a\r\nSet-Cookie: b\r\nX-Request-Id: theirs\r\nRetry-After: 1\r\n");
}

#[test]
fn framing_by_client_version() {
    let bytes = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (framing, version, close, tail) in [
        (Framing::Chunked, Version::Http11, false, "transfer-encoding: chunked\r\n\r\n"),
        (Framing::Chunked, Version::Http11, true, "transfer-encoding: chunked\r\nconnection: close\r\n\r\n"),
        (Framing::Chunked, Version::Http10, false, "connection: close\r\n\r\n"),
        (Framing::UntilClose, Version::Http10, false, "connection: close\r\n\r\n"),
        (Framing::UntilClose, Version::Http11, false, "connection: close\r\n\r\n"),
        (Framing::Length(7), Version::Http10, false, "content-length: 7\r\nconnection: keep-alive\r\n\r\n"),
        (Framing::Length(7), Version::Http10, true, "content-length: 7\r\nconnection: close\r\n\r\n"),
    ] {
        let edit = ResponseEdit { framing, close, client_version: version, extra: &[] };
        assert_eq!(sent_down(bytes, Method::Get, &edit), format!("HTTP/1.1 200 OK\r\n{tail}"));
    }
    for (upstream, version, framing) in [
        (Framing::UntilClose, Version::Http11, Framing::Chunked),
        (Framing::UntilClose, Version::Http10, Framing::UntilClose),
        (Framing::Chunked, Version::Http11, Framing::Chunked),
        (Framing::Chunked, Version::Http10, Framing::UntilClose),
        (Framing::Length(3), Version::Http10, Framing::Length(3)),
        (Framing::None, Version::Http11, Framing::None),
    ] {
        assert_eq!(framing_for_client(upstream, version), framing);
    }
}

#[test]
fn rule_23_bodyless_answers_leave_without_a_body_and_204_without_a_length() {
    for (line, method, tail) in [
        ("200 OK\r\nContent-Length: 9", Method::Head, "200 OK\r\ncontent-length: 9\r\n\r\n"),
        ("200 OK\r\nTransfer-Encoding: chunked", Method::Head, "200 OK\r\n\r\n"),
        ("304 NM\r\nContent-Length: 9", Method::Get, "304 NM\r\ncontent-length: 9\r\n\r\n"),
        ("204 NC\r\nContent-Length: 9", Method::Get, "204 NC\r\n\r\n"),
        ("103 EH\r\nContent-Length: 9\r\nLink: x", Method::Get, "103 EH\r\nLink: x\r\n\r\n"),
    ] {
        let bytes = format!("HTTP/1.1 {line}\r\n\r\n");
        assert_eq!(sent_down(&bytes, method, &down(Framing::None)), format!("HTTP/1.1 {tail}"));
    }
    assert_eq!(sent_down("HTTP/1.1 204 NC\r\n\r\n", Method::Get, &down(Framing::Length(0))), "HTTP/1.1 204 NC\r\n\r\n");
}

#[test]
fn answers_of_our_own() {
    for (status, len, close, expected) in [
        (503, 4, false, "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 4\r\n\r\n"),
        (400, 0, true, "HTTP/1.1 400 Bad Request\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
        (204, 0, false, "HTTP/1.1 204 No Content\r\nretry-after: 1\r\n\r\n"),
        (598, 1, false, "HTTP/1.1 598 \r\nretry-after: 1\r\ncontent-length: 1\r\n\r\n"),
    ] {
        let mut out = Vec::new();
        write_own_response(&mut out, status, b"retry-after: 1\r\n", len, close);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

#[test]
fn chunk_headers() {
    for (len, expected) in
        [(1, "1\r\n"), (15, "f\r\n"), (16, "10\r\n"), (255, "ff\r\n"), (4096, "1000\r\n"), (usize::MAX, "ffffffffffffffff\r\n")]
    {
        let mut out = Vec::new();
        write_chunk_header(&mut out, len);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
    let mut out = Vec::new();
    write_chunk_header(&mut out, 0);
    assert!(out.is_empty(), "a chunk of nothing would end the body");
    assert_eq!(LAST_CHUNK, b"0\r\n\r\n");
}
