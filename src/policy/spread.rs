//! Which of two shards serves a connection that one of them has accepted. The kernel spreads connections blindly; of the shard it chose
//! and one other the less loaded is the better choice (the power of two choices), and only the surplus is moved.

/// What a shard has to do, as far as it is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShardLoad {
    pub connections: u64,
    pub exchanges: u64,
}

impl ShardLoad {
    /// An exchange in flight is work now; a connection may become some.
    fn weight(self) -> u64 {
        self.exchanges.saturating_mul(EXCHANGE_WEIGHT).saturating_add(self.connections)
    }
}

/// Whether a connection accepted on a shard with load `here` is better served by one with load `there`. Not for a small difference:
/// the numbers are a turn old, and a hand-over is not free.
#[must_use]
pub fn is_better_there(here: ShardLoad, there: ShardLoad) -> bool {
    here.weight() > there.weight() + there.weight() / 8
}

/// Beside the one for its connection.
const EXCHANGE_WEIGHT: u64 = 2;
