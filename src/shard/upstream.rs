//! Connections to one upstream's endpoints: pools of idle ones, the choice of an endpoint, its passive health, and the reading of
//! an answer's head. What is sent and what becomes of the answer is the dispatcher's matter (`forward`, `home`).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use super::Shard;
use super::health::end_of;
use super::input::Input;
use super::snapshot::Snapshot;
use super::stream::Opening;
use super::wish::{ORCA_FIELD, Steered};
use crate::config::{EndpointAddr, Upstream as UpstreamConfig, UpstreamId};
use crate::http::{Field, HeadLimits, Method, Parsed, ResponseHead};
use crate::metrics::UpstreamOutcome;
use crate::policy::{Ask, Balancer, BreakerState, Budget, CallEnd, Ended, Failure, Health, Report, View, Why, read_orca};
use crate::runtime::{Either, Rt, Socket, race};
use crate::sys::net::Address;
use crate::sys::{Instant, Parts};

/// What a shard keeps for one upstream of a snapshot.
pub(super) struct Upstream {
    addresses: Vec<Option<Address>>,
    pub(super) balancer: RefCell<Balancer>,
    pub(super) health: RefCell<Health>,
    pub(super) budget: RefCell<Budget>,
    /// By endpoint; the last used stands last, the oldest first.
    pools: RefCell<Vec<VecDeque<Idle>>>,
    idle_timeout: Duration,
    max_idle: usize,
}

struct Idle {
    socket: Socket,
    /// Of the last answer: its memory serves the next one's.
    incoming: Box<Incoming>,
    since: Instant,
}

/// One connection in use for a call.
pub(super) struct Channel {
    pub(super) socket: Socket,
    /// Boxed, for the connection's whole life: a channel changes hands half a dozen times in a call.
    pub(super) incoming: Box<Incoming>,
}

/// The answer's side of a channel: apart from the socket, so that a request can still be sent while its answer is awaited.
pub(super) struct Incoming {
    pub(super) input: Input,
    pub(super) head: ResponseHead,
    /// The connection came from the pool: the server may have closed it meanwhile.
    reused: bool,
    /// Bytes of the present answer have come.
    begun: bool,
    /// What was read of an event stream before its head went to the client.
    pub(super) opening: Option<Box<Opening>>,
}

/// Why a call failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct CallError {
    pub(super) failure: Failure,
    pub(super) outcome: UpstreamOutcome,
    /// For `x-headrace-error` when it was the answer's form.
    pub(super) reason: &'static str,
}

impl CallError {
    pub(super) const fn new(failure: Failure, outcome: UpstreamOutcome) -> CallError {
        CallError { failure, outcome, reason: "upstream_answer" }
    }

    pub(super) fn error(self) -> super::Error {
        match self.failure {
            Failure::Connect => super::Error::UpstreamUnreachable,
            Failure::StaleConnection | Failure::Transport | Failure::Refused => super::Error::UpstreamBroken,
            Failure::Timeout => super::Error::UpstreamTimeout,
            Failure::RateLimited | Failure::ServerError => super::Error::UpstreamFailed,
            Failure::BadAnswer => super::Error::UpstreamAnswer(self.reason),
        }
    }
}

/// A begun call to an endpoint: counts as in flight until it is dropped.
pub(super) struct InFlight {
    snapshot: Rc<Snapshot>,
    upstream: UpstreamId,
    pub(super) endpoint: u32,
    began: Instant,
    /// Until the answer's head was here.
    latency: Cell<Option<Duration>>,
    /// The breaker has been told that it went well.
    judged: Cell<bool>,
    /// Its end was counted. One that is dropped before was given up: its task was ended from outside.
    finished: bool,
}

impl Upstream {
    pub(super) fn new(config: &UpstreamConfig, zone: Option<&str>) -> Upstream {
        let count = u32::try_from(config.endpoints.len()).unwrap_or(u32::MAX);
        Upstream {
            addresses: config.endpoints.iter().map(|endpoint| address_of(&endpoint.addr)).collect(),
            balancer: RefCell::new(Balancer::for_upstream(config, zone)),
            health: RefCell::new(Health::new(&config.resilience, count, config.name.len() as u64)),
            budget: RefCell::new(Budget::new(config.resilience.retry.budget)),
            pools: RefCell::new(config.endpoints.iter().map(|_| VecDeque::new()).collect()),
            idle_timeout: config.pool_idle_timeout,
            max_idle: config.pool_max_idle as usize,
        }
    }

