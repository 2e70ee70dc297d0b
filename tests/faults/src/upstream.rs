//! The scripted upstream: a thread per connection, each request answered as the script it carries says. It keeps which tokens came to
//! it in a whole request, and complains about any that came torn.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use crate::ask::upload;
use crate::script::{End, Odd, Script, Shape};
use crate::token;

pub(crate) struct Upstream {
    pub(crate) addr: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// How often each token came in a whole request.
    seen: Mutex<HashMap<String, u32>>,
    torn: Mutex<Vec<String>>,
    stopping: AtomicBool,
    /// The planted fault: now and then it gives one client's answer to another.
    swaps: bool,
    last: Mutex<String>,
}

impl Upstream {
    /// Listens on `addr`; port 0 picks one.
    pub(crate) fn start(addr: &str, swaps: bool) -> io::Result<Upstream> {
        let addr: SocketAddr = addr.parse().map_err(io::Error::other)?;
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&addr.into())?;
        // Thousands may connect before a thread is there for the first.
        socket.listen(4096)?;
        let listener = TcpListener::from(socket);
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared { swaps, ..Shared::default() });
        let of_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if of_thread.stopping.load(Ordering::Acquire) {
                    return;
                }
                let (Ok(stream), shared) = (stream, Arc::clone(&of_thread)) else { continue };
                let thread = std::thread::Builder::new().stack_size(STACK);
                // Without a thread the connection is closed again, which the fault at hand will show.
                let _ = thread.spawn(move || serve(&stream, &shared));
            }
        });
        Ok(Upstream { addr, shared })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// How often this token came in a whole request.
    pub(crate) fn seen(&self, token: &str) -> u32 {
        self.shared.seen.lock().map_or(0, |seen| seen.get(token).copied().unwrap_or(0))
    }

    /// Requests that arrived whole by their framing and were not what the client sent.
    pub(crate) fn torn(&self) -> Vec<String> {
        self.shared.torn.lock().map(|mut torn| std::mem::take(&mut *torn)).unwrap_or_default()
    }

    pub(crate) fn forget(&self) {
        if let Ok(mut seen) = self.shared.seen.lock() {
            seen.clear();
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        let _ = TcpStream::connect_timeout(&self.addr, Duration::from_secs(1));
    }
}

/// A request's script and the tokens of those who ask.
struct Wanted {
    script: Script,
    tokens: Vec<String>,
    embeddings: bool,
    head_only: bool,
}

enum Next {
    Request,
    Over,
}

fn serve(stream: &TcpStream, shared: &Shared) {
    let _ = stream.set_nodelay(true);
    let mut reader = Reader { stream, buffer: Vec::new() };
    while let Some(head) = reader.head() {
        let early = from_path(&head);
        if let Some((script, token)) = &early
            && let Next::Over = before_body(stream, &mut reader, script, token)
        {
            return;
        }
        let Some(body) = reader.body(&head) else { return };
        let Some(wanted) = understand(&head, &body, early) else {
            shared.tear(format!("not a request of this suite: {}", String::from_utf8_lossy(&body[..body.len().min(200)])));
            return;
        };
        shared.note(&head, &body, &wanted);
        if wanted.script.odd == Odd::Early {
            continue;
        }
        if let Next::Over = act(stream, shared, &wanted) {
            return;
        }
    }
}

impl Shared {
    fn tear(&self, what: String) {
        if let Ok(mut torn) = self.torn.lock() {
            torn.push(what);
        }
    }

    fn note(&self, head: &str, body: &[u8], wanted: &Wanted) {
        if let Ok(mut seen) = self.seen.lock() {
            for token in &wanted.tokens {
                *seen.entry(token.clone()).or_default() += 1;
            }
        }
        let Some(named) = field(head, "x-upload").and_then(|len| len.parse::<usize>().ok()) else { return };
        // A merged call has no such field; a route's body is a function of its token.
        let torn = named != body.len() || (head.contains(" /s/") && body != upload(&wanted.tokens[0], named));
        if torn {
            self.tear(format!("{}: {} of {named} bytes, or not the right ones", wanted.tokens[0], body.len()));
        }
    }

