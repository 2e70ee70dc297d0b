//! Randomness from one seed (`SplitMix64`, Steele et al. 2014): the same seed draws the same numbers on every machine.

/// A stream of numbers that one seed fixes.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    #[must_use]
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`; 0 when `limit` is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        u64::try_from((u128::from(self.draw()) * u128::from(limit)) >> 64).unwrap_or(0)
    }

    /// An index below `len`; 0 when `len` is 0.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// A number from 1 to `most`; 1 when `most` is 0.
    pub fn one_to(&mut self, most: usize) -> usize {
        1 + self.index(most)
    }

    /// True `rate` times in ten thousand. Draws nothing at rate 0, so that a calm run is not disturbed.
    pub fn chance(&mut self, rate: u16) -> bool {
        rate > 0 && self.below(10_000) < u64::from(rate)
    }
}
