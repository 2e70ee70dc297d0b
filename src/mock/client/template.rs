//! A request rendered once, with holes: each use fills in the 16 hexadecimal digits that make its texts unique, and nothing else
//! changes, so that the generator costs little beside what it measures.

use std::ops::Range;

use super::LoadConfig;
use crate::mock::DIMS;

/// What is sent.
#[derive(Clone, PartialEq, Debug)]
pub enum LoadBody {
    /// `POST`: an embeddings request of `items` unique texts of `input_bytes` each.
    Embeddings { model: String, items: u32, input_bytes: u32, base64: bool, dims: u32 },
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
}

/// The whole request, head and body.
pub(super) struct Template {
    bytes: Vec<u8>,
    /// Where each item's text lies; its first 16 bytes are the hole.
    items: Vec<Range<usize>>,
    pub(super) base64: bool,
    pub(super) dims: u32,
}

impl Template {
    pub(super) fn new(config: &LoadConfig) -> Template {
        let (mut body, mut items) = (Vec::new(), Vec::new());
        let (mut as_base64, mut dims_wanted, mut kind) = (false, DIMS, "application/json");
        match &config.body {
            LoadBody::Get => {}
            LoadBody::Fixed { content_type, bytes } => {
                body.extend_from_slice(bytes);
                kind = content_type;
            }
            LoadBody::Embeddings { model, items: count, input_bytes, base64, dims } => {
                (as_base64, dims_wanted) = (*base64, *dims);
                write_embeddings(model, *count, *input_bytes, *base64, &mut body, &mut items);
            }
        }
        let mut bytes = match &config.body {
            LoadBody::Get => format!("GET {} HTTP/1.1\r\nhost: {}\r\n\r\n", config.path, config.authority),
            LoadBody::Embeddings { .. } | LoadBody::Fixed { .. } => format!(
                "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
                config.path,
                config.authority,
                body.len()
            ),
        }
        .into_bytes();
        for item in &mut items {
            *item = item.start + bytes.len()..item.end + bytes.len();
        }
        bytes.extend_from_slice(&body);
        Template { bytes, items, base64: as_base64, dims: dims_wanted }
    }

    /// Appends the request number `unique`.
    pub(super) fn write(&self, unique: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let digits = hex(unique);
        for item in &self.items {
            let hole = start + item.start;
            out[hole..hole + digits.len()].copy_from_slice(&digits);
        }
    }

    pub(super) const fn item_count(&self) -> usize {
        self.items.len()
    }

    /// Puts the text of item `at` of request `unique` into `out`.
    pub(super) fn write_item(&self, at: usize, unique: u64, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&self.bytes[self.items[at].clone()]);
        let digits = hex(unique);
        out[..digits.len()].copy_from_slice(&digits);
    }
}

fn write_embeddings(model: &str, count: u32, input_bytes: u32, base64: bool, body: &mut Vec<u8>, items: &mut Vec<Range<usize>>) {
    let count = count.max(1);
    body.extend_from_slice(b"{\"model\":");
    // Writing a string to a vector cannot fail.
    let _ = serde_json::to_writer(&mut *body, model);
    if base64 {
        body.extend_from_slice(b",\"encoding_format\":\"base64\"");
    }
    body.extend_from_slice(if count == 1 { b",\"input\":" } else { b",\"input\":[" });
    for at in 0..count {
        body.extend_from_slice(if at > 0 { b",\"" } else { b"\"" });
        let start = body.len();
        body.extend_from_slice(&hex(0));
        // Items of one request differ by their number; it is cut off only where the text has no room for it.
        let tail = format!("-{at} ").into_bytes().into_iter().chain(FILLER.iter().copied().cycle());
        let least = if count > 1 { INPUT_BYTES_MIN + 1 + at.checked_ilog10().unwrap_or(0) + 1 } else { INPUT_BYTES_MIN };
        body.extend(tail.take((input_bytes.max(least) - INPUT_BYTES_MIN) as usize));
        items.push(start..body.len());
        body.push(b'"');
    }
    body.extend_from_slice(if count == 1 { b"}" } else { b"]}" });
}

fn hex(value: u64) -> [u8; 16] {
    let mut digits = [b'0'; 16];
    for (at, digit) in digits.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[usize::try_from(value >> (60 - 4 * at) & 15).unwrap_or(0)];
    }
    digits
}

/// The shortest text there is room for: what makes it unique.
pub const INPUT_BYTES_MIN: u32 = 16;
/// Words without anything JSON escapes.
const FILLER: &[u8] = b"water runs down the headrace to the turbine and ";
