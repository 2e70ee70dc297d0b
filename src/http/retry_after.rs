//! What a server means with `Retry-After` (RFC 9110 10.2.3): seconds, or a date in any of the three forms of RFC 9110 5.6.7. Who waits
//! for it, and how long at most, is decided by those who called the server.

use std::time::{Duration, UNIX_EPOCH};

use super::known::Known;
use super::response::ResponseHead;

/// A wait that a server asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RetryAfter {
    /// For so long.
    Delay(Duration),
    /// Until this date by the server's clock, which said `date` when it wrote the answer. Both count from 1970.
    Until { until: Duration, date: Option<Duration> },
}

impl RetryAfter {
    /// `retry-after-ms` (a number of milliseconds, as some providers send), else `Retry-After`. `None`: neither is there and readable.
    #[must_use]
    pub fn of(head: &ResponseHead, bytes: &[u8]) -> Option<RetryAfter> {
        let named = |name: &[u8]| {
            let mut fields = head.fields.iter();
            fields.find(|field| field.name.of(bytes).eq_ignore_ascii_case(name)).map(|field| field.value.of(bytes))
        };
        if let Some(millis) = named(b"retry-after-ms").and_then(number) {
            return Some(RetryAfter::Delay(Duration::from_millis(millis)));
        }
        let value = head.field(Known::RetryAfter)?.of(bytes);
        if let Some(seconds) = number(value) {
            return Some(RetryAfter::Delay(Duration::from_secs(seconds)));
        }
        Some(RetryAfter::Until { until: http_date(value)?, date: named(b"date").and_then(http_date) })
    }

    /// How long to wait. The server's own `Date` is what its dates are measured by, so that nobody's clock need be right; where there is
    /// none, `wall` tells what time it is (from 1970). A date that is over means now.
    #[must_use]
    pub fn wait(self, wall: impl FnOnce() -> Duration) -> Duration {
        match self {
            RetryAfter::Delay(delay) => delay,
            RetryAfter::Until { until, date } => until.saturating_sub(date.unwrap_or_else(wall)),
        }
    }
}

/// Digits and nothing else.
fn number(value: &[u8]) -> Option<u64> {
    let digits = value.trim_ascii();
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A date as the time since 1970. Earlier ones are unreadable.
fn http_date(value: &[u8]) -> Option<Duration> {
    let date = httpdate::parse_http_date(std::str::from_utf8(value.trim_ascii()).ok()?).ok()?;
    date.duration_since(UNIX_EPOCH).ok()
}
