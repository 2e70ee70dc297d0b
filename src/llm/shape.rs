//! The shape of a stream's events: most differ from the one before only by the text that was generated. Such an event says nothing new
//! and is told by comparing, not by reading it again.
//!
//! Why that is sound: the event learned was read whole as JSON; what stands in place of its text is a string like any other (UTF-8, no
//! quote, no backslash, no control character), under a key whose value nobody looks at; all else is the same, byte for byte.

/// An event that said nothing new, without its text.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    /// All up to the text with its opening quote, and all from its closing quote; empty when there is none.
    around: Box<[u8]>,
    /// Where the text stood.
    split: usize,
}

impl Shape {
    /// Whether `data` differs from what was learned by its text at most.
    pub(super) fn fits(&self, data: &[u8]) -> bool {
        let (before, behind) = self.around.split_at(self.split);
        let Some(end) = data.len().checked_sub(behind.len()).filter(|end| *end >= before.len()) else { return false };
        // Behind first: what differs is mostly the end, and in lengths.
        !before.is_empty() && data[end..] == *behind && data[..before.len()] == *before && is_plain(&data[before.len()..end])
    }

    /// The shape of an event that was read as JSON, when it is small and holds a text.
    pub(super) fn of(data: &[u8]) -> Option<Shape> {
        let (start, end) = text(data)?;
        let around = [&data[..start], &data[end..]].concat().into_boxed_slice();
        (around.len() <= SHAPE_BYTES_MAX).then_some(Shape { around, split: start })
    }
}

/// Nothing in it ends a JSON string or means something else in one.
fn is_plain(text: &[u8]) -> bool {
    // Without an early end: a loop the compiler turns into vectors.
    let odd = text.iter().fold(false, |odd, byte| odd | (*byte < b' ') | (*byte == b'"') | (*byte == b'\\'));
    !odd && std::str::from_utf8(text).is_ok()
}

/// Where the first string under one of [`TEXT_KEYS`] lies, without its quotes.
fn text(data: &[u8]) -> Option<(usize, usize)> {
    let (mut at, mut is_text) = (0, false);
    loop {
        let open = at + memchr::memchr(b'"', data.get(at..)?)?;
        // A key is followed by its value at once, but for white space.
        is_text &= data[at..open].iter().all(|byte| matches!(byte, b':' | b' '));
        let close = super::stream::string_end(data, open)?;
        at = close + 1;
        let is_key = data.get(at) == Some(&b':');
        if is_text && !is_key {
            return Some((open + 1, close));
        }
        is_text = is_key && TEXT_KEYS.contains(&&data[open + 1..close]);
    }
}

/// Members that hold what was generated, in the streams of the `OpenAI` APIs, of Anthropic's messages and of llama.cpp. None of them is
/// looked at by `StreamTap` when it is a string.
const TEXT_KEYS: [&[u8]; 8] =
    [b"content", b"text", b"delta", b"reasoning_content", b"reasoning", b"thinking", b"partial_json", b"arguments"];
/// What an event may hold beside its text to be remembered.
pub(super) const SHAPE_BYTES_MAX: usize = 512;
