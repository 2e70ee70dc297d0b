//! Clients of a model server that know its answers: closed loop (each connection asks again when it was answered) or open loop
//! (requests are due at fixed moments, and a late one counts from its moment: no coordinated omission). It reports what it saw;
//! comparing and printing belong to `cli/demo` and `loadtest/`.
//!
//! - `template`: a request rendered once, with holes for what makes it unique. `line`: one connection. `check`: is this the
//!   answer to what we asked. `report`: what came of it. `stamp`: when an event of a stream was sent. `moment`: the clock for it.

mod check;
mod line;
mod moment;
mod report;
mod stamp;
mod template;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::own_runtime;
use super::stats::thread_cpu;
use crate::config::Io;
use crate::runtime::{Alone, Clock, RealClock, Rt, TaskId};
use crate::sys::net::Address;
use crate::sys::{EventFd, Instant};

pub use moment::monotonic;
pub use report::LoadReport;
pub use stamp::{STAMP_BYTES, read_stamp, write_stamp};
pub use template::{INPUT_BYTES_MIN, LoadBody};

use line::Line;
use template::Template;

/// What to ask, whom, how often and how long.
#[derive(Clone, PartialEq, Debug)]
pub struct LoadConfig {
    pub address: Address,
    /// The `Host` value.
    pub authority: String,
    pub path: String,
    pub body: LoadBody,
    /// Connections, each with one request at a time. At least 1, at most 65,536.
    pub connections: u32,
    pub pace: Pace,
    /// No request is begun after this; those begun are waited for.
    pub duration: Duration,
    /// Per request; then its connection is closed and made anew.
    pub timeout: Duration,
    /// Compare each vector with [`super::vector`].
    pub check: bool,
    pub io: Io,
    /// Sets requests of several runs apart.
    pub salt: u16,
}

/// When requests begin.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Pace {
    /// As soon as the connection is free.
    Closed,
    /// At fixed moments, this many a second over all connections; latency counts from the moment, sent in time or not.
    Open { per_second: f64 },
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
            connections,
            pace: Pace::Closed,
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
    let (clock, bell) = (RealClock::start(), EventFd::new()?);
    let rt = own_runtime(config.io, clock.clone(), &bell)?;
    let run = begin(&rt, &Clock::from(clock), config);
    let result = run.to_the_end(&rt);
    rt.shut_down();
    result.map(|()| run.report.take())
}

/// Runs the load on several threads that share connections and rate, and adds their reports up.
///
/// # Errors
/// As [`run`], or when a thread cannot be started.
pub fn run_on_threads(config: &LoadConfig, threads: u32) -> io::Result<LoadReport> {
    let threads = threads.clamp(1, config.connections.max(1));
    let mut running = Vec::new();
    for at in 0..threads {
        let share = LoadConfig {
            connections: config.connections / threads + u32::from(at < config.connections % threads),
            pace: match config.pace {
                Pace::Closed => Pace::Closed,
                Pace::Open { per_second } => Pace::Open { per_second: per_second / f64::from(threads) },
            },
            salt: config.salt.wrapping_add(u16::try_from(at).unwrap_or(0)),
            ..config.clone()
        };
        running.push(std::thread::Builder::new().name("load".to_owned()).spawn(move || run(&share))?);
    }
    let mut sum = LoadReport::new();
    for thread in running {
        sum.add(&thread.join().map_err(|_| io::Error::other("a load thread panicked"))??);
    }
    Ok(sum)
}

/// One run's state, shared by its connections.
struct Run {
    config: LoadConfig,
    template: Template,
    clock: Clock,
    begun_at: Instant,
    ends_at: Instant,
    cpu_before: Duration,
    /// Requests whose moment was taken (open loop).
    taken: Cell<u64>,
    /// Connections that wait for a moment.
    idle: RefCell<VecDeque<TaskId>>,
    /// Connections that have not ended.
    live: Cell<u32>,
    /// There are answers that can be checked.
    check: bool,
    report: RefCell<LoadReport>,
}

