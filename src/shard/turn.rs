//! One pass of a shard: messages in, tasks, batches at the turn's end, messages out, then the wait. And the little housekeeping that
//! no request asks for.

use std::io;
use std::rc::{Rc, Weak};
use std::time::Duration;

use smallvec::SmallVec;

use super::snapshot::Snapshot;
use super::{Former, Message, Reports, Shard, admit};
use crate::mesh::{Port, ShardId};
use crate::metrics::RingStats;
use crate::runtime::{Idle, Rt};
use crate::sys::{GiveBack, give_back_memory};

impl Shard {
    /// One turn. Sleeps in it when there is nothing to do.
    ///
    /// # Errors
    /// When the driver is broken: the shard cannot go on.
    pub fn turn(self: &Rc<Self>) -> io::Result<()> {
        self.take_inbox();
        self.rt.run_tasks();
        // Answers wake exchanges, which may bring the next jobs: those leave in this turn too, up to a bound.
        for _ in 0..ROUNDS_PER_TURN {
            if !self.drive_home() {
                break;
            }
            self.rt.run_tasks();
        }
        self.empty_outbox();
        let current = self.current.borrow();
        let rung = self.port.flush();
        if rung > 0 {
            current.metrics.doorbells_rung(rung);
        }
        let until = {
            let mut home = self.home.borrow_mut();
            current.metrics.lanes(home.lanes() as u64);
            current.metrics.queued_items(home.queued_items() as u64);
            current.metrics.tickets(self.tickets.borrow().len() as u64);
            self.port.set_exchanges(current.metrics.exchanges());
            home.next_timeout()
        };
        drop(current);
        // A full inbox elsewhere: look again soon instead of waiting for a bell that will not ring.
        let retry = (!self.outbox.borrow().is_empty()).then(|| self.rt.now() + OUTBOX_RETRY);
        let until = [until, retry].into_iter().flatten().min();
        self.rt.wait(until, &AtTheDoor(&self.port))
    }

    fn take_inbox(self: &Rc<Self>) {
        for _ in 0..MESSAGES_PER_TURN {
            match self.port.pop() {
                Some(Message::Job(job)) => self.take_job(*job),
                Some(Message::Cancel(ticket)) => self.take_cancel(ticket),
                Some(Message::Answer(answer)) => self.take_answer(*answer),
                Some(Message::Connection(detached)) => self.take_connection(detached),
                Some(Message::Room) => self.take_room(),
                Some(Message::Snapshot(made)) => self.take_snapshot(Snapshot::new(*made, self.id)),
                Some(Message::Probed(probed)) => self.take_probed(&probed),
                Some(Message::Reports(reports)) => self.take_reports(&reports),
                Some(Message::Question(question)) => self.answer_question(*question),
                Some(Message::Drain) => self.drain(),
                Some(Message::Leave) => self.leave(),
                None => return,
            }
        }
    }

    /// Sends to a shard, this one included. What finds the inbox full goes out later, in order; it is bounded by the jobs that
    /// are open, each of which posts at most one cancel or one answer, and one word of a free place per shard and upstream.
    pub(super) fn post(&self, to: ShardId, message: Message) {
        if to == self.id {
            match message {
                Message::Answer(answer) => return self.take_answer(*answer),
                Message::Cancel(ticket) => return self.take_cancel(ticket),
                Message::Job(_)
                | Message::Connection(_)
                | Message::Room
                | Message::Snapshot(_)
                | Message::Probed(_)
                | Message::Reports(_)
                | Message::Question(_)
                | Message::Drain
                | Message::Leave => {}
            }
        }
        let mut outbox = self.outbox.borrow_mut();
        if !outbox.is_empty() {
            outbox.push_back((to, message));
        } else if let Err(message) = self.port.send(to, message) {
            outbox.push_back((to, message));
        }
    }

    fn empty_outbox(&self) {
        let mut outbox = self.outbox.borrow_mut();
        while let Some((to, message)) = outbox.pop_front() {
            if let Err(message) = self.port.send(to, message) {
                outbox.push_front((to, message));
                return;
            }
        }
    }

    fn take_snapshot(&self, snapshot: Snapshot) {
        snapshot.inherit(&self.current.borrow());
        snapshot.adopt(&self.current.borrow());
        let former = self.current.replace(Rc::new(snapshot));
        for upstream in &former.upstreams {
            upstream.clear();
        }
        admit::show_limits(&former, false);
        admit::show_limits(&self.current.borrow(), true);
        let mut kept = self.former.borrow_mut();
        kept.push_back(Former { snapshot: former, replaced: self.rt.now() });
        if kept.len() > FORMER_MAX {
            kept.pop_front();
        }
        drop(kept);
        // The bound on connections may have risen.
        self.tickets.borrow_mut().set_capacity(self.current.borrow().config.server.max_connections);
        for task in self.acceptors.borrow_mut().drain(..) {
            self.rt.wake(task);
        }
        let early = std::mem::take(&mut *self.early.borrow_mut());
        for job in early {
            self.take_job(job);
        }
        // An upstream's limit may have risen.
        self.take_room();
    }

    /// What endpoints said of their load. News of another snapshot than the current one come too early or too late: others follow.
    fn take_reports(&self, reports: &Reports) {
        let current = self.current.borrow();
        if current.generation == reports.generation {
            for (upstream, endpoint, report) in &reports.list {
                current.upstream(*upstream).handle_report(*endpoint, report.clone(), self.rt.now());
            }
        }
    }

