//! The top-level members of a JSON object, found in one pass that checks the whole text on its way. It takes only what every reader
//! takes the same way; whatever is unusual (a fault, an escaped key, a key named twice) it leaves to `serde_json`, whose verdict and
//! message are the ones that count. Long strings, which are most of a body, are stepped over many bytes at a time.

#[cfg(test)]
mod tests;

use super::DEPTH_MAX;
use crate::sys::Span;

/// The values of the `wanted` keys, where they lie in `body`. `None`: not an object, not JSON, or not plain; ask the slow way.
#[must_use]
pub fn members<const N: usize>(body: &[u8], wanted: [&[u8]; N]) -> Option<[Option<Span>; N]> {
    members_in(&[body], wanted)
}

/// The same in a body that lies in several pieces, one behind the other; the spans count from the first one's start. Also `None`
/// when a top-level key or a value that is wanted lies across two pieces.
#[must_use]
pub(super) fn members_in<const N: usize>(pieces: &[&[u8]], wanted: [&[u8]; N]) -> Option<[Option<Span>; N]> {
    let mut found = [None; N];
    let mut cursor = Cursor { text: &[], at: 0, before: 0, rest: pieces };
    cursor.take(b'{')?;
    if cursor.peek()? == b'}' {
        cursor.at += 1;
        return cursor.is_over().then_some(found);
    }
    let is_text = |span: &Span| slice_in(pieces, *span).is_some_and(|value| std::str::from_utf8(value).is_ok());
    loop {
        let key = cursor.key()?;
        cursor.peek()?;
        let start = cursor.offset();
        cursor.value()?;
        if let Some(place) = wanted.iter().position(|wanted| *wanted == key) {
            if found[place].is_some() {
                return None;
            }
            found[place] = Some(Span::new(start..cursor.offset()));
        }
        match cursor.peek()? {
            b',' => cursor.at += 1,
            b'}' => {
                cursor.at += 1;
                let good = cursor.is_over() && found.iter().flatten().all(is_text);
                return good.then_some(found);
            }
            _ => return None,
        }
    }
}

/// The bytes of `span` when they lie in one of the pieces.
pub(super) fn slice_in<'a>(pieces: &[&'a [u8]], span: Span) -> Option<&'a [u8]> {
    let mut start = span.start as usize;
    for piece in pieces {
        if start < piece.len() {
            return piece.get(start..start + span.len as usize);
        }
        start -= piece.len();
    }
    None
}

/// Reads one piece after the other; strings, numbers and words may lie across their borders.
struct Cursor<'a, 'p> {
    text: &'a [u8],
    at: usize,
    /// Bytes of the pieces before `text`.
    before: usize,
    rest: &'p [&'a [u8]],
}

