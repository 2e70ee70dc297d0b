//! One thread's run: its connections as tasks, who is made to wait for what, and when it is over.
//!
//! ```text
//! gather: all connections are made, a few at a time ── start: one moment for all ── warm-up (not counted) ── counted ── last answers
//! ```

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::line::{Answered, Failure, Line, Streaming};
use super::moment::monotonic;
use super::pace::{Pace, Schedule, is_long};
use super::report::LoadReport;
use super::template::{LoadBody, Template};
use super::{LoadConfig, Progress};
use crate::mock::stats::thread_cpu;
use crate::runtime::{Alone, Clock, Rt, TaskId};
use crate::sys::Instant;

/// One run's state, shared by its connections.
pub(super) struct Run {
    config: LoadConfig,
    template: Template,
    long: Option<Template>,
    clock: Clock,
    /// Made when all connections are.
    schedule: Cell<Option<Schedule>>,
    /// The end of the warm-up on the clock of streams.
    counted_from: Cell<Instant>,
    /// Requests begun.
    begun: Cell<u64>,
    /// Requests whose moment was taken (open loop).
    taken: Cell<u64>,
    /// Connections that wait for a moment.
    waiting: RefCell<VecDeque<TaskId>>,
    /// Connections being made, and those that wait for their turn to be.
    connecting: Cell<u32>,
    unconnected: RefCell<VecDeque<TaskId>>,
    /// Connections, made or not to be had, that wait for the start.
    gathered: RefCell<Vec<TaskId>>,
    /// Connections that have not ended.
    live: Cell<u32>,
    /// There are answers that can be checked.
    check: bool,
    report: RefCell<LoadReport>,
}

/// A request under way.
struct Request {
    due_at: Instant,
    unique: u64,
    is_long: bool,
    counted: bool,
}

/// Makes the connections; none of them asks before [`Run::to_the_end`] starts them.
pub(super) fn begin(rt: &Rt, clock: &Clock, config: &LoadConfig) -> Rc<Run> {
    let run = Rc::new(Run {
        template: Template::new(config, &config.body),
        long: config.mix.as_ref().map(|mix| Template::new(config, &mix.body)),
        clock: clock.clone(),
        schedule: Cell::new(None),
        counted_from: Cell::new(Instant::FAR),
        begun: Cell::new(0),
        taken: Cell::new(0),
        waiting: RefCell::default(),
        connecting: Cell::new(0),
        unconnected: RefCell::default(),
        gathered: RefCell::default(),
        live: Cell::new(config.connections),
        check: config.check && config.body.can_be_checked(),
        report: RefCell::new(LoadReport::new()),
        config: config.clone(),
    });
    for at in 0..config.connections {
        let (run, rt2) = (Rc::clone(&run), rt.clone());
        rt.spawn(async move {
            run.live(&rt2, at).await;
            run.live.set(run.live.get() - 1);
        });
    }
    for at in 0..config.idle {
        let (run, rt2) = (Rc::clone(&run), rt.clone());
        rt.spawn(async move { run.stay(&rt2, at).await });
    }
    run
}

impl Run {
    pub(super) fn take_report(&self) -> LoadReport {
        self.report.take()
    }

    /// One connection's life.
    async fn live(&self, rt: &Rt, at: u32) {
        let mut line = Line::new(rt.clone());
        // One that cannot be made is tried again, and counted, when it is to ask.
        let _ = self.connect(rt, &mut line).await;
        self.gather(rt).await;
        line.connects = 0;
        self.ask(rt, at, &mut line).await;
        let mut report = self.report.borrow_mut();
        report.connects += line.connects;
        report.closed_by_peer += line.closed_by_peer;
    }

    /// The life of a connection that is only kept open: one request, then silence.
    async fn stay(&self, rt: &Rt, at: u32) {
        let mut line = Line::new(rt.clone());
        let request = self.template.request(u64::from(at) | 1 << 47, rt.take_vec(), false);
        let opened = match self.connect(rt, &mut line).await {
            Ok(()) => {
                let exchange = line.exchange(&self.config.address, request);
                let answered = rt.before(self.clock.now() + self.config.timeout, exchange).await;
                answered == Some(Ok(Answered { status: 200, keep_alive: true }))
            }
            Err(_) => false,
        };
        {
            let mut report = self.report.borrow_mut();
            report.idle.opened += u64::from(opened);
            report.idle.failed += u64::from(!opened);
        }
        line.finish(opened);
        self.gather(rt).await;
        if opened {
            line.closed().await;
            self.report.borrow_mut().idle.closed_by_peer += 1;
        }
    }

