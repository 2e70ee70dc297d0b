//! Random changes to inputs, from a seed. Which inputs are worth changing is the driver's matter.

/// splitmix64 (Steele, Lea, Flood 2014).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `bound` - 1; 0 for a bound of 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { (self.next() % bound as u64) as usize }
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[3]
    }
}

/// Changes `data` in one to eight places. `other` is another input to take pieces from, `tokens` are words of the language.
pub(crate) fn mutate(data: &mut Vec<u8>, other: &[u8], tokens: &[&str], len_max: usize, random: &mut Random) {
    let changes = 1 << random.below(4);
    for _ in 0..changes {
        change(data, other, tokens, random);
    }
    data.truncate(len_max);
}

fn change(data: &mut Vec<u8>, other: &[u8], tokens: &[&str], random: &mut Random) {
    let at = random.below(data.len() + 1);
    let end = (at + 1 + random.below(16)).min(data.len());
    match random.below(10) {
        0 if at < data.len() => data[at] ^= 1 << random.below(8),
        1 if at < data.len() => data[at] = random.byte(),
        2 if at < data.len() => data[at] = INTERESTING[random.below(INTERESTING.len())],
        3 => data.insert(at, INTERESTING[random.below(INTERESTING.len())]),
        4 => drop(data.drain(at..end)),
        5 => {
            let again = data[at..end].to_vec();
            data.splice(at..at, again);
        }
        6 if !tokens.is_empty() => drop(data.splice(at..at, tokens[random.below(tokens.len())].bytes())),
        7 if !tokens.is_empty() => drop(data.splice(at..end, tokens[random.below(tokens.len())].bytes())),
        8 => {
            let from = random.below(other.len() + 1);
            let to = (from + random.below(64)).min(other.len());
            data.splice(at..end, other[from..to].iter().copied());
        }
        9 if at < data.len() => {
            let to = random.below(data.len());
            data.swap(at, to);
        }
        _ => data.insert(at, random.byte()),
    }
}

/// Bytes that end, begin, separate or escape something somewhere.
const INTERESTING: &[u8] = b"\0\r\n\t \"'%+,-./0123456789:;=?@AZ[\\]_az{|}~\x7f\x80\xc3\xff";
