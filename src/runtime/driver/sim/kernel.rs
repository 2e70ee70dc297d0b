//! The pretend kernel's heart: virtual time, what is due, and the rings with their submissions and completions. What operations
//! do to connections is decided in `streams`.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::faults::{FAULTS, Fault, Faults};
use super::network::{Connection, End, File, FileKind, OpRef};
use super::rng::Rng;
use crate::sys::net::Address;
use crate::sys::{BufferPool, Completed, Completion, Fd, Instant, Lease, Op, OpId, RingStats, SimBell, Slots, Wait};

pub(super) struct Kernel {
    pub(super) hand: Rc<Cell<Instant>>,
    pub(super) rng: Rng,
    pub(super) faults: Faults,
    pub(super) reached: [u64; FAULTS],
    pub(super) violations: Vec<String>,
    pub(super) trace: u64,
    pub(super) rings: Vec<SimRing>,
    /// By number, from `FIRST_NUMBER` up; the lowest free one is given out first, as kernels do.
    pub(super) files: Vec<Option<File>>,
    /// Who listens where; several on one TCP address share its connections.
    pub(super) listeners: Vec<(Address, Fd)>,
    /// Who never answers a connect, and does not refuse it either.
    pub(super) holes: Vec<Address>,
    pub(super) connections: BTreeMap<u64, Connection>,
    pub(super) next_port: u16,
    /// A turn that may wait moves the time by itself: for programs with one runtime, and to shut down.
    pub(super) moves_time: bool,
    events: BTreeMap<(Instant, u64), Event>,
    serial: u64,
}

/// Something that happens later.
pub(super) enum Event {
    /// The next piece reaches this end.
    Deliver(End),
    Connect {
        op: OpRef,
        tries: u32,
    },
    /// A send that waited looks again.
    Send(End),
    Cancel(OpRef),
    Stale {
        op: OpRef,
        fd: Fd,
        file: u64,
    },
    /// Nothing but a moment to look at the rings again.
    Wake,
}

/// One driver's queues.
pub(super) struct SimRing {
    pub(super) name: &'static str,
    pub(super) slots: Slots<Held>,
    pub(super) submissions: VecDeque<Entry>,
    completions: VecDeque<Posted>,
    pub(super) bell: SimBell,
    /// When its turn wants to end at the latest.
    pub(super) wake_at: Option<Instant>,
    pub(super) pool: BufferPool,
    stats: RingStats,
}

pub(super) struct Held {
    pub(super) op: Op,
    target: u64,
    /// When this operation's newest completion is due: an operation's own completions keep their order.
    last_due: Instant,
    /// Its last completion lies in the queue.
    is_over: bool,
    /// How much of the lent memory was taken, and its hash, to be compared when the memory goes back.
    taken: Option<(usize, u64)>,
}

pub(super) enum Entry {
    Start(OpId),
    Cancel(OpId),
    CancelAll { fd: Fd, file: u64 },
    Close(Fd),
}

/// A completion in the queue.
struct Posted {
    due: Instant,
    id: OpId,
    outcome: Outcome,
    more: bool,
    /// Of the lease's bytes: they must not change while they lie here.
    hash: u64,
}

pub(super) enum Outcome {
    Failed(i32),
    Count(u32),
    Received(Lease),
    Accepted(Fd),
}

impl Kernel {
    pub(super) fn new(seed: u64, faults: Faults) -> Kernel {
        Kernel {
            hand: Rc::default(),
            rng: Rng::new(seed),
            faults,
            reached: [0; FAULTS],
            violations: Vec::new(),
            trace: seed,
            rings: Vec::new(),
            files: Vec::new(),
            listeners: Vec::new(),
            holes: Vec::new(),
            connections: BTreeMap::new(),
            next_port: 20_000,
            moves_time: false,
            events: BTreeMap::new(),
            serial: 0,
        }
    }

    pub(super) fn add_ring(&mut self, name: &'static str, pool: BufferPool) -> usize {
        self.rings.push(SimRing {
            name,
            slots: Slots::new(),
            submissions: VecDeque::new(),
            completions: VecDeque::new(),
            bell: SimBell::default(),
            wake_at: Some(Instant::ZERO),
            pool,
            stats: RingStats::default(),
        });
        self.rings.len() - 1
    }

    pub(super) fn now(&self) -> Instant {
        self.hand.get()
    }

