//! The label values that do not come from the configuration. All are enumerations, so that the number of series is known
//! when a snapshot is made.

use crate::config::{ModelId, RouteId};

/// What a request was for: the `route` and `model` labels of one series.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// Refused before it was routed, or nothing matched: both labels are empty.
    None,
    Route(RouteId),
    Model(ModelId),
}

/// An enumeration whose variants are label values.
macro_rules! label_values {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident => $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// In the order of their discriminants.
            pub const ALL: &[$name] = &[$($name::$variant,)+];

            /// The label's value.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $text,)+
                }
            }

            /// The place among [`Self::ALL`].
            pub(super) const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

label_values! {
    /// The phases of a request, and the whole.
    Phase {
        Accept => "accept",
        Open => "open",
        Read => "read",
        Authenticate => "authenticate",
        Route => "route",
        Admit => "admit",
        Decode => "decode",
        Dispatch => "dispatch",
        Call => "call",
        Relay => "relay",
        Record => "record",
        /// One request with its response: from the head's first byte to the answer's last.
        Exchange => "exchange",
    }
}

label_values! {
    /// Why a batch left when it did.
    BatchReason {
        /// Nothing was in flight.
        Idle => "idle",
        /// It was full (items, tokens or bytes).
        Full => "full",
        /// The running batch is about to finish.
        Ahead => "ahead",
        /// `max_delay` was reached.
        Delay => "delay",
        /// A member's deadline was near.
        Deadline => "deadline",
        /// The lane sends every job by itself.
        Solo => "solo",
        /// A part of a refused batch, to find the culprit.
        Isolation => "isolation",
        /// Requeued after the upstream said 429 or 503, or taught a smaller cap.
        Requeue => "requeue",
        /// The process drains.
        Drain => "drain",
    }
}

label_values! {
    /// How a call to an endpoint ended.
    UpstreamOutcome {
        /// A status below 400.
        Ok => "ok",
        /// A 4xx other than 429.
        ClientError => "client_error",
        /// 429.
        RateLimited => "rate_limited",
        /// A 5xx.
        ServerError => "server_error",
        ConnectFailed => "connect_failed",
        ConnectTimeout => "connect_timeout",
        /// No first byte in time.
        FirstByteTimeout => "first_byte_timeout",
        /// An event stream was silent for too long.
        StreamIdleTimeout => "stream_idle_timeout",
        /// The whole call took too long.
        TotalTimeout => "total_timeout",
        /// A pooled connection was closed before any byte of the answer.
        StaleConnection => "stale_connection",
        /// Closed or reset in the middle.
        Transport => "transport",
        /// Not HTTP we accept, too large, or (coalesced) not as many answers as items.
        BadAnswer => "bad_answer",
        /// Aborted because all who waited had left.
        Cancelled => "cancelled",
    }
}

label_values! {
    /// How an event stream ended.
    StreamOutcome {
        /// In good order, and what it said was complete as far as that can be told.
        Complete => "complete",
        /// In good order, with an error among its events.
        Error => "error",
        /// The upstream closed or reset it in the middle.
        Died => "died",
        /// It was silent for too long.
        IdleTimeout => "idle_timeout",
        /// The whole call took too long.
        TotalTimeout => "total_timeout",
        /// The client left.
        ClientClosed => "client_closed",
    }
}

label_values! {
    /// How a target of a split model served a request.
    SplitOutcome {
        /// A status below 400.
        Ok => "ok",
        /// 400 to 499.
        ClientError => "client_error",
        /// From 500, or cut.
        Error => "error",
    }
}

label_values! {
    /// How an answer is by the metric that a rollout compares.
    MeasureOutcome {
        Good => "good",
        /// Beyond the bound, or ended for one of the reasons.
        Bad => "bad",
    }
}

label_values! {
    /// Which tokens.
    TokenKind {
        /// Of the prompt.
        Input => "input",
        Output => "output",
        /// Of the prompt, those that came from a cache; counted as input too.
        Cached => "cached",
    }
}

