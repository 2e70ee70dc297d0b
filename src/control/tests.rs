//! A gateway in this process, on ports the kernel chooses, asked over real sockets. What shards answer is not looked at here.

mod health;
mod listen;
mod parts;
mod process;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use super::supervise::Event;
use super::{Ended, ReloadError, RunningGateway, StartError, StartOptions, load, start};
use crate::config::{Config, Io, ListenAddr, check};

const TEXT: &str = r#"
[server]
listen = ["LISTEN"]
drain_timeout = "20s"
receive_buffers = 64
inbox_slots = 64
[admin]
listen = "ADMIN"
[[upstreams]]
name = "gpu0"
endpoints = ["http://127.0.0.1:1"]
[[models]]
name = "*"
upstream = "gpu0"
"#;

/// A file's text. Files cannot say port 0, so each process and `place` has a loopback address of its own.
fn text(place: u8) -> String {
    let [_, _, a, b] = std::process::id().to_be_bytes();
    let addr = |port: u16| format!("127.{}.{b}.{}:{port}", a | 1, place.max(1));
    TEXT.replace("LISTEN", &addr(8080)).replace("ADMIN", &addr(9090))
}

/// On ports the kernel chooses.
fn config() -> Config {
    let mut config = checked(&text(1));
    config.server.listen = vec![ListenAddr::Tcp(([127, 0, 0, 1], 0).into())];
    config.admin.listen = ([127, 0, 0, 1], 0).into();
    config
}

