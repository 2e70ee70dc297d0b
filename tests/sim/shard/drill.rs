//! The drill: bugs planted around the shard. A simulation that does not notice them is worth nothing. The audit knows nothing of
//! them; what it says are its ordinary complaints.

use super::requests::nonce;
use super::run;
use bytes::Bytes;
use headrace::batch::{Answer, Outcome, Ticket};
use headrace::mesh::Sender;
use headrace::runtime::{Driver, SimDriver};
use headrace::shard::Message;
use headrace::sys::net::Address;
use headrace::sys::{BufferPool, Completion, Fd, Op, OpId, RingStats, Wait};
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bug {
    /// An answer comes under a ticket that is not its own.
    WrongTicket,
    /// The mesh rings nobody.
    MuteBell,
    /// Once, a completion never reaches who waits for it.
    LoseCompletion,
    /// Once, two receives of one turn get each other's bytes.
    SwapLeases,
    /// An upstream connection is used again though the answer before was not read: each gets the one before its own.
    StaleAnswers,
}

const BUGS: [Bug; 5] = [Bug::WrongTicket, Bug::MuteBell, Bug::LoseCompletion, Bug::SwapLeases, Bug::StaleAnswers];

#[test]
fn bugs_planted_around_the_shard_are_caught() {
    for bug in BUGS {
        let caught = (0..DRILLS).find_map(|seed| {
            let problems = catch_unwind(AssertUnwindSafe(|| run(seed, Some(bug)).problems)).unwrap_or_default();
            problems.into_iter().find(|problem| told_by(bug).iter().any(|told| problem.contains(told))).map(|problem| (seed, problem))
        });
        let (seed, problem) = caught.unwrap_or_else(|| panic!("{bug:?} went unnoticed in {DRILLS} seeds"));
        println!("{bug:?} was caught with seed {seed}: {problem:.200}");
    }
}

/// The audit's complaints that show a bug for what it is.
fn told_by(bug: Bug) -> &'static [&'static str] {
    match bug {
        Bug::WrongTicket => &["quotes request"],
        Bug::MuteBell => &["a message lies beside shard"],
        Bug::LoseCompletion => {
            &["waited for ever", "never ended", "no end", "keeps sockets", "operations in flight", "though nothing broke"]
        }
        Bug::SwapLeases => &["got an answer for another", "quotes request", "with another body", "went up"],
        Bug::StaleAnswers => &["quotes request", "is not its own", "instead of its"],
    }
}

/// Answers under every ticket that may be out, with the words of nobody's request.
pub(crate) fn forge(senders: &[Sender<Message>]) {
    let words = format!("{{\"data\":[],\"of\":\"{}\"}}", nonce(9999));
    for (shard, sender) in (0..).zip(senders) {
        for slot in 0..3 {
            for generation in 0..6 {
                let body = std::iter::once(Bytes::from(words.clone())).collect();
                let outcome = Outcome::Done { status: 200, fields: Bytes::new(), body };
                let ticket = Ticket { shard, slot, generation };
                let answer = Answer { ticket, outcome, batch_items: 1, waited: Duration::ZERO };
                let _ = sender.send(Message::Answer(Box::new(answer)));
            }
        }
    }
}

/// The driver of a shard, with the bug in between if it is one of the driver's.
pub(crate) fn wrap(inner: SimDriver, planted: Option<Bug>, seed: u64) -> Box<dyn Driver> {
    match planted {
        Some(bug @ (Bug::LoseCompletion | Bug::SwapLeases)) => Box::new(Planted { inner, bug, countdown: seed % 30 + 1 }),
        _ => Box::new(inner),
    }
}

/// A driver with a bug that strikes at the `countdown`-th chance.
struct Planted {
    inner: SimDriver,
    bug: Bug,
    countdown: u64,
}

impl Planted {
    fn strikes(&mut self) -> bool {
        let was = self.countdown;
        self.countdown = was.saturating_sub(1);
        was == 1
    }

    fn spoil(&mut self, out: &mut Vec<Completion>) {
        if self.bug == Bug::LoseCompletion && !out.is_empty() && self.strikes() {
            out.remove(0);
        }
        let has_bytes = |completion: &Completion| completion.lease.as_ref().is_some_and(|lease| !lease.is_empty());
        let Some(one) = out.iter().position(has_bytes) else { return };
        let target = out[one].target;
        let other = out.iter().position(|other| other.target != target && has_bytes(other));
        if let Some(other) = other.filter(|_| self.bug == Bug::SwapLeases && self.strikes()) {
            let lease = out[one].lease.take();
            out[one].lease = std::mem::replace(&mut out[other].lease, lease);
        }
    }
}

impl Driver for Planted {
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

    fn submit(&mut self, op: Op, target: u64) -> OpId {
        self.inner.submit(op, target)
    }

    fn cancel(&mut self, id: OpId) {
        self.inner.cancel(id);
    }

    fn cancel_all(&mut self, fd: Fd) {
        self.inner.cancel_all(fd);
    }

    fn close(&mut self, fd: Fd) {
        self.inner.close(fd);
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

    fn sleeps_on(&self) -> bool {
        self.inner.sleeps_on()
    }

    fn stats(&self) -> RingStats {
        self.inner.stats()
    }
}

/// Seeds in which each bug must show.
const DRILLS: u64 = 60;
