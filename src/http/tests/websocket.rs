//! Rule 19: an upgrade is asked for and granted as RFC 6455 says, or it is none.

use super::{HeadLimits, Parsed, ResponseHead, request};
use crate::http::{HeadError, WebSocketAccept};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The RFC's own example, and lengths around a block's end (against coreutils' sha1sum).
#[test]
fn an_accept_is_the_hash_of_its_key() {
    assert_eq!(WebSocketAccept::of(KEY.as_bytes()).as_bytes(), ACCEPT.as_bytes());
    let cases = [
        (19, "qQsxh2Nb/vsnD9od6HBiP6Igif0="),
        (20, "7jD6MP55bPPoLSNhT1mD/AE8sjc="),
        (27, "WWp/NRXr3+N4xy7O/17rN1JrRGc="),
        (28, "atUL8kQGe4qplhq19Y5TKRw/Uj4="),
        (92, "N6jQH9SY1VrfN6p4qvkUdTUUhwQ="),
    ];
    for (len, expected) in cases {
        assert_eq!(WebSocketAccept::of("x".repeat(len).as_bytes()).as_bytes(), expected.as_bytes(), "{len}");
    }
}

fn ask(fields: &str) -> Result<WebSocketAccept, HeadError> {
    let bytes = format!("GET /ws HTTP/1.1\r\nhost: g\r\nconnection: Upgrade\r\nupgrade: WebSocket\r\n{fields}\r\n");
    let head = request(bytes.as_bytes()).unwrap();
    assert!(head.upgrade);
    head.websocket_accept(bytes.as_bytes())
}

#[test]
fn a_request_has_version_13_and_one_key_of_16_bytes() {
    let good = format!("sec-websocket-version: 13\r\nSec-WebSocket-Key: {KEY}\r\n");
    assert_eq!(ask(&good).unwrap().as_bytes(), ACCEPT.as_bytes());
    let bad = |status, reason| Err(HeadError { status, reason });
    let cases = [
        (format!("sec-websocket-key: {KEY}\r\n"), bad(426, "websocket_version")),
        (good.replace("13", "8"), bad(426, "websocket_version")),
        (format!("{good}sec-websocket-version: 13\r\n"), bad(426, "websocket_version")),
        ("sec-websocket-version: 13\r\n".to_owned(), bad(400, "websocket_key")),
        (format!("{good}sec-websocket-key: {KEY}\r\n"), bad(400, "websocket_key")),
        (good.replace("==", "="), bad(400, "websocket_key")),
        (good.replace("dG", "d"), bad(400, "websocket_key")),
        (good.replace("Q==", "R=="), bad(400, "websocket_key")),
        (good.replace("dG", "d-"), bad(400, "websocket_key")),
        (format!("{good}content-length: 3\r\n"), bad(400, "websocket_body")),
    ];
    for (fields, expected) in cases {
        assert_eq!(ask(&fields), expected, "{fields}");
    }
}

#[test]
fn a_server_agrees_to_this_request_and_no_other() {
    let accept = WebSocketAccept::of(KEY.as_bytes());
    let good =
        format!("HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {ACCEPT}\r\n\r\n");
    let agrees = |bytes: &str| {
        let mut head = ResponseHead::new();
        assert_eq!(head.parse_switch(bytes.as_bytes(), &mut 0, &HeadLimits::answers()), Ok(Parsed::Complete), "{bytes}");
        assert_eq!((head.status, head.head_len), (101, bytes.len()));
        let mut other = head.clone();
        assert!(other.parse(bytes.as_bytes(), &mut 0, &HeadLimits::answers(), crate::http::Method::Get).is_err(), "a 101 nobody asked for");
        head.agrees(bytes.as_bytes(), accept)
    };
    assert!(agrees(&good));
    assert!(agrees(&good.replace("Upgrade\r\n", "keep-alive, upgrade\r\n")));
    assert!(!agrees(&good.replace("s3p", "s3q")));
    assert!(!agrees(&good.replace("connection: Upgrade\r\n", "")));
    assert!(!agrees(&good.replace("upgrade: websocket\r\n", "")));
    assert!(!agrees(&good.replace("websocket\r\n", "h2c\r\n")));
    assert!(!agrees(&format!("{}sec-websocket-accept: {ACCEPT}\r\n\r\n", good.trim_end_matches("\r\n").to_owned() + "\r\n")));
}
