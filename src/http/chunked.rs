//! The chunked coding (RFC 9112 7.1, rule 12): sizes, extensions and line ends are checked to the byte and dropped, data is
//! pointed at. Trailers are walked by `trailer`.
//!
//! ```text
//!            hex            ";"  ext
//!  AwaitSize ----CR--> AwaitSizeLf <--CR-- AwaitExtension
//!     ^                   | LF, size > 0      | LF, size = 0
//!     |                   v                   v
//!  AwaitDataLf <- CR - AwaitData          AwaitTrailers -> done
//! ```

use super::body::{BodyError, Step};
use super::head::is_token_byte;
use super::trailer::Trailers;

/// Bytes of extensions on one chunk's line and in one body; more is refused.
const EXTENSION_LINE_BYTES_MAX: u16 = 256;
const EXTENSION_BODY_BYTES_MAX: u16 = 8 * 1024;
/// Digits of a chunk size: what a u64 holds.
const SIZE_DIGITS_MAX: u8 = 16;

#[derive(Clone, Debug)]
pub(super) struct Chunked {
    state: State,
    /// Of the current chunk: its size while the line is read, then the data bytes still to come.
    left: u64,
    digit_count: u8,
    extension_line_bytes: u16,
    extension_body_bytes: u16,
    trailers: Trailers,
    /// Found behind data that had to be handed out first; the next call reports it.
    fault: Option<BodyError>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    AwaitSize,
    AwaitExtension(Extension),
    AwaitSizeLf,
    AwaitData,
    AwaitDataCr,
    AwaitDataLf,
    AwaitTrailers,
    Done,
}

/// Inside `*( ";" name [ "=" ( token / quoted-string ) ] )`; blanks around the marks are refused (strict).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Extension {
    NameStart,
    Name,
    ValueStart,
    Token,
    Quoted,
    Escape,
    AfterQuoted,
}

impl Chunked {
    pub(super) fn new(strict_trailers: bool) -> Chunked {
        Chunked {
            state: State::AwaitSize,
            left: 0,
            digit_count: 0,
            extension_line_bytes: 0,
            extension_body_bytes: 0,
            trailers: Trailers::new(strict_trailers),
            fault: None,
        }
    }

    /// Framing, then one run of data, then framing again: so a chunk that is whole in the input costs one step, and so does
    /// the end behind it.
    pub(super) fn handle_bytes(&mut self, input: &[u8]) -> Result<Step, BodyError> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let start = self.walk(input)?;
        if self.state != State::AwaitData {
            return Ok(Step { consumed: start, data: start..start, done: self.state == State::Done });
        }
        let len = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len() - start);
        self.left = self.left.saturating_sub(len as u64);
        let end = start + len;
        if self.left > 0 {
            return Ok(Step { consumed: end, data: start..end, done: false });
        }
        self.state = State::AwaitDataCr;
        let walked = self.walk(&input[end..]).unwrap_or_else(|fault| {
            self.fault = Some(fault);
            0
        });
        Ok(Step { consumed: end + walked, data: start..end, done: self.state == State::Done })
    }

    /// Eats framing bytes up to the next data, the end, or the input's end; how many.
    fn walk(&mut self, input: &[u8]) -> Result<usize, BodyError> {
        for (at, &byte) in input.iter().enumerate() {
            if matches!(self.state, State::AwaitData | State::Done) {
                return Ok(at);
            }
            self.state = self.next(byte)?;
        }
        Ok(input.len())
    }

    fn next(&mut self, byte: u8) -> Result<State, BodyError> {
        match (self.state, byte) {
            (State::AwaitSize, _) => self.handle_size(byte),
            (State::AwaitExtension(extension), _) => self.handle_extension(extension, byte),
            (State::AwaitSizeLf, b'\n') if self.left > 0 => Ok(State::AwaitData),
            (State::AwaitSizeLf, b'\n') => Ok(State::AwaitTrailers),
            (State::AwaitDataCr, b'\r') => Ok(State::AwaitDataLf),
            (State::AwaitDataLf, b'\n') => {
                (self.digit_count, self.extension_line_bytes) = (0, 0);
                Ok(State::AwaitSize)
            }
            (State::AwaitTrailers, _) => Ok(if self.trailers.handle_byte(byte)? { State::Done } else { State::AwaitTrailers }),
            _ => Err(BodyError { reason: "chunk_line_end" }),
        }
    }

    fn handle_size(&mut self, byte: u8) -> Result<State, BodyError> {
        const BAD: BodyError = BodyError { reason: "chunk_size" };
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if self.digit_count > 0 => return Ok(State::AwaitSizeLf),
            b';' if self.digit_count > 0 => return self.handle_extension(Extension::AfterQuoted, byte),
            _ => return Err(BAD),
        };
        if self.digit_count == SIZE_DIGITS_MAX {
            return Err(BAD);
        }
        self.digit_count += 1;
        self.left = self.left << 4 | u64::from(digit);
        if i64::try_from(self.left).is_err() { Err(BAD) } else { Ok(State::AwaitSize) }
    }

    fn handle_extension(&mut self, extension: Extension, byte: u8) -> Result<State, BodyError> {
        use Extension::{AfterQuoted, Escape, Name, NameStart, Quoted, Token, ValueStart};
        let next = match (extension, byte) {
            (NameStart | Name, _) if is_token_byte(byte) => Name,
            (ValueStart | Token, _) if is_token_byte(byte) => Token,
            (Name, b'=') => ValueStart,
            (ValueStart, b'"') => Quoted,
            (Name | Token | AfterQuoted, b';') => NameStart,
            (Name | Token | AfterQuoted, b'\r') => return Ok(State::AwaitSizeLf),
            (Quoted, b'"') => AfterQuoted,
            (Quoted, b'\\') => Escape,
            (Quoted | Escape, b'\t' | b' '..=b'~' | 0x80..) => Quoted,
            _ => return Err(BodyError { reason: "chunk_extension" }),
        };
        self.extension_line_bytes += 1;
        self.extension_body_bytes += 1;
        if self.extension_line_bytes > EXTENSION_LINE_BYTES_MAX || self.extension_body_bytes > EXTENSION_BODY_BYTES_MAX {
            return Err(BodyError { reason: "chunk_extension_too_long" });
        }
        Ok(State::AwaitExtension(next))
    }
}
