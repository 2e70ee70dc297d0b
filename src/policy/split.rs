//! Which arm of a split model serves a request. The shares are given with each question: they change while requests run.

use crate::config::{ModelId, Split};

impl Split {
    /// The arm at `point` of the whole line of shares (0 to `u32::MAX`, as a hash or a random number is). The last arm has the
    /// beginning of the line: while its share grows, who was with it stays with it. Without any share the first arm takes all.
    #[must_use]
    pub fn arm_at(&self, point: u32, share: impl Fn(ModelId) -> u32) -> ModelId {
        let sum: u64 = self.arms.iter().map(|arm| u64::from(share(arm.model))).sum();
        let mut at = (u64::from(point) * sum) >> 32;
        for arm in self.arms.iter().rev() {
            let share = u64::from(share(arm.model));
            if at < share {
                return arm.model;
            }
            at -= share;
        }
        self.arms.first().map_or(ModelId(0), |arm| arm.model)
    }
}

/// The point of a sticky value: the same on every shard and after every restart. The model's name is mixed in, so that the first one
/// percent of all users are not everybody's canaries.
#[must_use]
pub fn sticky_point(model: &str, value: &[u8]) -> u32 {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = foldhash::quality::FixedState::default().build_hasher();
    hasher.write(model.as_bytes());
    hasher.write_u8(0);
    hasher.write(value);
    u32::try_from(hasher.finish() >> 32).unwrap_or(u32::MAX)
}
