//! The shard loop's ground: a single-threaded executor, timers, one clock reading a turn, and sockets as futures over leased
//! buffers, on one of the drivers. It knows no HTTP and no policy, and nothing here crosses threads.
//!
//! ```text
//! a turn:  run ready tasks ── tasks that wait for the turn's end ── submit + wait + reap (one enter) ── read the clock ── wake
//! ```

mod clock;
pub mod driver;
mod ops;
mod race;
pub mod simulation;
mod sockets;
mod spin;
mod tasks;
#[cfg(test)]
mod tests;
mod timers;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::sys::{Completion, Instant, RingStats, Wait};

pub use clock::{Clock, RealClock};
pub use driver::{Driver, EpollDriver, SimDriver, SimKernel, UringDriver};
pub use ops::{Detached, Listener, Sleep, Socket};
pub use race::{Either, race};
pub use simulation::Simulation;
pub use sockets::SocketCounts;
#[cfg(test)]
pub(crate) use sockets::{ARRIVED_LOW_MAX, LEASES_BURST_MAX, LEASES_MAX};
pub use tasks::TaskId;

use sockets::Sockets;
use spin::Spin;
use tasks::Tasks;
use timers::Timers;

/// A shard's runtime; cheap to clone, never leaves its thread.
#[derive(Clone)]
pub struct Rt(Rc<Inner>);

struct Inner {
    driver: RefCell<Box<dyn Driver>>,
    sockets: RefCell<Sockets>,
    tasks: Tasks,
    timers: RefCell<Timers>,
    clock: Clock,
    now: Cell<Instant>,
    completions: RefCell<Vec<Completion>>,
    spin: RefCell<Spin>,
    turns: Cell<u64>,
    /// The sleep of the last turn goes on (see [`Driver::sleeps_on`]): whoever slept was not told yet that it is over.
    asleep: Cell<bool>,
}

/// How a shard goes to sleep: the protocol with those who may ring its bell while it does.
pub trait Idle {
    /// Work has come by another path (the inbox): do not sleep, do not spin on.
    fn has_work(&self) -> bool;

    /// Called before a sleep: raise the "asleep" flag, then look at the inbox a last time. False: there is work, do not sleep.
    fn fall_asleep(&self) -> bool;

    /// Called after a sleep.
    fn wake_up(&self);
}

/// Nobody rings.
pub struct Alone;

impl Idle for Alone {
    fn has_work(&self) -> bool {
        false
    }

    fn fall_asleep(&self) -> bool {
        true
    }

    fn wake_up(&self) {}
}

/// Counts for the gauges, as they stand.
#[derive(Clone, Copy, Default, Debug)]
pub struct RuntimeStats {
    pub ring: RingStats,
    pub sockets: SocketCounts,
    pub turns: u64,
    pub tasks: u32,
    pub panics: u64,
    pub timers: u32,
    pub open_sockets: u32,
    pub leased_buffers: u32,
    pub spins: u64,
    pub spin_hits: u64,
}

impl Rt {
    #[must_use]
    pub fn new(driver: Box<dyn Driver>, clock: Clock) -> Rt {
        let now = clock.now();
        Rt(Rc::new(Inner {
            driver: RefCell::new(driver),
            sockets: RefCell::default(),
            tasks: Tasks::default(),
            timers: RefCell::new(Timers::new(now)),
            clock,
            now: Cell::new(now),
            completions: RefCell::default(),
            spin: RefCell::default(),
            turns: Cell::new(0),
            asleep: Cell::new(false),
        }))
    }

