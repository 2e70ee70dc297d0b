//! Every bound of the product: the constants here, with what happens at each, the bounds of the configuration's own keys, and (in
//! `memory`) the sum they add up to. docs/configuration.md lists the same; a test holds the two together. The defaults
//! of the keys are in `defaults`.

use std::time::Duration;

/// Bytes of a request target. Beyond: 414.
pub const TARGET_BYTES_MAX: usize = 8 << 10;
/// Bytes of one field line. Beyond: 431.
pub const FIELD_BYTES_MAX: usize = 16 << 10;
/// Bytes of a request head. Beyond: 431.
pub const HEAD_BYTES_MAX: usize = 64 << 10;
/// Fields of a head, and of trailers. Beyond: 431; in an answer 502.
pub const FIELDS_MAX: usize = 100;
/// Bytes of a method. Beyond: 400.
pub const METHOD_BYTES_MAX: usize = 32;
/// Bytes of an answer's head. Beyond: 502, and the upstream connection is closed.
pub const ANSWER_HEAD_BYTES_MAX: usize = 1 << 20;
/// Interim answers (1xx) before the final one. Beyond: 502.
pub const INTERIM_ANSWERS_MAX: u32 = 8;
/// Bytes of one chunk line's extensions. Beyond: 400.
pub const CHUNK_EXTENSION_BYTES_MAX: usize = 256;
/// Bytes of all chunk extensions of a body. Beyond: 400.
pub const CHUNK_EXTENSIONS_BYTES_MAX: usize = 8 << 10;
/// Bytes a client may send ahead of its turn (pipelining) on a connection. Beyond: we stop receiving until they are used.
pub const PIPELINED_BYTES_MAX: usize = 64 << 10;
/// Bytes of an unwanted body that are read away to keep the connection. Beyond: the connection is closed after the answer.
pub const DRAIN_BODY_BYTES_MAX: u64 = 64 << 10;
/// Time for reading an unwanted body away. Beyond: the connection is closed after the answer.
pub const DRAIN_BODY_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes a second at which a body that is held for inspection must come, on average, after the first `body_timeout`. Below: 408. A modem
/// of 56 kbit/s sends thirty times as much.
pub const HELD_BODY_PACE: u64 = 240;
/// Received pieces that wait on a connection whose reader is behind. At the bound its receiving pauses (what is under way still comes)
/// until half are read. While more than half of a shard's buffers are lent, such pieces are copied out of them.
pub const RECEIVE_LEASES_MAX: usize = 8;
/// Bytes of such pieces, then: receiving pauses at this bound too.
pub const RECEIVE_LEASES_BYTES_MAX: usize = 64 << 10;
/// Pieces while less than half of the pool is lent: a body of 256 KiB comes at once, and pausing costs a cancel and a new receive.
pub const RECEIVE_LEASES_BURST_MAX: usize = 32;

/// Bytes of one event of a stream that are gathered when it comes in pieces. Beyond: it goes on as all do, but what it says (usage, an
/// error) is not known.
pub const EVENT_BYTES_MAX: usize = 32 << 10;
/// Bytes of an event stream that are held back until its first event is whole. Beyond: the status line is committed without it.
pub const FIRST_EVENT_BYTES_MAX: usize = 64 << 10;
/// Bytes of an event stream that one write carries. Beyond: the rest waits, and so does its server.
pub const ARRIVAL_BYTES_MAX: usize = 64 << 10;
/// Received buffers of one direction of a websocket that are on their way to the other side; then its receiving pauses.
pub const WEBSOCKET_LEASES_MAX: usize = 8;
/// How long the other side of a websocket may go on after one side has ended its own.
pub const WEBSOCKET_CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Lanes a shard is home of. Beyond: the job goes alone, not coalesced.
pub const LANES_MAX: usize = 10_000;
/// Items of one client request. Beyond: it is forwarded as it is, not coalesced (OpenAI allows as many).
pub const REQUEST_ITEMS_MAX: u32 = 2048;
/// `upstreams.retry.attempts`. Beyond the configured number the last fault is answered.
pub const CALLS_PER_REQUEST_MAX: u32 = 10;

