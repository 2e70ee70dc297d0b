//! Power of two choices (Mitzenmacher 2001) by peak-EWMA latency (Finagle): of two endpoints drawn at random the one with the lower
//! `latency x (in flight + 1) / weight`. Two draws are enough to keep the crowd off the slowest, and random enough that shards which
//! know nothing of each other do not all rush to the same one.

use crate::sys::Instant;

/// What calls to an endpoint took lately, up to the answer's head. Rises at once and falls slowly:
///
/// - a sample above it replaces it (the peak counts: one slow answer is a warning);
/// - one below moves it there by `1 - e^(-t / 10 s)`, with `t` the time since the last sample;
/// - unasked it decays by `e^(-t / 10 s)`, so that an endpoint that was slow once is tried again.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Latency {
    nanos: f64,
    at: Instant,
}

impl Latency {
    pub(super) fn observe(&mut self, nanos: u64, now: Instant) {
        let sample = nanos as f64;
        let kept = decay(self.at, now);
        self.nanos = if sample > self.nanos { sample } else { self.nanos * kept + sample * (1.0 - kept) };
        self.at = now;
    }

    /// Nanoseconds; 0 when nothing is known.
    pub(super) fn at(self, now: Instant) -> f64 {
        self.nanos * decay(self.at, now)
    }
}

fn decay(since: Instant, now: Instant) -> f64 {
    (-now.since(since).as_secs_f64() / DECAY_SECONDS).exp()
}

/// The cost of one call more. An endpoint nobody has heard of yet is tried, but not by everybody at once: with calls in flight and no
/// answer it costs as much as one that took a second.
pub(super) fn cost(latency: f64, load: f64, weight: u32) -> f64 {
    let latency = if latency > 0.0 || load < 1.0 { latency } else { UNKNOWN_NANOS };
    // One nanosecond more, so that among endpoints without latency the load counts.
    (latency + 1.0) * (load + 1.0) / f64::from(weight)
}

/// Two different endpoints of `open`, drawn from `random`; one when there is only one.
pub(super) fn draw(count: usize, random: u64, open: &dyn Fn(u32) -> bool) -> Option<(u32, u32)> {
    let count = u32::try_from(count).ok().filter(|count| *count > 0)?;
    let place = |bits: u64| u32::try_from(((bits & u64::from(u32::MAX)) * u64::from(count)) >> 32).unwrap_or(0);
    let from = |start: u32| (0..count).map(move |step| (start + step) % count);
    let first = from(place(random)).find(|index| open(*index))?;
    let second = from(place(random >> 32)).find(|index| *index != first && open(*index));
    Some((first, second.unwrap_or(first)))
}

const DECAY_SECONDS: f64 = 10.0;
const UNKNOWN_NANOS: f64 = 1e9;
