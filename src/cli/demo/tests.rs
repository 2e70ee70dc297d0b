//! The demo without a gateway of its own: a stand-in passes the mock's address on, so both paths are the direct one.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Duration;

use super::rounds::{Cell, Plan, Way, measure, median};
use super::{CONFIG, Gateway, gateway_config, kept, next_steps, start_gateway, start_mock, table};
use crate::config::{Config, EndpointAddr, ListenAddr};
use crate::mock::DIMS;
use crate::mock::client::{LoadBody, LoadConfig, run};

/// Stands where the gateway will: its address is the first upstream's.
struct Passage(SocketAddr);

impl Gateway for Passage {
    fn addr(&self) -> SocketAddr {
        self.0
    }

    fn admin_addr(&self) -> SocketAddr {
        self.0
    }

    fn stop(self: Box<Self>) {}
}

fn start_passage(config: Config) -> Result<Box<dyn Gateway>, String> {
    let EndpointAddr::Tcp { resolved: Some(addr), .. } = config.upstreams[0].endpoints[0].addr else {
        return Err("not an address".to_owned());
    };
    Ok(Box::new(Passage(addr)))
}

#[test]
fn both_paths_are_measured_and_every_answer_checked() {
    let mock = start_mock(Duration::from_millis(1), Duration::ZERO).unwrap();
    let gateway = start_passage(gateway_config(&mock).unwrap()).unwrap();
    let plan = Plan { clients: vec![1, 4], rounds: 2, round: Duration::from_millis(10) };
    let told = RefCell::new(Vec::new());
    let address = crate::sys::net::Address::Tcp(gateway.addr());
    // Large batches from before must not show in the table.
    let mut earlier = LoadConfig::embeddings(address.clone(), "mock", 1, Duration::ZERO);
    earlier.body = LoadBody::Embeddings { model: "mock".to_owned(), items: 500, input_bytes: 16, base64: false, dims: DIMS };
    assert_eq!(run(&earlier).unwrap().done, 1);
    let cells = measure(&plan, &mock, &address, |text| told.borrow_mut().push(text.to_owned())).unwrap();
    let kinds: Vec<(u32, Way)> = cells.iter().map(|cell| (cell.clients, cell.way)).collect();
    assert_eq!(kinds, [(1, Way::Direct), (1, Way::Headrace), (4, Way::Direct), (4, Way::Headrace)]);
    for cell in &cells {
        assert!(cell.checked >= u64::from(cell.clients * plan.rounds), "each client asks at least once a round: {cell:?}");
        assert_eq!((cell.wrong, cell.errors), (0, 0));
        assert!((cell.mean_batch - 1.0).abs() < 1e-9, "nothing merges here: {cell:?}");
        assert!(cell.p50 >= Duration::from_millis(1) && cell.p99 >= cell.p50, "a call costs 1 ms: {cell:?}");
    }
    let sum: u64 = cells.iter().map(|cell| cell.checked).sum();
    assert_eq!(mock.stats().unwrap().items, 500 + sum, "what was checked is what was computed");
    assert_eq!(
        told.into_inner(),
        ["1 clients, round 1 of 2", "1 clients, round 2 of 2", "4 clients, round 1 of 2", "4 clients, round 2 of 2"]
    );
    gateway.stop();
}

#[test]
fn the_table() {
    let cell = |clients, way, requests_per_second, p50, mean_batch| Cell {
        clients,
        way,
        requests_per_second,
        p50: Duration::from_micros(p50),
        p99: Duration::from_micros(p50 * 2),
        mean_batch,
        checked: 500,
        wrong: 0,
        errors: 0,
    };
    let mut cells = vec![cell(1, Way::Direct, 190.0, 5_240, 1.0), cell(1, Way::Headrace, 180.5, 5_400, 1.0)];
    cells.extend([cell(128, Way::Direct, 196.0, 653_000, 1.0), cell(128, Way::Headrace, 3_900.0, 32_800, 31.96)]);
    let expected = "\
clients  path      requests/s    gain        p50        p99  mean batch  answers checked  wrong
      1  direct           190            5.24 ms   10.48 ms         1.0              500      0
      1  headrace         180    0.9x    5.40 ms   10.80 ms         1.0              500      0
    128  direct           196             653 ms    1306 ms         1.0              500      0
    128  headrace        3900   19.9x   32.80 ms   65.60 ms        32.0              500      0
";
    assert_eq!(table::render(&cells), expected);
    cells[1].errors = 3;
    assert!(table::render(&cells).ends_with("3 requests got no good answer: these numbers are not to be trusted\n"));
}

#[test]
fn medians() {
    for (values, expected) in [(&[][..], 0.0), (&[3.0], 3.0), (&[9.0, 1.0, 5.0], 5.0), (&[1.0, 2.0], 2.0)] {
        assert!((median(values.iter().copied()) - expected).abs() < 1e-9, "{values:?}");
    }
}

#[test]
fn the_configuration_that_is_shown_is_valid_and_leads_to_the_mock() {
    assert_eq!(CONFIG.lines().count(), 10);
    assert!(crate::config::check("demo", CONFIG).is_ok());
    let mock = start_mock(Duration::ZERO, Duration::ZERO).unwrap();
    let config = gateway_config(&mock).unwrap();
    assert_eq!(config.server.listen, [ListenAddr::Tcp("127.0.0.1:0".parse().unwrap())], "the kernel chooses");
    assert_eq!(start_passage(config).unwrap().addr(), mock.addr().unwrap());
    assert!(
        next_steps().contains("  endpoints = [\"http://127.0.0.1:8000\"]\n") && next_steps().contains("curl -s http://127.0.0.1:8080/v1")
    );
    let addr = "127.0.0.1:5555".parse().unwrap();
    assert!(kept(addr, addr, &mock).contains("curl -s http://127.0.0.1:5555/v1/embeddings"));
}

#[test]
fn a_gateway_that_cannot_start_is_said_so() {
    let mock = start_mock(Duration::ZERO, Duration::ZERO).unwrap();
    let mut config = gateway_config(&mock).unwrap();
    config.server.listen = vec![crate::config::ListenAddr::Tcp("192.0.2.1:1".parse().unwrap())];
    let Err(error) = start_gateway(config) else { panic!("192.0.2.1 (TEST-NET-1) is no address of this machine") };
    assert!(error.contains("192.0.2.1:1"), "{error}");
}