label_values! {
    /// What became of the copy of a request.
    ShadowOutcome {
        /// A status below 400.
        Ok => "ok",
        /// 400 to 499.
        ClientError => "client_error",
        /// From 500, or no whole answer.
        Error => "error",
        /// Not copied: `max_in_flight` copies were on their way.
        Full => "full",
        /// Not copied: the body was not here whole, or too large.
        Unfit => "unfit",
    }
}

label_values! {
    /// Why a request was refused on purpose.
    ShedReason {
        /// The lane's queue holds `max_queue_items`.
        LaneFull => "lane_full",
        /// This shard holds as many lanes as it may.
        LanesFull => "lanes_full",
        /// The home shard's inbox is full.
        InboxFull => "inbox_full",
        /// This shard holds as many tickets as it may.
        TicketsFull => "tickets_full",
        /// The upstream is at its limit and the queue before it full.
        UpstreamFull => "upstream_full",
        /// Buffers or memory are used up.
        MemoryFull => "memory_full",
        /// Connections are at their limit.
        ConnectionsFull => "connections_full",
        /// Its tenant holds more than its share of a full queue.
        TenantShare => "tenant_share",
        /// It would have waited for its place at the upstream, or in its lane, for longer than it may.
        PredictedLate => "predicted_late",
        /// It has waited for its place at the upstream for as long as it may.
        QueueTimeout => "queue_timeout",
        /// A limit of the principal.
        Limit => "limit",
        /// Its deadline would have passed before an answer.
        Deadline => "deadline",
        /// The process drains.
        Drain => "drain",
    }
}

label_values! {
    /// What a breaker did.
    BreakerTo {
        Closed => "closed",
        Open => "open",
        HalfOpen => "half_open",
    }
}

label_values! {
    /// Why a request went on to a fallback.
    FallbackReason {
        /// No endpoint could be used or reached, or the connection broke.
        Unreachable => "unreachable",
        /// No answer in time.
        Timeout => "timeout",
        /// A 5xx after retries.
        Error => "error",
        /// The prompt is too long for the model.
        ContextLength => "context_length",
    }
}

label_values! {
    /// What became of a second call.
    HedgeResult {
        Sent => "sent",
        /// Its answer came first.
        Won => "won",
    }
}

/// Statuses with a series of their own; others count under their class.
const STATUSES: [u16; 37] = [
    101, 200, 201, 202, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 406, 408, 409, 410, 411, 412, 413, 414, 415, 417,
    422, 429, 431, 499, 500, 501, 502, 503, 504, 529,
];
/// Classes by their first digit, and what is no status at all.
const STATUS_CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "other"];
/// Values of the `status` label.
pub(super) const STATUS_COUNT: usize = STATUSES.len() + STATUS_CLASSES.len();
/// By status: the place of its value.
static STATUS_INDEX: [u8; 600] = status_table();

/// The place of a status among the values of the `status` label.
pub(super) fn status_index(status: u16) -> usize {
    STATUS_INDEX.get(usize::from(status)).map_or(STATUS_COUNT - 1, |&index| usize::from(index))
}

/// The values of the `status` label in the order of [`status_index`].
pub(super) fn status_values() -> impl Iterator<Item = String> {
    STATUSES.iter().map(u16::to_string).chain(STATUS_CLASSES.iter().map(|&class| class.to_owned()))
}

#[expect(clippy::cast_possible_truncation, reason = "evaluated when compiled; there are fewer than 256 values, asserted")]
const fn status_table() -> [u8; 600] {
    const { assert!(STATUS_COUNT < 256) };
    let mut table = [(STATUS_COUNT - 1) as u8; 600];
    let mut status = 100;
    while status < 600 {
        table[status] = (STATUSES.len() + status / 100 - 1) as u8;
        status += 1;
    }
    let mut index = 0;
    while index < STATUSES.len() {
        table[STATUSES[index] as usize] = index as u8;
        index += 1;
    }
    table
}
