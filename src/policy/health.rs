//! Which endpoints of one upstream may be used, seen from one shard: each has a breaker (what calls have shown), what the control
//! plane's probes say, and perhaps a pause it asked for. An answer is a success of the endpoint whatever its status, and so is a
//! client's own 4xx; 5xx and time-outs count only where an error rate is configured. It chooses none of them (balance does).

use std::cell::Cell;
use std::time::Duration;

use super::breaker::{Breaker, BreakerState, Change, Ended};
use crate::config::{Resilience, Share, SlowStart};
use crate::sys::Instant;

/// The health of all endpoints of one upstream, which are named by their index in the configuration.
#[derive(Clone, Debug)]
pub struct Health {
    breaker: crate::config::Breaker,
    slow_start: SlowStart,
    panic_threshold: Share,
    endpoints: Box<[State]>,
    /// Some endpoint may not be used as any other: looked at only then. May be true for a while when all is well again.
    troubled: Cell<bool>,
    /// The state of the draws of slow start.
    draws: Cell<u64>,
}

#[derive(Clone, Default, Debug)]
struct State {
    breaker: Breaker,
    /// Probes say that it is not there.
    down: bool,
    /// It asked for a pause (429 or 503 with Retry-After): not used before, and not called broken.
    paused_until: Instant,
    /// When it came back, while it starts slowly.
    recovered: Option<Instant>,
}

/// Which endpoints are usable at one moment. Made for one choice.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    health: &'a Health,
    now: Instant,
    calm: bool,
    /// So many are out that all are used.
    panic: bool,
    /// A draw for slow start; `None`: it is left out.
    draw: Option<u32>,
}

impl Health {
    /// All healthy. `seed` is any number; with the same one slow start draws the same.
    #[must_use]
    pub fn new(rules: &Resilience, endpoints: u32, seed: u64) -> Health {
        let state = State { breaker: Breaker::new(&rules.breaker), ..State::default() };
        Health {
            breaker: rules.breaker,
            slow_start: rules.slow_start,
            panic_threshold: rules.panic_threshold,
            endpoints: vec![state; endpoints as usize].into(),
            troubled: Cell::new(false),
            draws: Cell::new(seed),
        }
    }

    /// Takes over what `former` knew of `theirs`: the endpoint is the same, only the configuration is another.
    pub fn inherit(&mut self, endpoint: u32, former: &Health, theirs: u32) {
        let (Some(mine), Some(other)) = (self.endpoints.get_mut(endpoint as usize), former.endpoints.get(theirs as usize)) else { return };
        let rules_stay = former.breaker == self.breaker;
        if rules_stay {
            *mine = other.clone();
        } else {
            (mine.down, mine.paused_until, mine.recovered) = (other.down, other.paused_until, other.recovered);
        }
        self.troubled.set(true);
    }

    /// A call to `endpoint` begins.
    pub fn handle_begin(&mut self, endpoint: u32, now: Instant) -> Option<Change> {
        if !self.troubled.get() {
            return None;
        }
        self.endpoints.get_mut(endpoint as usize)?.breaker.handle_begin(now)
    }

    /// A call to `endpoint` ended, however it did. Once per [`Health::handle_begin`].
    pub fn handle_end(&mut self, endpoint: u32, ended: Ended, now: Instant) -> Option<Change> {
        let state = self.endpoints.get_mut(endpoint as usize)?;
        let change = state.breaker.handle_end(&self.breaker, ended, now);
        if change == Some(Change::Closed) {
            state.recovered = Some(now);
        }
        if change.is_some() {
            self.troubled.set(true);
        }
        change
    }

    /// What the probes say now. True when that is new.
    pub fn handle_probe(&mut self, endpoint: u32, up: bool, now: Instant) -> bool {
        let Some(state) = self.endpoints.get_mut(endpoint as usize) else { return false };
        if state.down != up {
            return false;
        }
        state.down = !up;
        if up {
            state.recovered = Some(now);
            state.breaker.try_now(now);
        }
        self.troubled.set(true);
        true
    }

    /// The endpoint asked not to be called before `until`.
    pub fn handle_pause(&mut self, endpoint: u32, until: Instant) {
        if let Some(state) = self.endpoints.get_mut(endpoint as usize) {
            state.paused_until = state.paused_until.max(until);
            self.troubled.set(true);
        }
    }

