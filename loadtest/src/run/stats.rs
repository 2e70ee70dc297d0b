//! Medians with their extremes, and ratios taken round by round: neighbours in time share the machine's mood, so their ratio is steadier
//! than the ratio of two medians.

use serde::{Deserialize, Serialize};

/// The middle and the ends of one figure over the rounds.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Summary {
    /// `None` without a value. An even number of values has the mean of the middle two as its median.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Summary> {
        let mut sorted: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let half = sorted.len() / 2;
        let upper = *sorted.get(half)?;
        let median = if sorted.len() % 2 == 1 { upper } else { f64::midpoint(*sorted.get(half - 1)?, upper) };
        Some(Summary { median, min, max })
    }
}

/// Each round's own ratio. A round in which one of them has no figure, or the reference has nothing to divide by, has none.
pub(crate) fn ratios<'a>(values: &'a [Option<f64>], reference: &'a [Option<f64>]) -> impl Iterator<Item = f64> + 'a {
    values.iter().zip(reference).filter_map(|pair| match pair {
        (Some(value), Some(reference)) if *reference > 0.0 => Some(value / reference),
        _ => None,
    })
}
