//! One driver under test: runs turns, sorts completions by who asked, and holds every single one to the seam's contract.

use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::runtime::driver::sim::{Faults, SimKernel};
use crate::runtime::driver::{Driver, EpollDriver, UringDriver};
use crate::runtime::{Clock, RealClock};
use crate::sys::net::Address;
use crate::sys::{BufferPool, Completion, EventFd, Fd, Lease, Op, OpId, Parts, Wait};

pub(super) struct Bench {
    pub(super) driver: Box<dyn Driver>,
    pub(super) clock: Clock,
    pub(super) ring_bell: Box<dyn Fn()>,
    seen: BTreeMap<u64, Seen>,
    /// Operations that ended: nothing may come for them any more.
    over: HashSet<OpId>,
    /// Leases are kept instead of read and returned.
    pub(super) holds: Rc<Cell<bool>>,
    pub(super) held: Vec<Lease>,
    next_target: u64,
}

/// What came for one target.
#[derive(Default)]
struct Seen {
    bytes: Vec<u8>,
    accepted: Vec<Fd>,
    completions: usize,
    end: Option<(io::Result<u32>, Op)>,
}

/// Runs a test on every driver that this host allows.
pub(super) fn on_each(test: impl Fn(&mut Bench)) {
    for make in [epoll, uring, sim] {
        let Some(mut bench) = make() else { continue };
        test(&mut bench);
        bench.held.clear();
        bench.settle();
        let name = bench.name();
        assert_eq!(bench.driver.stats().in_flight, 0, "{name}: operations left in flight");
        assert_eq!(bench.driver.pool().leased(), 0, "{name}: buffers not given back");
        assert_eq!(bench.driver.stats().stale, 0, "{name}: stale completions");
    }
}

fn pool() -> BufferPool {
    BufferPool::new(8, 64).unwrap()
}

fn bench(driver: Box<dyn Driver>, clock: Clock, ring_bell: Box<dyn Fn()>) -> Option<Bench> {
    let seen = BTreeMap::new();
    Some(Bench { driver, clock, ring_bell, seen, over: HashSet::new(), holds: Rc::default(), held: Vec::new(), next_target: 0 })
}

pub(super) fn epoll() -> Option<Bench> {
    let bell = EventFd::new().unwrap();
    let driver = EpollDriver::new(pool(), bell.clone()).unwrap();
    bench(Box::new(driver), RealClock::start().into(), Box::new(move || bell.ring()))
}

pub(super) fn uring() -> Option<Bench> {
    let bell = EventFd::new().unwrap();
    match UringDriver::new(pool(), bell.clone()) {
        Ok(driver) => bench(Box::new(driver), RealClock::start().into(), Box::new(move || bell.ring())),
        Err(error) => {
            eprintln!("io_uring is refused here and is not tested: {error}");
            None
        }
    }
}

fn sim() -> Option<Bench> {
    let kernel = SimKernel::new(7, Faults::calm());
    kernel.let_turns_move_time(true);
    let driver = kernel.driver(pool(), "sim");
    let (bell, clock) = (driver.bell(), kernel.clock());
    bench(Box::new(driver), clock, Box::new(move || bell.ring()))
}