    /// Makes a connection, not too many at once: a burst would overflow the listener's queue, and the kernel would try again
    /// only after a second.
    async fn connect(&self, rt: &Rt, line: &mut Line) -> Result<(), Failure> {
        poll_fn(|_| {
            if self.connecting.get() < CONNECTING_MAX {
                self.connecting.set(self.connecting.get() + 1);
                return Poll::Ready(());
            }
            self.unconnected.borrow_mut().extend(rt.current());
            Poll::Pending
        })
        .await;
        let connected = rt.before(rt.now() + self.config.timeout, line.open(&self.config.address)).await;
        self.connecting.set(self.connecting.get() - 1);
        if let Some(next) = self.unconnected.borrow_mut().pop_front() {
            rt.wake(next);
        }
        connected.unwrap_or(Err("timeout"))
    }

    /// Waits for the start.
    async fn gather(&self, rt: &Rt) {
        let mut is_here = false;
        poll_fn(|_| {
            if self.schedule.get().is_some() {
                return Poll::Ready(());
            }
            if !std::mem::replace(&mut is_here, true) {
                self.gathered.borrow_mut().extend(rt.current());
            }
            Poll::Pending
        })
        .await;
    }

    /// Asks until the run is over.
    async fn ask(&self, rt: &Rt, at: u32, line: &mut Line) {
        let origin = u64::from(self.config.salt) << 48 | u64::from(at & 0xffff) << 32;
        let mut count = 0;
        while let Some(due_at) = self.next(rt, count == 0).await {
            let Some(schedule) = self.schedule.get() else { return };
            let number = self.begun.replace(self.begun.get() + 1);
            let request = Request {
                due_at,
                unique: origin | (count & 0xffff_ffff),
                is_long: self.config.mix.as_ref().is_some_and(|mix| is_long(number, mix.share)),
                counted: due_at >= schedule.counted_from,
            };
            count += 1;
            if request.counted && self.config.pace != Pace::Closed {
                self.report.borrow_mut().lag.record(self.clock.now().since(due_at));
            }
            let outcome = self.exchange(rt, line, &request).await;
            if request.counted {
                self.count(rt, line, &request, outcome, schedule);
            } else if matches!(self.config.body, LoadBody::Chat { .. }) {
                // A stream of the warm-up goes on behind it, and its events are counted.
                self.took(rt, schedule);
            }
            if outcome.is_ok() && self.wears(line.used) {
                // Who ends a connection first keeps its port for a minute: thousands of them here would make each connect a search.
                let _ = rt.before(rt.now() + END_TIMEOUT, line.closed()).await;
            }
            line.finish(!self.wears(line.used) && outcome.is_ok_and(|answered| answered.keep_alive));
            if outcome.is_err_and(|reason| matches!(reason, "connect" | "no_port")) {
                rt.sleep_until(rt.now() + CONNECT_PAUSE).await;
            }
        }
    }

    async fn exchange(&self, rt: &Rt, line: &mut Line, request: &Request) -> Result<Answered, Failure> {
        let parts = self.template_of(request).request(request.unique, rt.take_vec(), self.wears(line.used + 1));
        let now = self.clock.now();
        if let LoadBody::Chat { .. } = self.config.body {
            let streaming = Streaming {
                due_at: monotonic() - now.since(request.due_at),
                counted_from: self.counted_from.get(),
                timeout: self.config.timeout,
                report: &self.report,
            };
            return line.exchange_stream(&self.config.address, parts, &streaming).await;
        }
        let exchange = line.exchange(&self.config.address, parts);
        rt.before(now + self.config.timeout, exchange).await.unwrap_or(Err("timeout"))
    }

    /// Whether a connection ends with its request number `used`.
    fn wears(&self, used: u32) -> bool {
        self.config.churn.is_some_and(|most| used >= most)
    }

    fn template_of(&self, request: &Request) -> &Template {
        self.long.as_ref().filter(|_| request.is_long).unwrap_or(&self.template)
    }

    fn count(&self, rt: &Rt, line: &mut Line, request: &Request, outcome: Result<Answered, Failure>, schedule: Schedule) {
        let now = self.took(rt, schedule);
        let mut report = self.report.borrow_mut();
        match outcome {
            Ok(answered) => {
                let long = self.long.is_some().then_some(request.is_long);
                report.answered(answered.status, now.since(request.due_at), line.received(), long);
                if self.check && answered.status == 200 {
                    report.checked += 1;
                    report.wrong += u64::from(!line.check(self.template_of(request), request.unique));
                }
            }
            Err(reason) => report.failed(reason),
        }
    }