    /// The tokens to answer with: the right ones, unless the fault is planted.
    fn tokens(&self, wanted: &Wanted) -> Vec<String> {
        let mut tokens = wanted.tokens.clone();
        if self.swaps {
            if tokens.len() > 1 {
                tokens.swap(0, 1);
            } else if let (Ok(mut last), Some(first)) = (self.last.lock(), tokens.first_mut()) {
                let before = std::mem::replace(&mut *last, first.clone());
                if !before.is_empty() {
                    *first = before;
                }
            }
        }
        tokens
    }
}

fn from_path(head: &str) -> Option<(Script, String)> {
    let path = head.split(' ').nth(1)?.strip_prefix("/s/")?;
    let (script, token) = path.split_once('/')?;
    Some((script.parse().ok()?, token.to_owned()))
}

fn understand(head: &str, body: &[u8], early: Option<(Script, String)>) -> Option<Wanted> {
    let head_only = head.starts_with("HEAD ");
    if let Some((script, token)) = early {
        return Some(Wanted { script, tokens: vec![token], embeddings: false, head_only });
    }
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let script = body["user"].as_str()?.parse().ok()?;
    if head.contains(" /v1/embeddings ") {
        let tokens = match &body["input"] {
            serde_json::Value::String(one) => vec![one.clone()],
            serde_json::Value::Array(all) => all.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect(),
            _ => return None,
        };
        return (!tokens.is_empty()).then_some(Wanted { script, tokens, embeddings: true, head_only });
    }
    let token = body["messages"][0]["content"].as_str()?.to_owned();
    Some(Wanted { script, tokens: vec![token], embeddings: false, head_only })
}

/// What happens when only the head is here.
fn before_body(stream: &TcpStream, reader: &mut Reader<'_>, script: &Script, token: &str) -> Next {
    match script.odd {
        Odd::Early => {
            let (wire, _) = script.wire(&script.body(token));
            if send(stream, script, &wire).is_err() {
                return Next::Over;
            }
            // It reads the body away, or ends the connection with the body unread.
            end(stream, script.end)
        }
        Odd::NeverReads => {
            std::thread::sleep(HOLD);
            Next::Over
        }
        Odd::DiesReading(count) => {
            while reader.buffer.len() < count {
                if !reader.fill() {
                    return Next::Over;
                }
            }
            end(stream, script.end)
        }
        _ => Next::Request,
    }
}

fn act(stream: &TcpStream, shared: &Shared, wanted: &Wanted) -> Next {
    let script = &wanted.script;
    if let Odd::Slow(millis) = script.odd {
        std::thread::sleep(Duration::from_millis(millis as u64));
    }
    let tokens = shared.tokens(wanted);
    let body = if wanted.embeddings { embeddings(script, &tokens) } else { script.body(&tokens[0]) };
    let (mut wire, head_len) = script.wire(&body);
    if wanted.head_only {
        wire.truncate(head_len);
    }
    if script.odd == Odd::Unasked {
        wire.extend_from_slice(&unasked());
    }
    wire.truncate(script.cut.unwrap_or(usize::MAX));
    if send(stream, script, &wire).is_err() {
        return Next::Over;
    }
    if script.odd == Odd::UnaskedLater {
        std::thread::sleep(Duration::from_millis(10));
        let _ = (&mut &*stream).write_all(&unasked());
    }
    let shut = script.shape == Shape::UntilClose && script.end == End::Keep;
    end(stream, if shut { End::Fin } else { script.end })
}

/// A whole answer to nobody.
fn unasked() -> Vec<u8> {
    Script::HONEST.wire(&Script::HONEST.body(&token::fresh(token::UNASKED))).0
}

