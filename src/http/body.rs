//! The body decoder for both sides: it is given bytes and says which of them are body and when the body is over. It copies
//! nothing and keeps nothing but its place. Limits on a body's size and time belong to the caller.

use std::ops::Range;

use super::chunked::Chunked;
use super::head::Framing;

/// A machine that walks over one body. Any cutting of the input gives the same bytes and the same verdict.
#[derive(Clone, Debug)]
pub struct BodyDecoder {
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    /// Bytes still to come; never 0.
    AwaitBytes(u64),
    AwaitChunks(Chunked),
    AwaitClose,
    Done,
    /// Said once, said always: the connection has lost its framing.
    Failed(BodyError),
}

/// What one call of `handle_bytes` made of its input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// Bytes of the input that are dealt with, data included. Less than the input when there is more to step over: call again
    /// with the rest. Bytes behind the body's end are not touched.
    pub consumed: usize,
    /// The body bytes inside the input: one run, maybe empty.
    pub data: Range<usize>,
    /// The body is over.
    pub done: bool,
}

/// Why a body is broken. Close both sides at once, and do not answer twice (rule 16).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BodyError {
    /// Short and constant, for logs and labels.
    pub reason: &'static str,
}

impl BodyDecoder {
    /// A decoder for a request's body: trailers that may not stand there break it.
    #[must_use]
    pub fn new(framing: Framing) -> BodyDecoder {
        BodyDecoder::with(framing, true)
    }

    /// A decoder for a response's body: trailers that may not stand there are dropped like all others (rule 13).
    #[must_use]
    pub fn for_response(framing: Framing) -> BodyDecoder {
        BodyDecoder::with(framing, false)
    }

    /// Steps over some of `input`.
    ///
    /// # Errors
    /// The framing is broken; body bytes in front of the fault have been handed out by the step before.
    pub fn handle_bytes(&mut self, input: &[u8]) -> Result<Step, BodyError> {
        match &mut self.state {
            State::AwaitBytes(left) => {
                let len = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left = left.saturating_sub(len as u64);
                let done = *left == 0;
                if done {
                    self.state = State::Done;
                }
                Ok(Step { consumed: len, data: 0..len, done })
            }
            State::AwaitChunks(chunked) => match chunked.handle_bytes(input) {
                Ok(step) => {
                    if step.done {
                        self.state = State::Done;
                    }
                    Ok(step)
                }
                Err(error) => {
                    self.state = State::Failed(error);
                    Err(error)
                }
            },
            State::AwaitClose => Ok(Step { consumed: input.len(), data: 0..input.len(), done: false }),
            State::Done => Ok(Step { consumed: 0, data: 0..0, done: true }),
            State::Failed(error) => Err(*error),
        }
    }

    /// The peer has ended its side.
    ///
    /// # Errors
    /// The body is cut: its length or its last chunk had not come yet. A cut body must look cut to whoever reads on.
    pub fn handle_eof(&mut self) -> Result<(), BodyError> {
        match self.state {
            State::AwaitClose | State::Done => {
                self.state = State::Done;
                Ok(())
            }
            State::AwaitBytes(_) | State::AwaitChunks(_) => {
                let error = BodyError { reason: "body_cut" };
                self.state = State::Failed(error);
                Err(error)
            }
            State::Failed(error) => Err(error),
        }
    }

    /// The body is over; bytes that follow are not its.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Body bytes still to come, where that is known.
    #[must_use]
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::AwaitBytes(left) => Some(left),
            State::Done => Some(0),
            State::AwaitChunks(_) | State::AwaitClose | State::Failed(_) => None,
        }
    }

    fn with(framing: Framing, strict_trailers: bool) -> BodyDecoder {
        BodyDecoder {
            state: match framing {
                Framing::None | Framing::Length(0) => State::Done,
                Framing::Length(len) => State::AwaitBytes(len),
                Framing::Chunked => State::AwaitChunks(Chunked::new(strict_trailers)),
                Framing::UntilClose => State::AwaitClose,
            },
        }
    }
}
