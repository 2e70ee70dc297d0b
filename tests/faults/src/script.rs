//! What a scripted upstream does with one request. The request itself carries the script, as text in its path or in a field of its
//! body, so the upstream needs no state and a script meets exactly the request it was meant for. Pure: bytes in, bytes out.

use std::fmt;
use std::str::FromStr;

/// How the answer's body is framed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    Length,
    Chunked,
    /// The body ends where the connection does.
    UntilClose,
    /// Server-sent events in chunks, one chunk per event.
    Events,
}

/// What follows the (possibly cut) answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Keep,
    Fin,
    Rst,
    /// Says nothing more and waits for the other side.
    Hang,
    /// Ends its sending side, and reads on without a word.
    Half,
}

/// What is wrong besides a cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Odd {
    None,
    /// Content-Length names five bytes fewer than follow.
    Short,
    /// Content-Length names five bytes more than follow.
    Long,
    /// Two lengths that differ.
    TwoLengths,
    /// The same length twice.
    TwiceTheLength,
    LengthAndCoding,
    /// A chunk header that is no number.
    BadChunk,
    /// A status line that is none.
    Garbage,
    /// A status beyond 599.
    BadStatus,
    /// A NUL in a field.
    Nul,
    /// A head of more than a mebibyte.
    HugeHead,
    /// So many interim answers in front.
    Interim(usize),
    /// 103 Early Hints in front.
    Hints,
    /// 101 to a request that asked for no upgrade.
    Switching,
    /// Answers when it has the request's head, without reading the body.
    Early,
    /// Reads nothing behind the head.
    NeverReads,
    /// Ends the connection after so many bytes of the body.
    DiesReading(usize),
    /// Another whole answer, behind this one.
    Unasked,
    /// The same, some time later.
    UnaskedLater,
    /// 204 with a body behind it.
    NoContent,
    /// Of a merged call: elements in another order.
    Shuffled,
    /// One element is missing.
    OneShort,
    /// One too many, of nobody.
    OneMore,
    /// The first element's index twice.
    SameIndex,
    /// An index beyond the last.
    FarIndex,
    /// Takes so many milliseconds before it answers.
    Slow(usize),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Script {
    pub(crate) shape: Shape,
    /// Bytes of the body of what is not a model call, and of a chat answer.
    pub(crate) size: usize,
    /// So many bytes of the answer, head included, are sent.
    pub(crate) cut: Option<usize>,
    pub(crate) end: End,
    /// Microseconds between two bytes; 0: all at once.
    pub(crate) drip: u64,
    pub(crate) odd: Odd,
}

impl Script {
    /// A whole, well-framed answer.
    pub(crate) const HONEST: Script = Script { shape: Shape::Length, size: 64, cut: None, end: End::Keep, drip: 0, odd: Odd::None };

    pub(crate) const fn shaped(shape: Shape) -> Script {
        Script { shape, ..Script::HONEST }
    }

    pub(crate) const fn odd(odd: Odd) -> Script {
        Script { odd, ..Script::HONEST }
    }