    /// Draws a fault and counts it.
    pub(super) fn strikes(&mut self, fault: Fault) -> bool {
        let strikes = self.rng.chance(self.faults.rate(fault));
        if strikes {
            self.reach(fault);
        }
        strikes
    }

    pub(super) fn reach(&mut self, fault: Fault) {
        self.reached[fault.index()] += 1;
    }

    pub(super) fn accuse(&mut self, what: String) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(what);
        }
    }

    pub(super) fn note(&mut self, value: u64) {
        self.trace = mix(self.trace ^ value);
    }

    pub(super) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub(super) fn schedule(&mut self, at: Instant, event: Event) {
        let serial = self.next_serial();
        self.events.insert((at, serial), event);
    }

    /// A time between the network's least and most.
    pub(super) fn latency(&mut self) -> Duration {
        let (least, most) = self.faults.latency;
        least + self.duration_below(most.saturating_sub(least))
    }

    fn lateness(&mut self) -> Duration {
        self.duration_below(self.faults.lateness)
    }

    fn duration_below(&mut self, limit: Duration) -> Duration {
        Duration::from_nanos(self.rng.below(u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// When something happens by itself next; a moment that has come already counts.
    pub(super) fn next_event(&self) -> Option<Instant> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    /// Lets everything happen that is due.
    pub(super) fn run_due(&mut self) {
        let now = self.now();
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > now {
                return;
            }
            match entry.remove() {
                Event::Deliver(end) => self.deliver(end),
                Event::Connect { op, tries } => self.try_connect(op, tries),
                Event::Send(end) => self.pump_send(end),
                Event::Cancel(op) => self.cancel_now(op),
                Event::Stale { op, fd, file } => self.post_stale(op, fd, file),
                Event::Wake => {}
            }
        }
    }

    pub(super) fn is_runnable(&self, ring: usize) -> bool {
        let (now, ring) = (self.now(), &self.rings[ring]);
        let wakes = ring.wake_at.is_some_and(|at| at <= now) || ring.bell.is_rung();
        wakes || !ring.submissions.is_empty() || ring.completions.iter().any(|posted| posted.due <= now)
    }

    pub(super) fn has_completions(&self, ring: usize) -> bool {
        self.rings[ring].completions.iter().any(|posted| posted.due <= self.now())
    }

    pub(super) fn submit(&mut self, ring: usize, op: Op, target: u64) -> OpId {
        let held = Held { op, target, last_due: self.now(), is_over: false, taken: None };
        let id = self.rings[ring].slots.insert(held);
        self.rings[ring].submissions.push_back(Entry::Start(id));
        id
    }

    pub(super) fn cancel(&mut self, ring: usize, id: OpId) {
        if self.rings[ring].slots.cancel(id) {
            self.rings[ring].submissions.push_back(Entry::Cancel(id));
        }
    }

    /// One pass: takes what was queued, lets happen what is due, brings completions, and notes until when its owner would sleep.
    pub(super) fn turn(&mut self, ring: usize, wait: Wait, out: &mut Vec<Completion>) {
        self.rings[ring].stats.enters += 1;
        let rung = self.rings[ring].bell.take();
        let wait = if rung { Wait::Now } else { wait };
        let until = match wait {
            Wait::Now => Some(self.now()),
            Wait::For(time) => Some(self.now() + time),
            Wait::Forever => None,
        };
        loop {
            self.take_submissions(ring);
            self.run_due();
            self.reap(ring, out);
            let is_waiting = out.is_empty() && until.is_none_or(|until| until > self.now()) && !self.rings[ring].bell.is_rung();
            let next = [self.next_event(), until].into_iter().flatten().min();
            match next.filter(|_| is_waiting && self.moves_time) {
                Some(next) => self.hand.set(next.max(self.now())),
                None => break,
            }
        }
        self.rings[ring].wake_at = if out.is_empty() { until } else { Some(self.now()) };
    }

    fn take_submissions(&mut self, ring: usize) {
        while let Some(entry) = self.rings[ring].submissions.pop_front() {
            match entry {
                Entry::Start(id) => self.start(OpRef { ring, id }),
                Entry::Cancel(id) => self.cancel_later(OpRef { ring, id }),
                Entry::CancelAll { fd, file } => self.cancel_file(ring, fd, file),
                Entry::Close(fd) => self.close(fd),
            }
        }
    }

    fn cancel_file(&mut self, ring: usize, fd: Fd, file: u64) {
        let Some(open) = self.file(fd) else { return self.accuse(format!("cancel of everything on {fd:?}, which is closed")) };
        if open.serial != file {
            return self.accuse(format!("a cancel for {fd:?} reaches the next socket with that number"));
        }
        let ops: Vec<OpRef> = open.ops().filter(|op| op.ring == ring).collect();
        for op in ops {
            self.cancel_later(op);
        }
    }

    fn cancel_later(&mut self, op: OpRef) {
        if self.strikes(Fault::LateCancel) {
            let at = self.now() + self.lateness();
            self.schedule(at, Event::Cancel(op));
        } else {
            self.cancel_now(op);
        }
    }

    fn cancel_now(&mut self, op: OpRef) {
        if self.is_active(op) {
            self.post_last(op, Outcome::Failed(libc::ECANCELED));
        } else {
            self.reach(Fault::CancelLost);
        }
    }

    pub(super) fn is_active(&self, op: OpRef) -> bool {
        self.rings[op.ring].slots.get(op.id).is_some_and(|held| !held.is_over)
    }

    /// Queues the operation's last completion; it is over for the kernel, its slot waits until the completion is reaped.
    pub(super) fn post_last(&mut self, op: OpRef, outcome: Outcome) {
        let Some(held) = self.rings[op.ring].slots.get_mut(op.id) else { return };
        held.is_over = true;
        let fd = held.op.fd();
        let Some(file) = self.file_mut(fd) else { return self.post(op, outcome, false) };
        file.forget(op);
        let serial = file.serial;
        self.post(op, outcome, false);
        if self.strikes(Fault::StaleCompletion) {
            let at = self.now() + self.lateness();
            self.schedule(at, Event::Stale { op, fd, file: serial });
        }
    }

    pub(super) fn post(&mut self, op: OpRef, outcome: Outcome, more: bool) {
        let late = if self.strikes(Fault::LateCompletion) { self.lateness() } else { Duration::ZERO };
        let due = self.now() + late;
        let Some(held) = self.rings[op.ring].slots.get_mut(op.id) else { return };
        held.last_due = held.last_due.max(due);
        let due = held.last_due;
        let hash = match &outcome {
            Outcome::Received(lease) => hash([&**lease]),
            _ => 0,
        };
        self.rings[op.ring].completions.push_back(Posted { due, id: op.id, outcome, more, hash });
        if due > self.now() {
            self.schedule(due, Event::Wake);
        }
    }

    /// A completion for an operation that is over, bringing a buffer: the driver must count it, drop it and keep the buffer.
    fn post_stale(&mut self, op: OpRef, fd: Fd, file: u64) {
        if self.rings[op.ring].slots.get(op.id).is_some() {
            // Its last completion is still on the way: this one would overtake it.
            return;
        }
        if self.file(fd).is_some_and(|open| open.serial != file) {
            self.reach(Fault::NumberReused);
        }
        let lease = self.rings[op.ring].pool.fill(|buffer| {
            buffer.fill(0xEE);
            Ok(buffer.len())
        });
        let Ok(Some(lease)) = lease else { return };
        let (due, hash) = (self.now(), hash([&*lease]));
        self.rings[op.ring].completions.push_back(Posted { due, id: op.id, outcome: Outcome::Received(lease), more: false, hash });
    }

    /// Hands out what is due: any order, but each operation's completions in theirs.
    fn reap(&mut self, ring: usize, out: &mut Vec<Completion>) {
        let now = self.now();
        let due = self.rings[ring].completions.iter().filter(|posted| posted.due <= now).count();
        let mut room = self.faults.completions_max;
        if due > 1 && self.strikes(Fault::QueueOverflow) {
            room = room.min(self.rng.one_to(due - 1));
        }
        if room < due {
            self.rings[ring].stats.cq_overflows += 1;
        }
        for _ in 0..due.min(room) {
            let Some(index) = self.pick(ring) else { return };
            let Some(posted) = self.rings[ring].completions.remove(index) else { return };
            self.hand_out(ring, posted, out);
        }
    }

    fn pick(&mut self, ring: usize) -> Option<usize> {
        let now = self.now();
        let due: Vec<usize> = (0..).zip(&self.rings[ring].completions).filter(|(_, posted)| posted.due <= now).map(|(i, _)| i).collect();
        let first = *due.first()?;
        if due.len() < 2 || !self.rng.chance(self.faults.rate(Fault::Reordered)) {
            return Some(first);
        }
        let any = due[self.rng.index(due.len())];
        let id = self.rings[ring].completions[any].id;
        let picked = due.into_iter().find(|index| self.rings[ring].completions[*index].id == id)?;
        if picked != first {
            self.reach(Fault::Reordered);
        }
        Some(picked)
    }

    fn hand_out(&mut self, ring: usize, posted: Posted, out: &mut Vec<Completion>) {
        let Posted { id, outcome, more, hash: before, .. } = posted;
        let (target, op, taken) = match self.rings[ring].slots.complete(id, more) {
            Completed::More(held) => (held.target, None, None),
            Completed::Last(held) => (held.target, Some(held.op), held.taken),
            // What it brought (a lease) goes back by being dropped with it.
            Completed::Stale => return,
        };
        if let (Some((count, before)), Some(Op::Send { parts, .. })) = (taken, &op)
            && hash_first(count, parts.slices()) != before
        {
            self.accuse(format!("{}: memory lent to a send changed before its completion", self.rings[ring].name));
        }
        let (result, lease, accepted) = match outcome {
            Outcome::Failed(errno) => (Err(io::Error::from_raw_os_error(errno)), None, None),
            Outcome::Count(count) => (Ok(count), None, None),
            Outcome::Received(lease) => (Ok(u32::try_from(lease.len()).unwrap_or(u32::MAX)), Some(lease), None),
            Outcome::Accepted(fd) => (Ok(0), None, Some(fd)),
        };
        if lease.as_ref().is_some_and(|lease| hash([&**lease]) != before) {
            self.accuse(format!("{}: a receive buffer was written to while it was lent", self.rings[ring].name));
        }
        self.note(id.user_data() ^ self.now().as_nanos().rotate_left(20));
        let errno = |error: &io::Error| u64::from(error.raw_os_error().unwrap_or(0).unsigned_abs()) << 32;
        self.note(u64::from(more) << 63 | result.as_ref().map_or_else(errno, |count| u64::from(*count)));
        out.push(Completion { target, id, result, more, lease, accepted, op });
    }

    /// Notes what a send took from its memory, to be compared when the memory goes back.
    pub(super) fn note_taken(&mut self, op: OpRef, count: usize) {
        if let Some(Held { op: Op::Send { parts, .. }, taken, .. }) = self.rings[op.ring].slots.get_mut(op.id) {
            *taken = Some((count, hash_first(count, parts.slices())));
        }
    }

    pub(super) fn stats(&self, ring: usize) -> RingStats {
        let SimRing { slots, stats, .. } = &self.rings[ring];
        RingStats { stale: slots.stale(), in_flight: slots.in_flight(), ..*stats }
    }

    /// What is not as it must be when everybody has gone home.
    pub(super) fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        for ring in &self.rings {
            let counts = [
                (u64::from(ring.slots.in_flight()), "operations in flight"),
                (ring.completions.len() as u64, "completions not reaped"),
                (ring.submissions.len() as u64, "submissions not taken"),
                (u64::from(ring.pool.leased()), "receive buffers lent out"),
            ];
            left.extend(counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{}: {count} {what}", ring.name)));
        }
        for (index, file) in (0..).zip(&self.files) {
            if let Some(file) = file {
                let kind = match &file.kind {
                    FileKind::Idle { .. } => "unconnected socket",
                    FileKind::Stream(_) => "connection",
                    FileKind::Listener { .. } => "listener",
                };
                left.push(format!("descriptor {} is open ({kind})", FIRST_NUMBER + index));
            }
        }
        if !self.connections.is_empty() {
            left.push(format!("{} connections not over", self.connections.len()));
        }
        left
    }
}

/// Of the first `count` bytes of `slices`.
fn hash_first<'a>(mut count: usize, slices: impl Iterator<Item = &'a [u8]>) -> u64 {
    hash(slices.map(move |slice| {
        let now = slice.len().min(count);
        count -= now;
        &slice[..now]
    }))
}

/// Sensitive to every byte and its place, not to how the bytes are cut.
fn hash<'a>(slices: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let bytes = slices.into_iter().flatten();
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn mix(value: u64) -> u64 {
    Rng::new(value).draw()
}

/// Numbers below are taken in every process (standard streams).
pub(super) const FIRST_NUMBER: i32 = 3;
const VIOLATIONS_MAX: usize = 100;
