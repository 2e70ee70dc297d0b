//! The only room with `unsafe`: ring and buffer memory, operation memory lent to the kernel, sockets by number, pinning.
//! Each file opens with the invariant that makes it sound and shows a safe face. It knows no HTTP, no policy, no futures.

#![allow(clippy::disallowed_types, reason = "the bell and the ring's tail are shared with other threads and with the kernel")]

mod buffers;
pub mod cores;
mod eventfd;
mod fd;
mod flag;
mod heap;
pub mod inherit;
mod instant;
pub mod net;
mod op;
pub mod progress;
mod ring;
mod slots;
mod span;

pub use buffers::{BufferPool, Lease, stride};
pub use eventfd::EventFd;
pub use fd::Fd;
pub use flag::SimBell;
pub use heap::{GiveBack, give_back_memory};
pub use instant::Instant;
#[cfg(test)]
pub use net::is_nodelay as is_nodelay_for_tests;
pub use op::{Op, Part, Parts, Shared};
pub use ring::{Completion, Ring, RingStats, Wait};
pub use slots::{Completed, OpId, Slots};
pub use span::Span;
