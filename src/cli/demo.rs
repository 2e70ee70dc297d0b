//! `headrace demo`: gateway, mock model server and clients in one process; direct against coalesced, as a table. It starts the
//! parts and prints; the measuring is in `rounds`, the table in `table`, and what serving means is control's business.

mod rounds;
mod table;
#[cfg(test)]
mod tests;

use std::io::{IsTerminal, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::config::{Config, ListenAddr};
use crate::control::{self, RunningGateway, StartOptions};
use crate::mock::{MockConfig, MockHandle, start};
use crate::sys::net::Address;

use rounds::{Plan, measure};

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Keep the gateway and the mock running after the table, until interrupted.
    #[arg(long)]
    pub(crate) keep: bool,
}

/// What the demo needs of a running gateway; control's handle is one.
pub(crate) trait Gateway {
    /// Where it listens.
    fn addr(&self) -> SocketAddr;
    /// Where its admin pages are.
    fn admin_addr(&self) -> SocketAddr;
    /// Stops it and waits for its threads.
    fn stop(self: Box<Self>);
}

/// Starts a gateway with a configuration; the error is for a person.
pub(crate) type StartGateway = fn(Config) -> Result<Box<dyn Gateway>, String>;

pub(crate) fn run(args: DemoArgs) -> ExitCode {
    match show(&args, start_gateway) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            super::complain(&format!("headrace demo: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// The gateway as `headrace serve` would start it, in this process.
fn start_gateway(config: Config) -> Result<Box<dyn Gateway>, String> {
    let running = control::start(config, StartOptions::default()).map_err(|error| error.to_string())?;
    match running.addrs().first() {
        Some(addr) => Ok(Box::new(InProcess { addr: *addr, running })),
        None => Err("the gateway has no TCP listener".to_owned()),
    }
}

struct InProcess {
    addr: SocketAddr,
    running: RunningGateway,
}

impl Gateway for InProcess {
    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn admin_addr(&self) -> SocketAddr {
        self.running.admin_addr()
    }

    fn stop(self: Box<Self>) {
        if let Err(error) = self.running.stop() {
            super::complain(&format!("headrace demo: the gateway did not end well: {error}"));
        }
    }
}

/// The whole demo; false when an answer was wrong or missing.
fn show(args: &DemoArgs, start_gateway: StartGateway) -> Result<bool, String> {
    let mock = start_mock(COST_BASE, COST_PER_ITEM)?;
    let gateway = start_gateway(gateway_config(&mock)?)?;
    let cells = measure(&Plan::default(), &mock, &Address::Tcp(gateway.addr()), progress)?;
    progress("");
    super::say(&format!(
        "A mock GPU computes one call at a time: 5 ms + 0.1 ms per item. Each client asks for one embedding, waits, asks again.\n\
         All of it runs in this process, on this machine's cores; medians of {} short rounds.\n",
        Plan::default().rounds
    ));
    super::say(table::render(&cells).trim_end());
    let fine = cells.iter().all(|cell| cell.wrong == 0 && cell.errors == 0);
    if args.keep {
        super::say(&format!("\n{}", kept(gateway.addr(), gateway.admin_addr(), &mock)));
        super::mock::wait_for_the_end().map_err(|error| error.to_string())?;
    } else {
        super::say(&format!("\n{}", next_steps()));
    }
    gateway.stop();
    mock.stop();
    Ok(fine)
}

fn start_mock(cost_base: Duration, cost_per_item: Duration) -> Result<MockHandle, String> {
    let config = MockConfig { cost_base, cost_per_item, ..MockConfig::default() };
    start(config, &Address::Tcp(ANY_PORT)).map_err(|error| format!("the mock cannot start: {error}"))
}

/// The configuration people are shown, with the mock as its endpoint and ports the kernel chooses (a fixed port could be shared
/// with somebody else's gateway without notice: listeners use `SO_REUSEPORT`).
fn gateway_config(mock: &MockHandle) -> Result<Config, String> {
    let text = CONFIG.replace("http://127.0.0.1:8000", &mock.url());
    let mut config = crate::config::check("demo", &text).map_err(|mistakes| mistakes.render(false))?;
    config.server.listen = vec![ListenAddr::Tcp(ANY_PORT)];
    config.admin.listen = ANY_PORT;
    Ok(config)
}

/// Tells a person at a terminal how far it is, on one line that the next call overwrites.
fn progress(text: &str) {
    let mut stderr = std::io::stderr();
    if stderr.is_terminal() {
        let _ = write!(stderr, "\r\x1b[K{text}");
        let _ = stderr.flush();
    }
}

fn kept(addr: SocketAddr, admin: SocketAddr, mock: &MockHandle) -> String {
    format!(
        "Still serving; stop with ctrl-c.\n  {}\n  curl -s http://{admin}/metrics\n  curl -s {}/mock/stats",
        curl(&addr.to_string()),
        mock.url()
    )
}

fn next_steps() -> String {
    let config: String = CONFIG.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "To go on, put your model server (or `headrace mock`) behind this headrace.toml:\n\n{config}\n\
         and ask it:\n\n  headrace serve --config headrace.toml\n  {}",
        curl("127.0.0.1:8080")
    )
}

fn curl(place: &str) -> String {
    format!("curl -s http://{place}/v1/embeddings -H 'content-type: application/json' -d '{{\"model\":\"mock\",\"input\":\"hello\"}}'")
}

/// A complete configuration, as in DESIGN section 7.
const CONFIG: &str = r#"[server]
listen = ["127.0.0.1:8080"]

[[upstreams]]
name = "gpu0"
endpoints = ["http://127.0.0.1:8000"]

[[models]]
name = "*"
upstream = "gpu0"
"#;
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const COST_BASE: Duration = Duration::from_millis(5);
const COST_PER_ITEM: Duration = Duration::from_micros(100);
