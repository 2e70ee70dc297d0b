//! A cursor that steps over JSON without judging it: finds where values end and what lies between commas. On text that was
//! validated before it cannot fail; on an upstream's answer a failure means the answer cannot be cut.

use crate::sys::Span;

/// The text is not JSON in a way that matters to cutting it; the offset where that showed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Unwalkable(pub(super) usize);

/// Position in `text`; every step leaves it after what it returned.
#[derive(Clone)]
pub(super) struct Walk<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(text: &'a [u8], at: usize) -> Walk<'a> {
        Walk { text, at }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn fail<T>(&self) -> Result<T, Unwalkable> {
        Err(Unwalkable(self.at))
    }

    /// The next byte that is not white space, not consumed.
    pub(super) fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.text.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    pub(super) fn take(&mut self, byte: u8) -> Result<(), Unwalkable> {
        if self.peek() != Some(byte) {
            return self.fail();
        }
        self.at += 1;
        Ok(())
    }

    /// Inside an array, after `[` or after an element: the next element, or `None` once its `]` is consumed.
    pub(super) fn next_element(&mut self) -> Result<Option<Span>, Unwalkable> {
        if self.between(b'[', b']')? { self.value().map(Some) } else { Ok(None) }
    }

    /// Inside an object, after `{` or after a value: the next key with its quotes, the cursor before its value; or `None`
    /// once the `}` is consumed.
    pub(super) fn next_key(&mut self) -> Result<Option<&'a [u8]>, Unwalkable> {
        if !self.between(b'{', b'}')? {
            return Ok(None);
        }
        if self.peek() != Some(b'"') {
            return self.fail();
        }
        let key = self.value()?;
        self.take(b':')?;
        Ok(Some(key.of(self.text)))
    }

    /// Steps over the comma between two elements, or none right after `open`; false when `close` was consumed.
    pub(super) fn between(&mut self, open: u8, close: u8) -> Result<bool, Unwalkable> {
        let first = self.text[..self.at].last() == Some(&open);
        match self.peek() {
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            Some(b',') if !first => {
                self.at += 1;
                Ok(true)
            }
            Some(_) if first => Ok(true),
            _ => self.fail(),
        }
    }

    /// The value at the cursor, whatever it is.
    pub(super) fn value(&mut self) -> Result<Span, Unwalkable> {
        let Some(byte) = self.peek() else { return self.fail() };
        let start = self.at;
        match byte {
            b'"' => self.at = string_end(self.text, self.at).ok_or(Unwalkable(self.at))?,
            b'[' | b'{' => self.nested()?,
            b',' | b':' | b']' | b'}' => return self.fail(),
            _ => {
                let rest = &self.text[start..];
                let ends = |byte: &u8| matches!(byte, b',' | b':' | b']' | b'}' | b' ' | b'\t' | b'\r' | b'\n' | b'"' | b'[' | b'{');
                self.at = start + rest.iter().position(ends).unwrap_or(rest.len());
            }
        }
        Ok(Span::new(start..self.at))
    }

    /// Steps over an array or object. A flat array of numbers, which is what a vector is, ends at the next `]`.
    fn nested(&mut self) -> Result<(), Unwalkable> {
        if self.text[self.at] == b'['
            && let Some(len) = memchr::memchr(b']', &self.text[self.at..])
            && is_flat(&self.text[self.at + 1..self.at + len])
        {
            self.at += len + 1;
            return Ok(());
        }
        // One bit a level, set for an object; DEPTH_MAX levels fit.
        let mut kinds = 0u128;
        let mut depth = 0u32;
        loop {
            let Some(&byte) = self.text.get(self.at) else { return self.fail() };
            match byte {
                b'"' => {
                    self.at = string_end(self.text, self.at).ok_or(Unwalkable(self.at))?;
                    continue;
                }
                b'[' | b'{' if depth == super::DEPTH_MAX => return self.fail(),
                b'[' | b'{' => {
                    kinds = kinds << 1 | u128::from(byte == b'{');
                    depth += 1;
                }
                b']' | b'}' => {
                    if (kinds & 1 == 1) != (byte == b'}') {
                        return self.fail();
                    }
                    kinds >>= 1;
                    depth -= 1;
                }
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Ok(());
            }
        }
    }
}

/// Holds nothing that could open, close or quote: one pass the compiler vectorises.
fn is_flat(text: &[u8]) -> bool {
    text.iter().fold(true, |flat, byte| flat & !matches!(byte, b'[' | b'{' | b'}' | b'"'))
}

/// The offset after the closing quote of the string whose opening quote is at `at`.
pub(super) fn string_end(text: &[u8], at: usize) -> Option<usize> {
    let mut from = at + 1;
    loop {
        let found = from + memchr::memchr2(b'"', b'\\', text.get(from..)?)?;
        if text[found] == b'"' {
            return Some(found + 1);
        }
        from = found + 2;
    }
}
