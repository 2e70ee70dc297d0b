//! `OpenAI` embeddings: `data` is cut by `index`, each member's elements are numbered from 0 again, the rest of the envelope is
//! copied as it is. Vectors are never read, only shared.

use super::usage;
use crate::json::{AnswerShape, Element, Number, Pieces, Splice, scan_answer};
use crate::sys::Span;
use bytes::Bytes;

/// Scratch space for cutting answers, kept warm by the home.
#[derive(Debug, Default)]
pub(in crate::batch) struct Cutter {
    shape: AnswerShape,
    /// `order[i]` is where the element with index `i` stands in the text.
    order: Vec<u32>,
    weights: Vec<u64>,
    shares: Vec<u64>,
    remainders: Vec<(u64, u32)>,
}

/// A scanned answer that has exactly the elements it should.
pub(in crate::batch) struct Cut<'a> {
    cutter: &'a mut Cutter,
    body: &'a Bytes,
    splice: Splice,
}

impl Cutter {
    /// Scans the answer to a call with `items` items; `weights` are the bytes of each member's. `None` when it is not an answer to
    /// it: not a list, a missing or doubled index, too many or too few.
    pub(in crate::batch) fn cut<'a>(&'a mut self, body: &'a Bytes, items: u32, weights: impl Iterator<Item = u64>) -> Option<Cut<'a>> {
        scan_answer(body, &mut self.shape).ok()?;
        if self.shape.elements.len() != items as usize {
            return None;
        }
        self.order.clear();
        self.order.resize(items as usize, u32::MAX);
        for (element, place) in self.shape.elements.iter().zip(0u32..) {
            let entry = self.order.get_mut(element.index_value as usize)?;
            if *entry != u32::MAX {
                return None;
            }
            *entry = place;
        }
        self.weights.clear();
        self.weights.extend(weights);
        self.shares.clear();
        for number in &self.shape.numbers {
            usage::apportion(number.value, &self.weights, &mut self.shares, &mut self.remainders);
        }
        let splice = Splice::new(self.glue_bytes(body.len()), SHARE_FROM);
        Some(Cut { cutter: self, body, splice })
    }

    /// What the members' answers copy, about: all small answers whole, of large ones the envelope.
    fn glue_bytes(&self, body: usize) -> usize {
        let envelope = body.saturating_sub(self.shape.data.len as usize) + 64;
        envelope * self.weights.len() + (self.shape.data.len as usize).min(self.shape.elements.len() * SHARE_FROM)
    }
}

impl Cut<'_> {
    /// Whether the elements stand in another order than their indexes say.
    pub(in crate::batch) fn is_shuffled(&self) -> bool {
        !self.cutter.order.is_sorted()
    }

    /// The answer of member `member`, whose items are `first..first + count` of the call.
    pub(in crate::batch) fn member(&mut self, member: usize, first: u32, count: u32) -> Pieces {
        let shape = &self.cutter.shape;
        let elements =
            self.cutter.order[first as usize..(first + count) as usize].iter().map(|place| (self.body, shape.elements[*place as usize]));
        let members = self.cutter.weights.len();
        let shares = shape.numbers.iter().enumerate().map(|(row, number)| (*number, self.cutter.shares[row * members + member]));
        write(&mut self.splice, self.body, shape.data, shape.usage, elements, shares);
        self.splice.finish().0
    }

    /// The same as a part of a cut job's answer, to be kept until the others are there; `at` is its first item in the job.
    pub(in crate::batch) fn keep(&self, member: usize, first: u32, count: u32, at: u32, fields: &Bytes) -> GatherPart {
        let shape = &self.cutter.shape;
        let members = self.cutter.weights.len();
        GatherPart {
            at,
            body: self.body.clone(),
            fields: fields.clone(),
            data: shape.data,
            usage: shape.usage,
            elements: self.cutter.order[first as usize..(first + count) as usize]
                .iter()
                .map(|place| shape.elements[*place as usize])
                .collect(),
            shares: shape.numbers.iter().enumerate().map(|(row, number)| (*number, self.cutter.shares[row * members + member])).collect(),
        }
    }
}

/// A number of the bill and a member's share of it.
pub(in crate::batch) type Shares = Vec<(Number, u64)>;

/// The answered parts of a job that was cut over several calls.
#[derive(Debug, Default)]
pub(in crate::batch) struct Gather {
    parts: Vec<GatherPart>,
}

#[derive(Debug)]
pub(in crate::batch) struct GatherPart {
    at: u32,
    body: Bytes,
    fields: Bytes,
    data: Span,
    usage: Option<Span>,
    elements: Vec<Element>,
    shares: Shares,
}

impl GatherPart {
    pub(in crate::batch) fn bytes(&self) -> u64 {
        self.body.len() as u64
    }

