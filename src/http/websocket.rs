//! The handshake of a websocket (RFC 6455, 4; RFC 9110, 7.8) as a check of two heads: whether a client asked rightly and whether a server
//! agreed to that very request. The frames behind it are not looked at.

use super::head::{Field, HeadError, Method};
use super::request::RequestHead;
use super::response::ResponseHead;
use super::{Framing, HeadLimits, Known, Parsed};

/// The value of `sec-websocket-accept` that agrees to one request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WebSocketAccept([u8; 28]);

/// Lines that ask for the upgrade and that grant it; the writers never copy a peer's own.
pub const UPGRADE_LINES: &[u8] = b"connection: upgrade\r\nupgrade: websocket\r\n";

impl RequestHead {
    /// What the server must answer, when this head (which has `upgrade`) asks for a websocket as it must.
    ///
    /// # Errors
    /// 426 for another version than 13, 400 for a key that is not 16 bytes in base64, for fields that stand there twice, and for a body.
    pub fn websocket_accept(&self, buffer: &[u8]) -> Result<WebSocketAccept, HeadError> {
        if self.framing != Framing::None {
            return Err(HeadError::bad("websocket_body"));
        }
        match only(&self.fields, buffer, b"sec-websocket-version") {
            Some(b"13") => {}
            _ => return Err(HeadError { status: 426, reason: "websocket_version" }),
        }
        let key = only(&self.fields, buffer, b"sec-websocket-key").filter(|key| is_key(key)).ok_or(HeadError::bad("websocket_key"))?;
        Ok(WebSocketAccept::of(key))
    }
}

impl ResponseHead {
    /// As [`ResponseHead::parse`] for the answer to a request for a websocket: here a 101 may come.
    ///
    /// # Errors
    /// As there.
    pub fn parse_switch(&mut self, buffer: &[u8], scanned: &mut usize, limits: &HeadLimits) -> Result<Parsed, HeadError> {
        self.may_switch = true;
        let parsed = self.parse(buffer, scanned, limits, Method::Get);
        self.may_switch = false;
        parsed
    }

    /// Whether this 101 agrees to the request that `accept` belongs to.
    #[must_use]
    pub fn agrees(&self, buffer: &[u8], accept: WebSocketAccept) -> bool {
        let upgrade = self.field(Known::Upgrade).is_some_and(|value| value.of(buffer).eq_ignore_ascii_case(b"websocket"));
        let mut connection = self.fields.iter().filter(|field| field.known == Known::Connection);
        let named = connection.any(|field| {
            field.value.of(buffer).split(|byte| *byte == b',').any(|name| super::head::trim(name).eq_ignore_ascii_case(b"upgrade"))
        });
        upgrade && named && only(&self.fields, buffer, b"sec-websocket-accept") == Some(&accept.0[..])
    }
}

impl WebSocketAccept {
    /// The answer to a key (RFC 6455, 4.2.2): base64 of SHA-1 of the key and a constant.
    #[must_use]
    pub fn of(key: &[u8]) -> WebSocketAccept {
        let mut out = [b'='; 28];
        let digest = sha1(&[key, MAGIC].concat());
        for (from, to) in digest.chunks(3).zip(out.chunks_mut(4)) {
            let word = from.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - from.len()));
            for (place, letter) in to.iter_mut().take(from.len() + 1).enumerate() {
                *letter = BASE64[(word >> (18 - 6 * place) & 63) as usize];
            }
        }
        WebSocketAccept(out)
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The value of a field that stands there exactly once.
fn only<'a>(fields: &[Field], buffer: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut found = fields.iter().filter(|field| field.name.of(buffer).eq_ignore_ascii_case(name));
    let first = found.next()?;
    found.next().is_none().then(|| first.value.of(buffer))
}

/// 16 bytes in base64: 22 letters, the last with four bits to spare, and two signs.
fn is_key(key: &[u8]) -> bool {
    let Some(letters) = key.strip_suffix(b"==").filter(|letters| letters.len() == 22) else { return false };
    letters.iter().all(|letter| BASE64.contains(letter)) && matches!(letters[21], b'A' | b'Q' | b'g' | b'w')
}

/// SHA-1 (FIPS 180-4, 6.1) of a short text. The handshake asks for it as a sign of having been understood; nothing is kept secret by it.
fn sha1(text: &[u8]) -> [u8; 20] {
    let mut message = text.to_vec();
    message.push(0x80);
    message.resize((text.len() + 9).next_multiple_of(64), 0);
    let at = message.len() - 8;
    message[at..].copy_from_slice(&(text.len() as u64 * 8).to_be_bytes());
    let mut state = [0x6745_2301_u32, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    for block in message.chunks(64) {
        let mut words = [0_u32; 80];
        for (word, bytes) in words.iter_mut().zip(block.chunks(4)) {
            *word = bytes.iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
        }
        for at in 16..80 {
            words[at] = (words[at - 3] ^ words[at - 8] ^ words[at - 14] ^ words[at - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (round, word) in words.into_iter().enumerate() {
            let (mixed, constant) = match round {
                0..20 => (b & c | !b & d, 0x5a82_7999),
                20..40 => (b ^ c ^ d, 0x6ed9_eba1),
                40..60 => (b & c | b & d | c & d, 0x8f1b_bcdc_u32),
                _ => (b ^ c ^ d, 0xca62_c1d6),
            };
            let next = a.rotate_left(5).wrapping_add(mixed).wrapping_add(e).wrapping_add(constant).wrapping_add(word);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        }
        for (sum, part) in state.iter_mut().zip([a, b, c, d, e]) {
            *sum = sum.wrapping_add(part);
        }
    }
    let mut out = [0; 20];
    for (to, word) in out.chunks_mut(4).zip(state) {
        to.copy_from_slice(&word.to_be_bytes());
    }
    out
}

const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
