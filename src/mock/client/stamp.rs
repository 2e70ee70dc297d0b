//! The stamp that the load test's upstream puts into each event of a stream: the event's number and the moment it was sent, on the
//! clock of [`super::monotonic`]. A gateway passes it on unread, and the client learns how long the event was on its way.

use crate::sys::Instant;

/// Appends `headrace_stamp:NUMBER-MOMENT` (hexadecimal): a part of the text that was generated, which is all that differs from one event to
/// the next in the streams of real servers.
pub fn write_stamp(number: u32, sent_at: Instant, out: &mut Vec<u8>) {
    out.extend_from_slice(KEY);
    push_hex(u64::from(number), NUMBER_DIGITS, out);
    out.push(b'-');
    push_hex(sent_at.as_nanos(), MOMENT_DIGITS, out);
}

/// The first stamp in `event`; `None` when a server without stamps made it.
#[must_use]
pub fn read_stamp(event: &[u8]) -> Option<(u32, Instant)> {
    let start = memchr::memmem::find(event, KEY)? + KEY.len();
    let digits = event.get(start..start + NUMBER_DIGITS + 1 + MOMENT_DIGITS)?;
    let (number, moment) = digits.split_at(NUMBER_DIGITS);
    let number = u32::try_from(parse_hex(number)?).ok()?;
    Some((number, Instant::from_nanos(parse_hex(moment.strip_prefix(b"-")?)?)))
}

fn push_hex(value: u64, digits: usize, out: &mut Vec<u8>) {
    out.extend((0..digits).rev().map(|place| b"0123456789abcdef"[usize::try_from(value >> (4 * place) & 15).unwrap_or(0)]));
}

fn parse_hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value: u64, digit| Some(value << 4 | u64::from(char::from(*digit).to_digit(16)?)))
}

const KEY: &[u8] = b"headrace_stamp:";
const NUMBER_DIGITS: usize = 8;
const MOMENT_DIGITS: usize = 16;
/// What [`write_stamp`] appends.
pub const STAMP_BYTES: usize = KEY.len() + NUMBER_DIGITS + 1 + MOMENT_DIGITS;

#[cfg(test)]
mod tests {
    use super::{STAMP_BYTES, read_stamp, write_stamp};
    use crate::sys::Instant;

    #[test]
    fn what_is_written_is_read() {
        for (number, moment) in [(0, 0), (7, 1_234_567_890_123_456), (u32::MAX, u64::MAX)] {
            let mut out = b"data: {\"id\":1,".to_vec();
            let before = out.len();
            write_stamp(number, Instant::from_nanos(moment), &mut out);
            assert_eq!(out.len() - before, STAMP_BYTES);
            assert_eq!(read_stamp(&out), Some((number, Instant::from_nanos(moment))));
            assert_eq!(read_stamp(&out[..out.len() - 2]), None, "cut");
        }
        assert_eq!(read_stamp(b"data: {\"id\":1}"), None);
        assert_eq!(read_stamp(b"headrace_stamp:0000000x-0000000000000000"), None);
    }
}
