//! A pretend kernel with virtual time, drawn from one seed, and the driver that runs a shard's real loop over it. Several
//! runtimes share one kernel in one thread: gateway shards, the clients and the upstreams. It knows no tasks; who runs when is the
//! business of `runtime::simulation`.
//!
//! ```text
//!  Rt ── SimDriver ─┐                 ┌─ files by number (lowest free first), listeners, connections with bytes on their way
//!  Rt ── SimDriver ─┼── SimKernel ────┼─ events by virtual time
//!  Rt ── SimDriver ─┘                 └─ faults by rate, counted; violations; a trace hash
//! ```

mod faults;
mod kernel;
mod network;
mod rng;
mod streams;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use socket2::SockAddr;

use super::Driver;
use crate::runtime::Clock;
use crate::sys::net::Address;
use crate::sys::{BufferPool, Completion, Fd, Instant, Op, OpId, RingStats, SimBell, Wait};

pub use faults::{Fault, Faults};
use kernel::{Entry, Kernel};
use network::File;
pub use rng::Rng;

/// The pretend kernel; cheap to clone, all clones are one.
#[derive(Clone)]
pub struct SimKernel(Rc<RefCell<Kernel>>);

/// One runtime's way to a [`SimKernel`].
pub struct SimDriver {
    kernel: SimKernel,
    ring: usize,
    pool: BufferPool,
}

impl SimKernel {
    /// A kernel whose every choice follows from `seed`.
    #[must_use]
    pub fn new(seed: u64, faults: Faults) -> SimKernel {
        SimKernel(Rc::new(RefCell::new(Kernel::new(seed, faults))))
    }

    /// A driver over this kernel that receives into `pool`; `name` stands in what the auditor says.
    #[must_use]
    pub fn driver(&self, pool: BufferPool, name: &'static str) -> SimDriver {
        let ring = self.0.borrow_mut().add_ring(name, pool.clone());
        SimDriver { kernel: self.clone(), ring, pool }
    }

    /// The clock that [`SimKernel::advance`] moves.
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock::simulated(Rc::clone(&self.0.borrow().hand))
    }

    #[must_use]
    pub fn now(&self) -> Instant {
        self.0.borrow().now()
    }

    /// When something happens by itself next (a delivery, a late completion); `None` when nothing will.
    #[must_use]
    pub fn next_event(&self) -> Option<Instant> {
        self.0.borrow().next_event()
    }

    /// Moves the clock to `to` (never back) and lets happen what is due then.
    pub fn advance(&self, to: Instant) {
        let mut kernel = self.0.borrow_mut();
        let now = kernel.now().max(to);
        kernel.hand.set(now);
        kernel.run_due();
    }

    /// Makes a turn that may wait move the clock itself, for a program with one runtime, and to shut runtimes down one by one.
    pub fn let_turns_move_time(&self, moves: bool) {
        self.0.borrow_mut().moves_time = moves;
    }

    /// From now on what is sent to `address` to begin a connection is lost: a handshake with it never completes.
    pub fn swallow(&self, address: Address) {
        self.0.borrow_mut().holes.push(address);
    }

    /// Changes the weather from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.0.borrow_mut().faults = faults;
    }

    #[must_use]
    pub fn faults(&self) -> Faults {
        self.0.borrow().faults.clone()
    }

    /// Draws from the kernel's own randomness.
    pub fn with_rng<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        draw(&mut self.0.borrow_mut().rng)
    }

    /// Draws a fault at its rate and counts it: for those who inject faults of their own.
    #[must_use]
    pub fn strikes(&self, fault: Fault) -> bool {
        self.0.borrow_mut().strikes(fault)
    }

    /// How often a fault struck or a state was reached.
    #[must_use]
    pub fn reached(&self, fault: Fault) -> u64 {
        self.0.borrow().reached[fault.index()]
    }

    /// A hash of everything that was drawn and handed out so far: equal for equal seeds.
    #[must_use]
    pub fn trace(&self) -> u64 {
        let kernel = self.0.borrow();
        kernel.trace ^ kernel.rng.clone().draw()
    }

    /// Folds something into the trace.
    pub fn note(&self, value: u64) {
        self.0.borrow_mut().note(value);
    }

    /// What went against a rule of the kernel's so far; empty when all is well.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.0.borrow().violations.clone()
    }

    /// The violations, and what was not given back. For the end, when every runtime was shut down.
    #[must_use]
    pub fn audit(&self) -> Vec<String> {
        let kernel = self.0.borrow();
        let mut found = kernel.violations.clone();
        found.extend(kernel.leftovers());
        found
    }
}