    /// The endpoint for the next call of an exchange. When `strictly`, what is out stays out though nothing else is left: there is a
    /// fallback.
    pub(super) fn pick(
        &self,
        shard: &Shard,
        snapshot: &Snapshot,
        id: UpstreamId,
        steered: Option<&Steered>,
        avoid: Option<u32>,
        strictly: bool,
    ) -> Option<u32> {
        let health = self.health.borrow();
        let view = health.view(shard.rt.now());
        let (endpoint, why) = self.pick_in(shard, steered, avoid, if strictly { view.strict() } else { view })?;
        if let Some(why) = why {
            snapshot.metrics.endpoint_chosen(id, why);
        }
        Some(endpoint)
    }

    fn pick_in(&self, shard: &Shard, steered: Option<&Steered>, avoid: Option<u32>, view: View<'_>) -> Option<(u32, Option<Why>)> {
        let picked = self.choose(shard, steered, avoid, view);
        if view.is_calm() || picked.is_some_and(|(picked, _)| Some(picked) != avoid) {
            return picked;
        }
        // One that is still starting is better than none, or than the one that just failed.
        self.choose(shard, steered, avoid, view.whole())
    }

    fn choose(&self, shard: &Shard, steered: Option<&Steered>, avoid: Option<u32>, view: View<'_>) -> Option<(u32, Option<Why>)> {
        let usable = |endpoint| view.is_usable(endpoint);
        let mut balancer = self.balancer.borrow_mut();
        if !balancer.is_steered() {
            return Some((balancer.pick(avoid, usable)?, None));
        }
        let ask = Ask { avoid, wish: steered.map(|steered| &steered.wish), now: shard.rt.now(), random: shard.random_u64() };
        let choice = balancer.choose(&ask, &usable)?;
        Some((choice.endpoint, Some(choice.why)))
    }

    /// Whether a call could go to another endpoint than `endpoint` now.
    pub(super) fn has_other(&self, endpoint: u32, now: Instant) -> bool {
        let health = self.health.borrow();
        let view = health.view(now).whole();
        (0..).zip(&self.addresses).any(|(other, _)| other != endpoint && view.is_usable(other))
    }

    /// `wanted`, unless it is known to be down and another is not.
    pub(super) fn usable(&self, wanted: u32, now: Instant) -> u32 {
        let health = self.health.borrow();
        let view = health.view(now);
        if view.is_usable(wanted) {
            return wanted;
        }
        let mut balancer = self.balancer.borrow_mut();
        let picked = balancer.pick(Some(wanted), |endpoint| view.is_usable(endpoint));
        picked.or_else(|| balancer.pick(Some(wanted), |endpoint| view.whole().is_usable(endpoint))).unwrap_or(wanted)
    }

    /// An answer's head came, or did not come in time: what it says of the endpoint. A call that failed at once says nothing of how
    /// fast the endpoint is.
    pub(super) fn heard(&self, shard: &Shard, endpoint: u32, headed: &Result<(), CallError>, since: Instant, channel: &Channel) {
        let mut balancer = self.balancer.borrow_mut();
        if !balancer.is_steered() {
            return;
        }
        let now = shard.rt.now();
        if balancer.is_observing() && !matches!(headed, Err(error) if error.failure != Failure::Timeout) {
            balancer.observe(endpoint, now.since(since), now);
        }
        if headed.is_ok() && balancer.takes_reports() {
            let Incoming { head, input, .. } = &*channel.incoming;
            let orca = head.fields.iter().find(|field| is_orca(field, input.bytes()));
            if let Some(report) = orca.and_then(|field| read_orca(field.value.of(input.bytes()))) {
                balancer.handle_report(endpoint, report, now);
            }
        }
    }

    /// The endpoint has begun to answer: it holds the prompt now, unless it refused. What it told of its load because we asked goes
    /// no further.
    pub(super) fn took(&self, steered: &Steered, endpoint: u32, channel: &mut Channel) {
        let Incoming { head, input, .. } = &mut *channel.incoming;
        if let Some(prompt) = &steered.wish.prompt
            && head.status < 400
        {
            self.balancer.borrow_mut().handle_prompt(prompt, endpoint);
        }
        if steered.asks_load {
            head.fields.retain(|field| !is_orca(field, input.bytes()));
        }
    }

    /// What an endpoint said when it was asked for its load.
    pub(super) fn handle_report(&self, endpoint: u32, report: Report, now: Instant) {
        self.balancer.borrow_mut().handle_report(endpoint, report, now);
    }

    /// Takes over what the same upstream has learned under the former configuration.
    pub(super) fn adopt(&self, former: &Upstream) {
        self.balancer.borrow_mut().adopt(&mut former.balancer.borrow_mut());
    }

    /// An idle connection that is still good; those that are not are closed on the way.
    fn checkout(&self, endpoint: u32, now: Instant) -> Option<Channel> {
        let mut pools = self.pools.borrow_mut();
        let pool = pools.get_mut(endpoint as usize)?;
        while let Some(idle) = pool.pop_back() {
            if !idle.socket.is_stale() && now.since(idle.since) < self.idle_timeout {
                return Some(Channel { socket: idle.socket, incoming: idle.incoming });
            }
        }
        None
    }

