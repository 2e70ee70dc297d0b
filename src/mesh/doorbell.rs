//! The sleep and wake protocol between a shard and those who send to it, and nothing else: no queue, no system call.
//! `tests/loom` includes this very file with loom's atomics and tries every interleaving.
//!
//! ```text
//!   receiver                          sender
//!   asleep = true                     push the message
//!   fence (SeqCst)                    fence (SeqCst)
//!   look at the inbox a last time     asleep? swap it to false, and if it was true: ring
//!   empty: sleep until rung
//! ```
//!
//! Of the two fences one comes first. If the receiver's does, the sender sees `asleep`; if the sender's does, the receiver
//! sees the message. So no message waits beside a sleeping receiver. Whoever swaps `asleep` from true rings: a busy shard is
//! never rung, a sleeping one is rung once for many sends. A ring may come late, when the receiver is awake again (it found
//! the message by itself): one needless wake-up, which a receiver must bear.

use super::sync::{AtomicBool, Ordering, fence};

/// What wakes a sleeping receiver: an eventfd or a ring message for a shard, a flag in simulation. It must be remembered when
/// it comes before the receiver sleeps (as an eventfd does), and it must not wait.
pub trait Ring {
    fn ring(&self);
}

impl<R: Ring + ?Sized> Ring for Box<R> {
    fn ring(&self) {
        (**self).ring();
    }
}

/// One receiver's door. The receiver calls [`try_sleep`](Doorbell::try_sleep) and [`wake`](Doorbell::wake), senders the rest.
#[derive(Debug)]
pub struct Doorbell<R> {
    asleep: AtomicBool,
    bell: R,
}

impl<R: Ring> Doorbell<R> {
    /// A door whose receiver is awake.
    pub fn new(bell: R) -> Doorbell<R> {
        Doorbell { asleep: AtomicBool::new(false), bell }
    }

    /// The receiver's way to sleep: true when it may now block until it is rung (or until a deadline of its own), false when
    /// `inbox_is_empty` said no and it must look again. After a true it calls [`wake`](Doorbell::wake) when it is up.
    pub fn try_sleep(&self, inbox_is_empty: impl FnOnce() -> bool) -> bool {
        // A swap here and in `wake`, though stores would do on hardware: all writes to the flag then stand in one order for
        // loom too, which does not order a store against a swap. It costs nothing (x86 makes a SeqCst store of it anyway).
        self.asleep.swap(true, Ordering::SeqCst);
        // Before the last look: the other half of the pair is in `fence_sends`.
        fence(Ordering::SeqCst);
        if inbox_is_empty() {
            return true;
        }
        self.wake();
        false
    }

    /// The receiver is up: senders need not ring. True when one of them has rung or is about to.
    pub fn wake(&self) -> bool {
        !self.asleep.swap(false, Ordering::AcqRel)
    }

    /// Rings if the receiver sleeps; true when it rang. Call it after the message is in the inbox.
    pub fn ring_if_asleep(&self) -> bool {
        fence_sends();
        self.ring_if_asleep_fenced()
    }

    /// As [`ring_if_asleep`](Doorbell::ring_if_asleep) for a sender that has called [`fence_sends`] since its last push: one
    /// fence serves the doors of all receivers it sent to in a turn.
    pub fn ring_if_asleep_fenced(&self) -> bool {
        // The load first: for a busy receiver the line stays shared, no sender takes it over to write.
        let rings = self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel);
        if rings {
            self.bell.ring();
        }
        rings
    }

    /// The bell, for its owner (who reads the eventfd, or takes the flag).
    pub fn bell(&self) -> &R {
        &self.bell
    }
}

/// The sender's fence between its pushes and its looks at who sleeps.
pub fn fence_sends() {
    fence(Ordering::SeqCst);
}
