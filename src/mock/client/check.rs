//! Is this the answer to what was asked: as many vectors as items, each index once, each vector its own item's. Equal bytes are
//! the usual case; a server that spells numbers in another way is compared by value.

use super::template::Template;
use crate::json::{AnswerShape, Element, scan_answer};
use crate::mock::{vector, write_base64, write_numbers};

/// Buffers that are used again for each answer.
#[derive(Default)]
pub(super) struct Checker {
    shape: AnswerShape,
    item: Vec<u8>,
    expected: Vec<u8>,
    seen: Vec<bool>,
}

impl Checker {
    /// Whether `body` answers request `unique` of `template`.
    pub(super) fn check(&mut self, body: &[u8], template: &Template, unique: u64) -> bool {
        let count = template.item_count();
        if scan_answer(body, &mut self.shape).is_err() || self.shape.elements.len() != count {
            return false;
        }
        self.seen.clear();
        self.seen.resize(count, false);
        for at in 0..count {
            let element = self.shape.elements[at];
            let index = element.index_value as usize;
            if index >= count || std::mem::replace(&mut self.seen[index], true) {
                return false;
            }
            template.write_item(index, unique, &mut self.item);
            if !self.is_right(body, element, template) {
                return false;
            }
        }
        true
    }

    fn is_right(&mut self, body: &[u8], element: Element, template: &Template) -> bool {
        let Some(found) = embedding_of(element.span.of(body)) else { return false };
        self.expected.clear();
        if template.base64 {
            write_base64(&mut self.expected, &self.item, template.dims);
        } else {
            write_numbers(&mut self.expected, &self.item, template.dims);
        }
        found.starts_with(&self.expected) || (!template.base64 && same_numbers(found, &self.item, template.dims))
    }
}

/// What follows `"embedding":` in an element.
fn embedding_of(element: &[u8]) -> Option<&[u8]> {
    let key = b"\"embedding\"";
    memchr::memmem::find_iter(element, key).find_map(|at| {
        let value = element[at + key.len()..].trim_ascii_start().strip_prefix(b":")?;
        Some(value.trim_ascii_start())
    })
}

fn same_numbers(text: &[u8], item: &[u8], dims: u32) -> bool {
    let Some(end) = memchr::memchr(b']', text) else { return false };
    serde_json::from_slice::<Vec<f32>>(&text[..=end]).is_ok_and(|found| found == vector(item, dims))
}
