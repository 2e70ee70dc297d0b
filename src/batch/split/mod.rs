//! Cutting an upstream answer apart: one protocol a file, all of one shape; `usage` divides the bill, `fields` keeps the header
//! fields that are everybody's. An answer that cannot be cut cleanly is refused whole: a guess could hand one client another's
//! vectors.

pub(super) mod embeddings;
pub(super) mod fields;
pub(super) mod usage;
