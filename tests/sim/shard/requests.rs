//! The requests of the simulation's clients, and what the right answer to each is: it depends on every byte of the request, so
//! that an answer that went astray shows.

use super::weather::Habits;
use super::wire::chunked;
use crate::rng::{Rng, mix};
use serde_json::{Value, json};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// To the model, free to be coalesced.
    Coalesced,
    /// To the model, with `x-headrace-coalesce: never`.
    Never,
    /// To the plain route.
    Post,
    Get,
    /// The gateway's own list of models.
    Models,
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) id: u32,
    pub(crate) kind: Kind,
    pub(crate) items: Vec<String>,
    pub(crate) lane: u64,
    pub(crate) authorization: Option<String>,
    pub(crate) poisoned: bool,
    pub(crate) http10: bool,
    pub(crate) expects: bool,
    pub(crate) path: String,
    pub(crate) body: Vec<u8>,
    pub(crate) wire: Vec<u8>,
}

const KINDS: [Kind; 5] = [Kind::Coalesced, Kind::Never, Kind::Post, Kind::Get, Kind::Models];
pub(crate) const POISON: &str = "POISON";

impl Request {
    pub(crate) fn draw(id: u32, habits: &Habits, is_last: bool, rng: &mut Rng) -> Request {
        let mut at = rng.below(habits.kinds.iter().sum());
        let kind = KINDS.into_iter().zip(habits.kinds).find(|(_, weight)| {
            let here = at < *weight;
            at = at.saturating_sub(*weight);
            here
        });
        let kind = kind.map_or(Kind::Coalesced, |(kind, _)| kind);
        let mut request = Request {
            id,
            kind,
            items: Vec::new(),
            lane: rng.below(habits.lanes),
            authorization: rng.chance(habits.authorization).then(|| format!("Bearer k{}", rng.below(2))),
            poisoned: false,
            http10: is_last && rng.chance(habits.http10),
            expects: false,
            path: String::new(),
            body: Vec::new(),
            wire: Vec::new(),
        };
        match kind {
            Kind::Coalesced | Kind::Never => request.ask_model(habits, rng),
            Kind::Post => request.post(rng),
            Kind::Get => request.path = format!("/plain/{}", nonce(id)),
            Kind::Models => "/v1/models".clone_into(&mut request.path),
        }
        request.expects = !request.http10 && !request.body.is_empty() && rng.chance(habits.expects);
        request.write(rng);
        request
    }

    fn ask_model(&mut self, habits: &Habits, rng: &mut Rng) {
        "/v1/embeddings".clone_into(&mut self.path);
        let count = if rng.chance(0.4) { rng.between(1, habits.items_max) } else { 1 };
        for index in 0..count {
            let bad = rng.chance(habits.poison);
            self.poisoned |= bad;
            let filler = "word ".repeat(rng.below(6) as usize);
            self.items.push(format!("{} i{index} {filler}{}", nonce(self.id), if bad { POISON } else { "" }));
        }
        let input = if count == 1 && rng.chance(0.5) { json!(self.items[0]) } else { json!(self.items) };
        self.body = format!("{{\"model\":\"m\",\"user\":\"u{}\",\"input\":{input}}}", self.lane).into_bytes();
    }

    fn post(&mut self, rng: &mut Rng) {
        self.path = format!("/plain/{}", nonce(self.id));
        let len = rng.pick(&[0, 20, 300, 1500]) * rng.between(1, 3);
        self.body = (0..len).map(|place| b'a' + (mix(u64::from(self.id) << 20 | place) % 26) as u8).collect();
    }

