//! The clients: connections with requests one after the other or several at once, in whole or in pieces; some leave in the middle,
//! some send nonsense.

use super::Ctx;
use super::audit::End;
use super::requests::Request;
use super::weather::GATEWAY;
use super::wire::{Cut, Framing, Reader};
use crate::rng::Rng;
use headrace::runtime::{Rt, Socket};
use headrace::sys::net::Address;
use std::time::Duration;

/// Lets all clients of the run begin, each at its moment.
pub(crate) fn start(ctx: &Ctx, rt: &Rt, seed: u64) {
    for number in 0..ctx.weather.clients {
        let client = Client { ctx: ctx.clone(), rt: rt.clone(), rng: Rng::new(seed << 8 ^ number) };
        rt.spawn(client.live());
    }
}

struct Client {
    ctx: Ctx,
    rt: Rt,
    rng: Rng,
}

impl Client {
    async fn live(mut self) {
        let wait = Duration::from_micros(self.rng.below(self.ctx.weather.arrival_us));
        self.rt.sleep_until(self.rt.now() + wait).await;
        let habits = &self.ctx.weather.habits;
        if self.rng.chance(habits.nonsense) {
            self.talk_nonsense().await;
        } else {
            let leaves = self.rng.chance(habits.leave);
            let patience = if leaves { Duration::from_micros(self.rng.below(40_000)) } else { self.ctx.weather.patience() };
            let bursts = self.bursts();
            let ids: Vec<u32> = bursts.iter().flatten().map(|request| request.id).collect();
            let (rt, ctx) = (self.rt.clone(), self.ctx.clone());
            let until = rt.now() + patience;
            let done = rt.before(until, self.talk(bursts)).await;
            let mut book = ctx.book.borrow_mut();
            if done.is_none() && !leaves {
                book.problem(format!("the client of requests {ids:?} waited for ever"));
            }
            book.ended(ids.into_iter(), if done.is_some() { End::Cut } else { End::Left });
            book.clients_ended += 1;
            return;
        }
        self.ctx.book.borrow_mut().clients_ended += 1;
    }

    fn bursts(&mut self) -> Vec<Vec<Request>> {
        let habits = &self.ctx.weather.habits;
        let bursts = self.rng.between(1, habits.bursts_max);
        let mut book = self.ctx.book.borrow_mut();
        let mut all = Vec::new();
        for burst in 1..=bursts {
            let count = self.rng.between(1, habits.pipelined_max);
            let draw = |at| {
                let request = Request::draw(book.next_id(), habits, burst == bursts && at == count, &mut self.rng);
                book.add(request.clone());
                request
            };
            all.push((1..=count).map(draw).collect());
        }
        all
    }

    async fn connect(&mut self) -> Option<Socket> {
        match self.rt.connect(&Address::Tcp(GATEWAY.parse().unwrap())).await {
            Ok(socket) => Some(socket),
            Err(_) => {
                self.ctx.book.borrow_mut().seen.note("no connection");
                None
            }
        }
    }

    /// Ends when all is answered, or the connection has ended.
    async fn talk(mut self, bursts: Vec<Vec<Request>>) {
        let Some(socket) = self.connect().await else { return };
        if self.rng.chance(0.3) {
            socket.reset_on_drop();
        }
        let mut reader = Reader::new(socket);
        for (number, burst) in bursts.iter().enumerate() {
            if number > 0 && self.rng.chance(0.3) {
                let think = Duration::from_micros(self.rng.below(60_000));
                self.rt.sleep_until(self.rt.now() + think).await;
            }
            self.send(&reader.socket, burst).await;
            for request in burst {
                match self.answer(&mut reader, request).await {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(Cut::Malformed(what)) => {
                        return self.ctx.book.borrow_mut().problem(format!("request {}: no HTTP: {what}", request.id));
                    }
                    Err(_) => return,
                }
            }
            if number > 0 {
                self.ctx.book.borrow_mut().seen.note("connection used again");
            }
            if burst.len() > 1 {
                self.ctx.book.borrow_mut().seen.note("pipelined");
            }
        }
        self.hear_nothing_more(&mut reader).await;
    }

