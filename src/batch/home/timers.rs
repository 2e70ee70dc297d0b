//! Moments a home must not sleep past: jobs' deadlines and lanes' wake-ups. Entries are left behind when their reason is gone and
//! swept out when they outnumber the rest.

use crate::batch::held::JobKey;
use crate::sys::Instant;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Timer {
    /// A job's deadline.
    Job(JobKey),
    /// A lane may send.
    Lane(u32),
}

#[derive(Debug, PartialEq, Eq)]
struct Entry(Instant, Timer);

impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> Ordering {
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<Entry>>,
}

impl Timers {
    pub(super) fn set(&mut self, at: Instant, timer: Timer) {
        self.heap.push(Reverse(Entry(at, timer)));
    }

    /// The next timer of use and its moment.
    pub(super) fn first(&mut self, is_live: impl Fn(Instant, Timer) -> bool) -> Option<(Instant, Timer)> {
        while let Some(Reverse(Entry(at, timer))) = self.heap.peek() {
            if is_live(*at, *timer) {
                return Some((*at, *timer));
            }
            self.heap.pop();
        }
        None
    }

    pub(super) fn pop(&mut self) {
        self.heap.pop();
    }

    /// Sweeps when there are far more entries than `live` things that could want one.
    pub(super) fn sweep(&mut self, live: usize, is_live: impl Fn(Instant, Timer) -> bool) {
        if self.heap.len() > 64 + 3 * live {
            self.heap.retain(|Reverse(Entry(at, timer))| is_live(*at, *timer));
        }
    }
}
