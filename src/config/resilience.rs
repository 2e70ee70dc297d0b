//! What is configured about faults, checked: probes, breaker, slow start, retries of an upstream; fallback and hedging of a model;
//! canned answers. The machines that follow these rules are policy's.

use std::time::Duration;

use super::ModelId;

/// A share in hundredths of a percent: `10%` is 1000, all is 10 000.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Share(pub u32);

impl Share {
    pub const NONE: Share = Share(0);
    pub const ALL: Share = Share(10_000);

    /// Whether `part` of `whole` is more than this share.
    #[must_use]
    pub const fn is_exceeded(self, part: u64, whole: u64) -> bool {
        part * 10_000 > whole * self.0 as u64
    }
}

/// The rules for faults of one upstream.
#[derive(Clone, PartialEq, Debug)]
pub struct Resilience {
    /// None: endpoints are not probed.
    pub probe: Option<Probe>,
    pub breaker: Breaker,
    pub slow_start: SlowStart,
    /// When more than this share of the endpoints is not to be used, all are. Default 90 %.
    pub panic_threshold: Share,
    pub retry: RetryRules,
}

/// `[upstreams.health]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Probe {
    /// Begins with `/`. Default `/health`.
    pub path: String,
    /// Default 5 s.
    pub interval: Duration,
    /// Default 1 s.
    pub timeout: Duration,
    /// Default 2.
    pub healthy_after: u32,
    /// Default 3.
    pub unhealthy_after: u32,
    /// The lowest and the highest status of a good probe. Default 200 to 299.
    pub expect: (u16, u16),
}

/// `[upstreams.breaker]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Breaker {
    /// Default 3.
    pub failures: u32,
    /// Zero: not looked at (default).
    pub error_rate: Share,
    /// Default 10 s.
    pub slow_call: Duration,
    /// Zero: not looked at (default).
    pub slow_rate: Share,
    /// Default 10 s.
    pub window: Duration,
    /// Default 20.
    pub min_calls: u32,
    /// Default 1 s.
    pub open: Duration,
    /// Default 30 s.
    pub open_max: Duration,
    /// Default 1.
    pub trials: u32,
}

/// `[upstreams.slow_start]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlowStart {
    /// Zero: none (default).
    pub window: Duration,
    /// Default 10 %.
    pub first: Share,
}

/// `upstreams.retry`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryRules {
    /// Calls at most, the first included. Default 3.
    pub attempts: u32,
    /// Default true.
    pub on_connect: bool,
    /// Default true.
    pub on_reset: bool,
    /// Default false.
    pub on_5xx: bool,
    /// Default false.
    pub on_429: bool,
    /// Default 25 ms.
    pub backoff: Duration,
    /// Default 1 s.
    pub backoff_max: Duration,
    /// Default 10 %.
    pub budget: Share,
}

/// The rules for faults of one model.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ModelResilience {
    /// Where requests go when this model's upstream fails, in order.
    pub fallback: Vec<Fallback>,
    pub hedge: Option<Hedge>,
    /// The operator says that its calls may be repeated. Default false.
    pub idempotent: bool,
}

/// One link of a fallback chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fallback {
    Model(ModelId),
    Canned(CannedId),
}

/// Index of an answer in [`super::Config::canned`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct CannedId(pub u32);

/// `models.hedge`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hedge {
    pub after: HedgeAfter,
    pub max: Share,
}

/// When a second call is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HedgeAfter {
    Time(Duration),
    /// 50 to 99, of the latencies seen lately.
    Percentile(u8),
}

/// `[[canned]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Canned {
    pub name: String,
    /// Default 200.
    pub status: u16,
    pub body: String,
    /// Default `application/json`.
    pub content_type: String,
}

impl Default for Breaker {
    fn default() -> Breaker {
        Breaker {
            failures: 3,
            error_rate: Share::NONE,
            slow_call: Duration::from_secs(10),
            slow_rate: Share::NONE,
            window: Duration::from_secs(10),
            min_calls: 20,
            open: Duration::from_secs(1),
            open_max: Duration::from_secs(30),
            trials: 1,
        }
    }
}

impl Default for SlowStart {
    fn default() -> SlowStart {
        SlowStart { window: Duration::ZERO, first: Share(1000) }
    }
}

impl Default for RetryRules {
    fn default() -> RetryRules {
        RetryRules {
            attempts: 3,
            on_connect: true,
            on_reset: true,
            on_5xx: false,
            on_429: false,
            backoff: Duration::from_millis(25),
            backoff_max: Duration::from_secs(1),
            budget: Share(1000),
        }
    }
}

impl Default for Probe {
    fn default() -> Probe {
        Probe {
            path: "/health".to_owned(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            healthy_after: 2,
            unhealthy_after: 3,
            expect: (200, 299),
        }
    }
}

impl Default for Hedge {
    fn default() -> Hedge {
        Hedge { after: HedgeAfter::Percentile(95), max: Share(500) }
    }
}

impl Default for Resilience {
    fn default() -> Resilience {
        Resilience {
            probe: None,
            breaker: Breaker::default(),
            slow_start: SlowStart::default(),
            panic_threshold: Share(9000),
            retry: RetryRules::default(),
        }
    }
}