    /// Which endpoints are usable now.
    #[must_use]
    pub fn view(&self, now: Instant) -> View<'_> {
        let calm = View { health: self, now, calm: true, panic: false, draw: None };
        if !self.troubled.get() {
            return calm;
        }
        let mut ejected = 0;
        let mut troubled = false;
        for state in &self.endpoints {
            ejected += u64::from(state.is_ejected(&self.breaker, now));
            troubled |= state.is_troubled(&self.slow_start, now);
        }
        self.troubled.set(troubled);
        let panic = self.panic_threshold.is_exceeded(ejected, self.endpoints.len() as u64);
        View { calm: !troubled, panic, draw: Some(self.draw()), ..calm }
    }

    /// Whether calls may go to `endpoint`.
    #[must_use]
    pub fn is_usable(&self, endpoint: u32, now: Instant) -> bool {
        self.view(now).whole().is_usable(endpoint)
    }

    /// Whether some endpoint is neither open nor down: the upstream's part of readiness. One on trial counts, because an instance
    /// that is not ready gets no calls that could restore it.
    #[must_use]
    pub fn any_healthy(&self, now: Instant) -> bool {
        (0..).zip(&self.endpoints).any(|(endpoint, _)| self.unhealthy_until(endpoint) <= now)
    }

    /// Until when `endpoint` is out, as far as that is known; [`Instant::ZERO`] when it is not (for the readiness figures in metrics).
    #[must_use]
    pub fn unhealthy_until(&self, endpoint: u32) -> Instant {
        match self.endpoints.get(endpoint as usize) {
            Some(state) if state.down => Instant::FAR,
            Some(state) => state.breaker.until(),
            None => Instant::ZERO,
        }
    }

    /// Where the breaker of `endpoint` stands.
    #[must_use]
    pub fn state(&self, endpoint: u32) -> BreakerState {
        self.endpoints.get(endpoint as usize).map_or(BreakerState::Closed, |state| state.breaker.state())
    }

    /// All that is held against `endpoint`, for whoever asks why it is not used.
    #[must_use]
    pub fn standing(&self, endpoint: u32, now: Instant) -> Standing {
        let state = self.endpoints.get(endpoint as usize);
        Standing {
            breaker: self.state(endpoint),
            down: state.is_some_and(|state| state.down),
            paused: state.map_or(Duration::ZERO, |state| state.paused_until.since(now)),
        }
    }

    /// When the first of the paused endpoints may be called again; `None` when none is paused.
    #[must_use]
    pub fn paused_until(&self, now: Instant) -> Option<Instant> {
        self.endpoints.iter().map(|state| state.paused_until).filter(|until| *until > now).min()
    }

    /// splitmix64, whose upper half is the draw.
    fn draw(&self) -> u32 {
        let state = self.draws.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.draws.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap_or(0)
    }
}

/// What is known of an endpoint's health.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    pub breaker: BreakerState,
    /// The probes say so.
    pub down: bool,
    /// For so long it asked not to be called; zero when it did not.
    pub paused: Duration,
}

impl View<'_> {
    /// Whether the next call may go to `endpoint`. While it starts slowly it is usable with a probability that grows from the first
    /// share to 1: so it has its place in every kind of balance.
    #[must_use]
    pub fn is_usable(&self, endpoint: u32) -> bool {
        let Some(state) = self.health.endpoints.get(endpoint as usize) else { return false };
        if self.calm {
            return true;
        }
        let there = self.panic || !state.is_ejected(&self.health.breaker, self.now);
        there && state.paused_until <= self.now && self.draw.is_none_or(|draw| state.drawn(&self.health.slow_start, draw, self.now))
    }

    /// Nothing is wrong anywhere.
    #[must_use]
    pub const fn is_calm(&self) -> bool {
        self.calm
    }

    /// The same without slow start: an endpoint that is not yet warm is better than none.
    #[must_use]
    pub const fn whole(self) -> Self {
        View { draw: None, ..self }
    }

    /// The same without panic: what is out stays out, because there is something else to do.
    #[must_use]
    pub const fn strict(self) -> Self {
        View { panic: false, ..self }
    }
}

impl State {
    fn is_ejected(&self, rules: &crate::config::Breaker, now: Instant) -> bool {
        self.down || !self.breaker.lets(rules, now)
    }

    fn is_troubled(&self, rules: &SlowStart, now: Instant) -> bool {
        let starting = self.recovered.is_some_and(|since| now.since(since) < rules.window);
        self.down || self.breaker.state() != BreakerState::Closed || self.paused_until > now || starting
    }

    /// Its share at this moment, against the draw.
    fn drawn(&self, rules: &SlowStart, draw: u32, now: Instant) -> bool {
        let Some(since) = self.recovered else { return true };
        let passed = now.since(since);
        if passed >= rules.window {
            return true;
        }
        let first = f64::from(rules.first.0) / f64::from(Share::ALL.0);
        let share = first + (1.0 - first) * passed.as_secs_f64() / rules.window.as_secs_f64().max(MOMENT.as_secs_f64());
        f64::from(draw) < share * f64::from(u32::MAX)
    }
}

const MOMENT: Duration = Duration::from_nanos(1);
