//! `OpenAI` embeddings: the lane's body with all items in one `input` array. Everything but `input` is byte for byte what each
//! of the jobs sent, because that is what a lane is.

use crate::batch::held::{Jobs, Part};
use crate::batch::key::LaneKey;
use crate::json::{Pieces, Splice};

/// The merged body and its length. `parts` are live: the home took them off a queue just now.
pub(in crate::batch) fn merge(key: &LaneKey<'_>, parts: &[Part], jobs: &Jobs) -> (Pieces, usize) {
    let bytes = |part: &Part| jobs.get(part.job).map_or(0, |held| held.bytes_of(part.first, part.count));
    let items = usize::try_from(parts.iter().map(bytes).sum::<u64>()).unwrap_or(0);
    let len = key.before.len() + key.after.len() + items + 2;
    let (glue, share_from) =
        if len <= COPY_MAX { (len, usize::MAX) } else { (key.before.len() + key.after.len() + parts.len() * 64, SHARE_FROM) };
    let mut splice = Splice::new(glue, share_from);
    splice.copy(key.before);
    let mut separator: &[u8] = b"[";
    for part in parts {
        let Some(held) = jobs.get(part.job) else { continue };
        for item in part.first..part.first + part.count {
            splice.copy(separator);
            splice.slice(&held.job.message, held.job.item(item).range());
            separator = b",";
        }
    }
    splice.copy(b"]");
    splice.copy(key.after);
    splice.finish()
}

/// Up to this a merged body is one copy: cheaper to write than pieces.
const COPY_MAX: usize = 64 << 10;

/// In a larger one, items from this length on are shared slices.
const SHARE_FROM: usize = 4 << 10;