fn checked(text: &str) -> Config {
    check("test.toml", text).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn two_shards() -> StartOptions {
    StartOptions { shards: Some(2), pin: false, ..StartOptions::default() }
}

fn started(config: Config) -> RunningGateway {
    start(config, two_shards()).unwrap_or_else(|error| panic!("{error}"))
}

#[expect(clippy::disallowed_methods, reason = "a test's own client")]
fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Everything a server says until it closes.
fn exchange(addr: SocketAddr, request: &str) -> String {
    let mut stream = connect(addr);
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

fn ask(addr: SocketAddr, target: &str) -> String {
    exchange(addr, &format!("GET {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"))
}

/// Status and body.
fn admin(gateway: &RunningGateway, target: &str) -> (u16, String) {
    let answer = ask(gateway.admin_addr(), target);
    let status = answer.strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

/// An exchange that is begun and not ended by its client: the body is announced and does not come.
fn begin_exchange(addr: SocketAddr) -> TcpStream {
    let mut stream = connect(addr);
    stream.write_all(b"POST /v1/embeddings HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\nexpect: 100-continue\r\n\r\n{").unwrap();
    stream
}

fn line<'a>(metrics: &'a str, begin: &str) -> &'a str {
    metrics.lines().find(|line| line.starts_with(begin)).unwrap_or_else(|| panic!("no {begin} in\n{metrics}"))
}

#[test]
fn a_gateway_starts_serves_and_ends_on_each_driver() {
    for io in [Io::Auto, Io::Epoll] {
        let gateway = start(config(), StartOptions { io: Some(io), ..two_shards() }).unwrap();
        let (addrs, admin_addr) = (gateway.addrs(), gateway.admin_addr());
        assert_eq!((addrs.len(), gateway.shards()), (1, 2));
        assert_ne!(addrs[0].port(), 0);
        assert!(io == Io::Auto || gateway.driver() == "epoll");
        // Enough connections for the kernel to give each shard some.
        for _ in 0..16 {
            assert!(ask(addrs[0], "/nowhere").starts_with("HTTP/1.1 "));
        }
        for target in ["/livez", "/healthz", "/health"] {
            assert_eq!(admin(&gateway, target), (200, "alive\n".to_owned()));
        }
        assert_eq!(admin(&gateway, "/readyz"), (200, "ready\n".to_owned()));
        assert!(admin(&gateway, "/").1.contains("/metrics"));
        let (status, hint) = admin(&gateway, "/metric");
        assert_eq!(status, 404);
        assert!(hint.contains("/metrics"));
        let metrics = ask(admin_addr, "/metrics");
        assert!(metrics.contains("content-type: application/openmetrics-text; version=1.0.0"), "{metrics}");
        assert!(metrics.contains("headrace_build_info") && metrics.ends_with("# EOF\n"), "{metrics}");
        assert!(gateway.metrics().contains("headrace_build_info"));

        assert_eq!(gateway.drain(), Ok(Ended::Clean));
        for addr in [addrs[0], admin_addr] {
            assert!(TcpStream::connect_timeout(&addr, Duration::from_secs(1)).is_err(), "{addr} still answers");
        }
    }
}

#[test]
fn a_drain_waits_for_what_is_begun_and_says_so() {
    let gateway = started(config());
    let begun = accepted(&gateway);
    gateway.begin_drain();
    while admin(&gateway, "/readyz").0 == 200 {}
    assert_eq!(admin(&gateway, "/readyz"), (503, "draining\n".to_owned()));
    assert_eq!(admin(&gateway, "/livez").0, 200, "it lives while it drains");
    assert!(matches!(gateway.reload(config()), Err(ReloadError::Draining)));
    drop(begun);
    assert_eq!(gateway.wait(), Ok(Ended::Clean));
}

#[test]
fn a_drain_ends_at_its_timeout_and_a_stop_at_once() {
    let mut short = config();
    short.server.drain_timeout = Duration::from_millis(100);
    let gateway = started(short);
    let begun = accepted(&gateway);
    assert_eq!(gateway.drain(), Ok(Ended::Cut));
    drop(begun);

    let gateway = started(config());
    let begun = accepted(&gateway);
    assert_eq!(gateway.stop(), Ok(Ended::Cut));
    drop(begun);
}

/// A begun exchange that its shard is known to hold.
fn accepted(gateway: &RunningGateway) -> TcpStream {
    let begun = begin_exchange(gateway.addrs()[0]);
    // Both shards have turned after the connection was made: it was accepted.
    for _ in 0..3 {
        assert_eq!(admin(gateway, "/livez").0, 200);
    }
    begun
}

#[test]
fn a_shard_that_broke_ends_the_gateway_with_its_reason() {
    let gateway = started(config());
    gateway.events.try_send(Event::ShardEnded(1, "the ring is gone".to_owned())).unwrap();
    let error = gateway.wait().unwrap_err();
    assert_eq!(error.to_string(), "shard 1 broke: the ring is gone");
}

#[test]
fn a_gateway_that_is_dropped_ends() {
    let gateway = started(config());
    let addr = gateway.addrs()[0];
    drop(gateway);
    assert!(TcpStream::connect_timeout(&addr, Duration::from_secs(1)).is_err());
}

#[test]
fn a_reload_applies_all_or_nothing_and_is_counted() {
    let gateway = started(config());
    for round in 1..=50 {
        gateway.reload(config()).unwrap_or_else(|error| panic!("{round}: {error}"));
        // Each shard must have taken it; former ones are held for two seconds, at most 64 at a time.
        assert_eq!(admin(&gateway, "/livez").0, 200);
    }
    let mut other = config();
    other.server.listen = vec![ListenAddr::Unix("/tmp/x.sock".into())];
    other.server.inbox_slots = 128;
    other.upstreams[0].name = "renamed".to_owned();
    let error = gateway.reload(other).unwrap_err();
    assert!(matches!(&error, ReloadError::NeedsRestart(keys) if keys[..] == ["server.listen", "server.inbox_slots"]), "{error}");
    assert!(error.to_string().contains("`server.listen`, `server.inbox_slots`"), "{error}");
    assert!(matches!(gateway.reload_file(), Err(ReloadError::NoFile)));

    let metrics = gateway.metrics();
    assert_eq!(line(&metrics, "headrace_config_reloads_total{result=\"ok\"}"), "headrace_config_reloads_total{result=\"ok\"} 50");
    assert_eq!(line(&metrics, "headrace_config_reloads_total{result=\"failed\"}"), "headrace_config_reloads_total{result=\"failed\"} 2");
    assert_eq!(line(&metrics, "headrace_config_last_reload_successful"), "headrace_config_last_reload_successful 0");
    assert!(metrics.contains("upstream=\"gpu0\"") && !metrics.contains("renamed"), "{metrics}");
    assert_eq!(gateway.drain(), Ok(Ended::Clean));
}

#[test]
fn a_file_with_mistakes_keeps_the_former_configuration() {
    let text = text(2);
    let file = TempFile::new("reload.toml", &text);
    let options = StartOptions { config_path: Some(file.path.clone()), ..two_shards() };
    let gateway = start(load(&file.path).unwrap(), options).unwrap();
    gateway.reload_file().unwrap();

    file.write(&text.replace("gpu0", "gpu1"));
    gateway.reload_file().unwrap();
    assert!(gateway.metrics().contains("upstream=\"gpu1\""));

    file.write("[server]\nlisen = 1\n[[upstreams]]\nname = 3\n");
    let error = gateway.reload_file().unwrap_err().to_string();
    assert!(error.contains("lisen") && error.contains("upstreams.name"), "all mistakes: {error}");
    assert!(gateway.metrics().contains("upstream=\"gpu1\""));
    std::fs::remove_file(&file.path).unwrap();
    assert!(gateway.reload_file().unwrap_err().to_string().contains("cannot be read"));
    assert_eq!(admin(&gateway, "/readyz").0, 200);
    assert_eq!(gateway.stop(), Ok(Ended::Cut));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test's own listener")]
fn an_address_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let mut conflict = config();
    conflict.server.listen.push(ListenAddr::Tcp(addr));
    let error = start(conflict, two_shards()).unwrap_err();
    assert!(matches!(&error, StartError::Listen { address: ListenAddr::Tcp(at), .. } if *at == addr), "{error}");
    assert!(error.to_string().contains(&addr.to_string()) && error.to_string().contains("another process"), "{error}");

    let mut conflict = config();
    conflict.admin.listen = addr;
    let error = start(conflict, two_shards()).unwrap_err();
    assert!(matches!(error, StartError::Admin { .. }), "{error}");

    // A second gateway with the same configuration must not take half of the first one's clients.
    let first = started(config());
    let mut same = config();
    same.server.listen = vec![ListenAddr::Tcp(first.addrs()[0])];
    same.admin.listen = first.admin_addr();
    assert!(matches!(start(same, two_shards()), Err(StartError::Admin { .. })));
}

/// A file of this test process, removed at the end.
struct TempFile {
    path: PathBuf,
}

impl TempFile {
    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("headrace-{}-{name}", std::process::id()))
    }

    fn new(name: &str, text: &str) -> TempFile {
        let file = TempFile { path: TempFile::path(name) };
        file.write(text);
        file
    }

    #[expect(clippy::disallowed_methods, reason = "a test's own file")]
    fn write(&self, text: &str) {
        std::fs::write(&self.path, text).unwrap();
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
