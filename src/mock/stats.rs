//! What a mock counts, and its JSON form at `/mock/stats`.

use std::cell::Cell;
use std::time::Duration;

/// Counts since the mock started.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct MockStats {
    /// Requests of any kind, these for `/mock/stats` included.
    pub requests: u64,
    /// Embedding calls the GPU was given, finished or not.
    pub calls: u64,
    /// Items in those calls.
    pub items: u64,
    /// Items of the largest of them.
    pub largest_batch: u32,
    /// Calls and chats whose client left before the answer was complete.
    pub aborted: u64,
    /// Calls and chats begun and not yet answered or aborted.
    pub in_flight: u64,
    /// Chat requests that were begun.
    pub chats: u64,
    /// Bytes of prompts, counted where prompts cost something, and those of them that were in the cache.
    pub prompt_bytes: u64,
    pub prompt_bytes_cached: u64,
    /// Answers with a status of 400 or more.
    pub errors: u64,
    /// Open connections.
    pub connections: u64,
    /// Processor time of the mock's thread.
    pub cpu: Duration,
}

impl MockStats {
    /// Items per GPU call; 0 without calls.
    #[must_use]
    pub fn mean_batch(&self) -> f64 {
        if self.calls == 0 { 0.0 } else { self.items as f64 / self.calls as f64 }
    }

    /// What was counted between `earlier` and now. Gauges and the largest batch stay as they are.
    #[must_use]
    pub fn since(&self, earlier: &MockStats) -> MockStats {
        MockStats {
            requests: self.requests.saturating_sub(earlier.requests),
            calls: self.calls.saturating_sub(earlier.calls),
            items: self.items.saturating_sub(earlier.items),
            aborted: self.aborted.saturating_sub(earlier.aborted),
            chats: self.chats.saturating_sub(earlier.chats),
            prompt_bytes: self.prompt_bytes.saturating_sub(earlier.prompt_bytes),
            prompt_bytes_cached: self.prompt_bytes_cached.saturating_sub(earlier.prompt_bytes_cached),
            errors: self.errors.saturating_sub(earlier.errors),
            cpu: self.cpu.saturating_sub(earlier.cpu),
            ..*self
        }
    }

    /// The JSON object at `/mock/stats`.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let cpu_us = u64::try_from(self.cpu.as_micros()).unwrap_or(u64::MAX);
        let fields = [
            ("requests", self.requests),
            ("calls", self.calls),
            ("items", self.items),
            ("largest_batch", u64::from(self.largest_batch)),
            ("aborted", self.aborted),
            ("in_flight", self.in_flight),
            ("chats", self.chats),
            ("prompt_bytes", self.prompt_bytes),
            ("prompt_bytes_cached", self.prompt_bytes_cached),
            ("errors", self.errors),
            ("connections", self.connections),
            ("cpu_us", cpu_us),
        ];
        let mut before = b'{';
        for (name, value) in fields {
            out.push(before);
            out.push(b'"');
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
            out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
            before = b',';
        }
        out.push(b'}');
    }
}

/// The live counts of one mock.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) requests: Cell<u64>,
    pub(super) calls: Cell<u64>,
    pub(super) items: Cell<u64>,
    pub(super) largest_batch: Cell<u32>,
    pub(super) aborted: Cell<u64>,
    pub(super) in_flight: Cell<u64>,
    pub(super) chats: Cell<u64>,
    pub(super) prompt_bytes: Cell<u64>,
    pub(super) prompt_bytes_cached: Cell<u64>,
    pub(super) errors: Cell<u64>,
    pub(super) connections: Cell<u64>,
}

impl Counters {
    pub(super) fn read(&self) -> MockStats {
        MockStats {
            requests: self.requests.get(),
            calls: self.calls.get(),
            items: self.items.get(),
            largest_batch: self.largest_batch.get(),
            aborted: self.aborted.get(),
            in_flight: self.in_flight.get(),
            chats: self.chats.get(),
            prompt_bytes: self.prompt_bytes.get(),
            prompt_bytes_cached: self.prompt_bytes_cached.get(),
            errors: self.errors.get(),
            connections: self.connections.get(),
            cpu: thread_cpu(),
        }
    }

    pub(super) fn begin_call(&self, items: u32) {
        add(&self.calls, 1);
        add(&self.items, u64::from(items));
        self.largest_batch.set(self.largest_batch.get().max(items));
        add(&self.in_flight, 1);
    }

    pub(super) fn end(&self, aborted: bool) {
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
        add(&self.aborted, u64::from(aborted));
    }
}

pub(super) fn add(counter: &Cell<u64>, count: u64) {
    counter.set(counter.get() + count);
}

/// Processor time this thread has used.
pub(super) fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0));
    Duration::new(seconds, nanos)
}
