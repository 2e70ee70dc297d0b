//! A request rendered once, with holes: each use fills in the 16 hexadecimal digits that make its texts unique, and nothing else
//! changes, so that the generator costs little beside what it measures.

use std::ops::Range;

use bytes::Bytes;

use super::LoadConfig;
use crate::mock::DIMS;
use crate::sys::Parts;

/// What is sent.
#[derive(Clone, PartialEq, Debug)]
pub enum LoadBody {
    /// `POST`: an embeddings request of `items` unique texts of `input_bytes` each.
    Embeddings { model: String, items: u32, input_bytes: u32, base64: bool, dims: u32 },
    /// `POST`: an embeddings request of one unique text, `body_bytes` in all (more when the least text does not fit).
    Sized { model: String, body_bytes: u32, model_last: bool, dims: u32 },
    /// `POST`: a chat of one unique message that wants a stream, of at most `max_tokens` events; `body_bytes` as above.
    Chat { model: String, body_bytes: u32, model_last: bool, max_tokens: Option<u32> },
    /// `POST`: these bytes, every time.
    Fixed { content_type: String, bytes: Vec<u8> },
    /// `GET`, without a body.
    Get,
}

impl LoadBody {
    /// One short text, answered in floats of the mock's usual size.
    #[must_use]
    pub fn embeddings(model: &str) -> LoadBody {
        LoadBody::Embeddings { model: model.to_owned(), items: 1, input_bytes: 32, base64: false, dims: DIMS }
    }

    /// Whether the answer holds vectors that can be told right from wrong.
    #[must_use]
    pub const fn can_be_checked(&self) -> bool {
        matches!(self, LoadBody::Embeddings { .. } | LoadBody::Sized { .. })
    }
}

/// The whole request, head and body.
pub(super) struct Template {
    /// Where the empty line begins that ends the head.
    head_end: usize,
    /// Up to the last hole, or to the end of a short request: copied and filled in for each use.
    front: Vec<u8>,
    /// What never changes behind it: lent to every send.
    back: Bytes,
    /// Where each item's text lies; its first 16 bytes are the hole.
    items: Vec<Range<usize>>,
    pub(super) base64: bool,
    pub(super) dims: u32,
}

/// A body under construction.
#[derive(Default)]
struct Draft {
    body: Vec<u8>,
    items: Vec<Range<usize>>,
}

impl Template {
    pub(super) fn new(config: &LoadConfig, body: &LoadBody) -> Template {
        let mut draft = Draft::default();
        let (mut as_base64, mut dims_wanted, mut kind) = (false, DIMS, "application/json");
        match body {
            LoadBody::Get => {}
            LoadBody::Fixed { content_type, bytes } => {
                draft.body.extend_from_slice(bytes);
                kind = content_type;
            }
            LoadBody::Embeddings { model, items: count, input_bytes, base64, dims } => {
                (as_base64, dims_wanted) = (*base64, *dims);
                draft.embeddings(model, *count, *input_bytes, *base64);
            }
            LoadBody::Sized { model, body_bytes, model_last, dims } => {
                dims_wanted = *dims;
                draft.sized(model, *model_last, b"\"input\":\"", b"\"", *body_bytes);
            }
            LoadBody::Chat { model, body_bytes, model_last, max_tokens } => {
                let limit = max_tokens.map_or(String::new(), |most| format!("\"max_tokens\":{most},"));
                let before = format!("\"stream\":true,{limit}\"messages\":[{{\"role\":\"user\",\"content\":\"");
                draft.sized(model, *model_last, before.as_bytes(), b"\"}]", *body_bytes);
            }
        }
        let mut bytes = match body {
            LoadBody::Get => format!("GET {} HTTP/1.1\r\nhost: {}\r\n\r\n", config.path, config.authority),
            LoadBody::Embeddings { .. } | LoadBody::Sized { .. } | LoadBody::Chat { .. } | LoadBody::Fixed { .. } => format!(
                "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
                config.path,
                config.authority,
                draft.body.len()
            ),
        }
        .into_bytes();
        let head_end = bytes.len() - 2;
        let Draft { body, mut items } = draft;
        for item in &mut items {
            *item = item.start + bytes.len()..item.end + bytes.len();
        }
        bytes.extend_from_slice(&body);
        let holes_end = items.last().map_or(0, |item| item.start + HOLE_BYTES);
        let back = if bytes.len() - holes_end > COPIED_BYTES_MAX { bytes.split_off(holes_end) } else { Vec::new() };
        Template { head_end, front: bytes, back: Bytes::from(back), items, base64: as_base64, dims: dims_wanted }
    }

