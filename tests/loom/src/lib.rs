//! Tries every interleaving of headrace's doorbell under loom. `doorbell.rs` is the gateway's own file, included here beside
//! a `sync` of loom's atomics, so what is checked is what runs. The models are in `models.rs`; nothing but tests lives here.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that cannot go on should stop loudly"))]

#[cfg(test)]
#[path = "../../../src/mesh/doorbell.rs"]
pub mod doorbell;

#[cfg(test)]
mod models;

#[cfg(test)]
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicBool, Ordering, fence};
}
