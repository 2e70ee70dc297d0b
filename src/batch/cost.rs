//! What a call costs: the line T(n) = a + b n, learned online for one lane at one endpoint, and how many items a call may hold.
//! When a batch leaves is decided in `rule`.

use crate::sys::Instant;
use std::time::Duration;

/// Least squares with exponential forgetting over (items, seconds), and how well it has foretold lately.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    weight: f64,
    n: f64,
    nn: f64,
    t: f64,
    nt: f64,
    /// Smoothed |foretold - measured| / foretold.
    error: f64,
    foretold_count: u32,
}

impl Cost {
    /// A call with `items` took `time`.
    pub(super) fn observe(&mut self, items: u32, time: Duration) {
        if let Some(foretold) = self.predict(items) {
            let (foretold, measured) = (foretold.as_secs_f64(), time.as_secs_f64());
            if foretold > 0.0 {
                let error = ((foretold - measured).abs() / foretold).min(4.0);
                self.error = if self.foretold_count == 0 { error } else { self.error + (error - self.error) * ERROR_STEP };
                self.foretold_count = self.foretold_count.saturating_add(1);
            }
        }
        let (n, t) = (f64::from(items), time.as_secs_f64());
        self.weight = self.weight * FORGET + 1.0;
        self.n = self.n * FORGET + n;
        self.nn = self.nn * FORGET + n * n;
        self.t = self.t * FORGET + t;
        self.nt = self.nt * FORGET + n * t;
    }

    /// How long a call with `items` will take; `None` before anything was observed.
    pub(super) fn predict(&self, items: u32) -> Option<Duration> {
        if self.weight == 0.0 {
            return None;
        }
        let (a, b) = self.line();
        Duration::try_from_secs_f64(a + b * f64::from(items)).ok()
    }

    /// Whether foretelling has worked lately, so that a batch may be sent in time for the end of the running one.
    pub(super) fn is_trusted(&self) -> bool {
        self.foretold_count >= TRUST_AFTER && self.error < TRUST_ERROR
    }

    /// Seconds a call, seconds an item; neither negative.
    fn line(&self) -> (f64, f64) {
        let mean_n = self.n / self.weight;
        let mean_t = self.t / self.weight;
        let spread = self.nn / self.weight - mean_n * mean_n;
        // All calls of one size: nothing is known of the slope.
        if spread < 0.05 {
            return (mean_t, 0.0);
        }
        let slope = ((self.nt / self.weight - mean_n * mean_t) / spread).max(0.0);
        let at_zero = mean_t - slope * mean_n;
        if at_zero < 0.0 { (0.0, mean_t / mean_n) } else { (at_zero, slope) }
    }
}

/// How many items a call may hold: additive increase, multiplicative decrease inside the configured bound, under what the upstream
/// has said it takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caps {
    max: u32,
    current: u32,
    learned: u32,
    learned_until: Instant,
}

impl Caps {
    pub(super) fn new(max: u32) -> Caps {
        Caps { max, current: max, learned: u32::MAX, learned_until: Instant::ZERO }
    }

    /// Items a batch is filled to.
    pub(super) fn items(&self, now: Instant) -> u32 {
        self.current.min(self.hard(now))
    }

    /// Items beyond which a job is cut: the configured bound or what the upstream takes, whatever the load is.
    pub(super) fn hard(&self, now: Instant) -> u32 {
        if now < self.learned_until { self.max.min(self.learned) } else { self.max }
    }

    /// A call as large as the cap went well.
    pub(super) fn good(&mut self, items: u32) {
        if items >= self.current && self.current < self.max {
            self.current += 1;
        }
    }

    /// A merged call with `items` came to grief in a way that smaller calls might not.
    pub(super) fn bad(&mut self, items: u32) {
        self.current = (self.current.min(items) / 2).max(1);
    }

    /// The upstream takes no more than `items`; returns whether that is news.
    pub(super) fn learn(&mut self, items: u32, now: Instant) -> bool {
        let items = items.max(1);
        let news = items < self.hard(now);
        if news {
            self.learned = items;
        }
        self.learned_until = now + LEARNED_FOR;
        news
    }
}

/// The limit an error body tells, when it names one below `sent`: "batch size 33 > maximum allowed batch size 32" (TEI),
/// "batch-size must be <= 32" (Triton), "List should have at most 2048 items" (pydantic).
pub(super) fn told_limit(body: &[u8], sent: u32) -> Option<u32> {
    let body = &body[..body.len().min(TOLD_BYTES)];
    TOLD_BY.iter().find_map(|phrase| {
        let after = memchr::memmem::find(body, phrase.as_bytes())? + phrase.len();
        let digits = body[after..].iter().take(8).take_while(|byte| !byte.is_ascii_digit()).count();
        let number = body[after + digits..].iter().take_while(|byte| byte.is_ascii_digit()).take(7);
        let limit = number.fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
        (1..sent).contains(&limit).then_some(limit)
    })
}

/// Looked for in this order.
const TOLD_BY: [&str; 7] = [
    "maximum allowed batch size",
    "max_client_batch_size",
    "must be <=",
    "at most ",
    "maximum batch size",
    "max batch size",
    "max_batch_size",
];

/// An error body is read this far: the limit stands at its front, the echo of the input behind it.
const TOLD_BYTES: usize = 1024;

/// Each observation weighs this much of the next; about the last 30 count.
const FORGET: f64 = 0.97;

const ERROR_STEP: f64 = 0.1;
const TRUST_AFTER: u32 = 8;

/// 20 % service noise shows as 0.16 here.
const TRUST_ERROR: f64 = 0.25;

/// What an upstream said of its limit is believed this long: its operator may have changed it since.
const LEARNED_FOR: Duration = Duration::from_secs(600);
