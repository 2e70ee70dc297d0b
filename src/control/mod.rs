//! The control plane: brings a gateway up (`boot`, `crew`, `thread`, `listen`, `resolve`), watches over it and brings it down
//! (`supervise`, on the control thread), hands it new configurations (`plane`, `reload`, `load`), and answers operators (`admin`,
//! `log`). The one room that may block, lock and ask the operating system for names and files. It sees no request: shards serve, and
//! go on serving with their last snapshot whatever happens here.
#![expect(clippy::disallowed_types, reason = "what control, its admin page and the shards' threads share is behind Arc, Mutex and atomics")]

mod admin;
mod boot;
mod crew;
mod error;
mod gateway;
mod listen;
mod load;
pub mod log;
mod orders;
mod plane;
mod reload;
mod resolve;
mod rollouts;
mod supervise;
#[cfg(test)]
mod tests;
mod thread;

pub use boot::{StartOptions, start};
pub use error::{Ended, ReloadError, RunError, StartError};
pub use gateway::RunningGateway;
pub use load::{LoadError, load};
pub use resolve::ResolveError;