impl SimDriver {
    /// Rings this driver's runtime out of its sleep.
    #[must_use]
    pub fn bell(&self) -> SimBell {
        self.kernel.0.borrow().rings[self.ring].bell.clone()
    }

    /// Which ring of the kernel it is, for [`SimKernel::is_runnable`] and [`SimKernel::wake_at`].
    #[must_use]
    pub fn ring(&self) -> usize {
        self.ring
    }
}

impl SimKernel {
    /// Whether a real driver's turn would return now: a completion, the bell, a time-out, or something to submit.
    pub(crate) fn is_runnable(&self, ring: usize) -> bool {
        self.0.borrow().is_runnable(ring)
    }

    /// When the ring's last turn would end by its time-out.
    pub(crate) fn wake_at(&self, ring: usize) -> Option<Instant> {
        self.0.borrow().rings[ring].wake_at
    }
}

impl Driver for SimDriver {
    fn listen(&mut self, address: &Address, backlog: i32) -> io::Result<Fd> {
        self.kernel.0.borrow_mut().listen(address, backlog)
    }

    fn socket(&mut self, address: &Address) -> io::Result<(Fd, Op)> {
        let addr = match address {
            Address::Tcp(addr) => SockAddr::from(*addr),
            Address::Unix(path) => SockAddr::unix(path)?,
        };
        let fd = self.kernel.0.borrow_mut().socket(address)?;
        Ok((fd, Op::Connect { fd, addr: Box::new(addr) }))
    }

    fn submit(&mut self, op: Op, target: u64) -> OpId {
        self.kernel.0.borrow_mut().submit(self.ring, op, target)
    }

    fn cancel(&mut self, id: OpId) {
        self.kernel.0.borrow_mut().cancel(self.ring, id);
    }

    fn cancel_all(&mut self, fd: Fd) {
        let mut kernel = self.kernel.0.borrow_mut();
        match kernel.file(fd).map(|file| file.serial) {
            Some(file) => kernel.rings[self.ring].submissions.push_back(Entry::CancelAll { fd, file }),
            None => kernel.accuse(format!("cancel of everything on {fd:?}, which is closed")),
        }
    }

    fn close(&mut self, fd: Fd) {
        self.kernel.0.borrow_mut().rings[self.ring].submissions.push_back(Entry::Close(fd));
    }

    fn has_work(&mut self) -> bool {
        self.kernel.0.borrow().has_completions(self.ring)
    }

    fn turn(&mut self, wait: Wait, out: &mut Vec<Completion>) -> io::Result<()> {
        self.kernel.0.borrow_mut().turn(self.ring, wait, out);
        Ok(())
    }

    fn peer_addr(&self, fd: Fd) -> Option<SocketAddr> {
        self.kernel.0.borrow().address(fd, true)
    }

    fn local_addr(&self, fd: Fd) -> Option<SocketAddr> {
        self.kernel.0.borrow().address(fd, false)
    }

    fn taken_bytes(&self, fd: Fd) -> Option<u64> {
        self.kernel.0.borrow().taken_bytes(fd)
    }

    fn shutdown_write(&mut self, fd: Fd) {
        self.kernel.0.borrow_mut().shutdown_write(fd);
    }

    fn reset_on_close(&mut self, fd: Fd) {
        if let Some(file) = self.kernel.0.borrow_mut().file_mut(fd) {
            file.resets_on_close = true;
        }
    }

    fn pool(&self) -> &BufferPool {
        &self.pool
    }

    fn name(&self) -> &'static str {
        "sim"
    }

    fn can_spin(&self) -> bool {
        false
    }

    fn sleeps_on(&self) -> bool {
        !self.kernel.0.borrow().moves_time
    }

    fn stats(&self) -> RingStats {
        self.kernel.0.borrow().stats(self.ring)
    }
}

impl Kernel {
    /// What the other end's reader has received.
    fn taken_bytes(&self, fd: Fd) -> Option<u64> {
        let end = File::end(self.file(fd)?)?;
        self.connections.get(&end.connection).map(|connection| connection.sides[1 - end.side].taken)
    }

    fn address(&self, fd: Fd, of_peer: bool) -> Option<SocketAddr> {
        let file = self.file(fd)?;
        if let network::FileKind::Listener { address: Address::Tcp(addr), .. } = &file.kind {
            return Some(*addr).filter(|_| !of_peer);
        }
        let end = File::end(file)?;
        let side = if of_peer { 1 - end.side } else { end.side };
        self.connections.get(&end.connection)?.addresses[side]
    }
}