impl Bench {
    pub(super) fn name(&self) -> &'static str {
        self.driver.name()
    }

    pub(super) fn submit(&mut self, op: Op) -> (OpId, u64) {
        self.next_target += 1;
        (self.driver.submit(op, self.next_target), self.next_target)
    }

    pub(super) fn recv(&mut self, fd: Fd) -> (OpId, u64) {
        self.submit(Op::Recv { fd })
    }

    pub(super) fn turn(&mut self, wait: Wait) {
        let mut out = Vec::new();
        self.driver.turn(wait, &mut out).unwrap();
        for completion in out {
            self.take(completion);
        }
    }

    fn take(&mut self, completion: Completion) {
        let Completion { target, id, result, more, lease, accepted, op } = completion;
        let name = self.driver.name();
        assert!(!self.over.contains(&id), "{name}: a completion after the last one: {result:?}");
        assert_eq!(more, op.is_none(), "{name}: the memory comes back with the last completion and not before");
        assert!(!more || result.is_ok(), "{name}: an error ends an operation");
        if let Some(lease) = &lease {
            assert_eq!(result.as_ref().ok(), u32::try_from(lease.len()).ok().as_ref(), "{name}: the count is the lease's length");
        }
        let seen = self.seen.entry(target).or_default();
        assert!(seen.end.is_none(), "{name}: a target's operation ended before");
        seen.completions += 1;
        seen.accepted.extend(accepted);
        if let Some(lease) = lease {
            seen.bytes.extend_from_slice(&lease);
            self.held.extend(Some(lease).filter(|_| self.holds.get()));
        }
        if let Some(op) = op {
            seen.end = Some((result, op));
            self.over.insert(id);
        }
    }

    /// Turns until `done`.
    pub(super) fn until(&mut self, what: &str, done: impl Fn(&Bench) -> bool) {
        for _ in 0..TURNS_MAX {
            if done(self) {
                return;
            }
            self.turn(Wait::For(Duration::from_millis(20)));
        }
        panic!("{}: {what} never came", self.name());
    }

    /// Lets everything happen that happens soon.
    pub(super) fn settle(&mut self) {
        for _ in 0..3 {
            self.turn(Wait::For(Duration::from_millis(3)));
        }
    }

    pub(super) fn is_over(&self, target: u64) -> bool {
        self.seen.get(&target).is_some_and(|seen| seen.end.is_some())
    }

    pub(super) fn completions(&self, target: u64) -> usize {
        self.seen.get(&target).map_or(0, |seen| seen.completions)
    }

    /// The end of a target's operation, and the operation itself.
    pub(super) fn end(&mut self, target: u64) -> (Result<u32, i32>, Op) {
        self.until("the last completion", |bench| bench.is_over(target));
        let (result, op) = self.seen.get_mut(&target).unwrap().end.take().unwrap();
        (result.map_err(|error| error.raw_os_error().unwrap()), op)
    }

    pub(super) fn outcome(&mut self, target: u64) -> Result<u32, i32> {
        self.end(target).0
    }

    pub(super) fn bytes(&self, target: u64) -> &[u8] {
        self.seen.get(&target).map_or(&[], |seen| &seen.bytes)
    }

    /// Waits until so many bytes came in all.
    pub(super) fn bytes_until(&mut self, target: u64, len: usize) -> Vec<u8> {
        self.until("the bytes", |bench| bench.bytes(target).len() >= len);
        self.bytes(target).to_vec()
    }

    /// Reads `len` bytes, arming the receive anew as often as it runs out of buffers, and ends it.
    pub(super) fn read(&mut self, fd: Fd, len: usize) -> Vec<u8> {
        let mut read = Vec::new();
        while read.len() < len {
            let (_, target) = self.recv(fd);
            let missing = len - read.len();
            self.until("the bytes", |bench| bench.is_over(target) || bench.bytes(target).len() >= missing);
            if !self.is_over(target) {
                self.driver.cancel_all(fd);
            }
            let result = self.outcome(target);
            assert!(matches!(result, Err(libc::ENOBUFS | libc::ECANCELED)), "{}: {result:?}", self.name());
            read.extend_from_slice(self.bytes(target));
        }
        read
    }

    pub(super) fn accepted(&mut self, target: u64) -> Fd {
        self.until("a connection", |bench| bench.seen.get(&target).is_some_and(|seen| !seen.accepted.is_empty()));
        self.seen.get_mut(&target).unwrap().accepted.remove(0)
    }

    pub(super) fn listen(&mut self, backlog: i32) -> (Fd, Address) {
        let fd = self.driver.listen(&Address::Tcp("127.0.0.1:0".parse().unwrap()), backlog).unwrap();
        (fd, Address::Tcp(self.driver.local_addr(fd).unwrap()))
    }

    /// Begins to connect; the target ends when it is through.
    pub(super) fn connect(&mut self, address: &Address) -> (Fd, OpId, u64) {
        let (fd, op) = self.driver.socket(address).unwrap();
        let (id, target) = self.submit(op);
        (fd, id, target)
    }

    /// Both ends of a new connection.
    pub(super) fn pair(&mut self) -> (Fd, Fd) {
        let (listener, address) = self.listen(4);
        let (accept, accepts) = self.submit(Op::Accept { listener });
        let (client, _, connected) = self.connect(&address);
        assert_eq!(self.outcome(connected), Ok(0));
        let server = self.accepted(accepts);
        self.driver.cancel(accept);
        assert_eq!(self.outcome(accepts), Err(libc::ECANCELED));
        self.driver.close(listener);
        (client, server)
    }

    /// Sends all of `parts`, as the runtime does: what a completion left goes into the next operation.
    pub(super) fn send(&mut self, fd: Fd, parts: impl Into<Parts>) -> Result<(), i32> {
        let mut parts = parts.into();
        while !parts.is_empty() {
            let (_, target) = self.submit(Op::Send { fd, parts });
            let (result, op) = self.end(target);
            let count = result?;
            assert!(count > 0, "{}: a send that takes nothing does not end", self.name());
            let Op::Send { parts: back, .. } = op else { panic!("another operation came back") };
            parts = back;
            parts.advance(count as usize);
        }
        Ok(())
    }

    /// Ends whatever is in flight on each, then closes it.
    pub(super) fn close(&mut self, fds: &[(Fd, &[u64])]) {
        for (fd, targets) in fds {
            if !targets.is_empty() {
                self.driver.cancel_all(*fd);
            }
            for target in *targets {
                self.until("the last completion", |bench| bench.is_over(*target));
            }
            self.driver.close(*fd);
        }
        self.settle();
    }
}

const TURNS_MAX: usize = 300;
