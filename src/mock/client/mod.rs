//! Clients of a model server that know its answers: closed loop (each connection asks again when it was answered) or open loop
//! (requests are due at fixed moments, and a late one counts from its moment: no coordinated omission). It reports what it saw;
//! comparing and printing belong to `cli/demo` and `loadtest/`.
//!
//! - `template`: a request rendered once, with holes for what makes it unique. `pace`: when requests are due. `run`: the tasks of
//!   one thread. `line`: one connection. `events`: answers that are streams. `check`: is this the answer to what we asked.
//!   `report`: what came of it. `stamp`: when an event of a stream was sent. `moment`: the clock for it.
//!
//! A latency ends when the turn that brought the last byte woke from its wait, on the clock read there, and begins in a closed
//! loop when the request is queued: what the generator itself needs to hand a turn's requests to the kernel is in it.

mod check;
mod events;
mod line;
mod moment;
mod pace;
mod report;
mod run;
mod stamp;
mod template;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::own_runtime;
use crate::config::Io;
use crate::runtime::{Clock, RealClock};
use crate::sys::EventFd;
use crate::sys::net::Address;

pub use moment::monotonic;
pub use pace::Pace;
pub use report::{IdleReport, LoadReport, StreamReport, Timing};
pub use stamp::{STAMP_BYTES, read_stamp, write_stamp};
pub use template::{INPUT_BYTES_MIN, LoadBody};

/// What to ask, whom, how often and how long.
#[derive(Clone, PartialEq, Debug)]
pub struct LoadConfig {
    pub address: Address,
    /// The `Host` value.
    pub authority: String,
    pub path: String,
    pub body: LoadBody,
    /// Some requests have another body.
    pub mix: Option<Mix>,
    /// Connections, each with one request at a time. At most 65,536.
    pub connections: u32,
    /// Connections beside them that ask once, before the start, and then are only kept open.
    pub idle: u32,
    /// A connection ends with this request of its own (which says `connection: close`, and then the server's end is waited for) and is
    /// made anew; what making it takes is part of the next request's latency.
    pub churn: Option<u32>,
    pub pace: Pace,
    /// Before the duration begins; nothing in it is counted.
    pub warmup: Duration,
    /// No request is begun after this; those begun are waited for.
    pub duration: Duration,
    /// Per request (of a stream: per silence); then its connection is closed and made anew.
    pub timeout: Duration,
    /// Compare each vector with [`super::vector`].
    pub check: bool,
    pub io: Io,
    /// Sets requests of several runs apart.
    pub salt: u16,
}

/// Some requests have another body.
#[derive(Clone, PartialEq, Debug)]
pub struct Mix {
    /// Of all requests, 0 to 1.
    pub share: f64,
    pub body: LoadBody,
}

/// How far a run has come.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Progress {
    pub done: u64,
    pub errors: u64,
    pub events: u64,
}

impl LoadConfig {
    /// Embeddings of one short text each from `connections` closed-loop clients, checked, for `duration`.
    #[must_use]
    pub fn embeddings(address: Address, model: &str, connections: u32, duration: Duration) -> LoadConfig {
        LoadConfig {
            address,
            authority: "localhost".to_owned(),
            path: "/v1/embeddings".to_owned(),
            body: LoadBody::embeddings(model),
            mix: None,
            connections,
            idle: 0,
            churn: None,
            pace: Pace::Closed,
            warmup: Duration::ZERO,
            duration,
            timeout: Duration::from_secs(30),
            check: true,
            io: Io::Auto,
            salt: 0,
        }
    }
}

/// Runs the load on this thread and returns when the last answer came.
///
/// # Errors
/// When no driver can be made or it breaks; what servers do wrong is in the report.
pub fn run(config: &LoadConfig) -> io::Result<LoadReport> {
    run_with(config, || Ok(()), |_| {})
}

fn run_with(config: &LoadConfig, start: impl FnOnce() -> io::Result<()>, tell: impl FnMut(Progress)) -> io::Result<LoadReport> {
    let (clock, bell) = (RealClock::start(), EventFd::new()?);
    let rt = own_runtime(config.io, clock.clone(), &bell)?;
    let run = run::begin(&rt, &Clock::from(clock), config);
    let result = run.to_the_end(&rt, start, tell);
    let report = run.take_report();
    rt.shut_down();
    result.map(|()| report)
}

/// Runs the load on several threads that share connections and rate, begin together, and add their reports up. `tell` is given
/// the state of all of them about once a second.
///
/// # Errors
/// As [`run`], or when a thread cannot be started.
pub fn run_on_threads(config: &LoadConfig, threads: u32, mut tell: impl FnMut(Progress)) -> io::Result<LoadReport> {
    let threads = threads.clamp(1, config.connections.max(config.idle).max(1));
    let (said, heard) = channel();
    let mut running = Vec::new();
    for at in 0..threads {
        let (share, said) = (share_of(config, at, threads), said.clone());
        let (go, wait) = channel();
        let thread = std::thread::Builder::new().name("load".to_owned()).spawn(move || run_one(&share, at, &said, &wait))?;
        running.push((thread, go));
    }
    drop(said);
    let mut states = vec![Progress::default(); running.len()];
    let mut ready = 0;
    for (at, word) in heard {
        match word {
            Word::Ready => {
                ready += 1;
                let all = ready == threads;
                for (_, go) in running.iter().filter(|_| all) {
                    // One that has left needs no start.
                    let _ = go.send(());
                }
            }
            Word::Progress(state) => {
                states[at as usize] = state;
                if at == 0 {
                    tell(states.iter().fold(Progress::default(), |sum, one| sum.plus(*one)));
                }
            }
            // The others would wait for it for ever: without its `go` each of them ends.
            Word::Left if ready < threads => break,
            Word::Left => {}
        }
    }
    let mut sum = LoadReport::new();
    let mut failure = None;
    for (thread, go) in running {
        drop(go);
        match thread.join().map_err(|_| io::Error::other("a load thread panicked"))? {
            Ok(report) => sum.add(&report),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    failure.map_or(Ok(sum), Err)
}

/// What a thread tells the one that started it.
enum Word {
    /// All its connections are made.
    Ready,
    Progress(Progress),
    /// It ends, well or not.
    Left,
}

/// Says that its thread ends, however that comes about.
struct Leaving<'a>(&'a Sender<(u32, Word)>, u32);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let _ = self.0.send((self.1, Word::Left));
    }
}

fn run_one(share: &LoadConfig, at: u32, said: &Sender<(u32, Word)>, go: &Receiver<()>) -> io::Result<LoadReport> {
    let _leaving = Leaving(said, at);
    let start = || {
        let _ = said.send((at, Word::Ready));
        go.recv().map_err(|_| io::Error::other("another thread of the load failed"))
    };
    run_with(share, start, |state| drop(said.send((at, Word::Progress(state)))))
}

/// What thread `at` of `threads` does.
fn share_of(config: &LoadConfig, at: u32, threads: u32) -> LoadConfig {
    let part = |whole: u32| whole / threads + u32::from(at < whole % threads);
    LoadConfig {
        connections: part(config.connections),
        idle: part(config.idle),
        pace: match config.pace {
            Pace::Closed => Pace::Closed,
            Pace::Open { per_second } => Pace::Open { per_second: per_second / f64::from(threads) },
        },
        salt: config.salt.wrapping_add(u16::try_from(at).unwrap_or(0)),
        ..config.clone()
    }
}

impl Progress {
    fn plus(self, other: Progress) -> Progress {
        Progress { done: self.done + other.done, errors: self.errors + other.errors, events: self.events + other.events }
    }
}
