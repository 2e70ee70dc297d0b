//! Finding the item that makes a merged call fail, by halving, so that only its sender hears of it. Knows parts and verdicts;
//! sending the calls and answering is the home's.
//!
//! ```text
//! [32 fail] -> call the left 16, keep the right 16 in mind
//!              served: the culprit is in the right 16: halve those, no call needed to know
//!              failed: call the right 16 (most likely they are served), and halve the left
//! ```
//!
//! One culprit of 32 costs at most 10 further calls. Past a budget of 2 log2(k) + 4 (many culprits) the rest go one by one.

use super::held::{Part, Parts};
use slab::Slab;
use std::collections::VecDeque;

/// The searches of one lane.
#[derive(Debug, Default)]
pub(super) struct Isolation {
    pending: VecDeque<Pending>,
    episodes: Slab<Episode>,
}

/// To be called: `left`. With a `right`, the two together are known to hold a culprit.
#[derive(Debug)]
struct Pending {
    left: Parts,
    right: Parts,
    episode: usize,
}

/// One search, from the failed call to the last verdict.
#[derive(Debug)]
struct Episode {
    calls_left: u32,
    /// Pending, and called without a verdict yet.
    open_count: u32,
    served_count: u32,
    culprit_count: u32,
}

/// What an isolation call is about; its parts are the call's.
#[derive(Debug)]
pub(super) struct Suspects {
    rest: Parts,
    episode: usize,
}

/// What came of an isolation call.
#[derive(Debug)]
pub(super) enum Found {
    Served,
    /// These, called together, failed again.
    Guilty(Parts),
    /// One part alone failed; it has its own error now.
    Culprit,
    /// Nothing was learned of these; they are to be called again. Empty when they have ended.
    Again(Parts),
    /// These are to be called in two halves.
    Halves(Parts),
    /// These are to be called one by one.
    Singly(Parts),
}

/// A search is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Closed {
    /// Everyone had an error of their own: merging is no use here.
    pub(super) all_culprits: bool,
}

impl Isolation {
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// `parts` failed together. `hint`: which one of them the error names.
    pub(super) fn begin(&mut self, parts: Parts, hint: Option<usize>) {
        if parts.is_empty() {
            return;
        }
        let episode = self.open(parts.len());
        match hint {
            Some(hint) if hint < parts.len() && parts.len() > 1 => {
                let mut rest = parts;
                let named = rest.remove(hint);
                self.push(Parts::from_elem(named, 1), Parts::new(), episode);
                self.push(rest, Parts::new(), episode);
            }
            _ => self.halve(parts, episode),
        }
    }

    /// `parts` are to be called in two halves of which nothing is known.
    pub(super) fn begin_halves(&mut self, parts: Parts) {
        if parts.is_empty() {
            return;
        }
        let episode = self.open(parts.len());
        let (left, right) = halves(parts);
        self.push(left, Parts::new(), episode);
        self.push(right, Parts::new(), episode);
    }

    /// `parts` are to be called one by one.
    pub(super) fn begin_singly(&mut self, parts: Parts) {
        if parts.is_empty() {
            return;
        }
        let episode = self.open(parts.len());
        for part in parts {
            self.push(Parts::from_elem(part, 1), Parts::new(), episode);
        }
    }

    /// The next parts to call together; parts that are not live any more are left out.
    pub(super) fn next(&mut self, is_live: impl Fn(&Part) -> bool) -> Option<(Parts, Suspects)> {
        while let Some(Pending { mut left, mut right, episode }) = self.pending.pop_front() {
            left.retain(|part| is_live(part));
            right.retain(|part| is_live(part));
            if left.is_empty() {
                std::mem::swap(&mut left, &mut right);
            }
            let entry = &mut self.episodes[episode];
            if left.is_empty() {
                self.close(episode);
                continue;
            }
            if entry.calls_left == 0 && left.len() + right.len() > 1 {
                entry.open_count -= 1;
                for part in left.into_iter().chain(right).rev() {
                    entry.open_count += 1;
                    self.pending.push_front(Pending { left: Parts::from_elem(part, 1), right: Parts::new(), episode });
                }
                continue;
            }
            entry.calls_left = entry.calls_left.saturating_sub(1);
            return Some((left, Suspects { rest: right, episode }));
        }
        None
    }

    /// The endpoint the next call should not go to is known by its first part.
    pub(super) fn first(&self) -> Option<Part> {
        let pending = self.pending.front()?;
        pending.left.first().or(pending.right.first()).copied()
    }

    /// A verdict on an isolation call. Returns the end of the search, when this was it.
    pub(super) fn settle(&mut self, suspects: Suspects, found: Found) -> Option<Closed> {
        let Suspects { rest, episode } = suspects;
        match found {
            Found::Served => {
                self.episodes[episode].served_count += 1;
                self.halve(rest, episode);
            }
            Found::Guilty(parts) => {
                self.push(rest, Parts::new(), episode);
                self.halve(parts, episode);
            }
            Found::Culprit => {
                self.episodes[episode].culprit_count += 1;
                self.push(rest, Parts::new(), episode);
            }
            Found::Again(parts) => {
                self.push(parts, Parts::new(), episode);
                self.push(rest, Parts::new(), episode);
            }
            Found::Halves(parts) => {
                let (left, right) = halves(parts);
                self.push(left, Parts::new(), episode);
                self.push(right, Parts::new(), episode);
                self.push(rest, Parts::new(), episode);
            }
            Found::Singly(parts) => {
                for part in parts.into_iter().chain(rest) {
                    self.push(Parts::from_elem(part, 1), Parts::new(), episode);
                }
            }
        }
        self.close(episode)
    }

    fn open(&mut self, parts: usize) -> usize {
        let budget = 2 * parts.max(1).ilog2() + 4;
        self.episodes.insert(Episode { calls_left: budget, open_count: 0, served_count: 0, culprit_count: 0 })
    }

    fn close(&mut self, episode: usize) -> Option<Closed> {
        let entry = &mut self.episodes[episode];
        entry.open_count -= 1;
        if entry.open_count > 0 {
            return None;
        }
        let closed = Closed { all_culprits: entry.served_count == 0 && entry.culprit_count > 1 };
        self.episodes.remove(episode);
        Some(closed)
    }

    fn halve(&mut self, parts: Parts, episode: usize) {
        let (left, right) = halves(parts);
        self.push(left, right, episode);
    }

    fn push(&mut self, left: Parts, right: Parts, episode: usize) {
        if left.is_empty() && right.is_empty() {
            return;
        }
        self.episodes[episode].open_count += 1;
        self.pending.push_back(Pending { left, right, episode });
    }
}

fn halves(mut left: Parts) -> (Parts, Parts) {
    let right = left.drain(left.len().div_ceil(2)..).collect();
    (left, right)
}

/// The item a FastAPI error names: the last number of the first `"loc":[...]`. Only a hint: the item is called alone to see.
pub(super) fn told_culprit(body: &[u8]) -> Option<u32> {
    let from = memchr::memmem::find(body, b"\"loc\":[")? + 7;
    let mut quoted = false;
    let len = body[from..].iter().position(|byte| {
        quoted ^= *byte == b'"';
        *byte == b']' && !quoted
    })?;
    let loc = &body[from..from + len];
    let digits = loc.rsplit(|byte| *byte == b',').next()?.trim_ascii();
    if digits.is_empty() || digits.len() > 6 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0')))
}