    /// What the body must be: a function of the token, so that any byte of another answer shows.
    pub(crate) fn body(&self, token: &str) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.size + 64);
        if self.shape == Shape::Events {
            let mut number = 0;
            while body.len() < self.size {
                body.extend_from_slice(format!("data: {{\"n\":{number},\"text\":\"{token}\"}}\n\n").as_bytes());
                number += 1;
            }
            body.extend_from_slice(b"data: [DONE]\n\n");
            return body;
        }
        while body.len() < self.size {
            body.extend_from_slice(token.as_bytes());
            body.push(b'|');
        }
        body.truncate(self.size);
        body
    }

    /// What a client must see of `body` when it sees all that the framing allows.
    pub(crate) fn visible(&self, body: &[u8]) -> Vec<u8> {
        match self.odd {
            Odd::Short => body[..body.len() - OFF_BY].to_vec(),
            Odd::NoContent => Vec::new(),
            _ => body.to_vec(),
        }
    }

    /// The bytes on the wire of an answer with this body, and how many of them are its head's.
    pub(crate) fn wire(&self, body: &[u8]) -> (Vec<u8>, usize) {
        let mut out = self.in_front();
        let status = match self.odd {
            Odd::Garbage => "HTTQ/1.1 2OO",
            Odd::BadStatus => "HTTP/1.1 777 Odd",
            Odd::NoContent => "HTTP/1.1 204 No Content",
            _ => "HTTP/1.1 200 OK",
        };
        let kind = if self.shape == Shape::Events { "text/event-stream" } else { "application/json" };
        out.extend_from_slice(format!("{status}\r\ncontent-type: {kind}\r\n").as_bytes());
        match self.odd {
            Odd::Nul => out.extend_from_slice(b"x-odd: a\0b\r\n"),
            Odd::HugeHead => (0..70).for_each(|_| out.extend_from_slice(format!("x-odd: {}\r\n", "y".repeat(15 << 10)).as_bytes())),
            _ => {}
        }
        out.extend_from_slice(self.framing(body.len()).as_bytes());
        out.extend_from_slice(b"\r\n");
        let head_len = out.len();
        self.put_body(&mut out, body);
        (out, head_len)
    }

    fn in_front(&self) -> Vec<u8> {
        match self.odd {
            Odd::Interim(count) => b"HTTP/1.1 100 Continue\r\n\r\n".repeat(count),
            Odd::Hints => b"HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n".to_vec(),
            Odd::Switching => b"HTTP/1.1 101 Switching Protocols\r\nupgrade: odd\r\nconnection: upgrade\r\n\r\n".to_vec(),
            _ => Vec::new(),
        }
    }

    fn framing(&self, len: usize) -> String {
        match (self.odd, self.shape) {
            (Odd::Short, _) => format!("content-length: {}\r\n", len - OFF_BY),
            (Odd::Long, _) => format!("content-length: {}\r\n", len + OFF_BY),
            (Odd::TwoLengths, _) => format!("content-length: {len}\r\ncontent-length: {}\r\n", len + 1),
            (Odd::TwiceTheLength, _) => format!("content-length: {len}\r\ncontent-length: {len}\r\n"),
            (Odd::LengthAndCoding, _) => format!("content-length: {len}\r\ntransfer-encoding: chunked\r\n"),
            (_, Shape::Length) => format!("content-length: {len}\r\n"),
            (_, Shape::UntilClose) => "connection: close\r\n".to_owned(),
            (_, Shape::Chunked | Shape::Events) => "transfer-encoding: chunked\r\n".to_owned(),
        }
    }

    fn put_body(&self, out: &mut Vec<u8>, body: &[u8]) {
        match self.shape {
            Shape::Length | Shape::UntilClose => out.extend_from_slice(body),
            Shape::Chunked | Shape::Events => {
                for piece in pieces(self.shape, body) {
                    if self.odd == Odd::BadChunk {
                        out.extend_from_slice(b"zz\r\n");
                    } else {
                        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                    }
                    out.extend_from_slice(piece);
                    out.extend_from_slice(b"\r\n");
                }
                out.extend_from_slice(b"0\r\n\r\n");
            }
        }
    }
}

/// Chunks: an event each, else of 24 bytes, so that small bodies have several.
fn pieces(shape: Shape, body: &[u8]) -> Vec<&[u8]> {
    if shape == Shape::Events {
        let mut rest = body;
        let mut out = Vec::new();
        while let Some(at) = rest.windows(2).position(|two| two == b"\n\n") {
            let (event, more) = rest.split_at(at + 2);
            out.push(event);
            rest = more;
        }
        return out;
    }
    body.chunks(if body.len() > 4096 { 4096 } else { 24 }).collect()
}

/// By how much a wrong length is wrong.
pub(crate) const OFF_BY: usize = 5;

const SHAPES: [(&str, Shape); 4] =
    [("length", Shape::Length), ("chunked", Shape::Chunked), ("close", Shape::UntilClose), ("events", Shape::Events)];
const ENDS: [(&str, End); 5] = [("keep", End::Keep), ("fin", End::Fin), ("rst", End::Rst), ("hang", End::Hang), ("half", End::Half)];
const ODDS: [(&str, Odd); 24] = [
    ("none", Odd::None),
    ("short", Odd::Short),
    ("long", Odd::Long),
    ("two-lengths", Odd::TwoLengths),
    ("twice", Odd::TwiceTheLength),
    ("both", Odd::LengthAndCoding),
    ("bad-chunk", Odd::BadChunk),
    ("garbage", Odd::Garbage),
    ("bad-status", Odd::BadStatus),
    ("nul", Odd::Nul),
    ("huge-head", Odd::HugeHead),
    ("hints", Odd::Hints),
    ("switching", Odd::Switching),
    ("early", Odd::Early),
    ("never-reads", Odd::NeverReads),
    ("unasked", Odd::Unasked),
    ("unasked-later", Odd::UnaskedLater),
    ("no-content", Odd::NoContent),
    ("shuffled", Odd::Shuffled),
    ("one-short", Odd::OneShort),
    ("one-more", Odd::OneMore),
    ("same-index", Odd::SameIndex),
    ("far-index", Odd::FarIndex),
    ("slow", Odd::Slow(0)),
];

