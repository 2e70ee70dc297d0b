//! The requests clients send, and what the right answer to each item is: a vector that depends on the item and on everything that
//! makes a lane, so that a vector that went astray shows.

use crate::rng::{Rng, mix};
use crate::weather::Weather;
use bytes::Bytes;
use headrace::batch::{Job, LaneKey, Operation, Ticket, lane_hash};
use headrace::config::ModelId;
use headrace::json::scan_embeddings;
use headrace::policy::{Claim, Class};
use headrace::sys::{Instant, Span};
use std::fmt::Write;

/// One client's request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) variant: u64,
    /// The values of the items as the upstream will see them.
    pub(crate) items: Vec<String>,
    pub(crate) poisoned: bool,
    pub(crate) crashing: bool,
    pub(crate) message: Bytes,
    pub(crate) body: Span,
    pub(crate) credential: Bytes,
    pub(crate) mergeable: bool,
    pub(crate) claim: Claim,
}

pub(crate) const POISON: &str = "POISON";
pub(crate) const CRASH: &str = "CRASH";
pub(crate) const SEED: u64 = 42;

impl Request {
    pub(crate) fn new(id: u32, weather: &Weather, rng: &mut Rng) -> Request {
        let variant = rng.below(weather.variants);
        let tokens = variant % 3 == 2;
        let count = if rng.chance(weather.multi) { rng.between(1, weather.items_max) } else { 1 };
        let (mut poisoned, mut crashing) = (false, false);
        let items: Vec<String> = (0..count)
            .map(|index| {
                let bad = (rng.chance(weather.upstream.poison), rng.chance(weather.upstream.crash));
                poisoned |= bad.0;
                crashing |= bad.1;
                if tokens { token_item(id, index, bad) } else { text_item(id, index, bad, rng) }
            })
            .collect();
        let mergeable = !rng.chance(0.03);
        let input = match (mergeable, items.as_slice()) {
            (false, _) => format!("[{},{{\"image\":\"x\"}}]", items.join(",")),
            (true, [item]) if rng.chance(0.5) => item.clone(),
            (true, items) => format!("[{}]", items.join(if rng.chance(0.5) { "," } else { " , " })),
        };
        let body = format!("{{\"model\":\"m\",\"dimensions\":{variant}, \"input\": {input},\"user\":\"u{variant}\"}}");
        let credential = if variant == 1 { format!("Bearer k{variant}") } else { String::new() };
        let head = format!("content-type: application/json\r\nx-exchange: {id}\r\n\r\n");
        let span = Span::new(head.len()..head.len() + body.len());
        let message = Bytes::from(head + &body);
        // The first tenant floods.
        let claim = Claim { class: rng.pick(&Class::ALL), tenant: rng.pick(&[1, 1, 1, 1, 2, 3]) };
        Request { variant, items, poisoned, crashing, message, body: span, credential: Bytes::from(credential), mergeable, claim }
    }

    pub(crate) fn job(&self, ticket: Ticket, arrived: Instant, deadline: Instant) -> Job {
        let request = scan_embeddings(self.body.of(&self.message)).unwrap();
        assert_eq!(request.mergeable(), self.mergeable);
        let mut job = Job {
            ticket,
            generation: 7,
            model: ModelId(3),
            operation: Operation::Embeddings,
            claim: self.claim,
            hash: 0,
            credential: self.credential.clone(),
            message: self.message.clone(),
            body: self.body,
            request,
            arrived,
            deadline,
        };
        job.hash = lane_hash(SEED, &LaneKey { ..job.key() });
        job
    }
}

fn token_item(id: u32, index: u64, (poison, crash): (bool, bool)) -> String {
    let mark = if poison {
        666
    } else if crash {
        667
    } else {
        1
    };
    format!("[{id},{index},{mark}]")
}

fn text_item(id: u32, index: u64, (poison, crash): (bool, bool), rng: &mut Rng) -> String {
    let mut text = format!("\"e{id}i{index} ");
    if poison {
        text += POISON;
    }
    if crash {
        text += CRASH;
    }
    for _ in 0..rng.below(4) {
        text += rng.pick(&["word ", "\\n", "\\\"quoted\\\" ", "\\u00e9 ", "é]} ", "\\\\", ",\\\"input\\\":["]);
    }
    if rng.chance(0.02) {
        let _ = write!(text, "{}", "long ".repeat(1200));
    }
    text + "\""
}

/// Who sent this item, and which of theirs it is.
pub(crate) fn sender_of(item: &serde_json::Value) -> (u32, u64) {
    if let Some(text) = item.as_str() {
        let (id, rest) = text[1..].split_once('i').unwrap();
        let index: String = rest.chars().take_while(char::is_ascii_digit).collect();
        return (id.parse().unwrap(), index.parse().unwrap());
    }
    (item[0].as_u64().unwrap() as u32, item[1].as_u64().unwrap())
}

pub(crate) fn is_poison(item: &serde_json::Value) -> bool {
    item.as_str().is_some_and(|text| text.contains(POISON)) || item[2] == 666
}

pub(crate) fn is_crash(item: &serde_json::Value) -> bool {
    item.as_str().is_some_and(|text| text.contains(CRASH)) || item[2] == 667
}

/// The right vector, as its first number; the others follow from it.
pub(crate) fn vector_of(item: &serde_json::Value, variant: u64, credential: &[u8]) -> u64 {
    let mut hash = mix(variant + 1);
    for byte in item.to_string().bytes().chain(credential.iter().copied()) {
        hash = mix(hash ^ u64::from(byte));
    }
    hash >> 20
}

/// What the upstream bills for an item.
pub(crate) fn tokens_of(item: &serde_json::Value) -> u64 {
    item.to_string().len() as u64 * 3 / 7 + 1
}
