//! The drill: a driver that does one thing wrong, once. A simulation that does not notice is worth nothing.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use super::world::{World, run};
use crate::runtime::driver::Driver;
use crate::runtime::driver::sim::{Faults, SimDriver};
use crate::sys::net::Address;
use crate::sys::{BufferPool, Completion, Fd, Lease, Op, OpId, RingStats, Wait};

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Bug {
    /// A completion never reaches who waits for it: a lost wake.
    LoseCompletion,
    /// A receive is never submitted: a lost re-arm.
    LoseRecv,
    LoseSend,
    /// A cancel of everything on a socket that closes is forgotten.
    LoseCancel,
    LoseClose,
    CloseTwice,
    /// Closed while its operations are in flight, because the wrong completion counted as the last.
    CloseTooEarly,
    /// Two receives that completed in one turn get each other's bytes.
    SwapLeases,
    /// A completion goes to who asked for another one.
    SwapTargets,
    /// A descriptor that came with a completion is forgotten.
    LoseAccepted,
    /// A buffer that came with a completion is not given back.
    KeepLease,
    /// The last bytes are taken for the end.
    CutAnswer,
}

const BUGS: [Bug; 12] = [
    Bug::LoseCompletion,
    Bug::LoseRecv,
    Bug::LoseSend,
    Bug::LoseCancel,
    Bug::LoseClose,
    Bug::CloseTwice,
    Bug::CloseTooEarly,
    Bug::SwapLeases,
    Bug::SwapTargets,
    Bug::LoseAccepted,
    Bug::KeepLease,
    Bug::CutAnswer,
];

/// A driver with a bug that strikes at the `countdown`-th chance.
struct Planted {
    inner: SimDriver,
    bug: Bug,
    countdown: u32,
    struck: Rc<Cell<bool>>,
    kept: Rc<Cell<Option<Lease>>>,
}

impl Planted {
    /// Whether this is the chance at which `bug` strikes.
    fn strikes(&mut self, bug: Bug) -> bool {
        if self.bug != bug || self.struck.get() {
            return false;
        }
        self.countdown = self.countdown.saturating_sub(1);
        self.struck.set(self.countdown == 0);
        self.struck.get()
    }

    fn spoil(&mut self, out: &mut Vec<Completion>) {
        for index in 0..out.len() {
            let has_bytes = |completion: &Completion| completion.lease.as_ref().is_some_and(|lease| !lease.is_empty());
            let other = (index + 1..out.len()).find(|other| out[*other].target != out[index].target);
            let both_have_bytes = other.is_some_and(|other| has_bytes(&out[index]) && has_bytes(&out[other]));
            if let Some(other) = other.filter(|_| both_have_bytes && self.strikes(Bug::SwapLeases)) {
                let lease = out[index].lease.take();
                out[index].lease = std::mem::replace(&mut out[other].lease, lease);
            }
            if let Some(other) = other.filter(|_| both_have_bytes && self.strikes(Bug::SwapTargets)) {
                let target = out[index].target;
                out[index].target = std::mem::replace(&mut out[other].target, target);
            }
            if has_bytes(&out[index]) && self.strikes(Bug::KeepLease) {
                self.kept.set(out[index].lease.take());
            } else if has_bytes(&out[index]) && self.strikes(Bug::CutAnswer) {
                out[index].lease = None;
                out[index].result = Ok(0);
            }
            if out[index].accepted.is_some() && self.strikes(Bug::LoseAccepted) {
                out[index].accepted = None;
            }
        }
        if !out.is_empty() && self.strikes(Bug::LoseCompletion) {
            out.remove(0);
        }
    }
}

impl Driver for Planted {
    fn submit(&mut self, op: Op, target: u64) -> OpId {
        let lost = match op {
            Op::Recv { .. } => self.strikes(Bug::LoseRecv),
            Op::Send { .. } => self.strikes(Bug::LoseSend),
            Op::Accept { .. } | Op::Connect { .. } => false,
        };
        if lost {
            return OpId::from_user_data(u64::from(u32::MAX) << 32 | u64::from(u32::MAX - 1));
        }
        self.inner.submit(op, target)
    }

    fn cancel(&mut self, id: OpId) {
        self.inner.cancel(id);
    }

    fn cancel_all(&mut self, fd: Fd) {
        if self.strikes(Bug::LoseCancel) {
            return;
        }
        if self.strikes(Bug::CloseTooEarly) {
            self.inner.close(fd);
        }
        self.inner.cancel_all(fd);
    }

    fn close(&mut self, fd: Fd) {
        if self.strikes(Bug::LoseClose) {
            return;
        }
        if self.strikes(Bug::CloseTwice) {
            self.inner.close(fd);
        }
        self.inner.close(fd);
    }

    fn turn(&mut self, wait: Wait, out: &mut Vec<Completion>) -> io::Result<()> {
        self.inner.turn(wait, out)?;
        self.spoil(out);
        Ok(())
    }

    fn listen(&mut self, address: &Address, backlog: i32) -> io::Result<Fd> {
        self.inner.listen(address, backlog)
    }

    fn socket(&mut self, address: &Address) -> io::Result<(Fd, Op)> {
        self.inner.socket(address)
    }

    fn has_work(&mut self) -> bool {
        self.inner.has_work()
    }

    fn peer_addr(&self, fd: Fd) -> Option<SocketAddr> {
        self.inner.peer_addr(fd)
    }

    fn local_addr(&self, fd: Fd) -> Option<SocketAddr> {
        self.inner.local_addr(fd)
    }

    fn shutdown_write(&mut self, fd: Fd) {
        self.inner.shutdown_write(fd);
    }

    fn reset_on_close(&mut self, fd: Fd) {
        self.inner.reset_on_close(fd);
    }

    fn pool(&self) -> &BufferPool {
        self.inner.pool()
    }

    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn can_spin(&self) -> bool {
        self.inner.can_spin()
    }

    fn stats(&self) -> RingStats {
        self.inner.stats()
    }
}

/// Whether the simulation noticed, and whether the bug had its chance.
fn drill(bug: Bug, seed: u64) -> (bool, bool) {
    let (struck, kept) = (Rc::new(Cell::new(false)), Rc::default());
    let (struck2, kept2) = (Rc::clone(&struck), Rc::clone(&kept));
    // Nothing breaks by itself in this weather: whatever is found is the bug's doing.
    let mut world = World::new(Faults::drawn(seed, &Faults::rough()));
    world.leaving_clients = true;
    let countdown = u32::try_from(seed % 5 + 1).unwrap();
    world.wrap = Box::new(move |inner| Box::new(Planted { inner, bug, countdown, struck: struck2, kept: kept2 }));
    let caught = catch_unwind(AssertUnwindSafe(|| !run(seed, world).problems.is_empty())).unwrap_or(true);
    (caught, struck.get())
}

#[test]
fn planted_bugs_are_caught() {
    for bug in BUGS {
        let (mut missed, mut struck) = (Vec::new(), 0);
        for seed in 0..DRILLS {
            let (is_caught, has_struck) = drill(bug, seed);
            assert!(has_struck || !is_caught, "{bug:?}, seed {seed}: an alarm without a cause");
            struck += usize::from(has_struck);
            missed.extend((has_struck && !is_caught).then_some(seed));
        }
        // Some strike where nobody is hurt: a lost cancel of a receive that ends by itself.
        assert!(struck >= 4 && missed.len() * 4 <= struck * 3, "{bug:?} struck {struck} times and was missed with seeds {missed:?}");
    }
}

const DRILLS: u64 = 40;
