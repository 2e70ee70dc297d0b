//! Which endpoint holds which prompts in its KV cache, as far as one shard has sent them there: a bounded index of hashed prefixes.
//!
//! A prompt is cut into blocks from its beginning (256 bytes each, or a sixteenth of what stands before when that is more) and each
//! block's hash covers everything up to its end, the model's name included: equal hashes are equal beginnings. The index maps such a
//! hash to the endpoints that were sent it last. It is a table of sets of eight entries, 16 bytes each, allocated once; in a full set
//! the entry that was not used for the longest time goes. Nothing grows, nothing is locked, and a hash that collides costs a cache
//! miss upstream, never a wrong answer.

use smallvec::SmallVec;

use super::hash::{hash_bytes, join};

/// What a request's prompt says about where it belongs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prompt {
    /// The conversation, by its beginning up to the end of the first user's message: the same in every turn and on every shard.
    opening: u64,
    opening_len: usize,
    /// The chained hashes of its whole blocks.
    blocks: SmallVec<[u64; 16]>,
}

impl Prompt {
    /// `model` as asked for; `before` stands in front of every prompt of the conversation wherever the body has it (system prompt,
    /// tools); `text` is the raw text of the messages without what closes it, of which the first `opening` bytes name the conversation.
    #[must_use]
    pub fn new<'a>(model: u64, before: impl IntoIterator<Item = &'a [u8]>, text: &[u8], opening: usize) -> Prompt {
        let seed = before.into_iter().fold(model, hash_bytes);
        let mut state = seed;
        let mut blocks = SmallVec::new();
        let mut start = 0;
        for end in ends().take_while(|end| *end <= text.len()) {
            state = hash_bytes(state, &text[start..end]);
            blocks.push(state);
            start = end;
        }
        // Apart from the blocks, should one end where the opening does.
        let opening_len = opening.min(text.len());
        let opening = join(hash_bytes(seed, &text[..opening_len]), OPENING);
        Prompt { opening, opening_len, blocks }
    }

    pub(super) fn opening(&self) -> u64 {
        self.opening
    }

    /// Whole blocks.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }
}

/// Where blocks end.
fn ends() -> impl Iterator<Item = usize> {
    std::iter::successors(Some(BLOCK_BYTES), |end| Some(end + BLOCK_BYTES.max(end / 16)))
}

/// The index of one upstream at one shard.
#[derive(Clone, Debug)]
pub(super) struct PrefixIndex {
    entries: Vec<Entry>,
    /// Counts uses up; may wrap, ages are differences.
    clock: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u64,
    /// The last one first.
    holders: [u8; HOLDERS],
    used: u32,
}

/// What the index knows of a prompt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Match {
    /// Blocks of the prompt that the endpoint has seen, from its beginning.
    Blocks(u32, usize),
    /// It has seen the conversation; what is known of the prompt does not count.
    Conversation(u32),
}

impl PrefixIndex {
    /// For at most `entries`, of which there are at least eight.
    pub(super) fn new(entries: u32) -> PrefixIndex {
        let sets = (entries as usize / WAYS).max(1);
        PrefixIndex { entries: vec![Entry::EMPTY; sets * WAYS], clock: 0 }
    }

    pub(super) fn capacity(&self) -> usize {
        self.entries.len()
    }

    /// The endpoint with the longest match, of those that `best` takes among an entry's holders (most recent first). A match counts
    /// when it covers half of the prompt and the whole opening: what is shared before that, a system prompt, is shared by strangers,
    /// and following them would gather everybody at one endpoint. Where none counts, the conversation's own place does.
    pub(super) fn find(&mut self, prompt: &Prompt, mut best: impl FnMut(&[u8]) -> Option<u32>) -> Option<Match> {
        self.clock = self.clock.wrapping_add(1);
        let count = prompt.blocks.len();
        let least = prompt.opening_len.max(ends().take(count).last().unwrap_or(0) / 2);
        let too_few = ends().take_while(|end| *end < least).count();
        for (index, hash) in prompt.blocks.iter().enumerate().skip(too_few).rev() {
            let endpoint = self.holders(*hash).and_then(|holders| best(holders.as_slice()));
            if let Some(endpoint) = endpoint {
                return Some(Match::Blocks(endpoint, index + 1));
            }
        }
        let conversation = self.holders(prompt.opening).and_then(|holders| best(holders.as_slice()));
        conversation.map(Match::Conversation)
    }

    /// `endpoint` was sent this prompt.
    pub(super) fn record(&mut self, prompt: &Prompt, endpoint: u32) {
        let Some(endpoint) = u8::try_from(endpoint).ok().filter(|endpoint| *endpoint != NOBODY) else { return };
        self.clock = self.clock.wrapping_add(1);
        for hash in prompt.blocks.iter().chain([&prompt.opening]) {
            self.put(*hash, endpoint);
        }
    }

    fn set_of(&self, hash: u64) -> std::ops::Range<usize> {
        let sets = self.entries.len() / WAYS;
        // Multiply and shift: any number of sets, no division.
        let set = usize::try_from((u128::from(hash) * sets as u128) >> 64).unwrap_or(0);
        set * WAYS..(set + 1) * WAYS
    }

    /// The endpoints an entry names, which is thereby used.
    fn holders(&mut self, hash: u64) -> Option<SmallVec<[u8; HOLDERS]>> {
        let (clock, set) = (self.clock, self.set_of(hash));
        let entry = self.entries[set].iter_mut().find(|entry| entry.hash == hash && entry.is_taken())?;
        entry.used = clock;
        Some(entry.holders.iter().copied().filter(|holder| *holder != NOBODY).collect())
    }

    fn put(&mut self, hash: u64, endpoint: u8) {
        let (clock, set) = (self.clock, self.set_of(hash));
        let set = &mut self.entries[set];
        let age = |entry: &Entry| if entry.is_taken() { clock.wrapping_sub(entry.used) } else { u32::MAX };
        let place = match set.iter().position(|entry| entry.hash == hash && entry.is_taken()) {
            Some(place) => place,
            None => {
                let oldest = (0..set.len()).max_by_key(|place| age(&set[*place])).unwrap_or(0);
                set[oldest] = Entry { hash, ..Entry::EMPTY };
                oldest
            }
        };
        let entry = &mut set[place];
        entry.used = clock;
        // To the front; what was in front of its old place moves back by one, the last one falls off.
        let old = entry.holders.iter().position(|holder| *holder == endpoint).unwrap_or(HOLDERS - 1);
        entry.holders.copy_within(..old, 1);
        entry.holders[0] = endpoint;
    }
}

impl Entry {
    const EMPTY: Entry = Entry { hash: 0, holders: [NOBODY; HOLDERS], used: 0 };

    fn is_taken(&self) -> bool {
        self.holders[0] != NOBODY
    }
}

/// The least a block has.
const BLOCK_BYTES: usize = 256;
/// Endpoints remembered per block.
const HOLDERS: usize = 4;
/// No endpoint: an index with this number is never remembered.
const NOBODY: u8 = u8::MAX;
/// Entries of a set.
const WAYS: usize = 8;
/// Tells conversations from blocks.
const OPENING: u64 = 0x6f70_656e_696e_6721;

const _: () = assert!(size_of::<Entry>() as u64 == crate::config::limits::PREFIX_ENTRY_BYTES);
