//! The promises of DESIGN section 4, checked at every step against what clients, homes and upstreams saw.

use crate::requests::{Request, sender_of, vector_of};
use crate::upstream::ReadCall;
use crate::weather::Weather;
use bytes::Bytes;
use headrace::batch::{Answer, Call, CallBody, CallId, CallOutcome, Event, Failure, Home, Outcome, Ticket};
use headrace::config::BatchingMode;
use headrace::sys::Instant;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

pub(crate) struct Audit {
    weather: Weather,
    pub(crate) exchanges: Vec<Exchange>,
    by_ticket: HashMap<Ticket, u32>,
    pub(crate) calls: Vec<CallRecord>,
    in_flight: BTreeMap<u32, CallId>,
    /// Until when a lane may hold back although nothing is in flight, because the upstream asked for it.
    troubled: HashMap<(usize, u64), Instant>,
    /// When the last merged call of a lane was answered well: for a millisecond after it the lane may hold its next batch.
    regrouping: HashMap<(usize, u64), Instant>,
    billed: u64,
    told: u64,
    pub(crate) seen: Seen,
}

pub(crate) struct Exchange {
    pub(crate) request: Request,
    pub(crate) ticket: Ticket,
    pub(crate) home: usize,
    deadline: Instant,
    client: Client,
    held: bool,
    crossed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Client {
    Waits,
    Left,
    Answered,
}

pub(crate) struct CallRecord {
    serial: u32,
    home: usize,
    id: CallId,
    endpoint: u32,
    variant: u64,
    mergeable: bool,
    senders: Vec<u32>,
    /// Items of each sender.
    counts: HashMap<u32, usize>,
    alone: bool,
    bill: Option<u64>,
    answered: bool,
    /// What members who were served whole from it were told they owe, and how many they are.
    shared: [u64; 3],
    served: usize,
}

impl CallRecord {
    pub(crate) fn new(serial: u32, home: usize, call: &Call, read: &ReadCall, bill: Option<u64>) -> CallRecord {
        let mut counts = HashMap::new();
        for item in &read.items {
            *counts.entry(sender_of(item).0).or_default() += 1;
        }
        CallRecord {
            serial,
            home,
            id: call.id,
            endpoint: call.endpoint,
            variant: read.variant,
            mergeable: read.mergeable,
            senders: read.senders(),
            counts,
            alone: matches!(call.body, CallBody::Alone { .. }),
            bill,
            answered: false,
            shared: [0; 3],
            served: 0,
        }
    }
}

fn ensure(holds: bool, wrong: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(wrong()) }
}

impl Audit {
    pub(crate) fn new(weather: &Weather) -> Audit {
        Audit {
            weather: weather.clone(),
            exchanges: Vec::new(),
            by_ticket: HashMap::new(),
            calls: Vec::new(),
            in_flight: BTreeMap::new(),
            troubled: HashMap::new(),
            regrouping: HashMap::new(),
            billed: 0,
            told: 0,
            seen: Seen::default(),
        }
    }

    pub(crate) fn client_came(&mut self, request: Request, ticket: Ticket, home: usize, deadline: Instant) {
        self.by_ticket.insert(ticket, self.exchanges.len() as u32);
        self.exchanges.push(Exchange { request, ticket, home, deadline, client: Client::Waits, held: false, crossed: false });
    }

    pub(crate) fn sender_of(&self, ticket: Ticket) -> u32 {
        self.by_ticket[&ticket]
    }

    pub(crate) fn client_left(&mut self, id: u32) {
        self.exchanges[id as usize].client = Client::Left;
    }

    pub(crate) fn job_at_home(&mut self, id: u32) {
        self.exchanges[id as usize].held = true;
    }

    pub(crate) fn cancel_at_home(&mut self, id: u32) {
        self.exchanges[id as usize].held = false;
    }