    fn write(&mut self, rng: &mut Rng) {
        let method = if matches!(self.kind, Kind::Get | Kind::Models) { "GET" } else { "POST" };
        let version = if self.http10 { "1.0" } else { "1.1" };
        let mut head = format!("{method} {} HTTP/{version}\r\nhost: gate\r\nx-request-id: r{}\r\n", self.path, self.id);
        if let Some(value) = &self.authorization {
            head += &format!("authorization: {value}\r\n");
        }
        if self.kind == Kind::Never {
            head += "x-headrace-coalesce: never\r\n";
        }
        if self.expects {
            head += "expect: 100-continue\r\n";
        }
        let mut body = self.body.clone();
        if method == "GET" {
        } else if !self.http10 && rng.chance(0.2) {
            head += "transfer-encoding: chunked\r\n";
            body = chunked(&self.body, rng.between(1, 400) as usize);
        } else {
            head += &format!("content-length: {}\r\n", body.len());
        }
        self.wire = head.into_bytes();
        self.wire.extend_from_slice(b"\r\n");
        self.wire.append(&mut body);
    }

    /// What a 200 must say.
    pub(crate) fn check(&self, body: &[u8], forwards_authorization: bool) -> Result<(), String> {
        match self.kind {
            Kind::Coalesced | Kind::Never => self.check_vectors(body, forwards_authorization),
            Kind::Post | Kind::Get => {
                let wanted = echo(self.id, &self.body);
                if body == wanted { Ok(()) } else { Err(format!("{} bytes instead of its {}", body.len(), wanted.len())) }
            }
            Kind::Models => match serde_json::from_slice::<Value>(body) {
                Ok(list) if list["data"][0]["id"] == "m" => Ok(()),
                other => Err(format!("{other:?}")),
            },
        }
    }

    fn check_vectors(&self, body: &[u8], forwards_authorization: bool) -> Result<(), String> {
        let answer: Value = serde_json::from_slice(body).map_err(|error| format!("no JSON: {error}"))?;
        let data = answer["data"].as_array().ok_or("no data")?;
        if data.len() != self.items.len() {
            return Err(format!("{} vectors for {} items", data.len(), self.items.len()));
        }
        let authorization = self.authorization.as_deref().filter(|_| forwards_authorization);
        // An answer that came alone is passed on as it is, in whatever order the upstream wrote.
        for element in data {
            let index = element["index"].as_u64().ok_or("no index")? as usize;
            let item = self.items.get(index).ok_or_else(|| format!("index {index}"))?;
            if element["embedding"] != vector(item, &format!("u{}", self.lane), authorization) {
                return Err(format!("the vector of item {index} is not its own: {element}"));
            }
        }
        let mut indices: Vec<u64> = data.iter().filter_map(|element| element["index"].as_u64()).collect();
        indices.sort_unstable();
        indices.dedup();
        let bill: usize = self.items.iter().map(String::len).sum();
        if indices.len() != self.items.len() || answer["usage"]["prompt_tokens"] != bill || answer["usage"]["total_tokens"] != bill {
            return Err(format!("indices {indices:?}, usage {} instead of {bill}", answer["usage"]));
        }
        Ok(())
    }
}

/// A client's mark; every answer is searched for the marks of others.
pub(crate) fn nonce(id: u32) -> String {
    format!("n{id}q")
}

/// The ids of all marks in a text.
pub(crate) fn nonces(text: &[u8]) -> impl Iterator<Item = u32> {
    text.split(|byte| *byte == b'n').skip(1).filter_map(|rest| {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        (digits > 0 && rest.get(digits) == Some(&b'q')).then(|| std::str::from_utf8(&rest[..digits]).unwrap().parse().unwrap())
    })
}

/// The vector of an item: a function of all that makes its lane.
pub(crate) fn vector(item: &str, user: &str, authorization: Option<&str>) -> Value {
    let bytes = item.bytes().chain([0]).chain(user.bytes()).chain([0]).chain(authorization.unwrap_or_default().bytes());
    let hash = bytes.fold(7, |hash, byte| mix(hash ^ u64::from(byte)));
    json!([hash >> 40, item.len()])
}

/// What the plain route answers.
pub(crate) fn echo(id: u32, body: &[u8]) -> Vec<u8> {
    let pad = "-".repeat((mix(u64::from(id)) % 700) as usize);
    let mut out = format!("{} {} {pad} ", nonce(id), body.len()).into_bytes();
    out.extend_from_slice(body);
    out.extend_from_slice(format!(" end {}", nonce(id)).as_bytes());
    out
}