impl<'a> Cursor<'a, '_> {
    fn offset(&self) -> usize {
        self.before + self.at
    }

    /// Goes on to the next piece that holds anything; false at the end.
    #[cold]
    fn next_piece(&mut self) -> bool {
        while let [next, rest @ ..] = self.rest {
            self.before += self.text.len();
            (self.text, self.at, self.rest) = (next, 0, rest);
            if !next.is_empty() {
                return true;
            }
        }
        false
    }

    /// The next byte, not consumed.
    #[inline]
    fn byte(&mut self) -> Option<u8> {
        loop {
            if let Some(byte) = self.text.get(self.at) {
                return Some(*byte);
            }
            if !self.next_piece() {
                return None;
            }
        }
    }

    /// The next byte that is not white space, not consumed.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        match self.text.get(self.at) {
            Some(byte) if *byte > b' ' => Some(*byte),
            _ => self.peek_on(),
        }
    }

    /// Over white space, and on to the next piece.
    fn peek_on(&mut self) -> Option<u8> {
        loop {
            let byte = self.byte()?;
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn is_over(&mut self) -> bool {
        self.peek().is_none()
    }

    /// A key without escapes, and its colon.
    #[inline]
    fn key(&mut self) -> Option<&'a [u8]> {
        if self.peek()? != b'"' {
            return None;
        }
        let (start, piece) = (self.at + 1, self.before);
        self.string()?;
        if self.before != piece {
            return None;
        }
        let key = &self.text[start..self.at - 1];
        self.take(b':')?;
        memchr::memchr(b'\\', key).is_none().then_some(key)
    }

    /// One value, however deep, without recursion: a bit for each open container says whether it is an object.
    #[inline]
    fn value(&mut self) -> Option<()> {
        let mut objects = 0u128;
        let mut depth = 0;
        loop {
            match self.peek()? {
                b'"' => self.string()?,
                open @ (b'{' | b'[') => {
                    self.at += 1;
                    let close = if open == b'{' { b'}' } else { b']' };
                    if self.peek()? != close {
                        depth += 1;
                        // The outermost object counts as one.
                        if depth >= DEPTH_MAX {
                            return None;
                        }
                        objects = objects << 1 | u128::from(open == b'{');
                        if open == b'{' {
                            self.inner_key()?;
                        }
                        continue;
                    }
                    self.at += 1;
                }
                b'-' | b'0'..=b'9' => self.number()?,
                b't' => self.word(b"true")?,
                b'f' => self.word(b"false")?,
                b'n' => self.word(b"null")?,
                _ => return None,
            }
            // The value is over, and with it perhaps the containers it ends.
            loop {
                if depth == 0 {
                    return Some(());
                }
                let in_object = objects & 1 == 1;
                match self.peek()? {
                    b',' => {
                        self.at += 1;
                        if in_object {
                            self.inner_key()?;
                        }
                        break;
                    }
                    b'}' if in_object => {}
                    b']' if !in_object => {}
                    _ => return None,
                }
                self.at += 1;
                depth -= 1;
                objects >>= 1;
            }
        }
    }

    /// A key inside a value, in any spelling, and its colon.
    fn inner_key(&mut self) -> Option<()> {
        if self.peek()? != b'"' {
            return None;
        }
        self.string()?;
        self.take(b':')
    }

    /// The string that begins here.
    #[inline]
    fn string(&mut self) -> Option<()> {
        self.at += 1;
        loop {
            let rest = self.text.get(self.at..)?;
            let plain = plain_len(rest);
            self.at += plain;
            match rest.get(plain) {
                Some(b'"') => {
                    self.at += 1;
                    return Some(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    self.escape()?;
                }
                // A control character.
                Some(_) => return None,
                None if self.next_piece() => {}
                None => return None,
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Option<()> {
        let kind = self.byte()?;
        self.at += 1;
        match kind {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => (0..4).try_for_each(|_| {
                let is_digit = self.byte()?.is_ascii_hexdigit();
                self.at += 1;
                is_digit.then_some(())
            }),
            _ => None,
        }
    }

    fn number(&mut self) -> Option<()> {
        self.at += usize::from(self.byte()? == b'-');
        match self.byte()? {
            b'0' => self.at += 1,
            b'1'..=b'9' => self.digits()?,
            _ => return None,
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.byte(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.byte(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.offset();
        while self.byte().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.offset() > start).then_some(())
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        word.iter().try_for_each(|letter| {
            let same = self.byte()? == *letter;
            self.at += 1;
            same.then_some(())
        })
    }
}

/// Bytes in front of the first quote, backslash or control character; all when there is none.
#[inline]
fn plain_len(text: &[u8]) -> usize {
    let mut at = 0;
    // Most strings are short: by words that costs less than a call. The others, which are most of a large body, many bytes at once.
    while at < SHORT {
        let Some(word) = text[at..].first_chunk() else {
            return at + text[at..].iter().position(is_special).unwrap_or(text.len() - at);
        };
        let special = special_bytes(u64::from_le_bytes(*word));
        if special != 0 {
            return at + special.trailing_zeros() as usize / 8;
        }
        at += size_of::<u64>();
    }
    let rest = &text[at..];
    let len = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
    // A fold without an early way out: the compiler takes many bytes at once.
    if rest[..len].iter().fold(0xff, |least, byte| least.min(*byte)) < 0x20 {
        return at + rest.iter().position(is_special).unwrap_or(len);
    }
    at + len
}

fn is_special(byte: &u8) -> bool {
    matches!(byte, b'"' | b'\\' | 0..0x20)
}

/// Bit 7 of the first byte that [`is_special`], and perhaps of later ones: a byte is zero when subtracting one from it borrows
/// (Warren, Hacker's Delight, 6-1), and a borrow from below only reaches bytes above a true one.
const fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGH: u64 = ONES << 7;
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let zeros = (quote.wrapping_sub(ONES) & !quote) | (backslash.wrapping_sub(ONES) & !backslash);
    let controls = word.wrapping_sub(ONES * 0x20) & !word;
    (zeros | controls) & HIGH
}

const SHORT: usize = 32;
