//! The lane key: everything two requests must share before they may share an upstream call. The hash only finds the home and the
//! table slot; keys are always compared whole, because a collision would answer one client with another's credential.

use super::job::Operation;
use crate::config::ModelId;
use crate::json::ItemKind;
use std::hash::BuildHasher;

/// A lane key, borrowed from a job.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LaneKey<'a> {
    /// Configuration snapshot.
    pub generation: u32,
    pub model: ModelId,
    pub operation: Operation,
    pub kind: ItemKind,
    /// Empty when no credential travels upstream.
    pub credential: &'a [u8],
    /// The body up to the value of `input`.
    pub before: &'a [u8],
    /// The body after it. Unknown fields lie here or in `before`: unknown means "must match", never "left out".
    pub after: &'a [u8],
}

impl LaneKey<'_> {
    /// Bytes a lane must keep to know its key.
    pub(super) fn text_len(&self) -> usize {
        self.credential.len() + self.before.len() + self.after.len()
    }
}

/// The hash that picks a lane's home shard. The same on every shard of a process: `seed` is drawn once at its start, so that nobody
/// outside can aim requests at one home.
#[must_use]
pub fn lane_hash(seed: u64, key: &LaneKey<'_>) -> u64 {
    foldhash::fast::FixedState::with_seed(seed).hash_one(key)
}

/// A lane key, kept by its lane.
#[derive(Debug)]
pub(super) struct OwnedKey {
    generation: u32,
    model: ModelId,
    operation: Operation,
    kind: ItemKind,
    /// Credential, before, after, one behind the other.
    text: Box<[u8]>,
    credential_len: usize,
    before_len: usize,
}

impl OwnedKey {
    pub(super) fn new(key: &LaneKey<'_>) -> OwnedKey {
        OwnedKey {
            generation: key.generation,
            model: key.model,
            operation: key.operation,
            kind: key.kind,
            text: [key.credential, key.before, key.after].concat().into_boxed_slice(),
            credential_len: key.credential.len(),
            before_len: key.before.len(),
        }
    }

    pub(super) fn borrow(&self) -> LaneKey<'_> {
        let (credential, rest) = self.text.split_at(self.credential_len);
        let (before, after) = rest.split_at(self.before_len);
        LaneKey { generation: self.generation, model: self.model, operation: self.operation, kind: self.kind, credential, before, after }
    }

    pub(super) fn text_len(&self) -> usize {
        self.text.len()
    }
}
