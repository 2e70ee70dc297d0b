//! Walks over the trailers of a chunked body (rule 13): the same grammar and limits as a head's fields. They are dropped, for
//! nothing here speaks for a peer that asked for them; they are never merged into a head.

use super::body::BodyError;
use super::head::{FIELDS_MAX, is_token_byte};
use super::known::Known;

/// The longest name that is classified exactly, or by its prefix.
const NAME_BYTES_KEPT: usize = 32;
/// The head's limits (`HeadLimits::default`).
const FIELD_BYTES_MAX: usize = 16 * 1024;
const TRAILERS_BYTES_MAX: usize = 64 * 1024;

#[derive(Clone, Debug)]
pub(super) struct Trailers {
    state: State,
    /// Names that may not stand here are an error (requests), or dropped like the rest (responses).
    strict: bool,
    name: [u8; NAME_BYTES_KEPT],
    name_bytes: usize,
    line_bytes: usize,
    bytes: usize,
    field_count: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(clippy::enum_variant_names, reason = "states are named for what they await")]
enum State {
    AwaitLine,
    AwaitColon,
    AwaitLineCr,
    AwaitLineLf,
    AwaitLastLf,
}

impl Trailers {
    pub(super) fn new(strict: bool) -> Trailers {
        let name = [0; NAME_BYTES_KEPT];
        Trailers { state: State::AwaitLine, strict, name, name_bytes: 0, line_bytes: 0, bytes: 0, field_count: 0 }
    }

    /// True when the byte was the last of the message.
    pub(super) fn handle_byte(&mut self, byte: u8) -> Result<bool, BodyError> {
        self.bytes += 1;
        self.line_bytes += 1;
        if self.bytes > TRAILERS_BYTES_MAX || self.line_bytes > FIELD_BYTES_MAX {
            return Err(BodyError { reason: "trailers_too_long" });
        }
        self.state = match (self.state, byte) {
            (State::AwaitLine, b'\r') => State::AwaitLastLf,
            (State::AwaitLine, _) if is_token_byte(byte) => {
                self.field_count += 1;
                if self.field_count > FIELDS_MAX {
                    return Err(BodyError { reason: "too_many_trailers" });
                }
                (self.name_bytes, self.line_bytes) = (0, 1);
                self.keep(byte)
            }
            (State::AwaitColon, _) if is_token_byte(byte) => self.keep(byte),
            (State::AwaitColon, b':') => self.check_name()?,
            (State::AwaitLineCr, b'\r') => State::AwaitLineLf,
            (State::AwaitLineCr, b'\t' | b' '..=b'~' | 0x80..) => State::AwaitLineCr,
            (State::AwaitLineLf, b'\n') => State::AwaitLine,
            (State::AwaitLastLf, b'\n') => return Ok(true),
            _ => return Err(BodyError { reason: "trailer_line" }),
        };
        Ok(false)
    }

    fn keep(&mut self, byte: u8) -> State {
        if let Some(slot) = self.name.get_mut(self.name_bytes) {
            *slot = byte;
            self.name_bytes += 1;
        }
        State::AwaitColon
    }

    fn check_name(&self) -> Result<State, BodyError> {
        let name = &self.name[..self.name_bytes];
        if self.strict && (Known::of(name).is_forbidden_in_trailers() || Known::is_look_alike(name)) {
            return Err(BodyError { reason: "trailer_forbidden" });
        }
        Ok(State::AwaitLineCr)
    }
}
