//! What the pretend kernel may do to its users, and how often. It decides nothing: the kernel rolls and counts.

use std::time::Duration;

use super::rng::Rng;

/// Everything that can go wrong, or rarely. Most are drawn by their rate in [`Faults`]; the last few are states that other faults
/// lead to, counted so that a run can show that it reached them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A completion reaches its queue later than the operation was done.
    LateCompletion,
    /// Completions of different operations come in another order than they were done.
    Reordered,
    /// A receive brings fewer bytes than there are, down to one.
    ShortRead,
    /// A send takes fewer bytes than there is room for, down to one.
    ShortWrite,
    /// The network cuts a connection (ECONNRESET at both ends).
    Reset,
    /// One end gives a connection up (ETIMEDOUT), the other is reset.
    TimedOut,
    /// A connect is refused though somebody listens.
    Refused,
    /// A connect gets no answer at all (ETIMEDOUT).
    ConnectTimedOut,
    /// A multishot receive ends with ECANCELED that nobody asked for.
    Cancelled,
    /// A multishot receive ends with ENOBUFS though buffers are there (they lie in completions not yet reaped).
    NoBuffers,
    /// Accept ends with EMFILE; the connection stays in the backlog.
    AcceptOutOfDescriptors,
    /// A new socket fails with EMFILE.
    SocketOutOfDescriptors,
    /// Accept ends with ECONNABORTED: the connection was reset while it waited.
    Aborted,
    /// A multishot operation ends by itself with good news.
    MultishotEnds,
    /// The completion queue holds only a part of what is due; the rest comes in a later turn.
    QueueOverflow,
    /// A completion of an operation that is long over comes again, with a buffer or a descriptor.
    StaleCompletion,
    /// A cancel takes effect only after a while.
    LateCancel,
    /// A member of the simulation does not run for a while (`Simulation` draws it).
    Stall,
    /// State: a cancel found its operation already over.
    CancelLost,
    /// State: a stale completion came when its socket's number already named another socket.
    NumberReused,
    /// State: a send met a connection that was closed for sending, or gone (EPIPE).
    BrokenPipe,
    /// State: a receive found every buffer lent out.
    PoolEmpty,
    /// State: a send waited for room in the peer's buffer.
    SendWaited,
    /// State: a connect found the backlog full and tried again later.
    BacklogFull,
}

impl Fault {
    pub const ALL: [Fault; FAULTS] = [
        Fault::LateCompletion,
        Fault::Reordered,
        Fault::ShortRead,
        Fault::ShortWrite,
        Fault::Reset,
        Fault::TimedOut,
        Fault::Refused,
        Fault::ConnectTimedOut,
        Fault::Cancelled,
        Fault::NoBuffers,
        Fault::AcceptOutOfDescriptors,
        Fault::SocketOutOfDescriptors,
        Fault::Aborted,
        Fault::MultishotEnds,
        Fault::QueueOverflow,
        Fault::StaleCompletion,
        Fault::LateCancel,
        Fault::Stall,
        Fault::CancelLost,
        Fault::NumberReused,
        Fault::BrokenPipe,
        Fault::PoolEmpty,
        Fault::SendWaited,
        Fault::BacklogFull,
    ];

    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

pub(super) const FAULTS: usize = 24;

/// The weather of one run. Rates are in ten thousand of the times a fault could happen.
#[derive(Clone, Debug)]
pub struct Faults {
    rates: [u16; FAULTS],
    /// How long a piece takes from one end of a connection to the other: least and most.
    pub latency: (Duration, Duration),
    /// How long a late completion, or a late cancel, may take.
    pub lateness: Duration,
    /// Bytes on their way or unread, per connection and direction; a send waits beyond.
    pub socket_bytes_max: usize,
    /// Descriptors that may be open at once; EMFILE beyond.
    pub descriptors_max: usize,
    /// Completions that one turn may reap; the rest comes in the next.
    pub completions_max: usize,
}

impl Faults {
    /// A kernel that does nothing wrong, on a fast network.
    #[must_use]
    pub fn calm() -> Faults {
        Faults {
            rates: [0; FAULTS],
            latency: (Duration::from_micros(10), Duration::from_micros(50)),
            lateness: Duration::from_millis(2),
            socket_bytes_max: 64 * 1024,
            descriptors_max: 4096,
            completions_max: 4096,
        }
    }

    /// Everything that a program must bear without losing a connection: timing and sizes are wild, nothing breaks.
    #[must_use]
    pub fn rough() -> Faults {
        let unpleasant = [
            (Fault::LateCompletion, 1500),
            (Fault::Reordered, 3000),
            (Fault::ShortRead, 2000),
            (Fault::ShortWrite, 2000),
            (Fault::Cancelled, 50),
            (Fault::NoBuffers, 200),
            (Fault::MultishotEnds, 500),
            (Fault::QueueOverflow, 1000),
            (Fault::StaleCompletion, 100),
            (Fault::LateCancel, 3000),
            (Fault::Stall, 20),
        ];
        let mut faults = unpleasant.into_iter().fold(Faults::calm(), |faults, (fault, rate)| faults.with(fault, rate));
        faults.latency.1 = Duration::from_millis(3);
        faults.socket_bytes_max = 3000;
        faults
    }

    /// As `rough`, and connections break, are refused, and descriptors run out.
    #[must_use]
    pub fn stormy() -> Faults {
        let breaking = [
            (Fault::Reset, 60),
            (Fault::TimedOut, 30),
            (Fault::Refused, 400),
            (Fault::ConnectTimedOut, 100),
            (Fault::AcceptOutOfDescriptors, 300),
            (Fault::SocketOutOfDescriptors, 100),
            (Fault::Aborted, 100),
        ];
        breaking.into_iter().fold(Faults::rough(), |faults, (fault, rate)| faults.with(fault, rate))
    }

    /// Weather drawn from a seed: each fault is off, rare, or frequent (up to five times its rate in `most`), so that some runs see one
    /// fault alone and others all at once.
    #[must_use]
    pub fn drawn(seed: u64, most: &Faults) -> Faults {
        let mut rng = Rng::new(seed ^ 0x7765_6174_6865_7221);
        let mut faults = most.clone();
        for rate in &mut faults.rates {
            *rate = match rng.below(4) {
                0 => 0,
                1 => *rate / 4,
                2 => *rate,
                _ => rate.saturating_mul(5).min(6000),
            };
        }
        faults.latency.1 = faults.latency.0 + Duration::from_nanos(rng.below(u64::try_from(faults.latency.1.as_nanos()).unwrap_or(0)));
        faults.socket_bytes_max = [64, 700, 4096, 100_000][rng.index(4)];
        faults
    }

    #[must_use]
    pub fn with(mut self, fault: Fault, rate: u16) -> Faults {
        self.rates[fault.index()] = rate;
        self
    }

    #[must_use]
    pub fn rate(&self, fault: Fault) -> u16 {
        self.rates[fault.index()]
    }
}
