//! A gateway in this process, with what its metrics say, and the one way to wait for something.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use headrace::config::{Config, Io, ListenAddr, check};
use headrace::control::{RunningGateway, StartOptions, start};
use headrace::mock::{MockConfig, MockHandle};
use headrace::sys::net::Address;

use crate::checker;
use crate::client::Client;

/// A running gateway on a port of its own.
pub(crate) struct Gate {
    pub(crate) gateway: RunningGateway,
    pub(crate) addr: SocketAddr,
}

impl Gate {
    /// `text` is the configuration, in which each `$UP` stands for the endpoint `up`.
    pub(crate) fn new(shards: u32, text: &str, up: &str) -> Gate {
        Gate::with(shards, config(text, up), StartOptions::default())
    }

    pub(crate) fn with(shards: u32, config: Config, options: StartOptions) -> Gate {
        let gateway = start(config, StartOptions { shards: Some(shards), io: Some(io()), ..options }).expect("the gateway starts");
        let expected = if io() == Io::Epoll { "epoll" } else { "uring" };
        assert_eq!(gateway.driver(), expected, "HEADRACE_IO=epoll where io_uring is refused");
        let addr = gateway.addrs()[0];
        Gate { gateway, addr }
    }

    pub(crate) fn client(&self) -> Client {
        Client::tcp(self.addr)
    }

    /// The sum of a metric's samples that have these labels.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        sum(&checker::check(&self.gateway.metrics()), name, labels)
    }

    /// Connections accepted so far, by shard.
    pub(crate) fn opened(&self) -> Vec<f64> {
        let samples = checker::check(&self.gateway.metrics());
        (0..self.gateway.shards())
            .map(|shard| sum(&samples, "headrace_connections_opened_total", &[("shard", &shard.to_string())]))
            .collect()
    }

    /// Waits until nothing is open, waiting or in flight any more.
    pub(crate) fn comes_to_rest(&self) {
        eventually(&format!("all gauges of {} return to zero", self.addr), || {
            let samples = checker::check(&self.gateway.metrics());
            GAUGES.iter().all(|name| sum(&samples, name, &[]) == 0.0)
        });
    }
}

pub(crate) const GAUGES: [&str; 5] = [
    "headrace_connections",
    "headrace_exchanges_in_flight",
    "headrace_tickets",
    "headrace_queued_items",
    "headrace_upstream_calls_in_flight",
];

pub(crate) fn sum(samples: &checker::Samples, name: &str, labels: &[(&str, &str)]) -> f64 {
    let has = |of: &[(String, String)], (name, value): &(&str, &str)| of.iter().any(|label| label.0 == *name && label.1 == *value);
    samples.iter().filter(|((of, all), _)| of == name && labels.iter().all(|label| has(all, label))).map(|(_, value)| value).sum()
}

/// A configuration that listens where there is room.
pub(crate) fn config(text: &str, up: &str) -> Config {
    let mut config = check("it.toml", &text.replace("$UP", up)).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    for listen in &mut config.server.listen {
        if let ListenAddr::Tcp(addr) = listen {
            addr.set_port(0);
        }
    }
    config.admin.listen.set_port(0);
    config
}

/// The driver under test.
pub(crate) fn io() -> Io {
    match std::env::var("HEADRACE_IO").as_deref() {
        Ok("epoll") => Io::Epoll,
        Ok("uring") | Err(_) => Io::Uring,
        Ok(other) => panic!("HEADRACE_IO={other}"),
    }
}

pub(crate) fn mock(config: MockConfig) -> MockHandle {
    mock_at(config, &any_port()).unwrap()
}

pub(crate) fn mock_at(config: MockConfig, address: &Address) -> std::io::Result<MockHandle> {
    headrace::mock::start(MockConfig { io: io(), ..config }, address)
}

pub(crate) fn any_port() -> Address {
    Address::Tcp("127.0.0.1:0".parse().unwrap())
}

/// Looks until `what` is so. It fails after a time that no machine needs.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "after {PATIENCE:?} still not: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Looks until a number does not change any more from one look to the next, many times over.
pub(crate) fn settles(mut number: impl FnMut() -> u64) -> u64 {
    let (mut last, mut same) = (number(), 0);
    eventually("it settles", || {
        let now = number();
        same = if now == last { same + 1 } else { 0 };
        last = now;
        same > 100
    });
    last
}

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// splitmix64, for seeded choices.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

/// A path for a socket or a file of this test, unlike those of others.
pub(crate) fn scratch(name: &str) -> std::path::PathBuf {
    static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    std::env::temp_dir().join(format!("headrace-it-{}-{number}-{name}", std::process::id()))
}
