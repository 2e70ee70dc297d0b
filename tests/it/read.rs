//! Reading requests and the bounds on it: how many connections, how long, how many at once, how large.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use headrace::mock::MockConfig;
use headrace::sys::net::Address;

use crate::client::{Client, crowd, embed, find, get, join, post};
use crate::gate::{Dice, Gate, eventually, mock, mock_at, scratch, settles};
use crate::program::Program;
use crate::upstream::{Door, Reply, Upstream, ok};

const ROUTE: &str = r#"
[[upstreams]]
name = "up"
endpoints = ["$UP"]

[[routes]]
path = "/"
upstream = "up"
"#;

const PROGRAM: &str = r#"
[server]
listen = ["$LISTEN"]
header_timeout = "500ms"

[admin]
listen = "$ADMIN"

[[upstreams]]
name = "up"
endpoints = ["$UP"]

[[routes]]
path = "/"
upstream = "up"
"#;

fn echo() -> Upstream {
    Upstream::new(|seen, _| Reply::Bytes(ok(format!("{} {}", seen.target, seen.body.len()))))
}

#[test]
fn a_thousand_half_heads_are_ended_in_time_and_leave_nothing() {
    let up = echo();
    let program = Program::serve(2, PROGRAM, &up.url());
    let round = || {
        let mut clients: Vec<Client> = (0..1000)
            .map(|_| {
                let mut client = Client::tcp(program.addr);
                client.send("POST /half HTTP/1.1\r\nhost: gate\r\nx-long: and then nothing");
                client
            })
            .collect();
        let answered = clients.iter_mut().filter_map(|client| Some(client.rest().expect("an end")).filter(|rest| !rest.is_empty()));
        let answered = answered.inspect(|rest| assert!(rest.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(rest))).count();
        // One whose bytes had not come by then is closed without a word.
        assert!(answered > 900, "{answered} of 1000 were told why");
        drop(clients);
        program.comes_to_rest();
        program.resident()
    };
    // The first rounds teach the allocator and the tables their size.
    let warm = (0..2).map(|_| round()).max().unwrap();
    let after = round();
    assert!(after <= warm + warm / 5, "{warm} bytes resident before, {after} after");
    assert_eq!(Client::tcp(program.addr).ask(get("/still")).body, b"/still 0");
    assert_eq!(up.count(), 1, "nothing of the half heads went up");
}

#[test]
fn connections_beyond_the_bound_wait_and_are_served_when_there_is_room() {
    let up = echo();
    let text = format!("[server]\nmax_connections = 4\n{ROUTE}");
    let gate = Gate::new(1, &text, &up.url());
    let mut holders: Vec<Client> = (0..4).map(|_| gate.client()).collect();
    for client in &mut holders {
        assert_eq!(client.ask(get("/held")).status, 200);
    }
    let addr = gate.addr;
    let others = crowd(12, move |number| {
        let mut client = Client::tcp(addr);
        client.ask(get(&format!("/other/{number}"))).body
    });
    // The kernel has accepted the twelve for us; the gateway has not.
    let open = settles(|| gate.metric("headrace_connections", &[]) as u64);
    assert_eq!((open, up.count()), (4, 4), "nobody is served beyond the bound");
    for client in holders {
        drop(client);
    }
    for (number, body) in join(others).into_iter().enumerate() {
        assert_eq!(body, format!("/other/{number} 0").into_bytes());
    }
    gate.comes_to_rest();
}

#[test]
fn twenty_pipelined_requests_are_answered_in_order() {
    let up = echo();
    let gate = Gate::new(2, ROUTE, &up.url());
    let all: String = (0..20).map(|number| post(&format!("/pipe/{number}"), &"x".repeat(number))).collect();
    let clients = (0..4).map(|_| gate.client());
    let mut clients: Vec<Client> = clients.collect();
    for client in &mut clients {
        client.send(&all);
    }
    for client in &mut clients {
        for number in 0..20 {
            assert_eq!(client.answer().body, format!("/pipe/{number} {number}").into_bytes());
        }
    }
    // In two pieces at every cut that hurts: inside a head, inside a body, between two requests.
    let bytes = all.as_bytes();
    for at in [1, 17, bytes.len() / 2, bytes.len() - 1] {
        let mut client = gate.client();
        client.send(&bytes[..at]);
        eventually("the piece is read", || gate.metric("headrace_connections", &[]) >= 5.0);
        client.send(&bytes[at..]);
        for number in 0..20 {
            assert_eq!(client.answer().body, format!("/pipe/{number} {number}").into_bytes());
        }
        drop(client);
    }
}