    pub(crate) fn event(&mut self, event: &Event) {
        match event {
            Event::BatchLeft { reason, jobs, .. } => {
                self.seen.note(reason.name());
                if *jobs > 1 {
                    self.seen.note("merged");
                }
            }
            Event::JobLeft { .. } => {}
            Event::Poisoned { .. } => self.seen.note("poisoned"),
            Event::WentSolo { .. } => self.seen.note("went_solo"),
            Event::LearnedItems { .. } => self.seen.note("learned_items"),
            Event::CancelledQueued => self.seen.note("cancelled_queued"),
            Event::CancelledSent => self.seen.note("cancelled_sent"),
            Event::Stale => self.seen.note("stale"),
            Event::LanesFull => self.seen.note("lanes_full"),
        }
    }

    pub(crate) fn call_started(&mut self, record: CallRecord, message: Option<&Bytes>, read: &ReadCall) -> Result<(), String> {
        let rules = &self.weather.rules;
        for id in &record.senders {
            let exchange = &self.exchanges[*id as usize];
            ensure(exchange.held, || format!("exchange {id} has ended, yet it is in call {}", record.serial))?;
            ensure(exchange.home == record.home, || format!("exchange {id} is called from another home"))?;
            ensure(exchange.request.credential == read.credential, || format!("exchange {id} travels with another's credential"))?;
            ensure(exchange.request.variant == read.variant, || format!("exchange {id} is in another lane's call"))?;
        }
        if let Some(message) = message {
            let own = record.senders.len() == 1 && *message == self.exchanges[record.senders[0] as usize].request.message;
            ensure(own, || format!("call {} is alone but not its client's own message", record.serial))?;
            ensure(record.counts[&record.senders[0]] == self.exchanges[record.senders[0] as usize].request.items.len(), || {
                "half a job alone".to_owned()
            })?;
            self.seen.note("alone");
        } else {
            let small = read.items.len() <= rules.max_items as usize;
            ensure(small, || format!("a merged call of {} items, at most {} are allowed", read.items.len(), rules.max_items))?;
            let light = read.body_bytes as u64 <= rules.max_bytes || read.items.len() == 1 || record.senders.len() == 1;
            ensure(light, || format!("a merged call of {} bytes", read.body_bytes))?;
        }
        self.in_flight.insert(record.serial, record.id);
        self.calls.push(record);
        self.check_slots()
    }

    /// Calls in flight per lane and endpoint, where nothing excuses more than the rules allow.
    fn check_slots(&self) -> Result<(), String> {
        if !self.weather.is_calm() || self.weather.rules.mode == BatchingMode::Off || self.weather.limits.max_lanes == 1 {
            return Ok(());
        }
        let mut counts: HashMap<_, u32> = HashMap::new();
        for serial in self.in_flight.keys() {
            let call = &self.calls[*serial as usize];
            if call.mergeable {
                *counts.entry((call.home, call.variant, call.endpoint)).or_default() += 1;
            }
        }
        let most = counts.values().max().copied().unwrap_or(0);
        ensure(most <= self.weather.rules.in_flight, || format!("{most} calls in flight, {} are allowed", self.weather.rules.in_flight))
    }

    pub(crate) fn call_aborted(&mut self, home: usize, id: CallId) -> Result<u32, String> {
        let serial =
            self.in_flight.iter().find(|(serial, of)| **of == id && self.calls[**serial as usize].home == home).map(|(serial, _)| *serial);
        let serial = serial.ok_or_else(|| format!("{id:?} is aborted but not in flight"))?;
        self.in_flight.remove(&serial);
        self.seen.note("aborted");
        let wanted = self.calls[serial as usize].senders.iter().find(|id| self.exchanges[**id as usize].held);
        // A job that starts afresh after a wrong answer leaves its other calls.
        ensure(wanted.is_none() || self.weather.upstream.wrong > 0.0, || {
            format!("call {serial} is aborted though {wanted:?} waits for it")
        })?;
        Ok(serial)
    }

