//! The upstreams: an HTTP/1.1 server that computes embeddings and echoes plain requests, one request after the other on each
//! connection, and misbehaves as the weather has it.

use super::Ctx;
use super::requests::{Kind, POISON, echo, nonces, vector};
use super::wire::{Cut, Framing, Head, Reader, chunked};
use crate::rng::Rng;
use headrace::runtime::{Listener, Rt, Socket};
use serde_json::{Value, json};
use std::time::Duration;

/// Serves until the task is dropped.
pub(crate) fn serve(ctx: &Ctx, rt: &Rt, listener: Listener, seed: u64) {
    let (ctx, own) = (ctx.clone(), rt.clone());
    rt.spawn(async move {
        let mut number = 0;
        loop {
            match listener.accept().await {
                Ok(socket) => {
                    number += 1;
                    let rng = Rng::new(seed.wrapping_mul(0x9e37) ^ number << 32);
                    own.spawn(Served { ctx: ctx.clone(), rt: own.clone(), rng, calls: 0, last: Vec::new() }.talk(socket));
                }
                Err(_) => own.sleep_until(own.now() + Duration::from_millis(1)).await,
            }
        }
    });
}

/// One connection.
struct Served {
    ctx: Ctx,
    rt: Rt,
    rng: Rng,
    calls: u32,
    /// What was answered last, for the planted bug.
    last: Vec<u8>,
}

/// An answer before it is framed.
struct Reply {
    status: u16,
    fields: String,
    body: Vec<u8>,
}

impl Served {
    async fn talk(mut self, socket: Socket) {
        let mut reader = Reader::new(socket);
        loop {
            let patience = if self.calls > 0 && self.rng.chance(self.ctx.weather.upstream.idle_close) {
                Duration::from_micros(self.rng.below(15_000))
            } else {
                IDLE_TIMEOUT
            };
            let rt = self.rt.clone();
            let Some(Ok(head)) = rt.before(rt.now() + patience, reader.head()).await else { return };
            match self.call(&mut reader, &head).await {
                Ok(true) => self.calls += 1,
                Ok(false) => return,
                Err(Cut::Malformed(what)) => return self.problem(&format!("no HTTP goes up: {what}")),
                Err(_) => return,
            }
        }
    }

    fn problem(&self, what: &str) {
        self.ctx.book.borrow_mut().problem(what.to_owned());
    }

    /// Answers one request; whether the connection goes on.
    async fn call(&mut self, reader: &mut Reader, head: &Head) -> Result<bool, Cut> {
        let weather = self.ctx.weather.upstream.clone();
        if head.field("host").is_none() || head.field("x-headrace-coalesce").is_some() {
            self.problem(&format!("a head that must not go up: {head:?}"));
        }
        let path = head.first.split(' ').nth(1).unwrap_or_default().to_owned();
        let is_model = path == "/v1/embeddings";
        if !is_model && head.first.starts_with("POST") && self.rng.chance(weather.early) {
            let reply = Reply { status: 413, fields: String::new(), body: b"too large".to_vec() };
            self.write(reader, reply, true).await;
            self.linger(reader).await;
            return Ok(false);
        }
        if self.rng.chance(weather.interim) {
            reader.socket.start_send(b"HTTP/1.1 103 Early Hints\r\nlink: </y>\r\n\r\n".as_slice());
        }
        let body = reader.body(head.framing(Framing::Length(0))?).await?;
        let reply = if is_model { self.embed(head, &body) } else { self.plain(&path, &body) };
        let Some(reply) = reply else { return Ok(false) };
        let cost = Duration::from_micros(self.rng.below(2 * weather.cost_us));
        self.rt.sleep_until(self.rt.now() + cost).await;
        if self.rng.chance(weather.silent) {
            let _ = reader.fill().await;
            return Ok(false);
        }
        if self.rng.chance(weather.dies) {
            self.may_reset(reader, 0.5);
            return Ok(false);
        }
        let closes = self.rng.chance(weather.closes);
        let whole = self.write(reader, reply, closes).await;
        if whole && closes && self.rng.chance(0.5) {
            self.linger(reader).await;
        }
        Ok(whole && !closes)
    }

    fn may_reset(&mut self, reader: &Reader, chance: f64) {
        if self.rng.chance(chance) {
            reader.socket.reset_on_drop();
        }
    }

    /// Ends the connection so that the last answer is not destroyed by a reset.
    async fn linger(&self, reader: &mut Reader) {
        reader.socket.shutdown_write();
        let until = self.rt.now() + Duration::from_millis(50);
        let _ = self.rt.before(until, async { while reader.fill().await.is_ok() {} }).await;
    }

    fn embed(&mut self, head: &Head, body: &[u8]) -> Option<Reply> {
        let Ok(asked) = serde_json::from_slice::<Value>(body) else {
            self.problem(&format!("no JSON goes up: {}", String::from_utf8_lossy(body)));
            return None;
        };
        let items: Vec<String> = match &asked["input"] {
            Value::String(one) => vec![one.clone()],
            Value::Array(all) => all.iter().map(|item| item.as_str().unwrap_or_default().to_owned()).collect(),
            _ => Vec::new(),
        };
        let (user, authorization) = (asked["user"].as_str().unwrap_or_default(), head.field("authorization"));
        let mut ids: Vec<u32> = items.iter().flat_map(|item| nonces(item.as_bytes())).collect();
        ids.dedup();
        {
            let mut book = self.ctx.book.borrow_mut();
            book.sighted(&ids, self.calls > 0);
            book.check_lane(&ids, user, authorization);
            if let &[id] = ids.as_slice()
                && let Some(request) = book.request(id)
                && request.kind == Kind::Never
                && request.body != body
            {
                book.problem(format!("request {id} goes up with another body"));
            }
        }
        if let Some(failed) = self.refusal(&items) {
            return Some(failed);
        }
        Some(self.vectors(&items, user, authorization))
    }

