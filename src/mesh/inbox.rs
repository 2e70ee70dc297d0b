//! Inboxes: one bounded lock-free queue per shard, many senders, one receiver, and the doorbell beside it. Generic over the
//! message: the shard defines what it says. What to do when an inbox is full (shed) is the sender's business.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;

use super::ShardId;
use super::doorbell::{Doorbell, Ring, fence_sends};
use super::loads::{Load, Loads};
use super::pressure::{Level, Pressure};

/// How a receiver is woken; dynamic because it is called only for a receiver that sleeps.
pub type Bell = Box<dyn Ring + Send + Sync>;

/// The paths between all shards, before they are handed out.
#[derive(Debug)]
pub struct Mesh<T> {
    senders: Box<[Sender<T>]>,
    inboxes: Vec<Inbox<T>>,
    pressure: Pressure,
}

impl<T> Mesh<T> {
    /// One inbox per bell, with `slots` slots each (made a power of two, at least 2).
    #[must_use]
    pub fn new(slots: u32, bells: impl IntoIterator<Item = Bell>) -> Mesh<T> {
        let (inboxes, senders): (Vec<_>, Vec<_>) = bells.into_iter().map(|bell| Inbox::new(slots, bell)).unzip();
        Mesh { senders: senders.into(), inboxes, pressure: Pressure::default() }
    }

    /// A sender to each shard, for the control plane.
    #[must_use]
    pub fn senders(&self) -> Vec<Sender<T>> {
        self.senders.to_vec()
    }

    /// What control tells all shards of memory.
    #[must_use]
    pub fn pressure(&self) -> Pressure {
        self.pressure.clone()
    }

    /// The port of each shard, in the order of their ids.
    #[must_use]
    pub fn into_ports(self) -> Vec<Port<T>> {
        let Mesh { senders, inboxes, pressure } = self;
        let loads = Loads::new(inboxes.len());
        let port = |(id, inbox)| Port {
            id: ShardId(id),
            inbox,
            to_ring: senders.iter().map(|_| Cell::new(false)).collect(),
            any_to_ring: Cell::new(false),
            peers: senders.clone(),
            loads: loads.clone(),
            pressure: pressure.clone(),
        };
        (0..).zip(inboxes).map(port).collect()
    }
}

/// A shard's place in the mesh: its inbox and a way to every shard, itself included. It lives on the shard's thread.
#[derive(Debug)]
pub struct Port<T> {
    id: ShardId,
    peers: Box<[Sender<T>]>,
    inbox: Inbox<T>,
    /// By peer: a message was sent since the last flush.
    to_ring: Box<[Cell<bool>]>,
    any_to_ring: Cell<bool>,
    loads: Loads,
    pressure: Pressure,
}

impl<T> Port<T> {
    #[must_use]
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> u32 {
        u32::try_from(self.peers.len()).unwrap_or(u32::MAX)
    }

    /// Puts a message into a peer's inbox; the peer is rung (if it sleeps) by the next [`flush`](Port::flush).
    ///
    /// # Errors
    /// Gives the message back when the inbox is full (shed it) or there is no such shard.
    pub fn send(&self, peer: ShardId, message: T) -> Result<(), T> {
        let index = peer.0 as usize;
        let (Some(sender), Some(to_ring)) = (self.peers.get(index), self.to_ring.get(index)) else {
            debug_assert!(false, "no shard {index}");
            return Err(message);
        };
        sender.push(message)?;
        to_ring.set(true);
        self.any_to_ring.set(true);
        Ok(())
    }

    /// Rings every peer that sleeps and was sent something since the last flush; how many were rung. Once at the end of every
    /// turn, before [`try_sleep`](Port::try_sleep): until then the messages may lie beside a sleeper.
    pub fn flush(&self) -> u32 {
        if !self.any_to_ring.replace(false) {
            return 0;
        }
        fence_sends();
        let mut rung = 0;
        for (peer, to_ring) in self.peers.iter().zip(&self.to_ring) {
            if to_ring.replace(false) && peer.path.doorbell.ring_if_asleep_fenced() {
                rung += 1;
            }
        }
        rung
    }

    /// How near memory is to its ceiling.
    #[must_use]
    pub fn pressure(&self) -> Level {
        self.pressure.level()
    }

    /// The board that [`Port::pressure`] reads.
    #[must_use]
    pub fn pressure_board(&self) -> Pressure {
        self.pressure.clone()
    }

