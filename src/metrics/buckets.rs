//! Histogram buckets. The rule is HdrHistogram's (Tene: log-linear, "HdrHistogram: A High Dynamic Range Histogram") with two
//! linear steps per power of two: 1, 1.5, 2, 3, 4, 6, 8, 12, ... so a quantile read from them is off by a third at most, and
//! the place of a value comes from its leading zeros without a search. A bucket holds what is at most its bound and above
//! the one before (Prometheus' `le`). Every histogram of a kind has the same buckets, so shards' arrays add up cell by cell.

/// The unit a histogram counts in, which sets its buckets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scale {
    /// Nanoseconds, written as seconds: bounds from 4.096 us to 1100 s.
    Time,
    /// Items: bounds from 1 to 4096.
    Items,
}

/// 2^12 ns to 2^40 ns.
const TIME_BOUNDS: [u64; 57] = log_linear(12);
/// 1, then 2^1 to 2^12: half of an item does not exist, so the step between 1 and 2 is left out.
const ITEM_BOUNDS: [u64; 24] = {
    let steps: [u64; 23] = log_linear(1);
    let mut bounds = [1; 24];
    let mut index = 0;
    while index < steps.len() {
        bounds[index + 1] = steps[index];
        index += 1;
    }
    bounds
};

/// Cells of a time histogram: its buckets, one for what is above the last bound, and the sum.
pub(super) const TIME_CELLS: usize = TIME_BOUNDS.len() + 2;
/// Cells of an item histogram.
pub(super) const ITEM_CELLS: usize = ITEM_BOUNDS.len() + 2;

impl Scale {
    /// Upper bounds of the buckets, without the last (infinite) one.
    pub(super) fn bounds(self) -> &'static [u64] {
        match self {
            Scale::Time => &TIME_BOUNDS,
            Scale::Items => &ITEM_BOUNDS,
        }
    }

    /// The bucket that holds `value`; the number of bounds for what is above them all.
    pub(super) fn bucket(self, value: u64) -> usize {
        match self {
            Scale::Time => log_linear_bucket(value, 12).min(TIME_BOUNDS.len()),
            Scale::Items if value <= 1 => 0,
            Scale::Items => (1 + log_linear_bucket(value, 1)).min(ITEM_BOUNDS.len()),
        }
    }

    /// Cells of such a histogram; the last one is the sum.
    pub(super) fn cells(self) -> usize {
        self.bounds().len() + 2
    }

    /// What a value is divided by when it is written.
    pub(super) fn divisor(self) -> f64 {
        match self {
            Scale::Time => 1e9,
            Scale::Items => 1.0,
        }
    }
}

/// `2^first`, then 1.5 and 2 times each power of two.
const fn log_linear<const N: usize>(first: u32) -> [u64; N] {
    let mut bounds = [1 << first; N];
    let mut index = 1;
    while index < N {
        bounds[index] = if index % 2 == 1 { bounds[index - 1] / 2 * 3 } else { bounds[index - 2] * 2 };
        index += 1;
    }
    bounds
}

/// The place of `value` among the unbounded series of [`log_linear`] bounds (`first` is at least 1).
fn log_linear_bucket(value: u64, first: u32) -> usize {
    // Bounds are inclusive, so the value just below decides: what is left of its highest bit is the octave, the bit after
    // it the half.
    let below = value.saturating_sub(1);
    let Some(octave) = below.checked_ilog2().filter(|&octave| octave >= first) else { return 0 };
    let upper_half = (below >> (octave - 1)) & 1;
    (octave - first) as usize * 2 + 1 + usize::from(upper_half == 1)
}
