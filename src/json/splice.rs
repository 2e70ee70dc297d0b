//! The splice writer: puts a message together from slices of buffers that are already there and a little glue. Long slices are
//! shared, short ones are copied, so that a message is a few pieces and not a hundred.

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;
use std::ops::Range;

/// A message in pieces, to be written one after the other.
pub type Pieces = SmallVec<[Bytes; 4]>;

/// Writes one message after another; all of them cut their glue from one buffer.
#[derive(Debug)]
pub struct Splice {
    pieces: Pieces,
    glue: BytesMut,
    len: usize,
    share_from: usize,
}

impl Splice {
    /// `glue_bytes`: how much will be copied, as far as known. `share_from`: slices at least this long are shared, not copied;
    /// `usize::MAX` makes one piece of everything.
    #[must_use]
    pub fn new(glue_bytes: usize, share_from: usize) -> Splice {
        Splice { pieces: Pieces::new(), glue: BytesMut::with_capacity(glue_bytes), len: 0, share_from }
    }

    /// Appends a part of `source`, shared when it is long.
    ///
    /// # Panics
    /// When `range` does not lie in `source`.
    pub fn slice(&mut self, source: &Bytes, range: Range<usize>) {
        if range.len() < self.share_from {
            self.copy(&source[range]);
            return;
        }
        self.len += range.len();
        self.flush();
        self.pieces.push(source.slice(range));
    }

    /// Appends a copy of `text`.
    pub fn copy(&mut self, text: &[u8]) {
        self.len += text.len();
        self.glue.extend_from_slice(text);
    }

    /// Appends a number in decimal.
    pub fn number(&mut self, value: u64) {
        let mut digits = itoa::Buffer::new();
        self.copy(digits.format(value).as_bytes());
    }

    /// Ends the message; returns its pieces and its length. The writer is ready for the next one.
    pub fn finish(&mut self) -> (Pieces, usize) {
        self.flush();
        (std::mem::take(&mut self.pieces), std::mem::take(&mut self.len))
    }

    fn flush(&mut self) {
        if !self.glue.is_empty() {
            self.pieces.push(self.glue.split().freeze());
        }
    }
}