fn send(stream: &TcpStream, script: &Script, wire: &[u8]) -> io::Result<()> {
    let mut to = stream;
    if script.drip == 0 {
        return to.write_all(wire);
    }
    for byte in wire {
        to.write_all(&[*byte])?;
        std::thread::sleep(Duration::from_micros(script.drip));
    }
    Ok(())
}

fn end(stream: &TcpStream, how: End) -> Next {
    match how {
        End::Keep => return Next::Request,
        End::Fin => drop(stream.shutdown(Shutdown::Write)),
        End::Rst => drop(SockRef::from(stream).set_linger(Some(Duration::ZERO))),
        End::Hang | End::Half => {
            if how == End::Half {
                let _ = stream.shutdown(Shutdown::Write);
            }
            let mut piece = [0; 4096];
            while (&mut &*stream).read(&mut piece).is_ok_and(|count| count > 0) {}
        }
    }
    Next::Over
}

/// An answer to a call for these items: the elements' vectors are the tokens, which are valid base64.
fn embeddings(script: &Script, tokens: &[String]) -> Vec<u8> {
    let mut data: Vec<serde_json::Value> =
        tokens.iter().enumerate().map(|(at, token)| serde_json::json!({"object": "embedding", "index": at, "embedding": token})).collect();
    // A call for one item is answered rightly: nobody else could be harmed by it.
    if tokens.len() > 1 {
        match script.odd {
            Odd::Shuffled => data.reverse(),
            Odd::OneShort => drop(data.pop()),
            Odd::OneMore => {
                data.push(serde_json::json!({"object": "embedding", "index": tokens.len(), "embedding": token::fresh(token::UNASKED)}));
            }
            Odd::SameIndex => data[1]["index"] = 0.into(),
            Odd::FarIndex => data[1]["index"] = 4_000_000_000_u64.into(),
            _ => {}
        }
    }
    let len = tokens.len();
    let usage = serde_json::json!({"prompt_tokens": len, "total_tokens": len});
    serde_json::json!({"object": "list", "data": data, "model": "m", "usage": usage}).to_string().into_bytes()
}

struct Reader<'a> {
    stream: &'a TcpStream,
    buffer: Vec<u8>,
}

impl Reader<'_> {
    fn head(&mut self) -> Option<String> {
        let mut from = 0;
        let len = loop {
            if let Some(at) = self.buffer[from..].windows(4).position(|window| window == b"\r\n\r\n") {
                break from + at + 4;
            }
            from = self.buffer.len().saturating_sub(3);
            self.fill().then_some(())?;
        };
        let head: Vec<u8> = self.buffer.drain(..len).collect();
        String::from_utf8(head).ok()
    }

    /// The body; `None` when the connection ends before it does.
    fn body(&mut self, head: &str) -> Option<Vec<u8>> {
        if field(head, "transfer-encoding").is_none() {
            let len = field(head, "content-length").map_or(Some(0), |len| len.parse().ok())?;
            return self.take(len);
        }
        let mut body = Vec::new();
        loop {
            let end = loop {
                if let Some(at) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                    break at;
                }
                self.fill().then_some(())?;
            };
            let line: Vec<u8> = self.take(end + 2)?;
            let len = usize::from_str_radix(std::str::from_utf8(&line[..end]).ok()?, 16).ok()?;
            body.extend(self.take(len)?);
            self.take(2)?;
            if len == 0 {
                return Some(body);
            }
        }
    }

    fn take(&mut self, len: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < len {
            self.fill().then_some(())?;
        }
        Some(self.buffer.drain(..len).collect())
    }

    fn fill(&mut self) -> bool {
        let mut piece = [0; 16 << 10];
        match self.stream.read(&mut piece) {
            Ok(count) => {
                self.buffer.extend_from_slice(&piece[..count]);
                count > 0
            }
            Err(_) => false,
        }
    }
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// How long an upstream that does nothing does so: longer than the gateway's time-outs.
const HOLD: Duration = Duration::from_secs(6);
const STACK: usize = 256 << 10;
