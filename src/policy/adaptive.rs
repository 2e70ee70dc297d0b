//! Learns how many requests one shard should have at an upstream, from how long answers take to begin. It counts nothing itself and
//! reads no clock.
//!
//! The rule is the gradient of Netflix' `concurrency-limits` (`Gradient2Limit`) with the baseline of Envoy's gradient controller
//! (`adaptive_concurrency`), changed in one point. Once per round, with `short` the mean latency of the round's answers and `base` the
//! latency without a queue:
//!
//! ```text
//!   gradient = clamp(1.5 * base / short, 0.5, 1)        1.5: latency may grow by half before the limit stops growing
//!   target   = limit * gradient + sqrt(limit)           sqrt(limit): room to find out that more is possible (Envoy's headroom)
//!   limit    = 0.8 * limit + 0.2 * target               Gradient2's smoothing; then within min and max
//! ```
//!
//! It comes to rest where `short = 1.5 * base / (1 - 1 / sqrt(limit))`. A round in which less than half of the limit was in use
//! changes nothing (Gradient2), and one with an overload (429, 503, no answer in time) sets `limit * 0.9`.
//!
//! `base` follows `short` downwards by a quarter per round. Upwards it must be measured: under a lasting load every answer has
//! queued, and a baseline that follows them would let the limit grow without end (Gradient2's and Vegas' known weakness). Envoy
//! measures it by going down to three requests; here half of the limit is used for one round now and then (a dip), and `base` is what
//! that round shows. A baseline that was far too high so halves its fault each time. Dips begin where the process's clock passes a
//! multiple of 30 s (doubled until that is fifty times `base`, so that dips cost a few per cent at most): at the same moment on all
//! shards, or each would measure the others' queue.

use std::time::Duration;

use crate::sys::Instant;

/// The round in which a request began: only those that ran wholly under a round's limit say something about it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Round(u32);

/// A learned limit.
#[derive(Clone, Debug)]
pub struct Adaptive {
    limit: f64,
    min: f64,
    max: f64,
    /// Seconds until an answer begins when nothing queues; unknown before the first round has ended.
    base: Option<f64>,
    /// The period, counted in multiples of its length, in which `base` was measured.
    base_period: u64,
    /// Half of the limit is used, to measure `base`.
    dips: bool,
    round: Round,
    seconds: f64,
    answers: u32,
    in_flight_max: u32,
}

impl Adaptive {
    /// Between `min` and `max`, beginning at 20 (as Netflix does) or the bound next to it.
    #[must_use]
    pub fn new(min: u32, max: u32) -> Adaptive {
        let (min, max) = (f64::from(min.max(1)), f64::from(max.max(min).max(1)));
        Adaptive {
            limit: LIMIT_FIRST.clamp(min, max),
            min,
            max,
            base: None,
            base_period: 0,
            dips: false,
            round: Round::default(),
            seconds: 0.0,
            answers: 0,
            in_flight_max: 0,
        }
    }

    /// Requests that may run at present.
    #[must_use]
    pub fn limit(&self) -> u32 {
        let limit = if self.dips { (self.limit / 2.0).max(self.min) } else { self.limit };
        whole(limit)
    }

    /// The bound it stays below.
    #[must_use]
    pub fn max(&self) -> u32 {
        whole(self.max)
    }

    /// A request begins, the `in_flight`th at present. Keep the round for its end.
    pub fn handle_begin(&mut self, in_flight: u32) -> Round {
        self.in_flight_max = self.in_flight_max.max(in_flight);
        self.round
    }

    /// Its answer began.
    pub fn handle_answer(&mut self, round: Round, latency: Duration, now: Instant) {
        if !self.dips && self.base.is_some() && self.period(now) != self.base_period {
            // What was gathered so far is given up: the dip begins at the same moment everywhere.
            self.begin_round();
            self.dips = true;
        }
        if round != self.round {
            return;
        }
        self.seconds += latency.as_secs_f64();
        self.answers += 1;
        if self.answers >= self.limit().clamp(ANSWERS_MIN, ANSWERS_MAX) {
            self.learn(self.seconds / f64::from(self.answers), now);
            self.begin_round();
        }
    }

    /// It was refused by an upstream that has too much to do. The first one ends the round: waiting for more of them helps nobody.
    pub fn handle_overload(&mut self, round: Round) {
        if round == self.round {
            self.limit = (self.limit * OVERLOAD_FACTOR).max(self.min);
            self.begin_round();
        }
    }

    fn begin_round(&mut self) {
        self.round = Round(self.round.0.wrapping_add(1));
        (self.seconds, self.answers, self.in_flight_max) = (0.0, 0, 0);
    }

    fn learn(&mut self, short: f64, now: Instant) {
        let base = match self.base {
            Some(base) if !self.dips => base.min(short),
            _ => {
                self.base = Some(short);
                self.base_period = self.period(now);
                self.dips = false;
                return;
            }
        };
        if let Some(known) = &mut self.base
            && short < *known
        {
            *known += (short - *known) / 4.0;
        }
        if f64::from(self.in_flight_max) * 2.0 < self.limit.floor() {
            return;
        }
        let gradient = if short > 0.0 { (TOLERANCE * base / short).clamp(GRADIENT_MIN, 1.0) } else { 1.0 };
        let target = self.limit * gradient + self.limit.sqrt();
        self.limit = (self.limit + (target - self.limit) * SMOOTHING).clamp(self.min, self.max);
    }

    /// Which period this is. Lengths are 30 s and its doubles, so that shards with different ones still begin some together.
    fn period(&self, now: Instant) -> u64 {
        let needed = self.base.unwrap_or(0.0) * BASES_PER_DIP;
        let mut length = DIP_EVERY;
        while length.as_secs_f64() < needed && length < DIP_EVERY_MAX {
            length *= 2;
        }
        now.as_nanos() / u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and a u32's largest")]
fn whole(limit: f64) -> u32 {
    limit as u32
}

const LIMIT_FIRST: f64 = 20.0;
const TOLERANCE: f64 = 1.5;
const GRADIENT_MIN: f64 = 0.5;
const SMOOTHING: f64 = 0.2;
const OVERLOAD_FACTOR: f64 = 0.9;
/// Answers that make a round: as many as the limit, within these.
const ANSWERS_MIN: u32 = 10;
const ANSWERS_MAX: u32 = 64;
const DIP_EVERY: Duration = Duration::from_secs(30);
const DIP_EVERY_MAX: Duration = Duration::from_secs(30 << 10);
const BASES_PER_DIP: f64 = 50.0;