fn begin(rt: &Rt, clock: &Clock, config: &LoadConfig) -> Rc<Run> {
    let begun_at = clock.now();
    let connections = config.connections.clamp(1, 1 << 16);
    let run = Rc::new(Run {
        template: Template::new(config),
        clock: clock.clone(),
        begun_at,
        ends_at: begun_at + config.duration,
        cpu_before: thread_cpu(),
        taken: Cell::new(0),
        idle: RefCell::default(),
        live: Cell::new(connections),
        check: config.check && matches!(config.body, LoadBody::Embeddings { .. }),
        report: RefCell::new(LoadReport::new()),
        config: config.clone(),
    });
    for at in 0..connections {
        let (of_task, rt2) = (Rc::clone(&run), rt.clone());
        rt.spawn(async move {
            of_task.ask(&rt2, at).await;
            of_task.live.set(of_task.live.get() - 1);
        });
    }
    run
}

impl Run {
    /// One connection's life.
    async fn ask(&self, rt: &Rt, at: u32) {
        let mut line = Line::new(rt.clone());
        let origin = u64::from(self.config.salt) << 48 | u64::from(at & 0xffff) << 32;
        let mut count = 0;
        while let Some(due_at) = self.next(rt, count == 0).await {
            let unique = origin | (count & 0xffff_ffff);
            count += 1;
            let mut request = rt.take_vec();
            self.template.write(unique, &mut request);
            let exchange = line.exchange(&self.config.address, request);
            let outcome = rt.before(self.clock.now() + self.config.timeout, exchange).await;
            let now = rt.now();
            let outcome = outcome.unwrap_or(Err("timeout"));
            let failed_to_connect = outcome == Err("connect");
            {
                let mut report = self.report.borrow_mut();
                report.elapsed = report.elapsed.max(now.since(self.begun_at));
                match outcome {
                    Ok(answered) => {
                        report.answered(answered.status, now.since(due_at), line.received());
                        if answered.status == 200 && self.check {
                            report.checked += 1;
                            report.wrong += u64::from(!line.check(&self.template, unique));
                        }
                    }
                    Err(reason) => report.failed(reason),
                }
            }
            line.finish(outcome.is_ok_and(|answered| answered.keep_alive));
            if failed_to_connect {
                rt.sleep_until(rt.now() + CONNECT_PAUSE).await;
            }
        }
    }

    /// The moment the next request is due, once it has come; `None` when the run is over. In a closed loop every connection
    /// asks at least once.
    async fn next(&self, rt: &Rt, first: bool) -> Option<Instant> {
        match self.config.pace {
            Pace::Closed => {
                let now = self.clock.now();
                (first || now < self.ends_at).then_some(now)
            }
            Pace::Open { .. } => poll_fn(|_| self.poll_due(rt)).await,
        }
    }

    fn poll_due(&self, rt: &Rt) -> Poll<Option<Instant>> {
        let now = self.clock.now();
        if now >= self.ends_at {
            return Poll::Ready(None);
        }
        let due_at = self.due_at(self.taken.get());
        if due_at <= now {
            self.taken.set(self.taken.get() + 1);
            return Poll::Ready(Some(due_at));
        }
        self.idle.borrow_mut().extend(rt.current());
        Poll::Pending
    }

    fn due_at(&self, number: u64) -> Instant {
        let Pace::Open { per_second } = self.config.pace else { return self.begun_at };
        let after = Duration::try_from_secs_f64(number as f64 / per_second).unwrap_or(Duration::MAX);
        self.begun_at + after
    }

    fn to_the_end(&self, rt: &Rt) -> io::Result<()> {
        loop {
            rt.run_tasks();
            if self.live.get() == 0 {
                break;
            }
            let somebody_idle = !self.idle.borrow().is_empty();
            rt.wait(somebody_idle.then(|| self.due_at(self.taken.get()).min(self.ends_at)), &Alone)?;
            self.wake_due(rt);
        }
        let mut report = self.report.borrow_mut();
        report.cpu = thread_cpu().saturating_sub(self.cpu_before);
        if let Pace::Open { .. } = self.config.pace {
            let mut unsent = self.taken.get();
            while self.due_at(unsent) < self.ends_at {
                unsent += 1;
            }
            report.unsent = unsent - self.taken.get();
        }
        Ok(())
    }

    /// Wakes one idle connection per request that is due; all of them when the run is over.
    fn wake_due(&self, rt: &Rt) {
        let now = self.clock.now();
        let mut number = self.taken.get();
        while now >= self.ends_at || self.due_at(number) <= now {
            let Some(task) = self.idle.borrow_mut().pop_front() else { return };
            rt.wake(task);
            number += 1;
        }
    }
}

/// Between a refused connection and the next try, so that a server that is down is not hammered.
const CONNECT_PAUSE: Duration = Duration::from_millis(10);