    /// The request number `unique`, built in `front`, which is empty. `last`: the server is told to end the connection behind it.
    pub(super) fn request(&self, unique: u64, mut front: Vec<u8>, last: bool) -> Parts {
        front.extend_from_slice(&self.front);
        let digits = hex(unique);
        for item in &self.items {
            front[item.start..item.start + HOLE_BYTES].copy_from_slice(&digits);
        }
        if last {
            front.splice(self.head_end..self.head_end, *b"connection: close\r\n");
        }
        let parts = Parts::from(front);
        if self.back.is_empty() { parts } else { parts.with(self.back.clone()) }
    }

    pub(super) const fn item_count(&self) -> usize {
        self.items.len()
    }

    /// Puts the text of item `at` of request `unique` into `out`.
    pub(super) fn write_item(&self, at: usize, unique: u64, out: &mut Vec<u8>) {
        out.clear();
        let Range { start, end } = self.items[at].clone();
        let inside = end.min(self.front.len());
        out.extend_from_slice(&self.front[start..inside]);
        out.extend_from_slice(&self.back[..end - inside]);
        out[..HOLE_BYTES].copy_from_slice(&hex(unique));
    }
}

impl Draft {
    fn embeddings(&mut self, model: &str, count: u32, input_bytes: u32, base64: bool) {
        let count = count.max(1);
        self.body.extend_from_slice(b"{\"model\":");
        self.string(model);
        if base64 {
            self.body.extend_from_slice(b",\"encoding_format\":\"base64\"");
        }
        self.body.extend_from_slice(if count == 1 { b",\"input\":" } else { b",\"input\":[" });
        for at in 0..count {
            self.body.extend_from_slice(if at > 0 { b",\"" } else { b"\"" });
            // Items of one request differ by their number; it is cut off only where the text has no room for it.
            let least = if count > 1 { INPUT_BYTES_MIN + 1 + at.checked_ilog10().unwrap_or(0) + 1 } else { INPUT_BYTES_MIN };
            self.text(at, input_bytes.max(least));
            self.body.push(b'"');
        }
        self.body.extend_from_slice(if count == 1 { b"}" } else { b"]}" });
    }

    /// An object of `body_bytes` with a model and, between `before` and `behind`, one text that fills it up.
    fn sized(&mut self, model: &str, model_last: bool, before: &[u8], behind: &[u8], body_bytes: u32) {
        self.body.push(b'{');
        if !model_last {
            self.body.extend_from_slice(b"\"model\":");
            self.string(model);
            self.body.push(b',');
        }
        self.body.extend_from_slice(before);
        let mut end = Draft { body: behind.to_vec(), ..Draft::default() };
        if model_last {
            end.body.extend_from_slice(b",\"model\":");
            end.string(model);
        }
        end.body.push(b'}');
        let taken = u32::try_from(self.body.len() + end.body.len()).unwrap_or(u32::MAX);
        self.text(0, body_bytes.saturating_sub(taken).max(INPUT_BYTES_MIN));
        self.body.extend_from_slice(&end.body);
    }

    fn string(&mut self, text: &str) {
        // Writing a string to a vector cannot fail.
        let _ = serde_json::to_writer(&mut self.body, text);
    }

    /// Item `at`, of `bytes` bytes.
    fn text(&mut self, at: u32, bytes: u32) {
        let start = self.body.len();
        self.body.extend_from_slice(&hex(0));
        let tail = format!("-{at} ").into_bytes().into_iter().chain(FILLER.iter().copied().cycle());
        self.body.extend(tail.take((bytes - INPUT_BYTES_MIN) as usize));
        self.items.push(start..self.body.len());
    }
}

fn hex(value: u64) -> [u8; HOLE_BYTES] {
    let mut digits = [b'0'; HOLE_BYTES];
    for (at, digit) in digits.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[usize::try_from(value >> (60 - 4 * at) & 15).unwrap_or(0)];
    }
    digits
}

/// The shortest text there is room for: what makes it unique.
pub const INPUT_BYTES_MIN: u32 = 16;
const HOLE_BYTES: usize = 16;
/// Words without anything JSON escapes.
const FILLER: &[u8] = b"water runs down the headrace to the turbine and ";
/// What may stand behind the last hole and still be copied for each request: below this a second part costs more than the copy.
const COPIED_BYTES_MAX: usize = 2048;
