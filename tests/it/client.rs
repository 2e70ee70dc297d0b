//! A client on a blocking socket: sends bytes, reads whole answers, and knows what an embedding must be.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::JoinHandle;

use headrace::mock::{DIMS, vector};

use crate::gate::PATIENCE;

pub(crate) struct Client {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

pub(crate) trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// With its empty line, names as they came.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Client {
    pub(crate) fn tcp(addr: SocketAddr) -> Client {
        let stream = TcpStream::connect(addr).expect("the gateway accepts");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client { stream: Box::new(stream), buffer: Vec::new() }
    }

    pub(crate) fn unix(path: &Path) -> Client {
        let stream = UnixStream::connect(path).expect("the gateway accepts");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client { stream: Box::new(stream), buffer: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the gateway takes it");
    }

    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub(crate) fn ask(&mut self, request: impl AsRef<[u8]>) -> Answer {
        self.send(request);
        self.answer()
    }

    pub(crate) fn answer(&mut self) -> Answer {
        self.try_answer().expect("an answer")
    }

    /// The next answer; an error when the connection ends before it is whole.
    pub(crate) fn try_answer(&mut self) -> io::Result<Answer> {
        let head_len = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
            self.fill()?;
        };
        let head: Vec<u8> = self.buffer.drain(..head_len).collect();
        let head = String::from_utf8(head).map_err(io::Error::other)?;
        let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status line: {head}")))?;
        let mut answer = Answer { status, head, body: Vec::new() };
        if answer.field("transfer-encoding") == Some("chunked") {
            while let chunk @ 1.. = self.chunk_len()? {
                self.take(chunk, &mut answer.body)?;
                self.take(2, &mut Vec::new())?;
            }
            self.take(2, &mut Vec::new())?;
        } else {
            let len = answer.field("content-length").and_then(|len| len.parse().ok());
            self.take(len.ok_or_else(|| io::Error::other("no framing"))?, &mut answer.body)?;
        }
        Ok(answer)
    }

    fn chunk_len(&mut self) -> io::Result<usize> {
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                break at;
            }
            self.fill()?;
        };
        let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
        let digits = std::str::from_utf8(&line[..end]).map_err(io::Error::other)?;
        usize::from_str_radix(digits, 16).map_err(io::Error::other)
    }

    fn take(&mut self, len: usize, out: &mut Vec<u8>) -> io::Result<()> {
        while self.buffer.len() < len {
            self.fill()?;
        }
        out.extend(self.buffer.drain(..len));
        Ok(())
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut piece = [0; 64 << 10];
        match self.stream.read(&mut piece)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.buffer.extend_from_slice(&piece[..count]);
                Ok(())
            }
        }
    }

    /// Everything until the gateway closes. The error, if it was none of the orderly or abrupt ends, is a hang.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        loop {
            match self.fill() {
                Ok(()) => {}
                Err(error) if is_end(&error) => return Ok(std::mem::take(&mut self.buffer)),
                Err(error) => return Err(error),
            }
        }
    }
}

/// The connection is over, in good order or cut.
pub(crate) fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The answer is 200 with this text's own vector and its own share of the bill.
    #[track_caller]
    pub(crate) fn is_embedding_of(&self, text: &str) {
        assert_eq!(self.status, 200, "{}{}", self.head, self.text());
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        let data = body["data"].as_array().unwrap();
        assert_eq!((data.len(), &data[0]["index"]), (1, &0.into()));
        let found: Vec<f32> = serde_json::from_value(data[0]["embedding"].clone()).unwrap();
        assert_eq!(found, vector(text.as_bytes(), DIMS), "the vector of {text}");
        // A token of the mock is a byte.
        assert_eq!(body["usage"], serde_json::json!({"prompt_tokens": text.len(), "total_tokens": text.len()}), "the bill of {text}");
    }
}

pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: gate\r\n\r\n")
}

pub(crate) fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: gate\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// A request for one text's embedding.
pub(crate) fn embed(text: &str) -> String {
    post("/v1/embeddings", &format!("{{\"model\":\"m\",\"input\":\"{text}\"}}"))
}

/// Runs `work` on a thread for each number, all at once.
pub(crate) fn crowd<T: Send + 'static>(count: usize, work: impl Fn(usize) -> T + Clone + Send + 'static) -> Vec<JoinHandle<T>> {
    (0..count)
        .map(|number| {
            let work = work.clone();
            std::thread::spawn(move || work(number))
        })
        .collect()
}

pub(crate) fn join<T>(threads: Vec<JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().expect("the thread did not panic")).collect()
}

pub(crate) fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}
