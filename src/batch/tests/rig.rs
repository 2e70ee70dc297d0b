//! A home with a hand-driven upstream.

use crate::batch::{Answer, Call, CallBody, CallOutcome, Event, Home, HomeLimits, Job, LaneRules, Operation, Outcome, Ticket, lane_hash};
use crate::config::{BatchingMode, ModelId};
use crate::json::scan_embeddings;
use crate::policy::{Claim, Class};
use crate::sys::{Instant, Span};
use bytes::Bytes;
use std::time::Duration;

pub(super) const RULES: LaneRules = LaneRules {
    mode: BatchingMode::Exclusive,
    max_items: 32,
    max_bytes: 1 << 20,
    max_delay: Duration::ZERO,
    in_flight: 1,
    max_queue_items: 4096,
    endpoints: 1,
    fair: false,
};

pub(super) struct Rig {
    pub(super) home: Home,
    pub(super) rules: LaneRules,
    pub(super) now: Instant,
    tickets: u32,
}

pub(super) fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

impl Rig {
    pub(super) fn new(rules: LaneRules) -> Rig {
        Rig::with(rules, HomeLimits::default())
    }

    pub(super) fn with(rules: LaneRules, limits: HomeLimits) -> Rig {
        Rig { home: Home::new(limits), rules, now: Instant::ZERO + ms(1000), tickets: 0 }
    }

    /// A client sends `body`; the number of its ticket.
    pub(super) fn sends(&mut self, body: &str) -> u32 {
        self.tickets += 1;
        let job = job(self.tickets, body, self.now);
        self.home.handle_job(job, &self.rules, self.now);
        self.tickets
    }

    /// A client sends `input` in the usual body.
    pub(super) fn asks(&mut self, input: &str) -> u32 {
        self.sends(&body(input))
    }

    /// The same, of a class and a tenant.
    pub(super) fn claims(&mut self, class: Class, tenant: u64, input: &str) -> u32 {
        self.tickets += 1;
        let job = Job { claim: Claim { class, tenant }, ..job(self.tickets, &body(input), self.now) };
        self.home.handle_job(job, &self.rules, self.now);
        self.tickets
    }

    pub(super) fn leaves(&mut self, ticket: u32) {
        self.home.handle_cancel(self::ticket(ticket), self.now);
    }

    pub(super) fn after(&mut self, time: Duration) {
        self.now = self.now + time;
        self.home.handle_timeout(self.now);
    }

    pub(super) fn call(&mut self) -> Option<Call> {
        self.home.poll_call(self.now)
    }

    pub(super) fn no_call(&mut self) {
        assert!(self.call().is_none());
    }

    /// The upstream answers as it should: see [`embed`].
    pub(super) fn served(&mut self, call: &Call) {
        let body = embed(&body_of(call));
        self.answered(call, 200, &body);
    }

    pub(super) fn answered(&mut self, call: &Call, status: u16, body: &str) {
        let fields = Bytes::from_static(b"content-type: application/json\r\nset-cookie: a=b\r\n");
        let outcome = CallOutcome::Answered { status, fields, body: Bytes::copy_from_slice(body.as_bytes()), retry_after: None };
        self.home.handle_outcome(call.id, outcome, self.now);
    }

    pub(super) fn outcome(&mut self, call: &Call, outcome: CallOutcome) {
        self.home.handle_outcome(call.id, outcome, self.now);
    }

    /// Ticket numbers and outcomes of all answers that are out, in order of the tickets.
    pub(super) fn answers(&mut self) -> Vec<(u32, Outcome)> {
        let mut all: Vec<_> = self.full_answers().into_iter().map(|answer| (answer.ticket.slot, answer.outcome)).collect();
        all.sort_by_key(|(ticket, _)| *ticket);
        all
    }

    pub(super) fn full_answers(&mut self) -> Vec<Answer> {
        std::iter::from_fn(|| self.home.poll_answer()).collect()
    }

    pub(super) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.home.poll_event()).collect()
    }

    /// Serves every call until there is none, by `upstream`; the number of calls.
    pub(super) fn run(&mut self, upstream: impl Fn(&str) -> (u16, String)) -> u32 {
        let mut calls = 0;
        while let Some(call) = self.call().or_else(|| {
            // After a merged call the next batch may be held for a millisecond.
            self.after(ms(1));
            self.call()
        }) {
            calls += 1;
            self.after(ms(5));
            let (status, answer) = upstream(&body_of(&call));
            self.answered(&call, status, &answer);
        }
        calls
    }

    pub(super) fn is_at_rest(&mut self) {
        let left = (self.home.jobs(), self.home.queued_items(), self.home.calls_in_flight(), self.home.held_bytes());
        assert_eq!(left, (0, 0, 0, 0));
        assert_eq!(self.home.next_timeout(), None);
    }
}

pub(super) fn body(input: &str) -> String {
    format!("{{\"model\":\"m\",\"input\":{input},\"user\":1}}")
}

pub(super) fn ticket(slot: u32) -> Ticket {
    Ticket { shard: 0, slot, generation: 0 }
}

pub(super) fn job(slot: u32, body: &str, now: Instant) -> Job {
    let head = "content-type: application/json\r\n\r\n";
    let request = scan_embeddings(body.as_bytes()).unwrap();
    let mut job = Job {
        ticket: ticket(slot),
        generation: 1,
        model: ModelId(0),
        operation: Operation::Embeddings,
        claim: Claim::default(),
        hash: 0,
        credential: Bytes::new(),
        message: Bytes::from(format!("{head}{body}")),
        body: Span::new(head.len()..head.len() + body.len()),
        request,
        arrived: now,
        deadline: now + ms(60_000),
    };
    job.hash = lane_hash(1, &job.key());
    job
}

/// The body the upstream reads.
pub(super) fn body_of(call: &Call) -> String {
    let text = match &call.body {
        CallBody::Alone { message } => message.to_vec(),
        CallBody::Merged { body, .. } => body.concat(),
    };
    let text = String::from_utf8(text).unwrap();
    text.split_once("\r\n\r\n").map_or(text.clone(), |(_, body)| body.to_owned())
}

pub(super) fn items_of(body: &str) -> Vec<serde_json::Value> {
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    match &body["input"] {
        serde_json::Value::Array(all) if !all[0].is_number() => all.clone(),
        one => vec![one.clone()],
    }
}

/// A right answer: each item's vector is the item itself, each text costs as many tokens as it has bytes, a list of tokens as many as it
/// has.
pub(super) fn embed(body: &str) -> String {
    let items = items_of(body);
    let tokens: usize = items.iter().map(cost_of).sum();
    let data: Vec<String> = items
        .iter()
        .enumerate()
        .map(|(index, item)| format!("{{\"object\":\"embedding\",\"index\":{index},\"embedding\":{item}}}"))
        .collect();
    format!(
        "{{\"object\":\"list\",\"data\":[{}],\"model\":\"m\",\"usage\":{{\"prompt_tokens\":{tokens},\"total_tokens\":{tokens}}}}}",
        data.join(",")
    )
}

fn cost_of(item: &serde_json::Value) -> usize {
    match item {
        serde_json::Value::Array(tokens) => tokens.len(),
        text => text.to_string().len() - 2,
    }
}

/// The text of an answer that is done with `status`.
pub(super) fn text(outcome: &Outcome, status: u16) -> String {
    match outcome {
        Outcome::Done { status: got, body, .. } => {
            assert_eq!(*got, status);
            String::from_utf8(body.concat()).unwrap()
        }
        Outcome::Failed(failure) => panic!("failed: {failure:?}"),
    }
}
