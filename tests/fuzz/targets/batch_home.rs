//! A home under a script: bytes are jobs, leaving clients, passing time, and what the upstream makes of calls. Held at every step:
//! an answer comes once and only to who asked and still waits, it holds nobody else's items, and at the end nothing is left.
#![cfg_attr(fuzzing, no_main)]

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use headrace::batch::{Call, CallBody, CallOutcome, Home, HomeLimits, Job, LaneRules, Operation, Outcome, Ticket, lane_hash};
use headrace::config::{BatchingMode, ModelId};
use headrace::json::{AnswerShape, scan_answer, scan_embeddings};
use headrace::policy::{Claim, Class};
use headrace::sys::{Instant, Span};
use headrace_fuzz::kind;

headrace_fuzz::main!("batch_home", target, &[]);

/// The world of one script.
struct World<'a> {
    script: std::slice::Iter<'a, u8>,
    home: Home,
    rules: LaneRules,
    now: Instant,
    /// Who waits, with the items that are theirs.
    waiting: HashMap<Ticket, Vec<String>>,
    asked: Vec<Ticket>,
    /// Who was in a call that got a wrong 200: alone, they are given it as it is.
    lied_to: HashSet<Ticket>,
    calls: Vec<Call>,
    ended: Vec<Call>,
    /// What happened, as a set: the kind of this run.
    seen: HashSet<String>,
}

fn target(data: &[u8]) -> u64 {
    let mut script = data.iter();
    let mut byte = || script.next().copied().unwrap_or(0);
    let (limits, rules) = (byte(), byte());
    let modes = [BatchingMode::Exclusive, BatchingMode::Batching, BatchingMode::Exclusive, BatchingMode::Off];
    let rules = LaneRules {
        mode: modes[usize::from(rules & 3)],
        max_items: [32, 4, 2, 1][usize::from(rules >> 2 & 3)],
        max_bytes: if rules & 16 == 0 { 1 << 20 } else { 200 },
        max_delay: if rules & 32 == 0 { Duration::ZERO } else { Duration::from_millis(5) },
        in_flight: 1 + u32::from(rules >> 6 & 1),
        max_queue_items: if limits & 1 == 0 { 4096 } else { 6 },
        endpoints: 1 + u32::from(rules >> 7),
        fair: limits & 16 != 0,
    };
    let limits = HomeLimits {
        seed: 7,
        max_lanes: if limits & 2 == 0 { 64 } else { 2 },
        max_jobs: if limits & 4 == 0 { 256 } else { 5 },
        max_bytes: if limits & 8 == 0 { 1 << 20 } else { 900 },
        max_key_bytes: if limits & 16 == 0 { 4096 } else { 20 },
        planted_bug: None,
    };
    let home = Home::new(limits);
    let now = Instant::ZERO + Duration::from_secs(1);
    let mut world = World {
        script,
        home,
        rules,
        now,
        waiting: HashMap::new(),
        asked: Vec::new(),
        lied_to: HashSet::new(),
        calls: Vec::new(),
        ended: Vec::new(),
        seen: HashSet::new(),
    };
    for _ in 0..STEPS_MAX {
        let Some(action) = world.script.next().copied() else { break };
        world.act(action);
        world.look();
    }
    world.finish();
    let mut seen: Vec<String> = world.seen.into_iter().collect();
    seen.sort();
    kind(seen)
}

