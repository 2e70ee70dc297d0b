//! The two policies that know nothing of a request: smooth round robin and least in flight.

use super::{Balancer, Share};

impl Balancer {
    /// nginx's smooth weighted round robin: each gains its weight, the richest is taken and pays the sum of the weights. After
    /// as many picks as the weights sum to, each has had its exact share, spread out (5:1:1 gives a a b a c a a).
    pub(super) fn smooth_round_robin(&mut self, usable: impl Fn(u32) -> bool) -> Option<u32> {
        let mut total = 0;
        let mut richest: Option<(u32, i64)> = None;
        for (index, share) in (0..).zip(&mut self.endpoints).filter(|(index, _)| usable(*index)) {
            share.credit += i64::from(share.weight);
            total += i64::from(share.weight);
            if richest.is_none_or(|(_, credit)| share.credit > credit) {
                richest = Some((index, share.credit));
            }
        }
        let (index, _) = richest?;
        self.endpoints.get_mut(index as usize)?.credit -= total;
        Some(index)
    }

    /// The least of (in flight + 1) / weight: the load as it would be with this call. Ties go to the one after the last picked.
    pub(super) fn least_in_flight(&mut self, usable: impl Fn(u32) -> bool) -> Option<u32> {
        let count = self.endpoints.len();
        let mut least: Option<(usize, Share)> = None;
        for index in (0..count).map(|step| (self.next + step) % count) {
            let share = self.endpoints[index];
            if !u32::try_from(index).is_ok_and(&usable) {
                continue;
            }
            if least.is_none_or(|(_, best)| share.is_lighter_than(best)) {
                least = Some((index, share));
            }
        }
        let (index, _) = least?;
        self.next = (index + 1) % count;
        u32::try_from(index).ok()
    }
}

impl Share {
    /// Compares (in flight + 1) / weight by cross products, which 64 bits hold.
    fn is_lighter_than(self, other: Share) -> bool {
        (u64::from(self.in_flight) + 1) * u64::from(other.weight) < (u64::from(other.in_flight) + 1) * u64::from(self.weight)
    }
}
