//! Dividing a bill: upstreams tell usage for a whole call only, so each member's share is estimated by the bytes of its items, by
//! largest remainder, so that the shares add up to the bill exactly.

/// Adds the shares of `total` by `weights` to the end of `shares`. All weights zero: equal weights.
pub(in crate::batch) fn apportion(total: u64, weights: &[u64], shares: &mut Vec<u64>, remainders: &mut Vec<(u64, u32)>) {
    let sum: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    let count = weights.len() as u128;
    let first = shares.len();
    remainders.clear();
    let mut given = 0u64;
    for (weight, index) in weights.iter().zip(0u32..) {
        let (weight, sum) = if sum == 0 { (1, count) } else { (u128::from(*weight), sum) };
        let exact = u128::from(total) * weight;
        // Both are at most `total` and `sum`; weights are byte counts, far below 2^64.
        let share = u64::try_from(exact / sum).unwrap_or(u64::MAX);
        given += share;
        shares.push(share);
        remainders.push((u64::try_from(exact % sum).unwrap_or(u64::MAX), index));
    }
    // Fewer units are left than there are members.
    let left = usize::try_from(total - given).unwrap_or(0);
    if left > 0 {
        remainders.sort_unstable_by_key(|(remainder, index)| (std::cmp::Reverse(*remainder), *index));
        for (_, index) in &remainders[..left] {
            shares[first + *index as usize] += 1;
        }
    }
}
