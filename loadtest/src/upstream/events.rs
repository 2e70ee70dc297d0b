//! The text of a stream's events. Each carries its number and the moment it was sent, so that a client on this host can say how
//! long it was on its way. When an event is due is `server`'s matter.

use std::time::Duration;

use headrace::http::{CHUNK_END, LAST_CHUNK, write_chunk_header};
use headrace::mock::client::write_stamp;
use headrace::sys::Instant;

/// One stream's place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stream {
    /// The number of the next event.
    pub(super) next: u32,
    pub(super) count: u32,
    pub(super) chunks: bool,
    pub(super) keep_alive: bool,
    /// When event 1 is due; event 0 leaves with the head.
    second_at: Instant,
}

impl Stream {
    /// Streams that begin together must not speak together: event 1 of stream `number` is due after its own share of `every`, and
    /// from there on the events keep their distance.
    pub(super) fn begin(number: u64, count: u32, every: Duration, now: Instant) -> Stream {
        // The golden ratio's fractions are spread evenly whatever the count of streams is.
        let share = (number as f64 * 0.618_033_988_749_895).fract();
        Stream { next: 0, count, chunks: true, keep_alive: true, second_at: now + every.mul_f64(share) }
    }

    /// When the next event is due.
    pub(super) fn due_at(&self, every: Duration) -> Instant {
        self.second_at + every.saturating_mul(self.next.saturating_sub(1))
    }

    pub(super) fn write_head(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n");
        if self.chunks {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        out.extend_from_slice(if self.keep_alive { b"\r\n" } else { b"connection: close\r\n\r\n" });
    }

    /// Writes the next event, and behind the last one the end.
    pub(super) fn write_event(&mut self, now: Instant, out: &mut Vec<u8>) {
        if self.chunks {
            write_chunk_header(out, EVENT_BYTES);
        }
        out.extend_from_slice(BEFORE_STAMP);
        write_stamp(self.next, now, out);
        out.extend_from_slice(BEHIND_STAMP);
        self.next += 1;
        if self.chunks {
            out.extend_from_slice(CHUNK_END);
        }
        if self.is_over() {
            self.write_end(out);
        }
    }

    pub(super) const fn is_over(&self) -> bool {
        self.next >= self.count
    }

    fn write_end(&self, out: &mut Vec<u8>) {
        const DONE: &[u8] = b"data: [DONE]\n\n";
        if self.chunks {
            write_chunk_header(out, DONE.len());
        }
        out.extend_from_slice(DONE);
        if self.chunks {
            out.extend_from_slice(CHUNK_END);
            out.extend_from_slice(LAST_CHUNK);
        }
    }
}

const BEFORE_STAMP: &[u8] =
    b"data: {\"id\":\"chatcmpl-headrace-loadtest\",\"object\":\"chat.completion.chunk\",\"created\":0,\"model\":\"mock\",\
    \"choices\":[{\"index\":0,\"delta\":{\"content\":\" water ";
const BEHIND_STAMP: &[u8] = b"\"},\"finish_reason\":null}]}\n\n";
/// About 200, as engines send them.
const EVENT_BYTES: usize = BEFORE_STAMP.len() + headrace::mock::client::STAMP_BYTES + BEHIND_STAMP.len();

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use headrace::sys::Instant;

    use super::{EVENT_BYTES, Stream};

    #[test]
    fn events_keep_their_distance_and_streams_spread() {
        let every = Duration::from_millis(50);
        let now = Instant::from_nanos(1_000_000_000);
        let mut seconds: Vec<u64> = Vec::new();
        for number in 0..100 {
            let mut stream = Stream::begin(number, 3, every, now);
            stream.next = 1;
            let second = stream.due_at(every);
            stream.next = 2;
            assert_eq!(stream.due_at(every).since(second), every);
            seconds.push(u64::try_from(second.since(now).as_micros()).unwrap_or(0));
        }
        seconds.sort_unstable();
        assert!(seconds.iter().zip(&seconds[1..]).all(|(a, b)| b - a < 1_000), "no gap is twice as wide as it must be: {seconds:?}");
        assert!(seconds[99] < 50_000);
    }

    #[test]
    fn a_stream_is_well_formed() {
        let mut stream = Stream::begin(0, 2, Duration::ZERO, Instant::ZERO);
        let mut out = Vec::new();
        stream.write_event(Instant::from_nanos(5), &mut out);
        let size = format!("{EVENT_BYTES:x}\r\ndata: {{");
        assert!(out.starts_with(size.as_bytes()) && !stream.is_over());
        stream.write_event(Instant::from_nanos(6), &mut out);
        assert!(out.ends_with(b"\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n") && stream.is_over());
        assert!((150..250).contains(&EVENT_BYTES), "{EVENT_BYTES}");
    }
}
