//! An embeddings answer: where its `data` elements, each one's `index`, and its usage numbers lie, so that it can be cut into
//! one answer per asker. Whether the indexes are the right ones is the batch room's to judge.

use super::ScanError;
use super::walk::{Unwalkable, Walk};
use crate::sys::Span;

/// One element of `data`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Element {
    /// The whole object.
    pub span: Span,
    /// The text of its `index` number.
    pub index: Span,
    pub index_value: u32,
}

/// A number somewhere inside `usage`: `value / 10^scale`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Number {
    /// The key it stands under, with its quotes.
    pub key: Span,
    pub span: Span,
    pub value: u64,
    /// Digits after the decimal point.
    pub scale: u8,
}

/// The cut of one answer. Kept and refilled, so that scanning allocates nothing once warm.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AnswerShape {
    /// What stands between the brackets of `data`.
    pub data: Span,
    /// In the order of the text, which need not be the order of the indexes.
    pub elements: Vec<Element>,
    /// The whole value of `usage`, when there is one.
    pub usage: Option<Span>,
    /// The non-negative plain numbers inside `usage`, at any depth, in the order of the text.
    pub numbers: Vec<Number>,
}

/// Finds the pieces of `{"data":[{"index":i,...},...],"usage":{...},...}`; other fields may stand anywhere.
///
/// # Errors
/// `wrong_shape` when it is not that, or not JSON in a way that matters to cutting it; `duplicate_field` when `data`, `usage` or an
/// `index` stands twice. `shape` holds rubbish then.
pub fn scan_answer(body: &[u8], shape: &mut AnswerShape) -> Result<(), ScanError> {
    shape.elements.clear();
    shape.numbers.clear();
    shape.usage = None;
    let mut data = None;
    let mut walk = Walk::new(body, 0);
    walk.take(b'{')?;
    while let Some(key) = walk.next_key()? {
        match key {
            b"\"data\"" => {
                if data.is_some() {
                    return Err(twice(walk.at()));
                }
                data = Some(scan_data(body, &mut walk, &mut shape.elements)?);
            }
            b"\"usage\"" => {
                if shape.usage.is_some() {
                    return Err(twice(walk.at()));
                }
                let span = walk.value()?;
                shape.usage = Some(span);
                scan_numbers(body, span, &mut shape.numbers)?;
            }
            _ => {
                walk.value()?;
            }
        }
    }
    if walk.peek().is_some() {
        walk.fail()?;
    }
    shape.data = data.ok_or(Unwalkable(walk.at()))?;
    Ok(())
}

fn twice(at: usize) -> ScanError {
    ScanError { reason: "duplicate_field", message: "the answer names a field twice", at }
}

fn scan_data(body: &[u8], walk: &mut Walk<'_>, elements: &mut Vec<Element>) -> Result<Span, ScanError> {
    walk.take(b'[')?;
    let start = walk.at();
    while walk.between(b'[', b']')? {
        walk.peek();
        let from = walk.at();
        let index = scan_element(walk)?;
        let text = index.of(body);
        let digits = text.len() <= 9 && !text.is_empty() && text.iter().all(u8::is_ascii_digit);
        if !digits {
            walk.fail()?;
        }
        let index_value = text.iter().fold(0u32, |value, digit| value * 10 + u32::from(digit - b'0'));
        elements.push(Element { span: Span::new(from..walk.at()), index, index_value });
    }
    Ok(Span::new(start..walk.at() - 1))
}

/// Steps over one element; returns where its index stands.
fn scan_element(walk: &mut Walk<'_>) -> Result<Span, ScanError> {
    let mut index = None;
    walk.take(b'{')?;
    while let Some(key) = walk.next_key()? {
        let value = walk.value()?;
        if key == b"\"index\"" && index.replace(value).is_some() {
            return Err(twice(walk.at()));
        }
    }
    Ok(index.ok_or(Unwalkable(walk.at()))?)
}

/// The plain numbers under the keys of an object and of the objects in it; arrays are left alone.
fn scan_numbers(body: &[u8], object: Span, numbers: &mut Vec<Number>) -> Result<(), ScanError> {
    // Objects still to be looked into. Usage objects are small; one that is not is copied, not apportioned.
    let mut open = [object; OBJECTS_MAX];
    let mut count = 1;
    while count > 0 {
        count -= 1;
        let object = open[count];
        if object.of(body).first() != Some(&b'{') {
            continue;
        }
        let mut walk = Walk::new(body, object.start as usize + 1);
        while let Some(key) = walk.next_key()? {
            let span = walk.value()?;
            let key_end = key.as_ptr().addr() - body.as_ptr().addr() + key.len();
            let key = Span::new(key_end - key.len()..key_end);
            if span.of(body).first() == Some(&b'{') && count < OBJECTS_MAX {
                open[count] = span;
                count += 1;
            } else if let Some((value, scale)) = plain_number(span.of(body)) {
                numbers.push(Number { key, span, value, scale });
            }
        }
    }
    numbers.sort_unstable_by_key(|number| number.span.start);
    Ok(())
}

/// `12` or `0.25`; signs, exponents and more than 18 digits are not plain.
fn plain_number(text: &[u8]) -> Option<(u64, u8)> {
    if text.len() > 19 || !text.first()?.is_ascii_digit() || !text.last()?.is_ascii_digit() {
        return None;
    }
    let mut value = 0u64;
    let mut scale = None;
    for byte in text {
        match byte {
            b'0'..=b'9' => {
                value = value.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
                scale = scale.map(|digits: u8| digits + 1);
            }
            b'.' if scale.is_none() => scale = Some(0),
            _ => return None,
        }
    }
    Some((value, scale.unwrap_or(0)))
}

impl From<Unwalkable> for ScanError {
    fn from(Unwalkable(at): Unwalkable) -> ScanError {
        ScanError { reason: "wrong_shape", message: "the answer is not a list of indexed elements", at }
    }
}

/// Nested objects in `usage` that wait to be looked into.
const OBJECTS_MAX: usize = 8;
