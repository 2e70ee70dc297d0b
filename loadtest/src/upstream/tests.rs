#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot go on should stop loudly; its client may block")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use headrace::config::Io;
use headrace::mock::client::{monotonic, read_stamp};
use headrace::mock::own_driver;
use headrace::sys::EventFd;
use headrace::sys::net::Address;

use super::server::{Answers, Server, body};

/// A server on its own thread; it ends with the process of the tests.
pub(super) fn serve(io: Io, answers: &Answers) -> Option<std::net::SocketAddr> {
    let (said, heard) = std::sync::mpsc::channel();
    let answers = answers.clone();
    std::thread::spawn(move || {
        let driver = match own_driver(io, &EventFd::new().unwrap()) {
            Ok(driver) => driver,
            Err(error) => {
                eprintln!("io_uring is refused here, only epoll is tested: {error}");
                return said.send(None).unwrap();
            }
        };
        let mut server = Server::new(driver, &Address::Tcp(([127, 0, 0, 1], 0).into()), answers).unwrap();
        said.send(server.local_addr()).unwrap();
        while server.turn(None).is_ok() {}
    });
    heard.recv().unwrap()
}

/// Everything that comes back until the server ends the connection.
fn ask(addr: std::net::SocketAddr, pieces: &[&[u8]]) -> String {
    let mut client = TcpStream::connect(addr).unwrap();
    client.set_nodelay(true).unwrap();
    for piece in pieces {
        client.write_all(piece).unwrap();
    }
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

const ANSWERS: Answers = Answers { status: 200, body_bytes: 70, events: 4, every: Duration::from_millis(2) };

#[test]
fn requests_are_answered_in_order_on_both_drivers() {
    for addr in [Io::Epoll, Io::Uring].into_iter().filter_map(|io| serve(io, &ANSWERS)) {
        let one = &b"POST /v1/embeddings HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nabcd"[..];
        let last = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        let answer = ask(addr, &[&one[..20], &one[20..], one, one, last]);
        assert_eq!(answer.matches("HTTP/1.1 200 OK\r\n").count(), 4, "{answer}");
        assert_eq!(answer.matches("content-length: 70\r\n").count(), 4);
        assert_eq!(answer.matches("connection: close\r\n").count(), 1);
        let refused = ask(addr, &[b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n"]);
        assert!(refused.starts_with("HTTP/1.1 400 ") && refused.contains("connection: close\r\n"), "{refused}");
    }
}

#[test]
fn a_stream_is_sent_event_by_event_and_what_follows_waits() {
    for addr in [Io::Epoll, Io::Uring].into_iter().filter_map(|io| serve(io, &ANSWERS)) {
        let chat = "{\"stream\":true,\"messages\":[]}";
        let ask_chat = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{chat}", chat.len());
        let begun = monotonic();
        let answer = ask(addr, &[ask_chat.as_bytes(), b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"]);
        let (stream, after) = answer.split_once("\r\n0\r\n\r\n").unwrap();
        assert!(stream.contains("content-type: text/event-stream\r\n") && stream.ends_with("data: [DONE]\n\n"), "{stream}");
        let stamps: Vec<_> = stream.split("\n\n").filter_map(|event| read_stamp(event.as_bytes())).collect();
        assert_eq!(stamps.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert!(stamps.iter().all(|(_, sent_at)| *sent_at >= begun && *sent_at <= monotonic()));
        assert!(stamps[3].1.since(begun) >= ANSWERS.every * 2, "no event is sent before it is due");
        assert!(after.starts_with("HTTP/1.1 200 OK\r\n"), "{after}");
    }
}

#[test]
fn an_answer_has_the_bytes_asked_for() {
    for bytes in [2, 3, 28, 29, 30, 70, 1000] {
        let body = body(bytes);
        assert_eq!(body.len(), bytes);
        assert!(serde_json::from_slice::<serde_json::Value>(&body).is_ok(), "{bytes}");
    }
}
