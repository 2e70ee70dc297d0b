//! Unix sockets: whose file is it, and is anybody there.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use super::super::inherit::Inherited;
use super::super::listen::bind;
use super::super::{Ended, StartError, start};
use super::{TempFile, config, two_shards};
use crate::config::{Config, Io, ListenAddr};
use crate::control::StartOptions;
use crate::sys::net::{self, Address};

fn on(path: &Path) -> Config {
    let mut config = config();
    config.server.listen = vec![ListenAddr::Unix(path.to_owned())];
    config
}

fn ask(path: &Path) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(b"GET /nowhere HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_file_that_was_left_behind_is_replaced_and_ours_is_removed() {
    let path = TempFile::path("stale.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a dead process leaves its file");
    for io in [Io::Auto, Io::Epoll] {
        let gateway = start(on(&path), StartOptions { io: Some(io), ..two_shards() }).unwrap();
        assert!(gateway.addrs().is_empty());
        for _ in 0..20 {
            assert!(ask(&path).starts_with("HTTP/1.1 "));
        }
        assert_eq!(gateway.drain(), Ok(Ended::Clean));
        assert!(!path.exists());
    }
}

#[test]
fn a_socket_with_a_listener_and_a_file_that_is_none_are_left_alone() {
    let path = TempFile::path("alive.sock");
    let alive = UnixListener::bind(&path).unwrap();
    let error = start(on(&path), two_shards()).unwrap_err();
    assert!(matches!(error, StartError::Listen { .. }) && error.to_string().contains("another process"), "{error}");
    assert!(UnixStream::connect(&path).is_ok(), "it still listens");
    drop(alive);
    std::fs::remove_file(&path).unwrap();

    let file = TempFile::new("plain.sock", "precious");
    let error = start(on(&file.path), two_shards()).unwrap_err();
    assert!(error.to_string().contains("no socket is in the way"), "{error}");
    assert_eq!(std::fs::metadata(&file.path).unwrap().len(), 8);

    let error = start(on("/nowhere/at/all.sock".as_ref()), two_shards()).unwrap_err();
    assert!(error.to_string().contains("folder"), "{error}");
}

#[test]
fn a_successor_s_file_is_not_removed() {
    let path = TempFile::path("successor.sock");
    let gateway = start(on(&path), two_shards()).unwrap();
    std::fs::remove_file(&path).unwrap();
    let successor = UnixListener::bind(&path).unwrap();
    assert_eq!(gateway.stop(), Ok(Ended::Cut));
    assert!(UnixStream::connect(&path).is_ok());
    drop(successor);
    std::fs::remove_file(&path).unwrap();
}

/// Sockets that were there before, each with a client in its queue: whatever the number of shards, every client is found.
#[test]
#[expect(clippy::disallowed_methods, reason = "sockets and clients of somebody else")]
fn every_inherited_queue_finds_a_shard() {
    for (shares_port, there, shards) in [(true, 3, 2_u32), (true, 2, 4), (true, 2, 2), (false, 1, 3), (false, 1, 1)] {
        let mut addr = "127.0.0.1:0".parse().unwrap();
        let mut sockets: Vec<OwnedFd> = Vec::new();
        for _ in 0..there {
            let socket: OwnedFd = if shares_port {
                net::listen(&Address::Tcp(addr), 16, false).unwrap().release()
            } else {
                TcpListener::bind(addr).unwrap().into()
            };
            let Some(Address::Tcp(bound)) = net::listens_at(&socket) else { panic!("no address") };
            addr = bound;
            sockets.push(socket);
        }
        let clients: Vec<TcpStream> = (0..8).map(|_| TcpStream::connect(addr).unwrap()).collect();
        let mut inherited = Inherited::of(sockets);
        let bound = bind(&[ListenAddr::Tcp(addr)], shards, &mut inherited).unwrap();
        assert_eq!(bound.addrs, [addr]);
        assert!(bound.sockets.iter().all(|of_shard| !of_shard.is_empty()), "{there} sockets, {shards} shards");
        assert!(inherited.take(&Address::Tcp(addr)).is_empty());
        let mut found = 0;
        for socket in bound.sockets.into_iter().flatten() {
            let listener = TcpListener::from(socket);
            listener.set_nonblocking(true).unwrap();
            found += std::iter::from_fn(|| listener.accept().ok()).count();
        }
        assert_eq!(found, clients.len(), "{there} sockets, {shards} shards");
    }
}
