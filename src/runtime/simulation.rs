//! Runs several runtimes over one pretend kernel in one thread: who steps next is drawn from the seed, time moves when nobody can
//! run. It finds deadlocks and livelocks, and audits at the end that everything lent was given back.
//!
//! A member's step is one pass of its loop (`run_tasks`, then `wait`); a real shard puts its own turn there. A member can run
//! when a real driver's turn would have returned: a completion is due, its time-out has come, its bell was rung.

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::time::Duration;

use super::driver::Driver;
use super::driver::sim::{Fault, Faults, SimDriver, SimKernel};
use super::{Alone, Rt};
use crate::sys::{BufferPool, Instant, SimBell};

/// Several runtimes in one virtual world.
pub struct Simulation {
    kernel: SimKernel,
    members: Vec<Member>,
    limits: Bounds,
    steps: u64,
}

/// Where a run must have come to an end; beyond, it is stuck.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub steps_max: u64,
    /// Steps while the clock stands still: more is a livelock.
    pub steps_per_moment_max: u32,
    pub time_max: Duration,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { steps_max: 2_000_000, steps_per_moment_max: 10_000, time_max: Duration::from_hours(24) }
    }
}

struct Member {
    name: &'static str,
    rt: Rt,
    ring: usize,
    step: Box<dyn FnMut() -> io::Result<()>>,
    stalled_until: Instant,
}

/// Names a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemberId(usize);

/// Why a run did not come to its end.
#[derive(Debug)]
pub enum Stuck {
    /// Nobody can run and nothing will ever happen.
    Deadlock(String),
    /// Members run and time stands still.
    Livelock(String),
    /// More steps or more virtual time than a run may take.
    TooLong(String),
    /// A member's step failed.
    Broken(&'static str, io::Error),
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stuck::Deadlock(state) => write!(f, "deadlock: {state}"),
            Stuck::Livelock(state) => write!(f, "livelock: {state}"),
            Stuck::TooLong(state) => write!(f, "no end: {state}"),
            Stuck::Broken(name, error) => write!(f, "{name}: {error}"),
        }
    }
}

impl Simulation {
    #[must_use]
    pub fn new(kernel: SimKernel) -> Simulation {
        Simulation { kernel, members: Vec::new(), limits: Bounds::default(), steps: 0 }
    }

    pub fn set_bounds(&mut self, limits: Bounds) {
        self.limits = limits;
    }

    #[must_use]
    pub fn kernel(&self) -> &SimKernel {
        &self.kernel
    }

    /// A new runtime over the kernel; its step is `run_tasks` and `wait` until [`Simulation::set_step`] says otherwise. The bell
    /// wakes it as a mesh would.
    pub fn add(&mut self, name: &'static str, pool: BufferPool) -> (MemberId, Rt, SimBell) {
        self.add_with(name, pool, |driver| Box::new(driver))
    }

    /// As [`Simulation::add`], with something between the runtime and its driver (planted faults).
    pub fn add_with(
        &mut self,
        name: &'static str,
        pool: BufferPool,
        wrap: impl FnOnce(SimDriver) -> Box<dyn Driver>,
    ) -> (MemberId, Rt, SimBell) {
        let driver = self.kernel.driver(pool, name);
        let (ring, bell) = (driver.ring(), driver.bell());
        let rt = Rt::new(wrap(driver), self.kernel.clock());
        let own = rt.clone();
        let step = Box::new(move || {
            own.run_tasks();
            own.wait(None, &Alone)
        });
        self.members.push(Member { name, rt: rt.clone(), ring, step, stalled_until: Instant::ZERO });
        (MemberId(self.members.len() - 1), rt, bell)
    }

    /// What one step of a member does; it must end with one `Rt::wait`.
    pub fn set_step(&mut self, member: MemberId, step: impl FnMut() -> io::Result<()> + 'static) {
        self.members[member.0].step = Box::new(step);
    }

    /// Lets a member not run for `time`.
    pub fn stall(&mut self, member: MemberId, time: Duration) {
        let until = self.kernel.now() + time;
        self.members[member.0].stalled_until = until;
    }