    async fn send(&mut self, socket: &Socket, burst: &[Request]) {
        let mut bytes = Vec::new();
        for request in burst {
            bytes.extend_from_slice(&request.wire);
            // Its bytes may arrive before this task runs again.
            self.ctx.book.borrow_mut().sent(request.id);
        }
        if !self.rng.chance(self.ctx.weather.habits.pieces) {
            return socket.start_send(bytes);
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(self.rng.between(1, rest.len() as u64) as usize);
            socket.start_send(piece.to_vec());
            rest = after;
            let pause = Duration::from_micros(self.rng.below(3000));
            self.rt.sleep_until(self.rt.now() + pause).await;
        }
    }

    /// Reads one answer; whether the connection goes on.
    async fn answer(&mut self, reader: &mut Reader, request: &Request) -> Result<bool, Cut> {
        if self.rng.chance(self.ctx.weather.habits.slow) {
            let pause = Duration::from_micros(self.rng.below(10_000));
            self.rt.sleep_until(self.rt.now() + pause).await;
        }
        let mut head = reader.head().await?;
        if request.expects && head.status()? == 100 {
            self.ctx.book.borrow_mut().seen.note("100 Continue");
            head = reader.head().await?;
        }
        let status = head.status()?;
        let otherwise = if request.http10 { Framing::UntilClose } else { Framing::Length(0) };
        let framing = head.framing(otherwise)?;
        let body = reader.body(framing).await?;
        if framing == Framing::UntilClose {
            self.ctx.book.borrow_mut().seen.note("answer until close");
        }
        self.ctx.book.borrow_mut().answered(request.id, &head, status, &body);
        Ok(!head.closes() && framing != Framing::UntilClose)
    }

    /// After the last answer nothing may come any more.
    async fn hear_nothing_more(&mut self, reader: &mut Reader) {
        let until = self.rt.now() + Duration::from_micros(self.rng.below(20_000));
        let more = self.rt.before(until, reader.fill()).await;
        if matches!(more, Some(Ok(()))) || reader.has_begun() {
            self.ctx.book.borrow_mut().problem("bytes came after the last answer".to_owned());
        }
    }

    /// Half a head, or none at all, or what no parser may take.
    async fn talk_nonsense(&mut self) {
        let Some(socket) = self.connect().await else { return };
        let text = self.rng.pick(NONSENSE);
        self.ctx.book.borrow_mut().nonsense += 1;
        socket.start_send(text);
        let mut reader = Reader::new(socket);
        let patience = if self.rng.chance(0.3) { Duration::from_millis(self.rng.below(20)) } else { self.ctx.weather.patience() };
        let rt = self.rt.clone();
        let answer = rt.before(rt.now() + patience, refusal(&mut reader)).await;
        let mut book = self.ctx.book.borrow_mut();
        match answer {
            Some(Ok((status, body))) => book.refused(status, &body),
            Some(Err(Cut::Malformed(what))) => book.problem(format!("a refusal that is no HTTP: {what}")),
            Some(Err(_)) => book.seen.note("nonsense cut"),
            None if patience == self.ctx.weather.patience() => book.problem("half a head was waited for for ever".to_owned()),
            None => book.seen.note("nonsense left"),
        }
    }
}

const NONSENSE: &[&[u8]] = &[
    b"GET / HT",
    b"GET /plain HTTP/1.1\r\nhost: g\r\nx-a",
    b"GET\0/ HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01hello\r\n\r\n",
    b"POST /v1/embeddings HTTP/1.1\r\nhost: g\r\ncontent-length: 90\r\n\r\n{\"model\"",
];

async fn refusal(reader: &mut Reader) -> Result<(u16, Vec<u8>), Cut> {
    let head = reader.head().await?;
    let body = reader.body(head.framing(Framing::Length(0))?).await?;
    Ok((head.status()?, body))
}