    /// Keeps a connection whose answer was read to its end.
    pub(super) fn check_in(&self, endpoint: u32, channel: Channel, now: Instant) {
        let Channel { socket, mut incoming } = channel;
        let clean = incoming.head.keep_alive && incoming.input.is_empty() && !socket.is_stale();
        if !clean || self.idle_timeout.is_zero() {
            return;
        }
        if let Some(pool) = self.pools.borrow_mut().get_mut(endpoint as usize) {
            socket.watch();
            if pool.len() >= self.max_idle {
                pool.pop_front();
            }
            incoming.renew();
            pool.push_back(Idle { socket, incoming, since: now });
        }
    }

    /// Closes connections that were idle too long or that the server closed.
    pub(super) fn prune(&self, now: Instant) {
        self.budget.borrow_mut().handle_time(now);
        for pool in self.pools.borrow_mut().iter_mut() {
            pool.retain(|idle| now.since(idle.since) < self.idle_timeout && !idle.socket.is_stale());
            if pool.is_empty() {
                // What it grew to in a burst.
                pool.shrink_to_fit();
            }
        }
    }

    /// Closes all idle connections.
    pub(super) fn clear(&self) {
        self.pools.borrow_mut().iter_mut().for_each(VecDeque::clear);
    }
}

fn is_orca(field: &Field, bytes: &[u8]) -> bool {
    field.name.of(bytes).eq_ignore_ascii_case(ORCA_FIELD.as_bytes())
}

fn address_of(addr: &EndpointAddr) -> Option<Address> {
    match addr {
        EndpointAddr::Tcp { resolved, .. } => resolved.map(Address::Tcp),
        EndpointAddr::Unix(path) => Some(Address::Unix(path.clone())),
    }
}

impl InFlight {
    pub(super) fn begin(snapshot: &Rc<Snapshot>, upstream: UpstreamId, endpoint: u32, now: Instant) -> InFlight {
        let of = snapshot.upstream(upstream);
        of.balancer.borrow_mut().begin(endpoint);
        let change = of.health.borrow_mut().handle_begin(endpoint, now);
        if let Some(change) = change {
            of.changed(snapshot, upstream, endpoint, change);
        }
        snapshot.metrics.upstream_call_begun();
        InFlight {
            snapshot: Rc::clone(snapshot),
            upstream,
            endpoint,
            began: now,
            latency: Cell::new(None),
            judged: Cell::new(false),
            finished: false,
        }
    }

    /// The answer's head is here. A trial call has then shown what was asked of it: a long answer does not keep its place.
    pub(super) fn answered(&self, now: Instant, status: u16) {
        let latency = Some(now.since(self.began));
        self.latency.set(latency);
        let upstream = self.snapshot.upstream(self.upstream);
        let on_trial = upstream.health.borrow().state(self.endpoint) != BreakerState::Closed;
        if on_trial && status < 500 {
            self.judged.set(true);
            self.judge(Ended { end: CallEnd::Good, began: self.began, latency, jitter: 0 }, now);
        }
    }

    fn judge(&self, ended: Ended, now: Instant) {
        let upstream = self.snapshot.upstream(self.upstream);
        let change = upstream.health.borrow_mut().handle_end(self.endpoint, ended, now);
        if let Some(change) = change {
            upstream.changed(&self.snapshot, self.upstream, self.endpoint, change);
        }
    }

    pub(super) fn upstream(&self) -> UpstreamId {
        self.upstream
    }

