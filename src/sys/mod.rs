//! The only room with `unsafe`: ring and buffer memory, operation memory lent to the kernel, sockets by number, pinning.
//! Each file opens with the invariant that makes it sound and shows a safe face. It knows no HTTP, no policy, no futures.

pub mod cores;
mod instant;
mod span;

pub use instant::Instant;
pub use span::Span;
