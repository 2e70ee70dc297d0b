//! headrace: an edge gateway that turns many small client requests into the few full batches a GPU likes.
//!
//! The modules below stand in the order a request meets them: the program starts (`cli`, `config`, `control`), a shard
//! accepts and serves (`shard`), with the pure rooms it calls (`http`, `policy`, `json`, `llm`, `batch`), the paths between
//! shards (`mesh`), what is counted (`metrics`), and the ground they stand on (`runtime`, `sys`). ARCHITECTURE.md is the map.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::cast_possible_truncation,
        clippy::too_many_lines,
        reason = "a test that cannot go on should stop loudly; tables in tests may be long"
    )
)]

pub mod cli;
pub mod config;
pub mod control;
pub mod shard;

pub mod http;
pub mod policy;

pub mod json;

pub mod batch;
pub mod llm;

pub mod mesh;
pub mod metrics;
pub mod mock;
pub mod runtime;
#[allow(unsafe_code, reason = "the one room where unsafe code lives; each file states the invariant that makes it sound")]
pub mod sys;