    /// Notes that the run was not over before now.
    fn took(&self, rt: &Rt, schedule: Schedule) -> Instant {
        let now = rt.now();
        let mut report = self.report.borrow_mut();
        report.elapsed = report.elapsed.max(now.since(schedule.counted_from));
        now
    }

    /// The moment the next request is due, once it has come; `None` when the run is over. In a closed loop every connection
    /// asks at least once.
    async fn next(&self, rt: &Rt, first: bool) -> Option<Instant> {
        match self.config.pace {
            Pace::Closed => {
                let now = self.clock.now();
                let ends_at = self.schedule.get()?.ends_at;
                (first || now < ends_at).then_some(now)
            }
            Pace::Open { .. } => poll_fn(|_| self.poll_due(rt)).await,
        }
    }

    fn poll_due(&self, rt: &Rt) -> Poll<Option<Instant>> {
        let now = self.clock.now();
        let Some(schedule) = self.schedule.get().filter(|schedule| now < schedule.ends_at) else { return Poll::Ready(None) };
        let due_at = schedule.due_at(self.taken.get());
        if due_at <= now {
            self.taken.set(self.taken.get() + 1);
            return Poll::Ready(Some(due_at));
        }
        self.waiting.borrow_mut().extend(rt.current());
        Poll::Pending
    }

    /// Runs until the last answer. `start` is called when all connections are made and may wait for other threads;
    /// `tell` is given the state of things once a second.
    pub(super) fn to_the_end(&self, rt: &Rt, start: impl FnOnce() -> io::Result<()>, mut tell: impl FnMut(Progress)) -> io::Result<()> {
        let all = self.config.connections as usize + self.config.idle as usize;
        while self.gathered.borrow().len() < all {
            rt.run_tasks();
            if self.gathered.borrow().len() < all {
                rt.wait(None, &Alone)?;
            }
        }
        start()?;
        let schedule = self.start(rt);
        let (mut cpu_before, mut tell_at) = (None, self.clock.now() + TELL_EVERY);
        loop {
            rt.run_tasks();
            let now = self.clock.now();
            if cpu_before.is_none() && now >= schedule.counted_from {
                cpu_before = Some(thread_cpu());
            }
            if now >= tell_at {
                tell_at = now + TELL_EVERY;
                tell(self.progress());
            }
            // Idle connections alone are watched for the whole time.
            if self.live.get() == 0 && (self.config.connections > 0 || now >= schedule.ends_at) {
                break;
            }
            rt.wait(Some(self.wait_until(schedule, now, tell_at)), &Alone)?;
            self.wake_due(rt, schedule);
        }
        let mut report = self.report.borrow_mut();
        report.cpu = cpu_before.map_or(Duration::ZERO, |before| thread_cpu().saturating_sub(before));
        report.unsent = schedule.unsent_from(self.taken.get());
        Ok(())
    }

    /// Lets all connections go at once.
    fn start(&self, rt: &Rt) -> Schedule {
        let now = self.clock.now();
        let schedule = Schedule::begin(self.config.pace, now, self.config.warmup, self.config.duration);
        self.counted_from.set(monotonic() + self.config.warmup);
        self.schedule.set(Some(schedule));
        for task in self.gathered.take() {
            rt.wake(task);
        }
        schedule
    }

    fn wait_until(&self, schedule: Schedule, now: Instant, tell_at: Instant) -> Instant {
        let mut until = tell_at;
        if now < schedule.counted_from {
            until = until.min(schedule.counted_from);
        }
        if self.config.connections == 0 {
            until = until.min(schedule.ends_at);
        }
        if self.waiting.borrow().is_empty() { until } else { until.min(schedule.due_at(self.taken.get())).min(schedule.ends_at) }
    }

    fn progress(&self) -> Progress {
        let report = self.report.borrow();
        Progress { done: report.done, errors: report.errors(), events: report.streams.events }
    }

    /// Wakes one waiting connection per request that is due; all of them when the run is over.
    fn wake_due(&self, rt: &Rt, schedule: Schedule) {
        let now = self.clock.now();
        let mut number = self.taken.get();
        while now >= schedule.ends_at || schedule.due_at(number) <= now {
            let Some(task) = self.waiting.borrow_mut().pop_front() else { return };
            rt.wake(task);
            number += 1;
        }
    }
}

/// Between a refused connection and the next try, so that a server that is down is not hammered.
const CONNECT_PAUSE: Duration = Duration::from_millis(10);
/// Well below the listen queues of servers: nginx has 511.
const CONNECTING_MAX: u32 = 128;
/// What a server that was told to end a connection is given.
const END_TIMEOUT: Duration = Duration::from_secs(1);
const TELL_EVERY: Duration = Duration::from_secs(1);
