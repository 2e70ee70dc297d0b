//! A piece of a buffer by place and length, so that parsed things need no lifetime and no copy.

use std::ops::Range;

/// `len` bytes from `start` of a buffer that is known from the context. Buffers here are far below 4 GiB (config limits).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Span {
    pub start: u32,
    pub len: u32,
}

impl Span {
    /// The span of `range`; a buffer of 4 GiB or more is cut at that bound (config limits keep buffers far below).
    #[must_use]
    pub fn new(range: Range<usize>) -> Span {
        let start = u32::try_from(range.start).unwrap_or(u32::MAX);
        Span { start, len: u32::try_from(range.end.saturating_sub(range.start)).unwrap_or(u32::MAX) }
    }

    #[must_use]
    pub const fn end(self) -> usize {
        self.start as usize + self.len as usize
    }

    #[must_use]
    pub const fn range(self) -> Range<usize> {
        self.start as usize..self.end()
    }

    /// The bytes of `buffer` this span names.
    ///
    /// # Panics
    /// When the span does not lie in `buffer`: the caller mixed up buffers.
    #[must_use]
    pub fn of(self, buffer: &[u8]) -> &[u8] {
        &buffer[self.range()]
    }
}
