//! `Retry-After`: seconds, dates in three forms, `retry-after-ms`, and what is none of them.

use std::time::Duration;

use super::response;
use crate::http::{Method, RetryAfter};

/// Sun, 06 Nov 1994 08:49:37 GMT.
const NOVEMBER: u64 = 784_111_777;

fn wait(fields: &str, wall: u64) -> Option<Duration> {
    let bytes = format!("HTTP/1.1 503 Busy\r\n{fields}Content-Length: 0\r\n\r\n");
    let head = response(bytes.as_bytes(), Method::Post).unwrap();
    RetryAfter::of(&head, bytes.as_bytes()).map(|asked| asked.wait(|| Duration::from_secs(wall)))
}

#[test]
fn every_form_of_retry_after_is_a_time_to_wait() {
    let seconds = |number| Some(Duration::from_secs(number));
    let table = [
        ("", None),
        ("Retry-After: 7\r\n", seconds(7)),
        ("Retry-After: 0\r\n", seconds(0)),
        ("Retry-After: 7\r\nretry-after-ms: 40\r\n", Some(Duration::from_millis(40))),
        ("Retry-After: 7\r\nretry-after-ms: soon\r\n", seconds(7)),
        // The three forms, eight seconds on.
        ("Retry-After: Sun, 06 Nov 1994 08:49:45 GMT\r\n", seconds(8)),
        ("Retry-After: Sunday, 06-Nov-94 08:49:45 GMT\r\n", seconds(8)),
        ("Retry-After: Sun Nov  6 08:49:45 1994\r\n", seconds(8)),
        // The server's own clock is an hour behind ours.
        ("Date: Sun, 06 Nov 1994 07:49:37 GMT\r\nRetry-After: Sun, 06 Nov 1994 07:49:45 GMT\r\n", seconds(8)),
        ("Date: yesterday\r\nRetry-After: Sun, 06 Nov 1994 08:49:45 GMT\r\n", seconds(8)),
        // Over is now.
        ("Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n", seconds(0)),
        ("Retry-After: Thu, 01 Jan 1970 00:00:00 GMT\r\n", seconds(0)),
        ("Date: Sun, 06 Nov 1994 08:49:45 GMT\r\nRetry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n", seconds(0)),
        // Far: whoever waits has a bound of his own.
        ("Retry-After: Fri, 31 Dec 9999 23:59:59 GMT\r\n", seconds(253_402_300_799 - NOVEMBER)),
        ("Retry-After: 18446744073709551615\r\n", seconds(u64::MAX)),
        // Nonsense asks for nothing.
        ("Retry-After: 18446744073709551616\r\n", None),
        ("Retry-After: \r\n", None),
        ("Retry-After: -1\r\n", None),
        ("Retry-After: +1\r\n", None),
        ("Retry-After: 1.5\r\n", None),
        ("Retry-After: soon\r\n", None),
        ("Retry-After: Sun, 31 Feb 1994 08:49:45 GMT\r\n", None),
        ("Retry-After: Sun, 06 Nov 1994 25:49:45 GMT\r\n", None),
        ("Retry-After: Sun, 06 Nov 1994 08:49:45 CET\r\n", None),
        ("Retry-After: Sun, 06 Nov 1969 08:49:45 GMT\r\n", None),
        ("Retry-After: Sun, 06 N\u{f6}v 1994 08:49:45 GMT\r\n", None),
    ];
    for (fields, expected) in table {
        assert_eq!(wait(fields, NOVEMBER), expected, "{fields}");
    }
}

#[test]
fn the_wall_clock_is_asked_only_where_nothing_else_tells_the_time() {
    let asked = |fields: &str| {
        let bytes = format!("HTTP/1.1 429 Slow\r\n{fields}\r\n");
        let head = response(bytes.as_bytes(), Method::Head).unwrap();
        let mut asked = false;
        let _ = RetryAfter::of(&head, bytes.as_bytes()).map(|after| {
            after.wait(|| {
                asked = true;
                Duration::ZERO
            })
        });
        asked
    };
    assert!(!asked("Retry-After: 7\r\n"));
    assert!(!asked("Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nRetry-After: Sun, 06 Nov 1994 08:49:45 GMT\r\n"));
    assert!(asked("Retry-After: Sun, 06 Nov 1994 08:49:45 GMT\r\n"));
}