/// Bytes of a configuration file. Beyond: refused.
pub const CONFIG_FILE_BYTES_MAX: usize = 4 << 20;
/// `server.shards`. Beyond: refused by `check`, as is every bound below.
pub const SHARDS_MAX: u32 = 1024;
/// `server.listen` entries.
pub const LISTENERS_MAX: usize = 64;
/// `server.max_connections`.
pub const CONNECTIONS_MAX: u32 = 1_000_000;
/// `server.receive_buffers`, least: below it a few slow connections would starve the rest.
pub const RECEIVE_BUFFERS_MIN: u16 = 16;
/// `server.receive_buffers`: the kernel's bound on a buffer ring.
pub const RECEIVE_BUFFERS_MAX: u16 = 32_768;
/// `server.receive_buffer`, least: below it a head needs many receives.
pub const RECEIVE_BUFFER_BYTES_MIN: u32 = 4 << 10;
/// `server.receive_buffer`.
pub const RECEIVE_BUFFER_BYTES_MAX: u32 = 1 << 20;
/// Between two receive buffers, so that they do not all begin in the same sets of the processor's cache (`sys::stride`).
pub const RECEIVE_BUFFER_GAP_BYTES: u64 = 192;
/// `server.inbox_slots`, least.
pub const INBOX_SLOTS_MIN: u32 = 64;
/// `server.inbox_slots`.
pub const INBOX_SLOTS_MAX: u32 = 1 << 20;
/// `server.max_body`, `upstreams.max_response`, `models.batching.max_bytes`: positions in a buffer are 32 bits wide.
pub const HELD_BYTES_MAX: u64 = 1 << 30;
/// `server.max_held`: a terabyte; no shard has more.
pub const SHARD_HELD_BYTES_MAX: u64 = 1 << 40;
/// `[[upstreams]]`: each is a metric label.
pub const UPSTREAMS_MAX: usize = 1024;
/// `upstreams.endpoints` of one upstream: choosing one looks at all.
pub const ENDPOINTS_MAX: usize = 256;
/// `[[models]]`: each is a metric label.
pub const MODELS_MAX: usize = 4096;
/// `models.targets` of one model: each is a model of its own where counters and lanes are kept.
pub const TARGETS_MAX: usize = 16;
/// `models.rollout.steps`.
pub const STEPS_MAX: usize = 32;
/// A request body that is copied for a shadow; larger ones are served without a copy.
pub const SHADOW_BODY_BYTES_MAX: u64 = 1 << 20;
/// `models.shadow.max_in_flight`.
pub const SHADOW_IN_FLIGHT_MAX: u32 = 1024;
/// `[[routes]]`.
pub const ROUTES_MAX: usize = 1024;
/// `upstreams.name`, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// `models.name`, in bytes.
pub const MODEL_NAME_BYTES_MAX: usize = 256;
/// `routes.path`, in bytes.
pub const ROUTE_PATH_BYTES_MAX: usize = 1024;
/// Path of a Unix socket, in bytes (`sun_path`, unix(7), with its closing NUL).
pub const UNIX_PATH_BYTES_MAX: usize = 107;
/// `upstreams.pool_max_idle`.
pub const POOL_IDLE_MAX: u32 = 65_536;
/// `upstreams.endpoints.weight`.
pub const WEIGHT_MAX: u32 = 1000;
/// `upstreams.concurrency.limit`, `min` and `max`.
pub const CONCURRENCY_MAX: u32 = 1_000_000;
/// `upstreams.concurrency.queue_max`.
pub const QUEUE_PLACES_MAX: u32 = 65_536;
/// `server.memory_max`, least.
pub const MEMORY_MAX_MIN_BYTES: u64 = 16 << 20;
/// `upstreams.health.healthy_after` and `unhealthy_after`.
pub const PROBES_IN_A_ROW_MAX: u32 = 100;
/// `upstreams.breaker.failures` and `min_calls`.
pub const BREAKER_COUNT_MAX: u32 = 1_000_000;
/// `upstreams.breaker.trials`.
pub const BREAKER_TRIALS_MAX: u32 = 1000;
/// A pause that an endpoint may ask for with `Retry-After`. Beyond: it is asked again after so long.
pub const PAUSE_MAX: Duration = Duration::from_secs(30);
/// `models.fallback` of one model.
pub const FALLBACKS_MAX: usize = 8;
/// `[[canned]]`.
pub const CANNED_MAX: usize = 64;
/// `canned.body`.
pub const CANNED_BYTES_MAX: usize = 1 << 20;
/// Bytes of a 4xx answer that are looked at for a prompt that is too long. Beyond: it is passed on as it is.
pub const ERROR_BODY_BYTES_MAX: usize = 16 << 10;
/// `server.zone` and `upstreams.endpoints.zone`, in bytes.
pub const ZONE_BYTES_MAX: usize = 64;
/// `upstreams.zone_spill`.
pub const ZONE_SPILL_MAX: u32 = 65_536;
/// `upstreams.hash.header` and `upstreams.affinity.header`, in bytes.
pub const FIELD_NAME_BYTES_MAX: usize = 64;
/// `upstreams.scrape.interval`, least unless zero: an engine should serve, not tell.
pub const SCRAPE_INTERVAL_MIN: Duration = Duration::from_millis(50);
/// `upstreams.scrape.interval`.
pub const SCRAPE_INTERVAL_MAX: Duration = Duration::from_secs(3600);
/// `upstreams.scrape.path`, in bytes.
pub const SCRAPE_PATH_BYTES_MAX: usize = 256;
/// Bytes of one answer to a scrape. Beyond: the answer is not used.
pub const SCRAPE_BYTES_MAX: usize = 1 << 20;
/// LoRA adapters remembered per endpoint. Beyond: the others count as not loaded.
pub const ADAPTERS_MAX: usize = 64;
/// `upstreams.prefix_affinity.max_entries`, least.
pub const PREFIX_ENTRIES_MIN: u32 = 1024;
/// `upstreams.prefix_affinity.max_entries`.
pub const PREFIX_ENTRIES_MAX: u32 = 1 << 24;
/// `upstreams.prefix_affinity.max_bytes`, least.
pub const PREFIX_BYTES_MIN: u64 = 16 << 10;
/// `upstreams.endpoints` of an upstream with `prefix_affinity`: an entry names its endpoints in a byte each.
pub const PREFIX_ENDPOINTS_MAX: usize = 255;
/// `models.batching.max_items`.
pub const BATCH_ITEMS_MAX: u32 = 2048;
/// `models.batching.max_bytes`, least: below it not even two short texts fit.
pub const BATCH_BYTES_MIN: u64 = 1 << 10;
/// `models.batching.max_delay`.
pub const BATCH_DELAY_MAX: Duration = Duration::from_secs(10);
/// `models.stream_comments`, least: more often would be load without use.
pub const STREAM_COMMENTS_MIN: Duration = Duration::from_millis(100);
/// `models.batching.in_flight`.
pub const BATCHES_IN_FLIGHT_MAX: u32 = 1024;
/// `models.batching.max_queue_items`.
pub const QUEUE_ITEMS_MAX: u32 = 1 << 20;