    /// Its share of the number under `key`, most likely in the same row as elsewhere.
    fn share_of(&self, row: usize, key: &[u8]) -> Option<(Number, u64)> {
        let same = |(number, _): &&(Number, u64)| number.key.of(&self.body) == key;
        self.shares.get(row).filter(same).or_else(|| self.shares.iter().find(same)).copied()
    }
}

impl Gather {
    pub(in crate::batch) fn bytes(&self) -> u64 {
        self.parts.iter().map(GatherPart::bytes).sum()
    }

    /// Adds a part; true once all `items` are there.
    pub(in crate::batch) fn add(&mut self, part: GatherPart, items: u32) -> bool {
        self.parts.push(part);
        self.parts.iter().map(|part| part.elements.len()).sum::<usize>() >= items as usize
    }

    /// The whole answer: the first part's envelope, everybody's elements, the sum of the bills. `None` when nothing was added.
    pub(in crate::batch) fn write(&mut self) -> Option<(Bytes, Pieces)> {
        self.parts.sort_unstable_by_key(|part| part.at);
        let (envelope, others) = self.parts.split_first()?;
        let elements = self.parts.iter().flat_map(|part| part.elements.iter().map(|element| (&part.body, *element)));
        let totals = envelope.shares.iter().enumerate().map(|(row, (number, share))| {
            let key = number.key.of(&envelope.body);
            others.iter().filter_map(|part| part.share_of(row, key)).fold((*number, *share), add)
        });
        let mut splice = Splice::new(envelope.body.len().min(4096), SHARE_FROM);
        write(&mut splice, &envelope.body, envelope.data, envelope.usage, elements, totals);
        Some((envelope.fields.clone(), splice.finish().0))
    }
}

/// The sum of two shares, with as many digits after the point as the longer one has.
fn add((mut number, sum): (Number, u64), (other, share): (Number, u64)) -> (Number, u64) {
    let scale = number.scale.max(other.scale);
    let widen = |value: u64, from: u8| value.saturating_mul(10u64.saturating_pow(u32::from(scale - from)));
    let sum = widen(sum, number.scale).saturating_add(widen(share, other.scale));
    number.scale = scale;
    (number, sum)
}

/// Writes the envelope with other elements in `data` and other numbers in `usage`, whichever of the two comes first.
fn write<'a>(
    splice: &mut Splice,
    envelope: &Bytes,
    data: Span,
    usage: Option<Span>,
    elements: impl Iterator<Item = (&'a Bytes, Element)>,
    shares: impl Iterator<Item = (Number, u64)>,
) {
    let data = data.range();
    match usage.map(Span::range) {
        None => {
            splice.slice(envelope, 0..data.start);
            write_elements(splice, elements);
            splice.slice(envelope, data.end..envelope.len());
        }
        Some(usage) if usage.start < data.start => {
            let from = write_usage(splice, envelope, 0, shares);
            splice.slice(envelope, from..data.start);
            write_elements(splice, elements);
            splice.slice(envelope, data.end..envelope.len());
        }
        Some(_) => {
            splice.slice(envelope, 0..data.start);
            write_elements(splice, elements);
            let from = write_usage(splice, envelope, data.end, shares);
            splice.slice(envelope, from..envelope.len());
        }
    }
}

/// Elements in the order given, numbered from 0.
fn write_elements<'a>(splice: &mut Splice, elements: impl Iterator<Item = (&'a Bytes, Element)>) {
    for (number, (body, element)) in elements.enumerate() {
        if number > 0 {
            splice.copy(b",");
        }
        splice.slice(body, element.span.range().start..element.index.range().start);
        splice.number(number as u64);
        splice.slice(body, element.index.end()..element.span.end());
    }
}

/// Copies the envelope from `from` on, with each number replaced by its share; returns where it stopped.
fn write_usage(splice: &mut Splice, envelope: &Bytes, mut from: usize, shares: impl Iterator<Item = (Number, u64)>) -> usize {
    for (number, share) in shares {
        splice.slice(envelope, from..number.span.range().start);
        write_decimal(splice, share, number.scale);
        from = number.span.end();
    }
    from
}

/// `value / 10^scale`.
fn write_decimal(splice: &mut Splice, value: u64, scale: u8) {
    if scale == 0 {
        splice.number(value);
        return;
    }
    let unit = 10u64.saturating_pow(u32::from(scale));
    splice.number(value / unit);
    splice.copy(b".");
    let mut rest = value % unit;
    let mut unit = unit / 10;
    while unit > 0 {
        splice.number(rest / unit);
        rest %= unit;
        unit /= 10;
    }
}

/// Slices from this length on are shared with the upstream's body; shorter ones are copied.
const SHARE_FROM: usize = 512;
