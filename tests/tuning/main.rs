//! The scripts of `tuning/` and the doctor, from outside: on trees of files, on a real kernel in namespaces of its own, and against one
//! another. Nothing of the host is changed. What the doctor makes of what it reads is tested beside it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test that cannot go on should stop loudly, and these stand outside the gateway: files and processes"
)]

mod stage;

mod doctor;
mod kernel;
mod tree;