impl World<'_> {
    fn byte(&mut self) -> u8 {
        self.script.next().copied().unwrap_or(0)
    }

    fn act(&mut self, action: u8) {
        match action % 8 {
            0..=2 => self.ask(),
            3 if !self.asked.is_empty() => {
                let pick = usize::from(self.byte());
                let ticket = self.asked[pick % self.asked.len()];
                self.waiting.remove(&ticket);
                self.home.handle_cancel(ticket, self.now);
            }
            4 => {
                self.now = self.now + Duration::from_micros(1 << (self.byte() % 24));
                self.home.handle_timeout(self.now);
            }
            5 | 6 => self.answer(),
            // What came late, or twice, changes nothing.
            7 if !self.ended.is_empty() => {
                let pick = usize::from(self.byte());
                let call = self.ended[pick % self.ended.len()].id;
                self.home.handle_outcome(call, CallOutcome::Broken, self.now);
            }
            _ => {}
        }
    }

    fn ask(&mut self) {
        let shape = self.byte();
        let number = self.asked.len();
        let item = |index: usize| format!("\"t{number}i{index}.\"");
        let items: Vec<String> = (0..1 + usize::from(shape & 3)).map(item).collect();
        let tokens = format!("[{},{}]", number + 1_000_000, shape);
        let input = match shape >> 2 & 7 {
            0..=3 if items.len() == 1 => items[0].clone(),
            0..=4 => format!("[{}]", items.join(", ")),
            5 => tokens.clone(),
            6 => format!("[{tokens}]"),
            _ => format!("{{\"text\":{}}}", items[0]),
        };
        let user = shape >> 5 & 1;
        let body = format!("{{\"model\":\"m\",\"input\":{input},\"user\":{user}}}");
        let Ok(request) = scan_embeddings(body.as_bytes()) else { panic!("our own body: {body}") };
        let head = "content-type: application/json\r\n\r\n";
        let ticket = Ticket { shard: u16::from(shape >> 6 & 1), slot: number as u32, generation: 0 };
        let who = self.byte();
        let mut job = Job {
            ticket,
            generation: 1,
            model: ModelId(0),
            operation: Operation::Embeddings,
            claim: Claim { class: Class::ALL[usize::from(who & 3).min(2)], tenant: u64::from(who >> 2 & 3) },
            hash: 0,
            credential: if shape & 128 == 0 { Bytes::new() } else { Bytes::from_static(b"Bearer k") },
            message: Bytes::from(format!("{head}{body}")),
            body: Span::new(head.len()..head.len() + body.len()),
            request,
            arrived: self.now,
            deadline: self.now + Duration::from_millis(1 << (self.byte() % 14)),
        };
        job.hash = lane_hash(1, &job.key());
        self.asked.push(ticket);
        self.waiting.insert(ticket, if (shape >> 2 & 7) < 5 { items } else { Vec::new() });
        self.home.handle_job(job, &self.rules, self.now);
    }

    fn answer(&mut self) {
        if self.calls.is_empty() {
            return;
        }
        let at = usize::from(self.byte()) % self.calls.len();
        let call = self.calls.swap_remove(at);
        let how = self.byte();
        let body = body_of(&call);
        let items = items_of(&body);
        let answered = |status, body: String, retry_after| CallOutcome::Answered {
            status,
            fields: Bytes::from_static(b"content-type: application/json\r\n"),
            body: Bytes::from(body),
            retry_after,
        };
        if (5..=7).contains(&(how % 16)) {
            self.lied_to.extend(
                self.waiting.iter().filter(|(_, mine)| mine.iter().any(|item| body.contains(item.as_str()))).map(|(ticket, _)| *ticket),
            );
        }
        let order = |indexes: &[usize]| data(&items, indexes);
        let mut indexes: Vec<usize> = (0..items.len()).collect();
        let outcome = match how % 16 {
            0..=3 => answered(200, order(&indexes), None),
            4 => {
                indexes.reverse();
                answered(200, order(&indexes), None)
            }
            5 => answered(200, order(&indexes[1..]), None),
            6 => {
                indexes.push(0);
                answered(200, order(&indexes), None)
            }
            7 => answered(200, "{\"data\":[".to_owned(), None),
            // An error that quotes everybody.
            8 => answered(400, body, None),
            9 => answered(
                if how & 16 == 0 { 413 } else { 422 },
                format!("batch size {} > maximum allowed batch size 2 {body}", items.len()),
                None,
            ),
            10 => answered(if how & 16 == 0 { 429 } else { 503 }, body, (how & 32 != 0).then(|| Duration::from_secs(1))),
            11 => answered(500, body, None),
            12 => CallOutcome::NotSent,
            13 => CallOutcome::Broken,
            14 => CallOutcome::TimedOut,
            _ => CallOutcome::TooLarge,
        };
        self.home.handle_outcome(call.id, outcome, self.now);
        self.ended.push(call);
    }

    /// Takes all that the home has to say.
    fn look(&mut self) {
        while let Some(call) = self.home.poll_call(self.now) {
            assert!(call.endpoint < self.rules.endpoints && call.deadline > Instant::ZERO);
            assert!(self.calls.iter().all(|other| other.id != call.id), "a call in flight has its own id");
            if let CallBody::Merged { body, len, .. } = &call.body {
                assert_eq!(body.iter().map(Bytes::len).sum::<usize>(), *len);
                let count = items_of(&body_of(&call)).len();
                assert!(count <= self.rules.max_items as usize || self.rules.max_items == 1, "{count} items");
            }
            self.calls.push(call);
        }
        while let Some(id) = self.home.poll_abort() {
            if let Some(at) = self.calls.iter().position(|call| call.id == id) {
                let call = self.calls.swap_remove(at);
                self.ended.push(call);
            }
        }
        while let Some(answer) = self.home.poll_answer() {
            let mine = self.waiting.remove(&answer.ticket).expect("an answer for one who asked, waits, and has none yet");
            match answer.outcome {
                Outcome::Failed(failure) => drop(self.seen.insert(failure.reason().to_owned())),
                Outcome::Done { status, body, .. } => {
                    self.seen.insert(status.to_string());
                    let text = String::from_utf8(body.concat()).expect("text");
                    let own = format!("\"t{}i", answer.ticket.slot);
                    for (at, _) in text.match_indices("\"t") {
                        let foreign = text[at + 2..].starts_with(|c: char| c.is_ascii_digit()) && !text[at..].starts_with(&own);
                        assert!(!foreign, "{} got {text}", answer.ticket.slot);
                    }
                    if status == 200 && !self.lied_to.contains(&answer.ticket) {
                        is_whole(&text, &mine);
                    }
                }
            }
        }
        while let Some(event) = self.home.poll_event() {
            let name: String = format!("{event:?}").chars().take_while(|c| c.is_alphanumeric()).collect();
            self.seen.insert(name);
        }
    }

    /// Answers everything well and lets all time pass: nobody may be left waiting, nothing may be kept.
    fn finish(&mut self) {
        for _ in 0..FINISH_MAX {
            self.look();
            for call in std::mem::take(&mut self.calls) {
                let items = items_of(&body_of(&call));
                let indexes: Vec<usize> = (0..items.len()).collect();
                let outcome = CallOutcome::Answered {
                    status: 200,
                    fields: Bytes::new(),
                    body: Bytes::from(data(&items, &indexes)),
                    retry_after: None,
                };
                self.home.handle_outcome(call.id, outcome, self.now);
            }
            self.look();
            if !self.calls.is_empty() {
                continue;
            }
            let Some(next) = self.home.next_timeout() else { break };
            self.now = self.now.max(next);
            self.home.handle_timeout(self.now);
        }
        assert!(self.waiting.is_empty(), "left waiting: {:?}", self.waiting);
        let left = (self.home.jobs(), self.home.queued_items(), self.home.calls_in_flight(), self.home.held_bytes());
        assert_eq!(left, (0, 0, 0, 0));
    }
}