    pub(crate) fn outcome(&mut self, serial: u32, outcome: &CallOutcome, fault: bool, now: Instant) {
        if self.in_flight.remove(&serial).is_none() {
            return;
        }
        let call = &mut self.calls[serial as usize];
        let trouble = match outcome {
            CallOutcome::Answered { status, .. } => matches!(status, 429 | 503),
            CallOutcome::NotSent => true,
            _ => false,
        };
        if trouble {
            self.troubled.insert((call.home, call.variant), now + Duration::from_secs(6));
        }
        if fault {
            self.seen.note("wrong_answer");
            return;
        }
        call.answered = true;
        if call.senders.len() > 1 {
            self.regrouping.insert((call.home, call.variant), now + Duration::from_millis(1));
        }
        self.billed += call.bill.unwrap_or(0);
    }

    /// The home has ended a job; whoever was to hear of it may have left meanwhile.
    pub(crate) fn home_answered(&mut self, answer: &Answer, now: Instant) -> Result<(), String> {
        let id = self.by_ticket.get(&answer.ticket).copied().ok_or("an answer for a ticket nobody had")?;
        let exchange = &mut self.exchanges[id as usize];
        // A job that ended in the turn in which its client left: the answer is on its way and will find nobody.
        let crossed = exchange.client == Client::Left && !std::mem::replace(&mut exchange.crossed, true);
        ensure(exchange.held || crossed, || format!("exchange {id} ends twice"))?;
        exchange.held = false;
        let late = now.since(exchange.deadline);
        ensure(late < Duration::from_millis(1), || format!("exchange {id} ends {late:?} after its deadline"))?;
        // With minutes to go everyone is answered long before; who is not was forgotten.
        let expired = matches!(answer.outcome, Outcome::Failed(Failure::DeadlineExceeded));
        ensure(!expired || self.weather.timeout.0 < Duration::from_secs(1), || format!("exchange {id} waited in vain until its deadline"))?;
        Ok(())
    }

    pub(crate) fn delivered(&mut self, id: Option<u32>, answer: &Answer, now: Instant) -> Result<(), String> {
        let known = self.by_ticket[&answer.ticket];
        let Some(id) = id else {
            let left = self.exchanges[known as usize].client == Client::Left;
            self.seen.note("answer_for_a_leaver");
            return ensure(left, || format!("exchange {known} is answered twice"));
        };
        ensure(id == known, || format!("exchange {id} gets the answer of {known}"))?;
        ensure(self.exchanges[id as usize].client == Client::Waits, || format!("exchange {id} is answered twice"))?;
        self.exchanges[id as usize].client = Client::Answered;
        match &answer.outcome {
            Outcome::Done { status: 200, fields, body } => self.check_answer(id, fields, &body.concat()),
            Outcome::Done { status, body, .. } => self.check_error(id, *status, &body.concat()),
            Outcome::Failed(failure) => self.check_failure(id, *failure, now),
        }
    }