#[test]
fn one_connection_serves_many_requests_over_one_upstream_connection() {
    let up = echo();
    let gate = Gate::new(2, ROUTE, &up.url());
    let mut client = gate.client();
    for number in 0..100 {
        assert_eq!(client.ask(post("/again", &"y".repeat(number))).body, format!("/again {number}").into_bytes());
    }
    assert_eq!((gate.opened().iter().sum::<f64>(), up.connections()), (1.0, 1));
    assert_eq!(gate.metric("headrace_upstream_connections_opened_total", &[]), 1.0);
    drop(client);
    gate.comes_to_rest();
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let up = echo();
    let gate = Gate::new(2, &format!("[server]\nidle_timeout = \"300ms\"\n{ROUTE}"), &up.url());
    let mut clients: Vec<Client> = (0..8).map(|_| gate.client()).collect();
    for client in &mut clients {
        assert_eq!(client.ask(get("/first")).status, 200);
    }
    for client in &mut clients {
        assert_eq!(client.rest().expect("an end"), b"", "no answer without a request");
    }
    gate.comes_to_rest();
}

#[test]
fn unix_sockets_on_both_sides() {
    let (listen, up) = (scratch("gate.sock"), scratch("up.sock"));
    let upstream = mock_at(MockConfig::default(), &Address::Unix(up)).unwrap();
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:8080\", \"unix:{}\"]\n{ROUTE}\n[[models]]\nname = \"m\"\nupstream = \"up\"\n",
        listen.display()
    )
    .replace("path = \"/\"", "path = \"/mock\"");
    let gate = Gate::new(2, &text, &upstream.url());
    let of_clients = listen.clone();
    join(crowd(16, move |number| {
        let mut client = Client::unix(&of_clients);
        for request in 0..10 {
            let text = format!("over the socket {number} {request}");
            client.ask(embed(&text)).is_embedding_of(&text);
            assert_eq!(client.ask(post("/mock/echo", &text)).body, text.as_bytes());
        }
    }));
    gate.comes_to_rest();
    assert_eq!(gate.gateway.stop(), Ok(headrace::control::Ended::Cut));
    assert!(!listen.exists(), "the socket's file is gone with its gateway");
}

/// 5 MiB whose every 4 KiB differ.
fn large() -> Vec<u8> {
    let mut dice = Dice(5);
    let mut bytes = Vec::with_capacity(5 << 20);
    while bytes.len() < 5 << 20 {
        bytes.extend_from_slice(&(dice.below(usize::MAX) as u64).to_le_bytes());
    }
    bytes
}

#[test]
fn five_mebibytes_go_through_both_ways() {
    let upstream = mock(MockConfig::default());
    let gate = Gate::new(2, ROUTE, &upstream.url());
    let (addr, body) = (gate.addr, Arc::new(large()));
    join(crowd(3, move |_| {
        let mut client = Client::tcp(addr);
        for _ in 0..2 {
            client.send(format!("POST /mock/echo HTTP/1.1\r\nhost: gate\r\ncontent-length: {}\r\n\r\n", body.len()));
            client.send(&*body);
            let answer = client.answer();
            assert!(answer.body == *body, "{} {} bytes", answer.status, answer.body.len());
        }
    }));
    gate.comes_to_rest();
}

