//! An answer that is a stream of events: which events came, which are missing, how long each was on its way. Pure: bytes and
//! moments in, counts out; the lines are those of the HTML standard's event streams.

use super::report::StreamReport;
use super::stamp::read_stamp;
use crate::sys::Instant;

/// Finds events in bytes that come in any pieces.
#[derive(Default)]
pub(super) struct EventReader {
    /// A line of which only a part has come.
    partial: Vec<u8>,
    /// The event under way has data; its stamp.
    data: Option<Option<(u32, Instant)>>,
    done: bool,
}

/// One stream, from the moment its request was due.
#[derive(Default)]
pub(super) struct StreamWatch {
    reader: EventReader,
    due_at: Instant,
    last_at: Option<Instant>,
    next_number: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// With the number and the moment of its stamp, where it has one.
    Data(Option<(u32, Instant)>),
    /// `[DONE]`.
    Done,
}

impl EventReader {
    pub(super) fn handle_bytes(&mut self, mut bytes: &[u8], mut each: impl FnMut(Event)) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            bytes = rest;
            let found = if self.partial.is_empty() {
                self.line(line)
            } else {
                self.partial.extend_from_slice(line);
                let whole = std::mem::take(&mut self.partial);
                let found = self.line(&whole);
                self.partial = whole;
                self.partial.clear();
                found
            };
            found.into_iter().for_each(&mut each);
        }
        self.partial.extend_from_slice(bytes);
    }

    fn line(&mut self, line: &[u8]) -> Option<Event> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return self.data.take().map(Event::Data);
        }
        let value = line.strip_prefix(b"data:")?;
        if value.trim_ascii() == b"[DONE]" {
            self.done = true;
            self.data = None;
            return Some(Event::Done);
        }
        self.data = Some(self.data.flatten().or_else(|| read_stamp(value)));
        None
    }
}

impl StreamWatch {
    pub(super) fn begin(&mut self, due_at: Instant) {
        self.reader.partial.clear();
        (self.reader.data, self.reader.done) = (None, false);
        (self.due_at, self.last_at, self.next_number) = (due_at, None, 0);
    }

    /// The end mark has come.
    pub(super) const fn is_done(&self) -> bool {
        self.reader.done
    }

    /// Takes bytes of the body that were received at `now`; `count` is false in the warm-up.
    pub(super) fn handle_bytes(&mut self, bytes: &[u8], now: Instant, count: bool, report: &mut StreamReport) {
        let StreamWatch { reader, due_at, last_at, next_number } = self;
        reader.handle_bytes(bytes, |event| {
            let Event::Data(stamp) = event else { return };
            let before = last_at.replace(now);
            let expected = *next_number;
            *next_number = stamp.map_or(expected, |(number, _)| number.max(expected.saturating_sub(1))).saturating_add(1);
            if !count {
                return;
            }
            report.events += 1;
            match before {
                None => report.ttft.record(now.since(*due_at)),
                Some(before) => report.gap.record(now.since(before)),
            }
            let Some((number, sent_at)) = stamp else { return };
            report.added.record(now.since(sent_at));
            if number < expected {
                report.out_of_order += 1;
            } else {
                report.missing += u64::from(number - expected);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::stamp::write_stamp;
    use super::{Event, EventReader, StreamWatch};
    use crate::mock::client::report::StreamReport;
    use crate::sys::Instant;

    fn read(text: &[u8], size: usize) -> Vec<Event> {
        let (mut reader, mut found) = (EventReader::default(), Vec::new());
        for piece in text.chunks(size) {
            reader.handle_bytes(piece, |event| found.push(event));
        }
        found
    }

    #[test]
    fn any_cutting_finds_the_same_events() {
        let mut text = b": a comment\n\nevent: delta\r\ndata: {\"a\":1}\r\n\r\ndata: one\ndata: two\n\ndata: {".to_vec();
        write_stamp(3, Instant::from_nanos(77), &mut text);
        text.extend_from_slice(b"}\n\nid: 5\n\ndata:[DONE]\n\n");
        let expected = [Event::Data(None), Event::Data(None), Event::Data(Some((3, Instant::from_nanos(77)))), Event::Done];
        for size in 1..=text.len() {
            assert_eq!(read(&text, size), expected, "in pieces of {size}");
        }
        assert_eq!(read(b"data: half of an eve", 3), []);
    }

    fn event(number: u32, sent_ms: u64) -> Vec<u8> {
        let mut out = b"data: {".to_vec();
        write_stamp(number, at(sent_ms), &mut out);
        out.extend_from_slice(b"}\n\n");
        out
    }

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn missing_and_misplaced_events_are_counted_and_times_taken() {
        let (mut watch, mut report) = (StreamWatch::default(), StreamReport::default());
        watch.begin(at(100));
        // (number, sent at, received at)
        for (number, sent, received) in [(0, 110, 111), (1, 120, 121), (4, 150, 151), (3, 152, 153), (5, 160, 165)] {
            watch.handle_bytes(&event(number, sent), at(received), true, &mut report);
        }
        assert!(!watch.is_done());
        watch.handle_bytes(b"data: [DONE]\n\n", at(170), true, &mut report);
        assert!(watch.is_done());
        assert_eq!((report.events, report.missing, report.out_of_order), (5, 2, 1));
        assert_eq!((report.ttft.len(), report.gap.len(), report.added.len()), (1, 4, 5));
        let near = |time: Duration, ms: u64| time.abs_diff(Duration::from_millis(ms)) < Duration::from_micros(50);
        assert!(near(report.ttft.max(), 11) && near(report.gap.max(), 30) && near(report.added.max(), 5), "{report:?}");
    }

    #[test]
    fn a_warm_up_counts_nothing_and_keeps_the_place() {
        let (mut watch, mut report) = (StreamWatch::default(), StreamReport::default());
        watch.begin(at(0));
        watch.handle_bytes(&event(0, 1), at(1), false, &mut report);
        watch.handle_bytes(&event(1, 2), at(2), true, &mut report);
        assert_eq!((report.events, report.missing, report.ttft.len(), report.gap.len()), (1, 0, 0, 1));
    }
}
