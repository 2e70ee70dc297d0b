//! A model server as a home sees it: takes calls, computes them one at a time (or a few at once), and fails as the weather has it.

use crate::requests::{is_crash, is_poison, sender_of, tokens_of, vector_of};
use crate::rng::Rng;
use crate::weather::{Told, UpstreamWeather};
use bytes::Bytes;
use headrace::batch::{Call, CallBody, CallOutcome};
use headrace::sys::Instant;
use serde_json::Value;
use std::fmt::Write;
use std::time::Duration;

/// One endpoint's GPU: when each of its places is free again.
#[derive(Clone, Debug)]
pub(crate) struct Gpu {
    free_at: Vec<Instant>,
}

impl Gpu {
    pub(crate) fn new(places: usize) -> Gpu {
        Gpu { free_at: vec![Instant::ZERO; places] }
    }

    fn compute(&mut self, time: Duration, now: Instant) -> Instant {
        let place = self.free_at.iter_mut().min().unwrap();
        *place = (*place).max(now) + time;
        *place
    }
}

/// A call as the upstream reads it.
#[derive(Clone, Debug)]
pub(crate) struct ReadCall {
    pub(crate) items: Vec<Value>,
    pub(crate) variant: u64,
    pub(crate) credential: Vec<u8>,
    pub(crate) body_bytes: usize,
    pub(crate) mergeable: bool,
}

impl ReadCall {
    pub(crate) fn new(call: &Call, credential_of: impl Fn(u32) -> Vec<u8>) -> Result<ReadCall, String> {
        let text: Vec<u8> = match &call.body {
            CallBody::Alone { message } => {
                let at = message.windows(4).position(|four| four == b"\r\n\r\n").ok_or("a message without an empty line")?;
                message[at + 4..].to_vec()
            }
            CallBody::Merged { body, len, .. } => {
                let text = body.concat();
                if text.len() != *len {
                    return Err(format!("a merged body of {} bytes claims {len}", text.len()));
                }
                text
            }
        };
        let body: Value = serde_json::from_slice(&text).map_err(|error| format!("the upstream got no JSON: {error}"))?;
        let variant = body["dimensions"].as_u64().ok_or("no dimensions")?;
        if body["user"] != format!("u{variant}") || body["model"] != "m" {
            return Err("fields of two lanes in one body".to_owned());
        }
        let input = &body["input"];
        let mut items = match input {
            Value::String(_) => vec![input.clone()],
            Value::Array(all) if all.first().is_some_and(Value::is_number) => vec![input.clone()],
            Value::Array(all) => all.clone(),
            _ => return Err(format!("input {input}")),
        };
        let mergeable = !items.last().is_some_and(Value::is_object);
        items.retain(|item| !item.is_object());
        if items.is_empty() {
            return Err("a call without items".to_owned());
        }
        let credential = match &call.body {
            CallBody::Alone { .. } => credential_of(sender_of(&items[0]).0),
            CallBody::Merged { credential, .. } => credential.to_vec(),
        };
        Ok(ReadCall { items, variant, credential, body_bytes: text.len(), mergeable })
    }

    /// Who is in the call, each once, in order.
    pub(crate) fn senders(&self) -> Vec<u32> {
        let mut senders: Vec<u32> = self.items.iter().map(|item| sender_of(item).0).collect();
        senders.dedup();
        senders
    }
}

/// When what comes of a call, and the usage it is billed with if it was computed and told.
pub(crate) struct Fate {
    pub(crate) at: Instant,
    pub(crate) outcome: CallOutcome,
    pub(crate) bill: Option<u64>,
    pub(crate) wrong: bool,
}