    /// Counts how the call ended and learns from it.
    pub(super) fn finish(mut self, shard: &Shard, outcome: UpstreamOutcome) {
        self.finished = true;
        self.snapshot.metrics.upstream(self.upstream, self.endpoint, outcome);
        let rules = &self.snapshot.config.upstream(self.upstream).resilience.breaker;
        let end = end_of(outcome, rules);
        let jitter = if end.is_good() { 0 } else { shard.random() };
        // One that was judged by its head can only make it worse.
        if !self.judged.get() || matches!(end, CallEnd::Failed | CallEnd::Erred) {
            self.judge(Ended { end, began: self.began, latency: self.latency.get(), jitter }, shard.rt.now());
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if !self.finished {
            self.snapshot.metrics.upstream(self.upstream, self.endpoint, UpstreamOutcome::Cancelled);
            // It changes nothing but gives back a trial's place.
            if !self.judged.get() {
                self.judge(Ended { end: CallEnd::Unknown, began: self.began, latency: None, jitter: 0 }, self.began);
            }
        }
        self.snapshot.upstream(self.upstream).balancer.borrow_mut().end(self.endpoint);
        self.snapshot.metrics.upstream_call_ended();
    }
}

/// How an answer counts.
pub(super) fn outcome_of(status: u16) -> UpstreamOutcome {
    match status {
        429 => UpstreamOutcome::RateLimited,
        400..=499 => UpstreamOutcome::ClientError,
        500..=599 => UpstreamOutcome::ServerError,
        _ => UpstreamOutcome::Ok,
    }
}

impl Channel {
    /// A connection to the endpoint: pooled unless `fresh`, else made within the connect timeout.
    pub(super) async fn open(shard: &Shard, snapshot: &Snapshot, call: &InFlight, fresh: bool) -> Result<Channel, CallError> {
        let upstream = snapshot.upstream(call.upstream);
        let rt = &shard.rt;
        if !fresh && let Some(channel) = upstream.checkout(call.endpoint, rt.now()) {
            return Ok(channel);
        }
        let failed = CallError::new(Failure::Connect, UpstreamOutcome::ConnectFailed);
        let Some(Some(address)) = upstream.addresses.get(call.endpoint as usize) else { return Err(failed) };
        let deadline = rt.now() + snapshot.config.upstream(call.upstream).connect_timeout;
        match rt.before(deadline, rt.connect(address)).await {
            Some(Ok(socket)) => {
                snapshot.metrics.upstream_connection_opened(call.upstream, call.endpoint);
                let (input, head) = (Input::default(), ResponseHead::new());
                Ok(Channel { socket, incoming: Box::new(Incoming { input, head, reused: false, begun: false, opening: None }) })
            }
            Some(Err(_)) => Err(failed),
            None => Err(CallError::new(Failure::Connect, UpstreamOutcome::ConnectTimeout)),
        }
    }

    /// Queues the request; a failure shows when the answer is awaited.
    pub(super) fn start_send(&self, parts: impl Into<Parts>) {
        self.socket.start_send(parts);
    }
}

impl Incoming {
    /// Ready for the connection's next answer.
    fn renew(&mut self) {
        (self.input, self.reused, self.begun, self.opening) = (Input::default(), true, false, None);
    }

    /// Reads the final answer's head into `self.head`. Its spans lie in `self.input` until `head_len` bytes are consumed. Interim
    /// answers are passed over.
    pub(super) async fn read_head(&mut self, rt: &Rt, socket: &Socket, method: Method, by: Instant) -> Result<(), CallError> {
        let limits = HeadLimits::answers();
        let mut scanned = 0;
        let mut interim = 0;
        loop {
            if !self.input.is_empty() {
                match self.head.parse(self.input.bytes(), &mut scanned, &limits, method) {
                    Ok(Parsed::Partial) => {}
                    Ok(Parsed::Complete) if self.head.is_interim() => {
                        interim += 1;
                        if interim > crate::config::limits::INTERIM_ANSWERS_MAX {
                            return Err(CallError { reason: "too_many_interim_answers", ..BAD_ANSWER });
                        }
                        self.input.consume(rt, self.head.head_len);
                        continue;
                    }
                    Ok(Parsed::Complete) => return Ok(()),
                    Err(error) => return Err(CallError { reason: error.reason, ..BAD_ANSWER }),
                }
            }
            self.receive(rt, socket, by, UpstreamOutcome::FirstByteTimeout).await?;
        }
    }

    /// Waits for the next bytes.
    pub(super) async fn receive(&mut self, rt: &Rt, socket: &Socket, by: Instant, late: UpstreamOutcome) -> Result<(), CallError> {
        match self.receive_or_end(rt, socket, by, late).await? {
            true => Ok(()),
            false => Err(self.died()),
        }
    }

    /// As [`Incoming::receive`]; false when the server ended its side in good order.
    pub(super) async fn receive_or_end(&mut self, rt: &Rt, socket: &Socket, by: Instant, late: UpstreamOutcome) -> Result<bool, CallError> {
        match race(socket.recv(), rt.sleep_until(by)).await {
            Either::First(Ok(Some(lease))) => {
                self.begun = true;
                self.input.push(rt, lease);
                Ok(true)
            }
            Either::First(Ok(None)) => Ok(false),
            Either::First(Err(_)) => Err(self.died()),
            Either::Second(()) => Err(CallError::new(Failure::Timeout, late)),
        }
    }

    pub(super) fn died(&self) -> CallError {
        if self.reused && !self.begun {
            CallError::new(Failure::StaleConnection, UpstreamOutcome::StaleConnection)
        } else {
            CallError::new(Failure::Transport, UpstreamOutcome::Transport)
        }
    }
}

const BAD_ANSWER: CallError = CallError::new(Failure::BadAnswer, UpstreamOutcome::BadAnswer);
