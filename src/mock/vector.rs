//! The answers everybody can compute: a vector that depends on nothing but the item's own bytes, so that a client knows at once
//! when it was given somebody else's.
//!
//! The item's bytes are a text's UTF-8 after JSON decoding, or, for a list of tokens, its compact JSON (`[1,2,3]`, see
//! [`token_item`]). Element 0 is the item's length in bytes, in millionths (modulo 1,000,000); the others are whole millionths in
//! -1..=1 from SplitMix64, seeded with a hash of the bytes:
//!
//! ```text
//! h = length; for each 8 bytes as a little-endian number w (the last padded with zeros): h = (h ^ w) * 0x9e3779b97f4a7c15; h ^= h >> 32
//! element i > 0 = (splitmix64(h + i * 0x9e3779b97f4a7c15) >> 32) mod 2,000,001 - 1,000,000, in millionths
//! ```
//! Millionths have one shortest decimal text and one nearest `f32`, so the float and the base64 form of an answer agree exactly.

/// Elements of a vector unless configured or asked otherwise.
pub const DIMS: u32 = 8;
/// Most elements a vector may have; a request for more is refused.
pub const DIMS_MAX: u32 = 4096;

/// The mock's answer to `item`, as numbers.
#[must_use]
pub fn vector(item: &[u8], dims: u32) -> Vec<f32> {
    millionths(item, dims).map(to_float).collect()
}

/// The bytes that stand for a list of tokens: `[1,2,3]`.
#[must_use]
pub fn token_item(tokens: &[u32]) -> Vec<u8> {
    let mut item = vec![b'['];
    for (at, token) in tokens.iter().enumerate() {
        if at > 0 {
            item.push(b',');
        }
        item.extend_from_slice(itoa::Buffer::new().format(*token).as_bytes());
    }
    item.push(b']');
    item
}

/// Appends the vector as a JSON array: `[0.000005,-0.123456]`.
pub fn write_numbers(out: &mut Vec<u8>, item: &[u8], dims: u32) {
    out.reserve(dims as usize * 10 + 2);
    out.push(b'[');
    for (at, value) in millionths(item, dims).enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_number(out, value);
    }
    out.push(b']');
}

/// Appends the vector as a JSON string: base64 (RFC 4648 section 4) of little-endian `f32`s, as `OpenAI`'s clients ask for.
pub fn write_base64(out: &mut Vec<u8>, item: &[u8], dims: u32) {
    out.reserve(dims as usize * 16 / 3 + 6);
    out.push(b'"');
    // 12 bytes, three floats, are 16 digits: groups never straddle.
    let mut group = [0u8; 12];
    let mut filled = 0;
    for value in millionths(item, dims) {
        group[filled..filled + 4].copy_from_slice(&to_float(value).to_le_bytes());
        filled += 4;
        if filled == group.len() {
            push_base64(out, &group);
            filled = 0;
        }
    }
    push_base64(out, &group[..filled]);
    out.push(b'"');
}

/// The elements in millionths.
fn millionths(item: &[u8], dims: u32) -> impl Iterator<Item = i32> {
    let seed = hash(item);
    let length = i32::try_from(item.len() % 1_000_000).unwrap_or(0);
    (0..dims).map(move |at| if at == 0 { length } else { drawn(seed, at) })
}

fn drawn(seed: u64, at: u32) -> i32 {
    let high = splitmix64(seed.wrapping_add(u64::from(at).wrapping_mul(GOLDEN))) >> 32;
    i32::try_from(high % 2_000_001).unwrap_or(0) - 1_000_000
}

fn hash(item: &[u8]) -> u64 {
    let mut state = item.len() as u64;
    for chunk in item.chunks(8) {
        let mut word = [0u8; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        state = (state ^ u64::from_le_bytes(word)).wrapping_mul(GOLDEN);
        state ^= state >> 32;
    }
    state
}

/// Sebastiano Vigna's SplitMix64 output function.
pub(super) const fn splitmix64(seed: u64) -> u64 {
    let mut value = seed.wrapping_add(GOLDEN);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Both sides are exact, so the quotient is the nearest `f32` to the decimal text.
fn to_float(millionths: i32) -> f32 {
    millionths as f32 / 1_000_000.0
}

fn write_number(out: &mut Vec<u8>, millionths: i32) {
    if millionths < 0 {
        out.push(b'-');
    }
    let value = millionths.unsigned_abs();
    out.push(digit(value / 1_000_000));
    out.push(b'.');
    for place in [100_000, 10_000, 1_000, 100, 10, 1] {
        out.push(digit(value / place));
    }
}

fn digit(value: u32) -> u8 {
    b"0123456789"[(value % 10) as usize]
}

fn push_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let sextet = (bits >> (18 - 6 * place)) & 63;
            out.push(if place as usize <= chunk.len() { ALPHABET[sextet as usize] } else { b'=' });
        }
    }
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
