//! The control plane: brings a gateway up (`boot`, `crew`, `thread`, `listen`, `resolve`), watches over it and brings it down
//! (`supervise`, on the control thread; `memory` against its ceiling), hands it new configurations (`plane`, `reload`, `load`), asks engines for
//! their load (`scrape`), and answers operators (`admin`, `ask`, `log`). The one room that may block, lock and ask the operating system for names and files. It sees no request: shards serve, and
//! go on serving with their last snapshot whatever happens here.
#![expect(clippy::disallowed_types, reason = "what control, its admin page and the shards' threads share is behind Arc, Mutex and atomics")]

mod admin;
mod ask;
mod boot;
mod crew;
mod error;
mod gateway;
mod health;
mod inherit;
mod kept;
mod listen;
mod load;
pub mod log;
mod memory;
mod notify;
mod orders;
mod plane;
mod probe;
mod reload;
mod resolve;
mod rollouts;
mod scrape;
mod store;
mod supervise;
#[cfg(test)]
mod tests;
mod thread;
mod upgrade;
mod watch;

/// What a request would meet, told from a configuration.
pub use crate::shard::{Asked, Explained, explain};
pub use boot::{StartOptions, start, start_with};
pub use error::{Ended, ReloadError, RunError, StartError};
pub use gateway::RunningGateway;
pub use inherit::Inherited;
pub use load::{LoadError, load, load_text};
pub use reload::needs_restart;
pub use resolve::ResolveError;
pub use store::{ConfigStore, replace_file};