    /// The moment this turn began.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.0.now.get()
    }

    /// What time it is for people (see [`Clock::wall`]). Reads a clock: only where a date must be understood.
    #[must_use]
    pub fn wall(&self) -> Duration {
        self.0.clock.wall()
    }

    /// How long to look for work before sleeping (adaptive: it stops when it does not pay). Zero, the default, never spins.
    pub fn set_spin(&self, window: Duration) {
        self.0.spin.borrow_mut().set_window(window);
    }

    /// Starts a task; it runs later in this turn.
    pub fn spawn(&self, work: impl Future<Output = ()> + 'static) -> TaskId {
        self.0.tasks.spawn(work)
    }

    /// From now on a task that panics ends alone (its sockets close, the panic is printed and counted) and the others go on.
    /// Without this a panic ends the thread, which is what a test wants.
    pub fn contain_panics(&self) {
        self.0.tasks.contain_panics();
    }

    /// Lets a task be polled again.
    pub fn wake(&self, task: TaskId) {
        self.0.tasks.wake(task);
    }

    /// Ends a task by dropping its future (at once, or after the poll it is in).
    pub fn abort(&self, task: TaskId) {
        self.0.tasks.abort(task);
    }

    /// The task being polled; leaf futures register it to be woken.
    #[must_use]
    pub fn current(&self) -> Option<TaskId> {
        self.0.tasks.current()
    }

    /// Polls ready tasks until none is left (bounded, so that the turn ends).
    pub fn run_tasks(&self) {
        self.0.tasks.run(POLLS_PER_TURN);
    }

    /// Ends a turn: submits what the tasks queued, sleeps until a completion, a timer, `until` or the bell, and wakes whom that
    /// concerns. Does not sleep while a task is ready.
    ///
    /// # Errors
    /// When the driver is broken; the shard cannot go on.
    pub fn wait(&self, until: Option<Instant>, idle: &impl Idle) -> io::Result<()> {
        let inner = &*self.0;
        if inner.asleep.replace(false) {
            idle.wake_up();
        }
        // Before the sleep: the tasks may just have returned the buffers that a starved receive waits for.
        inner.sockets.borrow_mut().feed_starved(&mut **inner.driver.borrow_mut());
        inner.tasks.drop_orphans(&mut inner.timers.borrow_mut());
        let wait = self.time_to_wait(until);
        let mut completions = inner.completions.take();
        let result = if inner.tasks.has_ready() || idle.has_work() || wait == Wait::Now {
            inner.driver.borrow_mut().turn(Wait::Now, &mut completions)
        } else {
            self.spin_then_sleep(wait, idle, &mut completions)
        };
        inner.now.set(inner.clock.now());
        inner.turns.set(inner.turns.get() + 1);
        for completion in &mut completions {
            let wake = inner.sockets.borrow_mut().complete(&mut **inner.driver.borrow_mut(), completion);
            if let Some(task) = wake {
                inner.tasks.wake(task);
            }
        }
        completions.clear();
        inner.completions.replace(completions);
        inner.timers.borrow_mut().expire(inner.now.get(), |task| inner.tasks.wake(task));
        result
    }

    fn spin_then_sleep(&self, wait: Wait, idle: &impl Idle, completions: &mut Vec<Completion>) -> io::Result<()> {
        let inner = &*self.0;
        let mut driver = inner.driver.borrow_mut();
        if driver.can_spin() && inner.spin.borrow_mut().should_try() {
            driver.turn(Wait::Now, completions)?;
            if !completions.is_empty() {
                return Ok(());
            }
            if inner.spin.borrow_mut().run(&inner.clock, || driver.has_work() || idle.has_work()) {
                return driver.turn(Wait::Now, completions);
            }
        }
        if !idle.fall_asleep() {
            return driver.turn(Wait::Now, completions);
        }
        let result = driver.turn(wait, completions);
        if completions.is_empty() && driver.sleeps_on() {
            inner.asleep.set(true);
        } else {
            idle.wake_up();
        }
        result
    }

    fn time_to_wait(&self, until: Option<Instant>) -> Wait {
        let next = self.0.timers.borrow().next_timeout();
        let due = match (next, until) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        match due.map(|due| due.since(self.0.clock.now())) {
            None => Wait::Forever,
            Some(Duration::ZERO) => Wait::Now,
            Some(time) => Wait::For(time),
        }
    }

    /// Runs turns until `work` is done, for programs that are not a shard (the mock, the demo's clients, tests).
    ///
    /// # Errors
    /// When the driver is broken.
    pub fn block_on<T: 'static>(&self, work: impl Future<Output = T> + 'static) -> io::Result<T> {
        let result = Rc::new(Cell::new(None));
        let slot = Rc::clone(&result);
        self.spawn(async move { slot.set(Some(work.await)) });
        loop {
            self.run_tasks();
            if let Some(value) = result.take() {
                return Ok(value);
            }
            self.wait(None, &Alone)?;
        }
    }

    /// More than half of the receive buffers are lent out: do not hold one across a wait.
    #[must_use]
    pub fn buffers_low(&self) -> bool {
        self.0.driver.borrow().pool().is_low()
    }

    /// Less than three eighths of the receive buffers are lent out: one may be held while an upstream is waited for.
    #[must_use]
    pub fn buffers_plenty(&self) -> bool {
        self.0.driver.borrow().pool().has_plenty()
    }

    /// A vector with spare room, empty; what is sent comes back to this store by itself.
    #[must_use]
    pub fn take_vec(&self) -> Vec<u8> {
        self.0.sockets.borrow_mut().take_vec()
    }

    /// Gives a vector back that was not sent.
    pub fn keep_vec(&self, vec: Vec<u8>) {
        self.0.sockets.borrow_mut().keep_vec(vec);
    }

    /// Frees what is kept for reuse; for a thread that has fallen idle.
    pub fn shrink(&self) {
        self.0.driver.borrow().pool().discard();
        self.0.sockets.borrow_mut().shrink();
        self.0.tasks.shrink();
        self.0.timers.borrow_mut().shrink();
    }

    /// "uring", "epoll" or "sim".
    #[must_use]
    pub fn driver_name(&self) -> &'static str {
        self.0.driver.borrow().name()
    }

    #[must_use]
    pub fn stats(&self) -> RuntimeStats {
        let (driver, sockets, spin) = (self.0.driver.borrow(), self.0.sockets.borrow(), self.0.spin.borrow());
        RuntimeStats {
            ring: driver.stats(),
            sockets: sockets.counts,
            turns: self.0.turns.get(),
            tasks: self.0.tasks.live(),
            panics: self.0.tasks.panics(),
            timers: self.0.timers.borrow().len(),
            open_sockets: u32::try_from(sockets.streams.len()).unwrap_or(u32::MAX),
            leased_buffers: driver.pool().leased(),
            spins: spin.tries,
            spin_hits: spin.hits,
        }
    }

    /// Drops every task and with them their sockets. Tasks hold the runtime and the runtime holds the tasks: without this call
    /// neither would ever be freed.
    pub fn shut_down(&self) {
        drop(self.0.tasks.clear());
        // Closes go out and last completions come in; a peer that does not answer a cancel cannot hold us longer than this.
        for _ in 0..SHUT_DOWN_TURNS {
            if self.0.sockets.borrow().is_empty() {
                break;
            }
            if self.wait(Some(self.now() + Duration::from_millis(1)), &Alone).is_err() {
                break;
            }
        }
        let _ = self.wait(Some(self.now()), &Alone);
    }
}

const POLLS_PER_TURN: usize = 4096;
const SHUT_DOWN_TURNS: usize = 50;
