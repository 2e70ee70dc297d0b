//! The probe against a listener that answers as it is told.

use std::io::{Read, Write};
use std::net::TcpListener;

use super::{Method, Url, ask};

#[test]
fn addresses() {
    let url = |authority: &str, target: &str| Ok(Url { authority: authority.to_owned(), target: target.to_owned() });
    for (text, parsed) in [
        ("http://127.0.0.1:9090/readyz", url("127.0.0.1:9090", "/readyz")),
        ("http://localhost", url("localhost:80", "/")),
        ("http://[::1]:9090/livez?a=b", url("[::1]:9090", "/livez?a=b")),
        ("http://[::1]/", url("[::1]:80", "/")),
    ] {
        assert_eq!(text.parse::<Url>(), parsed, "{text}");
    }
    for bad in ["", "127.0.0.1:9090", "https://a/", "http://", "http:///x", "http://a/b c", "http://a\r\nb/"] {
        assert!(bad.parse::<Url>().is_err(), "{bad:?}");
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test's own listener")]
fn answers() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url: Url = format!("http://{}/readyz", listener.local_addr().unwrap()).parse().unwrap();
    let server = std::thread::spawn(move || {
        for answer in ["HTTP/1.1 200 OK\r\n\r\nready\n", "HTTP/1.1 503 No\r\ncontent-length: 9\r\n\r\ndraining\n", "SSH-2.0-x\r\n", ""] {
            let (mut client, _) = listener.accept().unwrap();
            let mut asked = [0; 1024];
            let count = client.read(&mut asked).unwrap();
            assert!(asked[..count].starts_with(b"GET /readyz HTTP/1.1\r\nhost: 127.0.0.1:"));
            client.write_all(answer.as_bytes()).unwrap();
        }
    });
    assert_eq!(ask(&url, Method::Get), Ok((200, "ready\n".to_owned())));
    assert_eq!(ask(&url, Method::Get), Ok((503, "draining\n".to_owned())));
    assert!(ask(&url, Method::Get).is_err(), "another protocol");
    assert!(ask(&url, Method::Get).is_err(), "closed without an answer");
    server.join().unwrap();
    assert!(ask(&url, Method::Get).is_err(), "nobody listens");
}
