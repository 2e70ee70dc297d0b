//! Chooses an endpoint of an upstream, for one shard. It does not know why an endpoint is not usable (health does) and opens
//! nothing (the pools do).

use crate::config::Balance;

/// The choice among one upstream's endpoints, which are named by their index in the configuration.
#[derive(Clone, Debug)]
pub struct Balancer {
    balance: Balance,
    endpoints: Box<[Share]>,
    /// Where least-in-flight begins to look, so that ties rotate.
    next: usize,
}

#[derive(Clone, Copy, Debug)]
struct Share {
    weight: u32,
    in_flight: u32,
    /// Smooth round robin's credit; over the usable endpoints the credits add up to zero.
    credit: i64,
}

impl Balancer {
    /// One endpoint per weight; a weight of 0 counts as 1.
    #[must_use]
    pub fn new(balance: Balance, weights: impl IntoIterator<Item = u32>) -> Balancer {
        let share = |weight: u32| Share { weight: weight.max(1), in_flight: 0, credit: 0 };
        Balancer { balance, endpoints: weights.into_iter().map(share).collect(), next: 0 }
    }

    /// The endpoint for the next call, or `None` when none is usable. The one to `avoid` (it just failed this request) is taken
    /// only if no other is usable. Say [`begin`](Balancer::begin) when the call starts.
    pub fn pick(&mut self, avoid: Option<u32>, usable: impl Fn(u32) -> bool) -> Option<u32> {
        let others = |endpoint: u32| Some(endpoint) != avoid && usable(endpoint);
        let picked = self.pick_among(others);
        picked.or_else(|| avoid.filter(|&endpoint| (endpoint as usize) < self.endpoints.len() && usable(endpoint)))
    }

    /// A call to `endpoint` begins.
    pub fn begin(&mut self, endpoint: u32) {
        if let Some(share) = self.endpoints.get_mut(endpoint as usize) {
            share.in_flight = share.in_flight.saturating_add(1);
        }
    }

    /// A call to `endpoint` ended, however it did. Once per `begin`.
    pub fn end(&mut self, endpoint: u32) {
        if let Some(share) = self.endpoints.get_mut(endpoint as usize) {
            debug_assert!(share.in_flight > 0, "an end without a begin at endpoint {endpoint}");
            share.in_flight = share.in_flight.saturating_sub(1);
        }
    }

    /// Calls in flight from this shard to `endpoint`.
    #[must_use]
    pub fn in_flight(&self, endpoint: u32) -> u32 {
        self.endpoints.get(endpoint as usize).map_or(0, |share| share.in_flight)
    }

    fn pick_among(&mut self, usable: impl Fn(u32) -> bool) -> Option<u32> {
        match self.balance {
            Balance::RoundRobin => self.smooth_round_robin(usable),
            Balance::LeastInFlight => self.least_in_flight(usable),
        }
    }

    /// nginx's smooth weighted round robin: each gains its weight, the richest is taken and pays the sum of the weights. After
    /// as many picks as the weights sum to, each has had its exact share, spread out (5:1:1 gives a a b a c a a).
    fn smooth_round_robin(&mut self, usable: impl Fn(u32) -> bool) -> Option<u32> {
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
    fn least_in_flight(&mut self, usable: impl Fn(u32) -> bool) -> Option<u32> {
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
