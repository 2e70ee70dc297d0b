//! Tests of the side-by-side runner.
