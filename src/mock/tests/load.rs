//! The clients against the mock: they count every answer once, find wrong ones, and a mock on its own thread can be asked and
//! stopped.

use std::time::Duration;

use super::wire::scenes;
use crate::config::Io;
use crate::mock::client::{LoadBody, LoadConfig, LoadReport, Pace, run, run_on_threads};
use crate::mock::{MockConfig, MockHandle, start};
use crate::sys::net::Address;

const SHORT: Duration = Duration::from_millis(60);

fn loopback() -> Address {
    Address::Tcp("127.0.0.1:0".parse().unwrap())
}

fn mocks(config: &MockConfig) -> Vec<MockHandle> {
    let mut all = vec![start(MockConfig { io: Io::Epoll, ..config.clone() }, &loopback()).unwrap()];
    match start(MockConfig { io: Io::Uring, ..config.clone() }, &loopback()) {
        Ok(mock) => all.push(mock),
        Err(error) => eprintln!("io_uring is refused here, only epoll is tested: {error}"),
    }
    all
}

fn load(mock: &MockHandle, change: impl Fn(&mut LoadConfig)) -> LoadReport {
    let mut config = LoadConfig::embeddings(mock.address().clone(), "m", 8, SHORT);
    config.io = if mock.driver() == "uring" { Io::Uring } else { Io::Epoll };
    change(&mut config);
    run(&config).unwrap()
}

fn fixed(text: &str) -> LoadBody {
    LoadBody::Fixed { content_type: "application/json".to_owned(), bytes: text.as_bytes().to_vec() }
}

#[test]
fn a_closed_loop_gets_the_right_answer_to_every_request() {
    for mock in mocks(&MockConfig::default()) {
        let report = load(&mock, |_| {});
        let stats = mock.stats().unwrap();
        assert!(report.done >= 8, "each connection asks at least once");
        assert_eq!((report.errors(), report.checked, report.wrong), (0, report.done, 0));
        assert_eq!((stats.calls, stats.items, stats.aborted, stats.in_flight), (report.done, report.done, 0, 0));
        assert_eq!(report.latency.len(), report.done);
        assert!(report.latency_max() >= report.latency_at(0.5) && report.latency_at(0.5) > Duration::ZERO);
        mock.stop();
    }
}

#[test]
fn several_items_a_request_in_base64_are_checked_too() {
    for mock in mocks(&MockConfig { dims: 5, ..MockConfig::default() }) {
        let body = LoadBody::Embeddings { model: "m".to_owned(), items: 12, input_bytes: 16, base64: true, dims: 5 };
        let report = load(&mock, |config| config.body = body.clone());
        let stats = mock.stats().unwrap();
        assert_eq!((report.errors(), report.wrong), (0, 0));
        assert_eq!((stats.calls, stats.items, stats.largest_batch), (report.done, report.done * 12, 12));
        // The same answers, expected in another size, are all wrong.
        let body = LoadBody::Embeddings { model: "m".to_owned(), items: 12, input_bytes: 16, base64: true, dims: 6 };
        let report = load(&mock, |config| config.body = body.clone());
        assert_eq!((report.errors(), report.wrong), (0, report.checked));
        assert!(report.checked > 0);
    }
}

#[test]
fn an_open_loop_keeps_its_rate_and_its_count() {
    for mock in mocks(&MockConfig::default()) {
        let report = load(&mock, |config| config.pace = Pace::Open { per_second: 500.0 });
        // 60 ms at 500 a second: due at 0, 2, ... 58 ms.
        assert_eq!((report.done + report.unsent, report.errors(), report.wrong), (30, 0, 0));
    }
}

#[test]
fn an_open_loop_counts_what_it_could_not_send() {
    // One connection whose first request is answered after the end: all later ones are due and never begun.
    for mock in mocks(&MockConfig { cost_base: SHORT * 2, ..MockConfig::default() }) {
        let report = load(&mock, |config| {
            config.connections = 1;
            config.pace = Pace::Open { per_second: 500.0 };
        });
        assert_eq!((report.done + report.unsent, report.errors()), (30, 0));
        assert!(report.done <= 1, "the next one is due while the first is computed");
    }
}

#[test]
fn errors_are_counted_by_status_and_by_reason() {
    for mock in mocks(&MockConfig { error_rate: 1.0, ..MockConfig::default() }) {
        let report = load(&mock, |_| {});
        assert_eq!((report.done, report.checked, report.latency.len()), (0, 0, 0));
        assert_eq!(report.statuses.keys().copied().collect::<Vec<_>>(), [503]);
        assert_eq!(report.statuses[&503], mock.stats().unwrap().errors);
        let stalled = load(&mock, |config| {
            config.body = fixed(r#"{"input":"mock:stall"}"#);
            config.timeout = Duration::from_millis(5);
        });
        assert_eq!(stalled.failures.keys().copied().collect::<Vec<_>>(), ["timeout"]);
    }
    for mock in mocks(&MockConfig::default()) {
        let report = load(&mock, |config| config.body = fixed(r#"{"input":"mock:close-mid-body"}"#));
        assert_eq!((report.done, report.failures.keys().copied().collect::<Vec<_>>()), (0, vec!["closed"]));
        let address = mock.address().clone();
        mock.stop();
        let config = LoadConfig::embeddings(address, "m", 2, Duration::from_millis(1));
        assert_eq!(run(&config).unwrap().failures.keys().copied().collect::<Vec<_>>(), ["connect"], "nobody listens any more");
    }
}

#[test]
fn threads_share_connections_and_add_up() {
    for mock in mocks(&MockConfig::default()) {
        let config = LoadConfig::embeddings(mock.address().clone(), "m", 5, SHORT);
        let report = run_on_threads(&config, 2, |_| {}).unwrap();
        assert!(report.done >= 5);
        assert_eq!((report.errors(), report.checked, report.wrong), (0, report.done, 0));
        assert_eq!(mock.stats().unwrap().calls, report.done);
    }
}

#[test]
fn a_mock_on_a_unix_socket_removes_it_at_the_end() {
    let path = std::env::temp_dir().join(format!("headrace-mock-{}.sock", std::process::id()));
    let mock = start(MockConfig::default(), &Address::Unix(path.clone())).unwrap();
    assert_eq!((mock.addr(), mock.url()), (None, format!("unix:{}", path.display())));
    let report = load(&mock, |_| {});
    assert!(report.done > 0);
    assert_eq!((report.errors(), report.wrong), (0, 0));
    mock.stop();
    assert!(!path.exists());
}

#[test]
fn an_address_that_cannot_be_bound_is_an_error() {
    assert!(start(MockConfig::default(), &Address::Unix("/no/such/folder/mock.sock".into())).is_err());
}

#[test]
fn nothing_stays_open_or_leased_behind_a_mock() {
    scenes(&MockConfig::default(), |scene| {
        scene.rt.shut_down();
        let stats = scene.rt.stats();
        assert_eq!((stats.open_sockets, stats.leased_buffers), (0, 0));
    });
}