pub(crate) fn fate(weather: &UpstreamWeather, gpu: &mut Gpu, serial: u32, read: &ReadCall, rng: &mut Rng, now: Instant) -> Fate {
    let way = Duration::from_micros(rng.between(30, 200));
    let soon = now + way * 2;
    let plain = |at, outcome| Fate { at, outcome, bill: None, wrong: false };
    if rng.chance(weather.unsent) {
        return plain(now + way, CallOutcome::NotSent);
    }
    if rng.chance(weather.refuse) {
        let retry_after = rng.chance(0.5).then(|| Duration::from_millis(rng.between(1, 400)));
        return plain(soon, answered(rng.pick(&[429, 503]), error_body(serial, "overloaded", read), retry_after));
    }
    if weather.unknown_model {
        return plain(soon, answered(404, error_body(serial, "no such model", read), None));
    }
    let count = read.items.len() as u64;
    if let Some((limit, told)) = weather.item_limit
        && count > limit
    {
        let (status, text) = match told {
            Told::Tei => (422, format!("batch size {count} > maximum allowed batch size {limit}")),
            Told::Status413 => (413, "payload too large".to_owned()),
            Told::Triton => (400, format!("inference request batch-size must be <= {limit} for 'gpu'")),
        };
        return plain(soon, answered(status, error_body(serial, &text, read), None));
    }
    let noise = 1.0 + weather.noise * (rng.below(2001) as f64 / 1000.0 - 1.0);
    let done = gpu.compute((weather.call_cost + weather.item_cost * count as u32).mul_f64(noise), now + way) + way;
    if rng.chance(weather.silent) {
        return plain(now + Duration::from_millis(500), CallOutcome::TimedOut);
    }
    if read.items.iter().any(is_crash) || rng.chance(weather.broken) {
        return plain(done, CallOutcome::Broken);
    }
    if rng.chance(weather.too_large) {
        return plain(done, CallOutcome::TooLarge);
    }
    if let Some(bad) = read.items.iter().position(is_poison) {
        let text = if weather.hints {
            format!("bad\",\"detail\":[{{\"loc\":[\"body\",\"input\",{bad}]}}],\"x\":\"")
        } else {
            "bad item".to_owned()
        };
        return plain(soon, answered(rng.pick(&[400, 422, 500]), error_body(serial, &text, read), None));
    }
    if rng.chance(weather.error) {
        return plain(done, answered(500, error_body(serial, "boom", read), None));
    }
    let wrong = count > 1 && rng.chance(weather.wrong);
    let (body, bill) = answer_body(serial, read, weather.shuffles, wrong, rng);
    Fate { at: done, outcome: answered(200, body, None), bill: Some(bill), wrong }
}

fn answered(status: u16, body: String, retry_after: Option<Duration>) -> CallOutcome {
    let fields = Bytes::from_static(b"content-type: application/json\r\nset-cookie: one=1\r\nx-request-id: 9\r\n");
    CallOutcome::Answered { status, fields, body: Bytes::from(body), retry_after }
}

/// Quotes everything it was sent, as FastAPI does.
fn error_body(serial: u32, text: &str, read: &ReadCall) -> String {
    format!("{{\"error\":\"{text}\",\"call\":{serial},\"input\":{}}}", Value::Array(read.items.clone()))
}

fn answer_body(serial: u32, read: &ReadCall, shuffles: bool, wrong: bool, rng: &mut Rng) -> (String, u64) {
    let mut order: Vec<usize> = (0..read.items.len()).collect();
    if shuffles {
        for place in (1..order.len()).rev() {
            order.swap(place, rng.below(place as u64 + 1) as usize);
        }
    }
    let fault = if wrong { rng.between(1, 3) } else { 0 };
    if fault == 1 {
        order.truncate(1);
    }
    let mut data = String::new();
    for (place, index) in order.iter().enumerate() {
        let number = vector_of(&read.items[*index], read.variant, &read.credential);
        let index = if fault == 2 && place == 0 { order[order.len() - 1] } else { *index };
        let separator = if place > 0 { ", " } else { "" };
        let _ = match read.variant % 2 {
            0 => write!(data, "{separator}{{\"object\":\"embedding\",\"index\":{index},\"embedding\":[{number}.5,-1e-3]}}"),
            _ => write!(data, "{separator}{{\"embedding\":\"{number}==\", \"extra\":{{\"a\":[1,{{}}]}}, \"index\": {index} }}"),
        };
    }
    let bill: u64 = read.items.iter().map(tokens_of).sum();
    let usage = format!(
        "\"usage\":{{\"prompt_tokens\":{bill},\"total_tokens\":{bill},\"cost\":0.{bill:06},\"tier\":\"x\",\"more\":{{\"n\":{}}}}}",
        bill * 2
    );
    let data = if fault == 3 { format!("\"data\":\"{bill}\"") } else { format!("\"data\":[{data}]") };
    let body = if rng.chance(0.5) {
        format!("{{\"object\":\"list\",{data},\"model\":\"m\",{usage},\"call\":{serial}}}")
    } else {
        format!("{{ \"call\":{serial}, {usage}, \"note\":\"data\\\":[\", {data} }}\n")
    };
    (body, bill)
}