#[test]
fn neither_a_slow_reader_nor_a_slow_upstream_makes_the_gateway_hold_their_bytes() {
    let (door, sent) = (Door::default(), Arc::new(AtomicU64::new(0)));
    let (of_script, counted) = (door.clone(), Arc::clone(&sent));
    // Reads no body before the door opens; answers without end to those who want a download.
    let up = Upstream::streams(move |stream| {
        let mut head = Vec::new();
        while find(&head, b"\r\n\r\n").is_none() {
            let mut piece = [0; 1024];
            let count = stream.read(&mut piece).unwrap();
            head.extend_from_slice(&piece[..count]);
        }
        if head.starts_with(b"GET /small") {
            return drop(stream.write_all(&ok("small")));
        }
        if head.starts_with(b"POST") {
            of_script.pass();
            let mut read = head.len() - find(&head, b"\r\n\r\n").unwrap() - 4;
            while read < DOWNLOAD {
                let mut piece = vec![0; 1 << 16];
                read += stream.read(&mut piece).unwrap();
            }
            return drop(stream.write_all(&ok("taken")));
        }
        stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {DOWNLOAD}\r\n\r\n").as_bytes()).unwrap();
        let mut left = DOWNLOAD;
        while left > 0 {
            let piece = vec![b'd'; left.min(1 << 16)];
            if stream.write_all(&piece).is_err() {
                return;
            }
            left -= piece.len();
            counted.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
    });
    let program = Program::serve(2, &PROGRAM.replace("header_timeout = \"500ms\"", "receive_buffers = 128"), &up.url());
    for _ in 0..8 {
        assert_eq!(Client::tcp(program.addr).ask(get("/small")).body, b"small");
    }
    let before = program.resident();
    let mut readers: Vec<Client> = (0..4).map(|_| Client::tcp(program.addr)).collect();
    for reader in &mut readers {
        reader.send(get("/download"));
    }
    let written = Arc::new(AtomicU64::new(0));
    let (addr, of_writers) = (program.addr, Arc::clone(&written));
    let writers = crowd(4, move |_| {
        let mut client = Client::tcp(addr);
        client.send(format!("POST /upload HTTP/1.1\r\nhost: gate\r\ncontent-length: {DOWNLOAD}\r\n\r\n"));
        for _ in 0..DOWNLOAD >> 16 {
            client.send(vec![b'u'; 1 << 16]);
            of_writers.fetch_add(1 << 16, Ordering::Relaxed);
        }
        client.answer().body
    });
    eventually("the uploads are under way", || door.came() == 4);
    let all = 4 * DOWNLOAD as u64;
    let (down, upward) = (settles(|| sent.load(Ordering::Relaxed)), settles(|| written.load(Ordering::Relaxed)));
    assert!(down < all && upward < all, "somebody reads what nobody should: {down} and {upward} of {all}");
    let held = program.resident().saturating_sub(before);
    assert!(held < 24 << 20, "the gateway holds {held} bytes of the others' {}", 2 * all);
    door.open();
    for body in join(writers) {
        assert_eq!(body, b"taken");
    }
    for reader in &mut readers {
        let body = reader.answer().body;
        assert!(body.len() == DOWNLOAD && body.iter().all(|byte| *byte == b'd'));
    }
    drop(readers);
    program.comes_to_rest();
}

#[test]
fn stalled_readers_do_not_take_the_receive_buffers_of_everybody_else() {
    // Answers without end, until nobody is there to send to.
    let up = Upstream::new(|seen, _| {
        if seen.target == "/small" {
            return Reply::Bytes(ok("small"));
        }
        let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {DOWNLOAD}\r\n\r\n").into_bytes();
        answer.resize(answer.len() + DOWNLOAD, b'd');
        Reply::Bytes(answer)
    });
    let gate = Gate::new(1, &format!("[server]\nreceive_buffers = 64\n{ROUTE}"), &up.url());
    let mut readers: Vec<Client> = (0..32).map(|_| gate.client()).collect();
    for reader in &mut readers {
        reader.send(get("/endless"));
    }
    eventually("all are sent something", || up.count() == 32);
    settles(|| gate.metric("headrace_request_duration_seconds_count", &[]) as u64 + up.count() as u64);
    for _ in 0..20 {
        assert_eq!(gate.client().ask(get("/small")).body, b"small");
    }
    drop(readers);
    gate.comes_to_rest();
}

/// More than the kernel's buffers of two connections hold.
const DOWNLOAD: usize = 24 << 20;