fn body_of(call: &Call) -> String {
    let bytes = match &call.body {
        CallBody::Alone { message } => message.to_vec(),
        CallBody::Merged { body, .. } => body.concat(),
    };
    let text = String::from_utf8(bytes).expect("text");
    text.split_once("\r\n\r\n").map_or(text.clone(), |(_, body)| body.to_owned())
}

/// Each of the items has its own vector, numbered from 0. Unknown items (`mine` is empty) are not looked at.
fn is_whole(text: &str, mine: &[String]) {
    if mine.is_empty() {
        return;
    }
    let mut shape = AnswerShape::default();
    scan_answer(text.as_bytes(), &mut shape).expect("an answer");
    assert_eq!(shape.elements.len(), mine.len(), "{text}");
    for (index, item) in mine.iter().enumerate() {
        let element = shape.elements.iter().find(|element| element.index_value as usize == index).expect("every index");
        assert!(text[element.span.range()].contains(item.as_str()), "{item} at {index}: {text}");
    }
}

/// The texts of a call's items; one for an input that cannot be cut.
fn items_of(body: &str) -> Vec<String> {
    let request = scan_embeddings(body.as_bytes()).expect("a call is a request");
    let text = |span: &Span| String::from_utf8_lossy(span.of(body.as_bytes())).into_owned();
    if request.mergeable() { request.items.iter().map(text).collect() } else { vec![text(&request.input)] }
}

/// An answer with these of the items, in this order: each item's vector is the item itself.
fn data(items: &[String], indexes: &[usize]) -> String {
    let data: Vec<String> =
        indexes.iter().map(|index| format!("{{\"object\":\"embedding\",\"index\":{index},\"embedding\":{}}}", items[*index])).collect();
    format!("{{\"object\":\"list\",\"data\":[{}],\"model\":\"m\",{TAIL}", data.join(","))
}

const TAIL: &str = "\"usage\":{\"prompt_tokens\":12,\"total_tokens\":12}}";
const STEPS_MAX: usize = 400;
const FINISH_MAX: usize = 100_000;