    /// The snapshot with this number, if it is still (or already) here.
    pub(super) fn snapshot_of(&self, generation: u32) -> Option<Rc<Snapshot>> {
        let current = self.current.borrow();
        if current.generation == generation {
            return Some(Rc::clone(&current));
        }
        let former = self.former.borrow();
        former.iter().find(|former| former.snapshot.generation == generation).map(|former| Rc::clone(&former.snapshot))
    }

    /// Stops accepting without losing whom the kernel has accepted for us. Each connection closes after its next answer, which says so:
    /// one that is closed while its client writes would fail a request. Those that stay quiet end by `idle_timeout`.
    fn leave(&self) {
        self.draining.set(true);
        self.leaving.set(true);
        for task in self.listeners.borrow().iter() {
            self.rt.wake(*task);
        }
    }

    /// Stops accepting; idle connections close, the others after their answer.
    fn drain(&self) {
        self.draining.set(true);
        self.leaving.set(false);
        for task in self.listeners.borrow_mut().drain(..) {
            self.rt.abort(task);
        }
        for (_, task) in self.connections.borrow().iter() {
            self.rt.wake(*task);
        }
    }

    /// 16 hex digits, unlike those of other shards and runs.
    pub(super) fn new_request_id(&self) -> SmallVec<[u8; 48]> {
        let mut number = self.random_u64();
        let mut id = *b"hr-0123456789abcdef";
        for digit in &mut id[3..] {
            *digit = HEX[usize::from(number.to_be_bytes()[0] >> 4)];
            number <<= 4;
        }
        SmallVec::from_slice(&id)
    }

    /// For jitter; not for secrets.
    pub(super) fn random(&self) -> u32 {
        let [a, b, c, d, ..] = self.random_u64().to_be_bytes();
        u32::from_be_bytes([a, b, c, d])
    }

    /// splitmix64 (Steele, Lea, Flood 2014): one addition and three mixing steps.
    pub(super) fn random_u64(&self) -> u64 {
        let state = self.next_request.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.next_request.set(state);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn tidy_up(&self) {
        let now = self.rt.now();
        let current = self.current.borrow();
        let mut former = self.former.borrow_mut();
        for snapshot in std::iter::once(&*current).chain(former.iter().map(|former| &former.snapshot)) {
            snapshot.upstreams.iter().for_each(|upstream| upstream.prune(now));
        }
        // A former snapshot is needed while an exchange, a call or a waiting job began under it, or such a job may be on its way
        // from a shard that had not got the next one yet.
        let home = self.home.borrow();
        former.retain(|Former { snapshot, replaced }| {
            Rc::strong_count(snapshot) > 1 || now.since(*replaced) < FORMER_GRACE || home.holds_generation(snapshot.generation)
        });
        admit::show_limits(&current, true);
        let stats = self.rt.stats();
        current.metrics.ring_stats(&RingStats {
            turns: stats.turns,
            enters: stats.ring.enters,
            enobufs: stats.sockets.starvations,
            cq_overflows: stats.ring.cq_overflows,
            stale_completions: stats.ring.stale,
            task_panics: stats.panics,
        });
    }

    /// Between bursts the stale pages of the heap go back; when no request has come since `seen` (see there), all that is free, and
    /// what is kept for reuse with it.
    fn tidy_heap(&self, seen: &mut u64) {
        if self.current.borrow().metrics.exchanges() > 0 {
            return;
        }
        let begun = self.next_request.get();
        let idle = *seen == begun;
        if idle {
            self.rt.shrink();
            self.connections.borrow_mut().shrink_to_fit();
        }
        give_back_memory(if idle { GiveBack::All } else { GiveBack::Stale });
        *seen = begun;
    }
}

/// Once a second: idle connections that timed out, former snapshots, the ring's gauges, the heap.
pub(super) async fn keep_house(shard: Weak<Shard>, rt: Rt) {
    let mut seen = 0;
    loop {
        rt.sleep_until(rt.now() + HOUSEKEEPING).await;
        let Some(shard) = shard.upgrade() else { return };
        shard.tidy_up();
        shard.tidy_heap(&mut seen);
    }
}

/// The sleep protocol of a shard: its inbox is the other way work comes.
struct AtTheDoor<'a>(&'a Port<Message>);

impl Idle for AtTheDoor<'_> {
    fn has_work(&self) -> bool {
        !self.0.inbox().is_empty()
    }

    fn fall_asleep(&self) -> bool {
        self.0.try_sleep()
    }

    fn wake_up(&self) {
        self.0.wake();
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";
/// Messages taken in one turn; the rest in the next, so that a flood cannot starve the sockets.
const MESSAGES_PER_TURN: usize = 1024;
const ROUNDS_PER_TURN: usize = 4;
/// Never reached: control refuses a reload while as many former snapshots are in use.
const FORMER_MAX: usize = 64;
/// A shard that has not taken the next snapshot out of its inbox by then does not turn any more.
const FORMER_GRACE: Duration = Duration::from_secs(2);
const OUTBOX_RETRY: Duration = Duration::from_micros(100);
const HOUSEKEEPING: Duration = Duration::from_secs(1);
