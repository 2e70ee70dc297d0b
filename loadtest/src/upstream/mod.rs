//! `headrace-loadtest upstream`: an HTTP/1.1 server that gives every request the same answer, as cheaply as an honest one can, so
//! that a measurement shows the gateway in front of it. Models, vectors and GPU-shaped costs belong to `headrace mock`.
//!
//! A chat that wants a stream (`POST .../chat/completions` with `"stream":true`) is sent events at a fixed distance, each stamped
//! with its number and the moment it was sent. Framing is read strictly; what has two readings is refused with 400.
//!
//! Which driver is cheaper was measured (2 cores, loopback, 70-byte POST, processor time of this server): answers cost 2.5 us on
//! io_uring and 2.8 on epoll at 64 connections, 3.7 and 3.4 at 1,000; an event of 2,000 streams at 20 a second costs 25 us on
//! io_uring (it may be that the completion of each send ends a wait, and the next wait needs a timer of its own) and 11 on epoll. So
//! `auto` is epoll where streams are asked for by `--events`, else io_uring.

mod events;
#[cfg(test)]
mod loads;
mod request;
mod server;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::num::NonZeroU64;
use std::time::Duration;

use clap::Args;
use headrace::config::{Io, ListenAddr};
use headrace::mock::own_driver;
use headrace::sys::EventFd;
use headrace::sys::net::Address;

pub(crate) use server::{Answers, Server};

use crate::args::{Driver, duration};
use crate::machine;

#[derive(Debug, Args)]
pub(crate) struct UpstreamArgs {
    /// Where to listen: `127.0.0.1:8000` or `unix:/path`.
    #[arg(long, value_name = "ADDRESS", value_parser = headrace::config::parse_listen)]
    pub(crate) listen: ListenAddr,
    /// Bytes of each answer's body (JSON; 2 at least).
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(2..=1 << 28))]
    pub(crate) answer_bytes: u32,
    /// The status of each answer.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u16).range(200..=599))]
    pub(crate) status: u16,
    /// Events of a stream, 100 when nothing is said; a request's `max_tokens` may ask for fewer. 0: chats are answered like everything
    /// else.
    #[arg(long, value_name = "N")]
    pub(crate) events: Option<u32>,
    /// Time between the events of a stream; the first leaves at once.
    #[arg(long, value_name = "TIME", default_value = "50ms", value_parser = duration)]
    pub(crate) every: Duration,
    /// Run on this core only.
    #[arg(long, value_name = "N")]
    pub(crate) core: Option<usize>,
    /// Which driver moves bytes; auto is epoll with `--events`, else io_uring where it is granted.
    #[arg(long, value_name = "DRIVER", value_enum, default_value_t = Driver::Auto)]
    pub(crate) io: Driver,
}

/// Serves until the process is ended.
///
/// # Errors
/// For a person: the core, the address or the driver cannot be had.
pub(crate) fn run(args: &UpstreamArgs) -> Result<(), String> {
    machine::prepare(args.core)?;
    // Events are to leave when they are due, not up to 50 us later, which is the kernel's usual slack.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    let address = match &args.listen {
        ListenAddr::Tcp(addr) => Address::Tcp(*addr),
        ListenAddr::Unix(path) => {
            remove_left_over(path);
            Address::Unix(path.clone())
        }
    };
    let answers =
        Answers { status: args.status, body_bytes: args.answer_bytes as usize, events: args.events.unwrap_or(EVENTS), every: args.every };
    let start = || -> io::Result<Server> { Server::new(own_driver(driver(args), &EventFd::new()?)?, &address, answers) };
    let mut server = start().map_err(|error| format!("{address:?}: {error}"))?;
    let place = match (server.local_addr(), &address) {
        (Some(addr), _) => format!("http://{addr}"),
        (None, Address::Unix(path)) => format!("unix:{}", path.display()),
        (None, Address::Tcp(addr)) => format!("http://{addr}"),
    };
    let _ = writeln!(io::stderr(), "headrace-loadtest upstream on {place} ({})", server.driver_name());
    loop {
        server.turn(None).map_err(|error| error.to_string())?;
    }
}

fn driver(args: &UpstreamArgs) -> Io {
    let streams = args.events.is_some_and(|events| events > 0);
    if args.io == Driver::Auto && streams { Io::Epoll } else { args.io.into() }
}

/// A socket file that nobody listens on any more is in the way.
fn remove_left_over(path: &std::path::Path) {
    if std::os::unix::net::UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
        let _ = std::fs::remove_file(path);
    }
}

/// A short chat's answer.
const EVENTS: u32 = 100;
