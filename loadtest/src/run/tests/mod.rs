//! Tests of the side-by-side runner without a network: what files may say, how figures come about, how they are shown. A whole run with
//! real processes is `loadtest/tests/side_by_side.rs`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop loudly")]

mod figures;
mod files;
mod shown;
mod system;