    /// Steps in seeded order until `done` says so.
    ///
    /// # Errors
    /// When that will never be, as far as the bounds tell.
    pub fn run(&mut self, mut done: impl FnMut() -> bool) -> Result<(), Stuck> {
        let (begin, mut moment) = (self.steps, 0);
        while !done() {
            let runnable: Vec<usize> = (0..self.members.len()).filter(|index| self.can_run(*index)).collect();
            if runnable.is_empty() {
                let Some(next) = self.next_moment() else { return Err(Stuck::Deadlock(self.describe())) };
                if next.since(Instant::ZERO) > self.limits.time_max {
                    return Err(Stuck::TooLong(self.describe()));
                }
                moment = if next > self.kernel.now() { 0 } else { moment + 1 };
                self.kernel.advance(next);
            } else {
                moment += 1;
                self.step(&runnable)?;
            }
            if moment > self.limits.steps_per_moment_max {
                return Err(Stuck::Livelock(self.describe()));
            }
            if self.steps - begin > self.limits.steps_max {
                return Err(Stuck::TooLong(self.describe()));
            }
        }
        Ok(())
    }

    /// Lets virtual time pass.
    ///
    /// # Errors
    /// As [`Simulation::run`], except that silence is no deadlock.
    pub fn run_for(&mut self, time: Duration) -> Result<(), Stuck> {
        let until = self.kernel.now() + time;
        let kernel = self.kernel.clone();
        match self.run(move || kernel.now() >= until) {
            Err(Stuck::Deadlock(_)) => {
                self.kernel.advance(until);
                Ok(())
            }
            other => other,
        }
    }

    fn can_run(&self, index: usize) -> bool {
        let member = &self.members[index];
        member.stalled_until <= self.kernel.now() && (self.kernel.is_runnable(member.ring) || member.rt.0.tasks.has_ready())
    }

    fn step(&mut self, runnable: &[usize]) -> Result<(), Stuck> {
        let index = runnable[self.kernel.with_rng(|rng| rng.index(runnable.len()))];
        self.kernel.note(index as u64);
        if self.kernel.strikes(Fault::Stall) {
            let longest = STALL_MAX.as_micros();
            let time = self.kernel.with_rng(|rng| rng.below(u64::try_from(longest).unwrap_or(0)));
            self.stall(MemberId(index), Duration::from_micros(time));
            return Ok(());
        }
        self.steps += 1;
        let member = &mut self.members[index];
        (member.step)().map_err(|error| Stuck::Broken(member.name, error))
    }

    /// When anybody can go on, at the earliest.
    fn next_moment(&self) -> Option<Instant> {
        let now = self.kernel.now();
        let wakes = self
            .members
            .iter()
            .filter_map(|member| if member.stalled_until > now { Some(member.stalled_until) } else { self.kernel.wake_at(member.ring) });
        wakes.chain(self.kernel.next_event()).min()
    }

    fn describe(&self) -> String {
        let mut text = format!("at {:?} after {} steps", self.kernel.now().since(Instant::ZERO), self.steps);
        for member in &self.members {
            let wake_at = self.kernel.wake_at(member.ring).map(|at| at.since(Instant::ZERO));
            text.push_str(&format!("\n  {}: wakes at {wake_at:?}, {:?}", member.name, member.rt.stats()));
        }
        for violation in self.kernel.violations() {
            text.push_str(&format!("\n  {violation}"));
        }
        text
    }

    /// Ends every runtime and says what was not as it must be: violations, and everything not given back. Drop what holds leases or
    /// sockets outside of tasks before.
    #[must_use]
    pub fn finish(self) -> Vec<String> {
        self.kernel.set_faults(Faults::calm());
        self.kernel.let_turns_move_time(true);
        // More than once for all: what ends late at one member may send something to one that ended before.
        for member in self.members.iter().chain(&self.members) {
            member.rt.shut_down();
        }
        let mut found = Vec::new();
        for member in &self.members {
            let stats = member.rt.stats();
            let counts = [(stats.tasks, "tasks"), (stats.timers, "timers"), (stats.open_sockets, "sockets")];
            let left = counts.iter().filter(|(count, _)| *count > 0);
            found.extend(left.map(|(count, what)| format!("{}: {count} {what} left", member.name)));
        }
        let mut all = self.kernel.audit();
        all.append(&mut found);
        all
    }
}

const STALL_MAX: Duration = Duration::from_millis(20);