    /// The right vectors in the right order, from a call it was in, with nothing of anyone else.
    fn check_answer(&mut self, id: u32, fields: &Bytes, body: &[u8]) -> Result<(), String> {
        let body: Value =
            serde_json::from_slice(body).map_err(|error| format!("exchange {id} got {error}: {}", String::from_utf8_lossy(body)))?;
        let request = &self.exchanges[id as usize].request;
        let serial = body["call"].as_u64().ok_or("an answer from no call")?;
        let call = &mut self.calls[serial as usize];
        ensure(call.answered || call.alone, || format!("exchange {id} has an answer of call {serial}, which has none"))?;
        let count = *call.counts.get(&id).ok_or_else(|| format!("exchange {id} has the answer of call {serial}, which is not its own"))?;
        let data = body["data"].as_array().ok_or("no data");
        let Ok(data) = data else { return ensure(call.alone, || "no data".to_owned()) };
        if !(call.alone && self.weather.upstream.wrong > 0.0) {
            ensure(data.len() == request.items.len(), || {
                format!("exchange {id} sent {} items and got {}", request.items.len(), data.len())
            })?;
            let mut seen = vec![false; data.len()];
            for (place, element) in data.iter().enumerate() {
                let index = element["index"].as_u64().unwrap() as usize;
                ensure(call.alone || index == place, || format!("exchange {id}: index {index} at place {place}"))?;
                let item: Value = serde_json::from_str(&request.items[index]).unwrap();
                let right = vector_of(&item, request.variant, &request.credential);
                let got = match &element["embedding"] {
                    Value::String(text) => text.trim_end_matches('=').parse().unwrap(),
                    other => other[0].as_f64().unwrap().floor() as u64,
                };
                ensure(got == right, || format!("exchange {id} got a vector that is not its own at {index}"))?;
                ensure(!std::mem::replace(&mut seen[index], true), || format!("exchange {id} got index {index} twice"))?;
            }
        }
        let cookies = memchr::memmem::find(fields, b"set-cookie").is_some();
        ensure(call.alone || !cookies, || "a cookie of a merged call".to_owned())?;
        let usage = &body["usage"];
        let tokens = usage["prompt_tokens"].as_u64().ok_or("no usage")?;
        let cost = (usage["cost"].as_f64().ok_or("usage lost its cost")? * 1e6).round() as u64;
        self.told += tokens;
        ensure(usage["tier"] == "x", || "usage lost a field".to_owned())?;
        if count < request.items.len() {
            self.seen.note("gathered");
            return Ok(());
        }
        let more = usage["more"]["n"].as_u64().ok_or("usage lost a number")?;
        for (sum, share) in call.shared.iter_mut().zip([tokens, more, cost]) {
            *sum += share;
        }
        call.served += 1;
        let (bill, shared) = (call.bill.unwrap_or(0), call.shared);
        let all = call.served == call.senders.len();
        ensure(!all || shared == [bill, bill * 2, bill], || format!("call {serial} was billed {bill}, its members were told {shared:?}"))
    }

    /// An error of the upstream is the client's own: from a call it was alone in, and for a reason.
    fn check_error(&mut self, id: u32, status: u16, body: &[u8]) -> Result<(), String> {
        let body: Value = serde_json::from_slice(body).map_err(|error| format!("exchange {id} got {error}"))?;
        let serial = body["call"].as_u64().ok_or("an error from no call")?;
        let call = &self.calls[serial as usize];
        ensure(call.senders == [id], || format!("exchange {id} reads what {:?} sent, in the error of call {serial}", call.senders))?;
        let (up, request) = (&self.weather.upstream, &self.exchanges[id as usize].request);
        let told_off = (!call.mergeable
            || self.weather.rules.mode == BatchingMode::Off
            || self.weather.limits.max_lanes == 1
            || up.wrong > 0.0
            || up.poison > 0.0
            || up.error > 0.0)
            && up.item_limit.is_some();
        let excused = match status {
            404 => up.unknown_model,
            429 | 503 => up.refuse > 0.0,
            500 => request.poisoned || up.error > 0.0,
            _ => request.poisoned || told_off,
        };
        if request.poisoned {
            self.seen.note("culprit_told");
        }
        ensure(excused, || format!("exchange {id} did nothing wrong and got {status}"))
    }

    fn check_failure(&mut self, id: u32, failure: Failure, now: Instant) -> Result<(), String> {
        self.seen.note(failure.reason());
        let (up, exchange, limits) = (&self.weather.upstream, &self.exchanges[id as usize], &self.weather.limits);
        let excused = match failure {
            Failure::UpstreamUnreachable => up.unsent > 0.0,
            Failure::UpstreamBroken => up.broken > 0.0 || exchange.request.crashing,
            Failure::UpstreamTimeout => up.silent > 0.0,
            Failure::DeadlineExceeded => now >= exchange.deadline,
            Failure::QueueFull { .. } => limits.max_jobs < 100 || limits.max_bytes < 1 << 20 || self.weather.rules.max_queue_items < 100,
            Failure::TenantShare { .. } => self.weather.rules.fair && now < exchange.deadline,
            // It is told before its deadline, or it would be an answer too late.
            Failure::PredictedLate { .. } => now < exchange.deadline,
            Failure::Overloaded { .. } => up.refuse > 0.0,
            Failure::AnswerTooLarge => up.too_large > 0.0,
        };
        ensure(excused && !self.weather.is_calm(), || format!("exchange {id} failed with {failure:?} for no reason"))
    }