// What one of each costs in memory, rounded up: the sum is a promise, so these may be too large and never too small. The rooms that
// own the types assert that theirs fit.

/// A client connection: its state, its task and its tail of unparsed bytes while it is idle.
pub const CONNECTION_BYTES: u64 = 4 << 10;
/// A head being held and bytes sent ahead, while an exchange runs.
pub const EXCHANGE_BYTES: u64 = (HEAD_BYTES_MAX + PIPELINED_BYTES_MAX) as u64;
/// An event stream: what is held back before its first event, an event in pieces (its line and its data), two arrivals on their way.
pub const STREAM_BYTES: u64 = (FIRST_EVENT_BYTES_MAX + 2 * EVENT_BYTES_MAX + 2 * ARRIVAL_BYTES_MAX) as u64;
/// An idle connection in a pool.
pub const POOLED_CONNECTION_BYTES: u64 = 512;
/// A remembered block of a prompt.
pub const PREFIX_ENTRY_BYTES: u64 = 16;
/// A slot of an inbox.
pub const INBOX_SLOT_BYTES: u64 = 256;
/// A lane without jobs: its key, its learned cost line.
pub const LANE_BYTES: u64 = 2 << 10;
/// A job waiting in a lane, without its body.
pub const JOB_BYTES: u64 = 1 << 10;
/// A request that waits for a place at an upstream, without its body.
pub const WAITER_BYTES: u64 = 512;
/// What a shard owns besides: ring, operation slots, timers, counters, snapshot.
pub const SHARD_BYTES: u64 = 8 << 20;
