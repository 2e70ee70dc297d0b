//! Hashes that place things: the same for all shards and all gateways of a version, so that each finds what another placed without a
//! word between them. Nobody is hurt by who makes keys collide on purpose: his own requests share an endpoint, within its bound.
//!
//! Placement is by rendezvous (highest random weight, Thaler and Ravishankar 1998): each endpoint scores `-weight / ln(u)` with `u`
//! drawn from key and endpoint, and the highest wins. When an endpoint comes or goes only its own keys move; there is no ring to keep,
//! the runners-up are a key's second and third choice, and scoring all of at most 256 endpoints costs less than a cache miss on a ring.

/// A 64-bit hash of bytes. `seed` tells uses apart.
#[must_use]
pub fn hash_bytes(seed: u64, bytes: &[u8]) -> u64 {
    let mut state = seed ^ PRIMES[0];
    let (pairs, rest) = bytes.as_chunks::<16>();
    for pair in pairs {
        let (low, high) = halves(pair);
        state = fold(state ^ low, PRIMES[1] ^ high);
    }
    let mut last = [0; 16];
    last[..rest.len()].copy_from_slice(rest);
    let (low, high) = halves(&last);
    fold(fold(state ^ low, PRIMES[2] ^ high), PRIMES[3] ^ bytes.len() as u64)
}

/// Two hashes to one.
#[must_use]
pub fn join(left: u64, right: u64) -> u64 {
    fold(left ^ PRIMES[2], right ^ PRIMES[1])
}

/// An endpoint's score for a key: the highest takes it. Over many keys each wins its share by weight.
pub(super) fn score(key: u64, endpoint: u64, weight: u32) -> f64 {
    // 52 bits, and half of one more so that neither 0 nor 1 comes out.
    let drawn = ((join(key, endpoint) >> 12) as f64 + 0.5) / (1_u64 << 52) as f64;
    -f64::from(weight) / drawn.ln()
}

fn halves(pair: &[u8; 16]) -> (u64, u64) {
    let both = u128::from_le_bytes(*pair);
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
    ((both & u128::from(u64::MAX)) as u64, (both >> 64) as u64)
}

/// The 128-bit product of two numbers, folded: each bit of the result hangs on all bits of both.
fn fold(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    let (low, high) = halves(&product.to_le_bytes());
    low ^ high
}

/// Odd numbers with as many ones as zeros, from wyhash.
const PRIMES: [u64; 4] = [0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db, 0x8ebc_6af0_9c88_c6e3, 0x5899_65cc_7537_4cc3];
