//! Probes: when an endpoint is thought down, and what one probe says.
#![expect(clippy::disallowed_methods, reason = "a scripted server on a thread")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use super::super::health::ProbeState;
use super::super::probe::{Address, probe};
use crate::config::Probe;

#[test]
fn so_many_in_a_row_change_the_mind() {
    let rules = Probe { healthy_after: 2, unhealthy_after: 3, ..Probe::default() };
    let mut state = ProbeState::default();
    let mut changes = Vec::new();
    for (index, good) in [false, false, true, false, false, false, false, true, false, true, true, true].into_iter().enumerate() {
        if state.handle_result(good, &rules) {
            changes.push((index, state.down));
        }
    }
    assert_eq!(changes, [(5, true), (10, false)]);
}

/// What a probe says to a server that answers with `answer` and closes.
fn said(answer: &'static [u8], expect: (u16, u16)) -> Result<(), String> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = [0; 1024];
        let count = stream.read(&mut asked).unwrap();
        stream.write_all(answer).unwrap();
        String::from_utf8_lossy(&asked[..count]).into_owned()
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let result = runtime.block_on(probe(&address, "gpu:1", "/health", expect, Duration::from_secs(30)));
    let asked = server.join().unwrap();
    assert!(asked.starts_with("GET /health HTTP/1.1\r\nhost: gpu:1\r\n"), "{asked}");
    result
}

#[test]
fn a_probe_is_good_when_its_status_is_expected() {
    assert_eq!(said(b"HTTP/1.1 200 OK\r\n\r\n", (200, 299)), Ok(()));
    assert_eq!(said(b"HTTP/1.0 204 No Content\r\n\r\n", (200, 299)), Ok(()));
    assert!(said(b"HTTP/1.1 204 No Content\r\n\r\n", (200, 200)).unwrap_err().contains("answered with 204"));
    assert!(said(b"HTTP/1.1 503 Loading\r\n\r\n", (200, 299)).unwrap_err().contains("answered with 503"));
    assert!(said(b"SSH-2.0-OpenSSH_9.2\r\n", (200, 299)).unwrap_err().contains("not HTTP"));
    assert!(said(b"HTTP", (200, 299)).unwrap_err().contains("closed before"));
}

#[test]
fn nobody_there_is_told_as_it_is() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let result = runtime.block_on(probe(&Address::Tcp(free), "gpu:1", "/", (200, 299), Duration::from_secs(30)));
    assert!(result.unwrap_err().contains("refused"));
}
