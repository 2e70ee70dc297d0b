//! The virtual KV cache: which beginnings of prompts the model server still has, in blocks, the longest unused forgotten first. As in
//! engines with prefix caching, a block is found only behind the whole beginning it was computed behind. Pure.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// What the cache holds, as hashes of beginnings.
#[derive(Debug)]
pub struct PromptCache {
    blocks_max: usize,
    /// When each was used last.
    blocks: HashMap<u64, u64, FixedState>,
    /// Uses in order; one that is not a block's last is passed over.
    uses: VecDeque<(u64, u64)>,
    clock: u64,
}

impl PromptCache {
    /// Room for about `bytes` of prompts.
    #[must_use]
    pub fn new(bytes: u64) -> PromptCache {
        let blocks_max = usize::try_from(bytes).unwrap_or(usize::MAX) / BLOCK_BYTES;
        PromptCache { blocks_max, blocks: HashMap::with_hasher(FixedState::default()), uses: VecDeque::new(), clock: 0 }
    }

    /// A prompt is computed and stays in the cache; how many bytes of its beginning were there already.
    pub fn admit(&mut self, prompt: &[u8]) -> usize {
        let mut state = 0;
        let mut cached = 0;
        let mut unbroken = true;
        for block in prompt.as_chunks::<BLOCK_BYTES>().0 {
            state = FixedState::default().hash_one((state, block));
            unbroken &= self.blocks.contains_key(&state);
            cached += if unbroken { BLOCK_BYTES } else { 0 };
            self.clock += 1;
            self.blocks.insert(state, self.clock);
            self.uses.push_back((state, self.clock));
        }
        self.forget();
        cached
    }

    /// Blocks held.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    fn forget(&mut self) {
        while self.blocks.len() > self.blocks_max {
            let Some((block, at)) = self.uses.pop_front() else { return };
            if self.blocks.get(&block) == Some(&at) {
                self.blocks.remove(&block);
            }
        }
        if self.uses.len() > self.blocks.len().saturating_mul(USES_PER_BLOCK) {
            let blocks = &self.blocks;
            self.uses.retain(|(block, at)| blocks.get(block) == Some(at));
        }
    }
}

/// About sixteen tokens of English.
const BLOCK_BYTES: usize = 64;
const USES_PER_BLOCK: usize = 8;
