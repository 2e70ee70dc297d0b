//! Putting several jobs' items into one upstream body: one protocol a file, all of one shape. Which jobs go together was settled
//! in `lane`.

pub(super) mod embeddings;
