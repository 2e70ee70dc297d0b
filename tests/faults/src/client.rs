//! A client on a blocking socket: sends bytes, and says of an answer whether it was whole, cut, or never came.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::SockRef;

/// How the wait for an answer ended.
#[derive(Debug)]
pub(crate) enum Got {
    Answer(Answer),
    /// The connection ended in the middle, visibly: what had come.
    Cut(Vec<u8>),
    /// The connection was closed in good order before a byte of an answer.
    Closed,
    /// Nothing, for longer than anything may take.
    Late,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
    /// Interim answers seen.
    pub(crate) interim: usize,
    /// The other side said or showed that this connection is over.
    pub(crate) over: bool,
}

/// Why reading stopped.
enum Stop {
    /// FIN.
    End,
    Reset,
    Late,
}

impl Client {
    pub(crate) fn connect(addr: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
        Client::over(stream)
    }

    /// With a small receive buffer, so that little fits between us and a gateway whose answer is not read.
    pub(crate) fn connect_small(addr: SocketAddr) -> io::Result<Client> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.set_recv_buffer_size(4096)?;
        socket.connect(&addr.into())?;
        Client::over(socket.into())
    }

    fn over(stream: TcpStream) -> io::Result<Client> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client { stream, buffer: Vec::new(), interim: 0, over: false })
    }

    /// False when the other side does not take it any more.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Closes with RST.
    pub(crate) fn reset(self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// The next final answer. `bodyless` when it answers a HEAD.
    pub(crate) fn answer(&mut self, bodyless: bool) -> Got {
        let mut seen = Vec::new();
        match self.read_answer(bodyless, &mut seen) {
            Ok(answer) => {
                self.over |= answer.field("connection") == Some("close");
                Got::Answer(answer)
            }
            Err(stop) => {
                self.over = true;
                seen.append(&mut self.buffer);
                match stop {
                    Stop::Late => Got::Late,
                    Stop::End if seen.is_empty() => Got::Closed,
                    Stop::End | Stop::Reset => Got::Cut(seen),
                }
            }
        }
    }

    /// As [`Client::answer`], when these bytes of it were read already.
    pub(crate) fn answer_behind(&mut self, bytes: Vec<u8>) -> Got {
        self.buffer = bytes;
        self.answer(false)
    }

    /// Waits for a 1xx; false when something else comes.
    pub(crate) fn interim(&mut self) -> bool {
        while self.buffer.len() < 12 {
            if self.fill().is_err() {
                return false;
            }
        }
        self.buffer.starts_with(b"HTTP/1.1 1")
    }

    fn read_answer(&mut self, bodyless: bool, seen: &mut Vec<u8>) -> Result<Answer, Stop> {
        let (status, head) = loop {
            let len = self.find(b"\r\n\r\n")? + 4;
            let head: Vec<u8> = self.buffer.drain(..len).collect();
            let head = String::from_utf8_lossy(&head).into_owned();
            let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()).unwrap_or(0);
            if !(100..200).contains(&status) {
                break (status, head);
            }
            self.interim += 1;
        };
        seen.extend_from_slice(head.as_bytes());
        let mut answer = Answer { status, head, body: Vec::new() };
        if bodyless || matches!(status, 204 | 304) {
            return Ok(answer);
        }
        let result = self.read_body(&mut answer);
        seen.extend_from_slice(&answer.body);
        result.map(|()| answer)
    }

    fn read_body(&mut self, answer: &mut Answer) -> Result<(), Stop> {
        if answer.field("transfer-encoding") == Some("chunked") {
            loop {
                let end = self.find(b"\r\n")?;
                let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                let Ok(len) = usize::from_str_radix(&line, 16) else { return Err(Stop::Reset) };
                self.buffer.drain(..end + 2);
                self.take(len, &mut answer.body)?;
                self.take(2, &mut Vec::new())?;
                if len == 0 {
                    return Ok(());
                }
            }
        }
        if let Some(len) = answer.field("content-length").and_then(|len| len.parse().ok()) {
            return self.take(len, &mut answer.body);
        }
        // Until the connection ends: in good order it was whole.
        loop {
            answer.body.append(&mut self.buffer);
            match self.fill() {
                Ok(()) => {}
                Err(Stop::End) => {
                    self.over = true;
                    return Ok(());
                }
                Err(stop) => return Err(stop),
            }
        }
    }

    fn find(&mut self, needle: &[u8]) -> Result<usize, Stop> {
        loop {
            if let Some(at) = self.buffer.windows(needle.len()).position(|window| window == needle) {
                return Ok(at);
            }
            self.fill()?;
        }
    }

    fn take(&mut self, len: usize, out: &mut Vec<u8>) -> Result<(), Stop> {
        while self.buffer.len() < len {
            if let Err(stop) = self.fill() {
                out.append(&mut self.buffer);
                return Err(stop);
            }
        }
        out.extend(self.buffer.drain(..len));
        Ok(())
    }

    fn fill(&mut self) -> Result<(), Stop> {
        let mut piece = [0; 16 << 10];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(Stop::End),
                Ok(count) => {
                    self.buffer.extend_from_slice(&piece[..count]);
                    return Ok(());
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Err(Stop::Late),
                    _ => return Err(Stop::Reset),
                },
            }
        }
    }
}

/// Longer than the gateway may take for anything under the suite's configuration.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);