    /// Quotes everything it was sent, as FastAPI does.
    fn refusal(&mut self, items: &[String]) -> Option<Reply> {
        let weather = &self.ctx.weather.upstream;
        let (status, fields) = if self.rng.chance(weather.overloaded) {
            let after = self.rng.pick(&["", "retry-after: 0\r\n", "retry-after: 1\r\n"]);
            (self.rng.pick(&[429, 503]), after.to_owned())
        } else if items.iter().any(|item| item.contains(POISON)) {
            (self.rng.pick(&[400, 422]), String::new())
        } else if self.rng.chance(weather.error) {
            (500, String::new())
        } else {
            return None;
        };
        Some(Reply { status, fields, body: json!({"error": "no", "input": items}).to_string().into_bytes() })
    }

    fn vectors(&mut self, items: &[String], user: &str, authorization: Option<&str>) -> Reply {
        let mut data: Vec<Value> = (0..)
            .zip(items)
            .map(|(index, item): (u32, _)| json!({"object": "embedding", "index": index, "embedding": vector(item, user, authorization)}))
            .collect();
        if self.ctx.weather.upstream.shuffles {
            for place in (1..data.len()).rev() {
                data.swap(place, self.rng.below(place as u64 + 1) as usize);
            }
        }
        // One too few, or one twice: nobody could tell whose is whose. A request that went up as it came gets what it gets.
        let first = items.first().and_then(|item| nonces(item.as_bytes()).next());
        let alone = first.is_some_and(|id| self.ctx.book.borrow().request(id).is_some_and(|request| request.items == items));
        if items.len() > 1 && !alone && self.rng.chance(self.ctx.weather.upstream.wrong) {
            data[0] = data[1].clone();
            if self.rng.chance(0.5) {
                data.remove(0);
            }
        }
        let bill: usize = items.iter().map(String::len).sum();
        let usage = json!({"prompt_tokens": bill, "total_tokens": bill});
        let body = json!({"object": "list", "data": data, "model": "m", "usage": usage}).to_string().into_bytes();
        Reply { status: 200, fields: String::new(), body }
    }

    fn plain(&mut self, path: &str, body: &[u8]) -> Option<Reply> {
        let Some(id) = nonces(path.as_bytes()).next() else {
            self.problem(&format!("{path} goes up"));
            return None;
        };
        let mut book = self.ctx.book.borrow_mut();
        book.sighted(&[id], self.calls > 0);
        if book.request(id).is_none_or(|request| request.body != body || request.path != path) {
            book.problem(format!("request {id} goes up as {path} with another body of {} bytes", body.len()));
        }
        if self.rng.chance(self.ctx.weather.upstream.error) {
            return Some(Reply { status: 500, fields: String::new(), body: echo(id, body) });
        }
        Some(Reply { status: 200, fields: String::new(), body: echo(id, body) })
    }

    /// Frames and sends an answer, perhaps only a part of it; whether that was all of it.
    async fn write(&mut self, reader: &Reader, reply: Reply, closes: bool) -> bool {
        let weather = self.ctx.weather.upstream.clone();
        let mut out = Vec::new();
        if self.rng.chance(weather.interim) {
            out.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n");
        }
        let Reply { status, fields, body } = reply;
        let until_close = closes && self.rng.chance(0.5);
        let mut head = format!("HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\nx-request-id: upstream\r\n{fields}");
        if closes {
            head += "connection: close\r\n";
        }
        let body = match self.rng.below(3) {
            _ if until_close => body,
            0 => {
                head += "transfer-encoding: chunked\r\n";
                chunked(&body, self.rng.between(1, 300) as usize)
            }
            _ => {
                head += &format!("content-length: {}\r\n", body.len());
                body
            }
        };
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&body);
        if self.ctx.planted == Some(super::drill::Bug::StaleAnswers) {
            out = self.planted(out);
        }
        if self.rng.chance(weather.dies_mid) {
            out.truncate(self.rng.between(1, out.len() as u64 - 1) as usize);
            // The end of an answer that ends with its connection cannot be told from a cut in good order.
            self.may_reset(reader, if until_close { 1.0 } else { 0.5 });
            let _ = reader.socket.send(out).await;
            return false;
        }
        self.send(reader, out).await
    }

    async fn send(&mut self, reader: &Reader, out: Vec<u8>) -> bool {
        let mut rest = out.as_slice();
        while !rest.is_empty() {
            let whole = !self.rng.chance(self.ctx.weather.upstream.pieces);
            let len = if whole { rest.len() } else { self.rng.between(1, rest.len() as u64) as usize };
            let (piece, after) = rest.split_at(len);
            if reader.socket.send(piece.to_vec()).await.is_err() {
                return false;
            }
            rest = after;
            if !rest.is_empty() {
                let pause = Duration::from_micros(self.rng.below(2000));
                self.rt.sleep_until(self.rt.now() + pause).await;
            }
        }
        true
    }

    /// What a client of this connection gets if the one before it did not read its answer and the connection was used again.
    fn planted(&mut self, answer: Vec<u8>) -> Vec<u8> {
        let before = std::mem::replace(&mut self.last, answer.clone());
        if before.is_empty() { answer } else { before }
    }
}

/// Longer than the gateway keeps idle connections.
const IDLE_TIMEOUT: Duration = Duration::from_mins(10);