fn name_of<T: PartialEq>(names: &'static [(&'static str, T)], value: &T) -> &'static str {
    names.iter().find(|(_, each)| each == value).map_or("none", |(name, _)| name)
}

fn named<T: Copy>(names: &[(&str, T)], text: &str) -> Option<T> {
    names.iter().find(|(name, _)| *name == text).map(|(_, value)| *value)
}

impl fmt::Display for Script {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = self.cut.map_or_else(|| "all".to_owned(), |cut| cut.to_string());
        let (odd, number) = match self.odd {
            Odd::Interim(count) => ("interim", count),
            Odd::DiesReading(count) => ("dies-reading", count),
            Odd::Slow(count) => ("slow", count),
            odd => (name_of(&ODDS, &odd), 0),
        };
        write!(out, "{}.{}.{cut}.{}.{}.{odd}.{number}", name_of(&SHAPES, &self.shape), self.size, name_of(&ENDS, &self.end), self.drip)
    }
}

impl FromStr for Script {
    type Err = String;

    fn from_str(text: &str) -> Result<Script, String> {
        let words: Vec<&str> = text.split('.').collect();
        let [shape, size, cut, end, drip, odd, number] = words[..] else { return Err(format!("{text:?} is no script")) };
        let number: usize = number.parse().map_err(|_| format!("{text:?}: number"))?;
        let odd = match odd {
            "interim" => Odd::Interim(number),
            "dies-reading" => Odd::DiesReading(number),
            "slow" => Odd::Slow(number),
            odd => named(&ODDS, odd).ok_or_else(|| format!("{text:?}: odd"))?,
        };
        Ok(Script {
            shape: named(&SHAPES, shape).ok_or_else(|| format!("{text:?}: shape"))?,
            size: size.parse().map_err(|_| format!("{text:?}: size"))?,
            cut: if cut == "all" { None } else { Some(cut.parse().map_err(|_| format!("{text:?}: cut"))?) },
            end: named(&ENDS, end).ok_or_else(|| format!("{text:?}: end"))?,
            drip: drip.parse().map_err(|_| format!("{text:?}: drip"))?,
            odd,
        })
    }
}

#[test]
fn a_script_survives_its_journey_in_a_path() {
    let odds = ODDS.iter().map(|(_, odd)| *odd).chain([Odd::Interim(9), Odd::DiesReading(7), Odd::Slow(30)]);
    for odd in odds {
        for (_, shape) in SHAPES {
            for (_, end) in ENDS {
                for cut in [None, Some(0), Some(99)] {
                    let script = Script { shape, size: 640, cut, end, drip: 12, odd };
                    assert_eq!(script.to_string().parse(), Ok(script));
                    assert!(script.to_string().bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte)));
                }
            }
        }
    }
    assert!("length.1.2".parse::<Script>().is_err());
}

#[test]
fn the_wire_of_an_honest_answer_is_what_http_says() {
    let script = Script { size: 20, ..Script::HONEST };
    let body = script.body("tk00000000000001");
    assert_eq!(body, b"tk00000000000001|tk0");
    let (wire, head_len) = script.wire(&body);
    assert_eq!(&wire[head_len..], body);
    let chunked = Script { shape: Shape::Chunked, size: 30, ..Script::HONEST };
    let (wire, head_len) = chunked.wire(&chunked.body("tk00000000000001"));
    assert_eq!(&wire[head_len..], b"18\r\ntk00000000000001|tk00000\r\n6\r\n000000\r\n0\r\n\r\n");
    let events = Script { shape: Shape::Events, size: 30, ..Script::HONEST };
    let text = events.body("tk00000000000001");
    assert!(text.ends_with(b"data: [DONE]\n\n"));
    assert_eq!(pieces(Shape::Events, &text).concat(), text);
}