    pub(crate) fn turn_ended(&mut self, shard: usize, home: &Home, now: Instant) -> Result<(), String> {
        let limits = &self.weather.limits;
        ensure(home.lanes() <= limits.max_lanes as usize, || "too many lanes".to_owned())?;
        ensure(home.jobs() <= limits.max_jobs as usize, || "too many jobs".to_owned())?;
        let held = self.exchanges.iter().filter(|exchange| exchange.held && exchange.home == shard);
        ensure(held.count() == home.jobs(), || format!("the home holds {} jobs", home.jobs()))?;
        let mut busy: Vec<(u64, u32)> = Vec::new();
        for serial in self.in_flight.keys() {
            let call = &self.calls[*serial as usize];
            if call.home != shard {
                continue;
            }
            let wanted = call.senders.iter().any(|id| self.exchanges[*id as usize].held);
            ensure(wanted, || format!("nobody waits for call {serial} and it is not aborted"))?;
            busy.extend(call.senders.iter().map(|id| (call.variant, *id)));
        }
        for (exchange, id) in self.exchanges.iter().zip(0u32..) {
            if !exchange.held || exchange.home != shard {
                continue;
            }
            let sent =
                busy.iter().any(|(variant, sender)| *sender == id || (*variant == exchange.request.variant && exchange.request.mergeable));
            let lane = (shard, exchange.request.variant);
            let until = self.troubled.get(&lane).max(self.regrouping.get(&lane));
            let excused = until.is_some_and(|until| *until > now);
            ensure(sent || excused, || format!("exchange {id} waits though nothing of its lane is in flight"))?;
        }
        Ok(())
    }

    pub(crate) fn at_rest(&mut self, home: &mut Home, tickets: usize) -> Result<(), String> {
        let left = (home.jobs(), home.queued_items(), home.calls_in_flight(), home.held_bytes(), tickets);
        ensure(left == (0, 0, 0, 0, 0), || format!("at rest there are still jobs, items, calls, bytes, tickets: {left:?}"))?;
        ensure(home.next_timeout().is_none(), || "a timer at rest".to_owned())
    }

    pub(crate) fn in_the_end(&mut self) -> Result<(), String> {
        let waiting = self.exchanges.iter().position(|exchange| exchange.client == Client::Waits);
        ensure(waiting.is_none(), || format!("exchange {waiting:?} never ended"))?;
        ensure(self.told <= self.billed || self.weather.upstream.wrong > 0.0, || format!("billed {}, told {}", self.billed, self.told))?;
        if self.weather.is_calm() {
            self.seen.note("calm");
            ensure(self.told == self.billed, || format!("billed {}, told {}", self.billed, self.told))?;
        }
        Ok(())
    }
}

/// How often each thing was seen to happen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen(BTreeMap<&'static str, u64>);

impl Seen {
    fn note(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Seen) {
        for (what, count) in &other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }

    /// A simulation in which something never happens says nothing about it.
    pub(crate) fn assert_everything_happened(&self) {
        let missing: Vec<_> = SOMETIMES.iter().filter(|what| !self.0.contains_key(**what)).collect();
        assert!(missing.is_empty(), "never happened in all these seeds: {missing:?}; seen: {self:?}");
    }
}

const SOMETIMES: [&str; 30] = [
    "alone",
    "merged",
    "calm",
    "gathered",
    "idle",
    "full",
    "jit",
    "slot",
    "delay",
    "isolation",
    "solo",
    "poisoned",
    "culprit_told",
    "went_solo",
    "wrong_answer",
    "learned_items",
    "cancelled_queued",
    "cancelled_sent",
    "aborted",
    "answer_for_a_leaver",
    "stale",
    "lanes_full",
    "queue_full",
    "tenant_share",
    "upstream_unreachable",
    "upstream_broken",
    "upstream_timeout",
    "deadline_exceeded",
    "upstream_overloaded",
    "answer_too_large",
];