    /// What a shard has to do.
    #[must_use]
    pub fn load(&self, shard: ShardId) -> Load {
        self.loads.load(shard)
    }

    /// Tells the others how many exchanges are in flight here.
    pub fn set_exchanges(&self, count: u64) {
        self.loads.set_exchanges(self.id, count);
    }

    /// Takes a place for a connection on a shard that may have `max`; false when none is left. Whoever serves the connection
    /// gives it back.
    #[must_use]
    pub fn take_place(&self, shard: ShardId, max: u64) -> bool {
        self.loads.take_place(shard, max)
    }

    /// A connection closed, or did not get to the shard that a place was taken on.
    pub fn give_place(&self, shard: ShardId) {
        self.loads.give_place(shard);
    }

    /// The next message, oldest first per sender. Take a bounded number per turn, so that a flood cannot starve the sockets.
    #[must_use]
    pub fn pop(&self) -> Option<T> {
        self.inbox.pop()
    }

    /// The inbox: for its length and for going to sleep.
    #[must_use]
    pub fn inbox(&self) -> &Inbox<T> {
        &self.inbox
    }

    /// As [`Inbox::try_sleep`]. Flushes first: a shard that sleeps owes nobody a ring.
    #[must_use]
    pub fn try_sleep(&self) -> bool {
        self.flush();
        self.inbox.try_sleep()
    }

    /// As [`Inbox::wake`].
    pub fn wake(&self) -> bool {
        self.inbox.wake()
    }
}

/// The receiving end of one inbox. One per inbox, on the receiver's thread.
#[derive(Debug)]
pub struct Inbox<T> {
    path: Arc<Path<T>>,
}

impl<T> Inbox<T> {
    /// An inbox with `slots` slots (made a power of two, at least 2: the queue's index then wraps with a mask) and a sender.
    #[must_use]
    pub fn new(slots: u32, bell: Bell) -> (Inbox<T>, Sender<T>) {
        let slots = slots.clamp(2, 1 << 24).next_power_of_two();
        let path = Arc::new(Path { queue: ArrayQueue::new(slots as usize), doorbell: CachePadded::new(Doorbell::new(bell)) });
        (Inbox { path: Arc::clone(&path) }, Sender { path })
    }

    #[must_use]
    pub fn pop(&self) -> Option<T> {
        self.path.queue.pop()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.path.queue.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.path.queue.is_empty()
    }

    /// True when the inbox is empty and the receiver may block until its bell rings or a deadline of its own; then call
    /// [`wake`](Inbox::wake) once up. False: there is a message, do not block.
    #[must_use]
    pub fn try_sleep(&self) -> bool {
        self.path.doorbell.try_sleep(|| self.path.queue.is_empty())
    }

    /// The receiver is up again, for whatever reason; true when its bell was rung (or is about to be).
    pub fn wake(&self) -> bool {
        self.path.doorbell.wake()
    }
}

/// A sending end; clone it freely.
pub struct Sender<T> {
    path: Arc<Path<T>>,
}

impl<T> Sender<T> {
    /// Sends and rings at once if the receiver sleeps; true when it rang. (A shard sends through its [`Port`] instead, which
    /// rings once a turn.)
    ///
    /// # Errors
    /// Gives the message back when the inbox is full.
    pub fn send(&self, message: T) -> Result<bool, T> {
        self.push(message)?;
        Ok(self.path.doorbell.ring_if_asleep())
    }

    /// Messages waiting in the inbox, about.
    #[must_use]
    pub fn len(&self) -> usize {
        self.path.queue.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.path.queue.is_empty()
    }

    fn push(&self, message: T) -> Result<(), T> {
        self.path.queue.push(message)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender { path: Arc::clone(&self.path) }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

/// What both ends share. The doorbell has its own line: senders read it at every flush while the receiver writes it.
struct Path<T> {
    queue: ArrayQueue<T>,
    doorbell: CachePadded<Doorbell<Bell>>,
}

impl<T> fmt::Debug for Path<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("slots", &self.queue.capacity()).field("len", &self.queue.len()).finish_non_exhaustive()
    }
}

/// A bell that only notes that it was rung: for simulation and tests.
#[derive(Clone, Debug, Default)]
pub struct FlagBell(Arc<AtomicBool>);

impl FlagBell {
    /// Whether it was rung since the last call.
    #[must_use]
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}

impl Ring for FlagBell {
    fn ring(&self) {
        self.0.store(true, Ordering::Release);
    }
}
