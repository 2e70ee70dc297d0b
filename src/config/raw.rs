//! What a person may write: the TOML form, one struct per table, every value with its place. The doc comments are the
//! descriptions of the JSON Schema and the defaults written here are checked against the real ones by a test. Units, bounds and
//! names are text still: `check` decides what they mean.

pub(super) mod admission;
pub(super) mod resilience;
mod rollout;
mod steering;
mod streams;

use std::ops::Range;

pub(super) use rollout::{RawMetric, RawRollout, RawShadow, RawSticky, RawTarget};
pub(super) use steering::{RawAffinity, RawHash, RawPrefixAffinity, RawScrape};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};

use admission::{RawAdmission, RawConcurrency};
use resilience::{RawBreaker, RawCanned, RawHealth, RawHedge, RawRetry, RawSlowStart};
pub(super) use streams::RawTimeouts;

/// A value and the bytes of the file it stands in.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub value: T,
    pub place: Range<usize>,
}

/// headrace.toml: how to listen, the upstreams behind, the models and routes that lead to them.
#[derive(Clone, Debug, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "headrace configuration")]
pub(super) struct RawConfig {
    /// How clients are served.
    pub server: Option<RawServer>,
    /// The operator's side: health, metrics.
    pub admin: Option<RawAdmin>,
    /// By which fields of a request its priority and its tenant are known, before upstreams with a limit and in lanes.
    pub admission: Option<RawAdmission>,
    /// Sets of equal servers, each a `[[upstreams]]` table.
    pub upstreams: Option<Vec<At<RawUpstream>>>,
    /// The models clients ask for, each a `[[models]]` table. At least one model or route is needed.
    pub models: Option<Vec<At<RawModel>>>,
    /// Traffic that is not a model call, each a `[[routes]]` table.
    pub routes: Option<Vec<At<RawRoute>>>,
    /// Answers that stand ready for `models.fallback`, each a `[[canned]]` table.
    pub canned: Option<Vec<At<RawCanned>>>,
}

/// How clients are served.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawServer {
    /// Addresses to listen on: `"127.0.0.1:8080"`, `"[::1]:8080"` or `"unix:/run/headrace.sock"`. The default is this host only:
    /// nothing is open to a network until someone says so.
    #[schemars(extend("default" = ["127.0.0.1:8080"]))]
    pub listen: Option<At<Vec<At<String>>>>,
    /// Shards (pinned threads), `"auto"` or 1 to 1024. Auto is one per core this process may use (affinity mask and cgroup quota):
    /// fewer leave cores idle, more fight for them.
    #[schemars(extend("default" = "auto"))]
    pub shards: Option<At<RawShards>>,
    /// `"auto"`, `"uring"` or `"epoll"`. Auto takes io_uring where the kernel grants it, else epoll, and says which at the start.
    #[schemars(extend("default" = "auto"), extend("enum" = ["auto", "uring", "epoll"]))]
    pub io: Option<At<String>>,
    /// Open client connections per shard, 1 to 1000000. At the bound accept pauses and the kernel's backlog holds the rest.
    #[schemars(extend("default" = 10_000))]
    pub max_connections: Option<At<i64>>,
    /// A request head must be complete this long after its first byte; then 408. It ends clients that trickle headers.
    #[schemars(extend("default" = "10s"))]
    pub header_timeout: Option<At<String>>,
    /// Silence allowed between two pieces of a body; then 408. Long enough for a poor line, short enough to free the memory.
    #[schemars(extend("default" = "30s"))]
    pub body_timeout: Option<At<String>>,
    /// How long a client may take nothing of an answer that is ready for it; then it is cut. Whatever it takes begins the time anew, so
    /// a slow reader is served. As long as `body_timeout`, for the same reasons.
    #[schemars(extend("default" = "30s"))]
    pub write_timeout: Option<At<String>>,
    /// Serve clients that end their side of the connection behind their request (FIN) and read on. Default false: with nearly all
    /// clients that means they have left, and what they asked for is ended at once. When true, a client that leaves in good order is
    /// noticed only when something is sent to it.
    #[schemars(extend("default" = false))]
    pub half_close: Option<At<bool>>,
    /// A keep-alive connection without a request is closed after this; no answer is due, so nothing is lost.
    #[schemars(extend("default" = "60s"))]
    pub idle_timeout: Option<At<String>>,
    /// Exchanges that have begun may take this long after SIGTERM; then they are cut. It matches what orchestrators grant.
    #[schemars(extend("default" = "30s"))]
    pub drain_timeout: Option<At<String>>,
    /// After an upgrade (SIGUSR2) the former process finishes what is begun for at most this long; then it is cut. Nobody waits for it,
    /// so it is as long as the longest call (`total_timeout`).
    #[schemars(extend("default" = "600s"))]
    pub upgrade_timeout: Option<At<String>>,
    /// The largest request body that is held for inspection (model calls); beyond it 413. 32 MiB holds a prompt with images.
    #[schemars(extend("default" = "32MiB"))]
    pub max_body: Option<At<String>>,
    /// Bytes of request bodies that one shard holds at a time, over all its connections; beyond it 503 `memory_full`. At least
    /// `max_body`. 256 MiB is eight of the largest bodies, or many thousand usual ones.
    #[schemars(extend("default" = "256MiB"))]
    pub max_held: Option<At<String>>,
    /// The most resident memory of the process: `"auto"`, `"none"` or a size of at least 16 MiB. From nine tenths of it on requests
    /// whose bodies would be held are refused, beyond it all: 503 `memory_full`. Auto is four fifths of the cgroup's `memory.max` where
    /// there is one: refusing some beats being killed with all.
    #[schemars(extend("default" = "auto"))]
    pub memory_max: Option<At<String>>,
    /// Receive buffers per shard, a power of two up to 32768. When all are lent, receiving waits until one returns.
    #[schemars(extend("default" = 1024))]
    pub receive_buffers: Option<At<i64>>,
    /// Bytes of one receive buffer, 4KiB to 1MiB. 32 KiB holds nearly every request whole, which is then read and sent from where it came; memory is used as buffers are first touched, few under light load; an idle shard gives back all but that of the first 64.
    #[schemars(extend("default" = "32KiB"))]
    pub receive_buffer: Option<At<String>>,
    /// Slots in a shard's inbox, a power of two up to 1048576. When it is full the job is shed with 503.
    #[schemars(extend("default" = 4096))]
    pub inbox_slots: Option<At<i64>>,
    /// A folder where the last two configurations that were taken are kept, for `headrace rollback`, and where rollouts stand, for the next
    /// process. Not set, nothing is kept: which folder this process may write is not for it to guess.
    pub state_dir: Option<At<String>>,
    /// Reload when the configuration file changes and has come to rest, as after SIGHUP. Default false: half of an edit that was saved
    /// early is nobody's intention.
    #[schemars(extend("default" = false))]
    pub watch_config: Option<At<bool>>,
    /// Keep `Forwarded` and `X-Forwarded-*` that clients send, and add to them: only when every client is a proxy you trust.
    /// Default false: theirs are removed and ours are written, since anyone can write them.
    #[schemars(extend("default" = false))]
    pub trust_forwarded: Option<At<bool>>,
    /// The zone this gateway stands in: endpoints of the same zone come first. Default: none, so that all endpoints are near.
    pub zone: Option<At<String>>,
    /// Answer with `x-headrace-batch-size` and `x-headrace-batch-wait-us`. Default false: clients need not know their neighbours.
    #[schemars(extend("default" = false))]
    pub debug_headers: Option<At<bool>>,
}

/// The operator's side: health, metrics.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAdmin {
    /// Address of `/livez`, `/readyz` and `/metrics`. The default is this host only: metrics tell more than clients should know.
    #[schemars(extend("default" = "127.0.0.1:9090"))]
    pub listen: Option<At<String>>,
}

/// A set of equal servers.
#[derive(Clone, Debug, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawUpstream {
    /// The name models and routes refer to: letters, digits, `_`, `-`, `.`; it is a metric label.
    #[schemars(required)]
    pub name: Option<At<String>>,
    /// Addresses of the servers, at least one: `"http://127.0.0.1:8000"`, `"unix:/run/vllm.sock"` or `{ url = "...", weight = 2 }`.
    #[schemars(required)]
    pub endpoints: Option<At<Vec<At<RawEndpoint>>>>,
    /// `"least_in_flight"`, `"round_robin"`, `"p2c"` (of two drawn at random the one with the lower latency times load) or
    /// `"consistent_hash"` (by `hash`, with bounded load). Model calls differ a lot in cost, so the endpoint with the least to do is next.
    #[schemars(extend("default" = "least_in_flight"), extend("enum" = ["least_in_flight", "round_robin", "p2c", "consistent_hash"]))]
    pub balance: Option<At<String>>,
    /// What `balance = "consistent_hash"` hashes.
    pub hash: Option<At<RawHash>>,
    /// Sessions that stay at their endpoint, by a request field.
    pub affinity: Option<At<RawAffinity>>,
    /// Which model server this is: then its load is read and counts when an endpoint is chosen. Default: unknown, nothing is read.
    #[schemars(extend("enum" = ["vllm", "sglang", "tei", "tgi", "llamacpp", "triton", "infinity"]))]
    pub engine: Option<At<String>>,
    /// How the load that the `engine` reports is read.
    pub scrape: Option<At<RawScrape>>,
    /// Send a conversation back to the endpoint that has its beginning in its cache. Default: not done, since it has to read the bodies.
    pub prefix_affinity: Option<At<RawPrefixAffinity>>,
    /// With zones: calls in flight from a shard, per unit of weight, at every near endpoint from which a far one may be used as well,
    /// 1 to 65536. 8 fills a small batch before a call crosses zones.
    #[schemars(extend("default" = 8))]
    pub zone_spill: Option<At<i64>>,
    /// How long to wait for a connection; then another endpoint is tried. Nearby servers answer in milliseconds or not at all.
    #[schemars(extend("default" = "1s"))]
    pub connect_timeout: Option<At<String>>,
    /// From the request's last byte to the answer's first (of an event stream: to its first event); then 504, never retried. Cold
    /// models are slow.
    #[schemars(extend("default" = "120s"))]
    pub first_byte_timeout: Option<At<String>>,
    /// Silence allowed in an event stream that has begun (nothing comes, not even a comment); then it is cut, and the client is told by an
    /// error event. As long as a first byte may take: an engine that sets a sequence aside under pressure takes it up again.
    #[schemars(extend("default" = "120s"))]
    pub stream_idle_timeout: Option<At<String>>,
    /// The whole call; then it is cut. Ten minutes let a long generation end.
    #[schemars(extend("default" = "600s"))]
    pub total_timeout: Option<At<String>>,
    /// A pooled connection that was idle for longer is closed, not reused. Below uvicorn's 5 s, so that we close first.
    #[schemars(extend("default" = "4s"))]
    pub pool_idle_timeout: Option<At<String>>,
    /// Idle connections kept per endpoint and shard, 0 to 65536; beyond it a connection is closed after its answer.
    #[schemars(extend("default" = 1024))]
    pub pool_max_idle: Option<At<i64>>,
    /// Largest answer that is held whole (coalesced calls); beyond it 502. 64 MiB holds 2048 embeddings as text.
    #[schemars(extend("default" = "64MiB"))]
    pub max_response: Option<At<String>>,
    /// Send the client's `Authorization` to this upstream; it is then part of the lane key, so clients share no batches.
    /// Default false: a client's credential is for the gateway.
    #[schemars(extend("default" = false))]
    pub forward_authorization: Option<At<bool>>,
    /// How many requests it is given at a time, and who waits. Default: no limit, nobody waits.
    pub concurrency: Option<At<RawConcurrency>>,
    /// Probes. Default: none, calls tell.
    pub health: Option<RawHealth>,
    /// When calls show that an endpoint is broken.
    pub breaker: Option<RawBreaker>,
    /// How an endpoint that comes back gets its share.
    pub slow_start: Option<RawSlowStart>,
    /// When more than this share of the endpoints is out (breaker or probes), all are used: a fault in judging must not be worse than the
    /// fault. At the default that is when none of a few is left, or next to none of many.
    #[schemars(extend("default" = "90%"))]
    pub panic_threshold: Option<At<String>>,
    /// What is tried again.
    pub retry: Option<RawRetry>,
}

/// One server: its address, or `{ url, weight, zone }`.
#[derive(Clone, Debug)]
pub(super) enum RawEndpoint {
    Plain(String),
    Full(RawEndpointTable),
}

/// One server with its share of the calls.
#[derive(Clone, Debug, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEndpointTable {
    /// `"http://host:port"` or `"unix:/path"`.
    #[schemars(required)]
    pub url: Option<At<String>>,
    /// Its share of the calls against its neighbours, 1 to 1000. Equal servers share equally.
    #[schemars(extend("default" = 1))]
    pub weight: Option<At<i64>>,
    /// The zone it stands in, as `server.zone` names them. Endpoints of the gateway's own zone, and those without one, are near.
    pub zone: Option<At<String>>,
}

/// A model clients ask for.
#[derive(Clone, Debug, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawModel {
    /// What clients ask for; `"*"` takes every name that no other entry takes.
    #[schemars(required)]
    pub name: Option<At<String>>,
    /// The upstream that serves it, by name. Either this or `targets` is needed.
    pub upstream: Option<At<String>>,
    /// How requests for it are merged.
    pub batching: Option<RawBatching>,
    /// Models and at last perhaps a canned answer, by name, that serve its requests in this order when its upstream cannot: no endpoint to
    /// use, no answer in time, 5xx after retries, or a prompt too long for it. The body's `model` becomes the fallback's name, and the answer
    /// says so in `x-headrace-fallback`. Default: none, the fault is answered.
    pub fallback: Option<At<Vec<At<String>>>>,
    /// A second call when the first one takes long, for short calls that may be repeated. Default: none.
    pub hedge: Option<RawHedge>,
    /// Calls for this model may be repeated although they generate text, so they are retried like embeddings. Default false: an answer
    /// may have been paid for.
    #[schemars(extend("default" = false))]
    pub idempotent: Option<At<bool>>,
    /// Times for its calls, where they differ from its upstream's.
    pub timeouts: Option<RawTimeouts>,
    /// Send a sign of life (a comment; to Anthropic's clients a `ping`) into an event stream that was quiet for this long, at least
    /// 100ms: middleboxes close quiet connections while a long prompt is read. Off when left out. The first one commits the status line:
    /// from then on a failure is told by an error event, and another endpoint is no longer tried.
    pub stream_comments: Option<At<String>>,
    /// In place of `upstream`: 2 to 16 upstreams that share the requests, each `{ upstream = "...", weight = 1 }`.
    pub targets: Option<At<Vec<At<RawTarget>>>>,
    /// Requests that are alike stay with one target. Without it each request is given a target by chance.
    pub sticky: Option<RawSticky>,
    /// Copies of the requests for another upstream; their answers are thrown away.
    pub shadow: Option<At<RawShadow>>,
    /// Moves the requests of one target to the other step by step, and back when the errors or the latency speak against it.
    pub rollout: Option<At<RawRollout>>,
}

/// How requests for a model are merged.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBatching {
    /// `"exclusive"` (no batcher behind it: merging makes the GPU batch), `"batching"` (TEI, vLLM, Infinity: merging saves
    /// front-end work) or `"off"`. The default gains most where it fits and loses little where it does not.
    #[schemars(extend("default" = "exclusive"), extend("enum" = ["exclusive", "batching", "off"]))]
    pub mode: Option<At<String>>,
    /// Items per upstream call at most, 1 to 2048. 32 is the client batch limit of TEI.
    #[schemars(extend("default" = 32))]
    pub max_items: Option<At<i64>>,
    /// Body bytes per merged call at most. 2 MiB is TEI's payload limit.
    #[schemars(extend("default" = "2MiB"))]
    pub max_bytes: Option<At<String>>,
    /// A ceiling on how long a ready batch may be held back. Default 0: the upstream's busy time is the window, a timer only adds delay.
    #[schemars(extend("default" = "0ms"))]
    pub max_delay: Option<At<String>>,
    /// Merged calls in flight per endpoint, 1 to 1024. Default 1 for exclusive upstreams (more would queue unmerged at the GPU),
    /// 4 for batching ones (they merge again): there it is a ceiling, and how many pay at the present load is learned below it.
    pub in_flight: Option<At<i64>>,
    /// Items waiting per lane at most, 1 to 1048576; beyond it jobs are shed with 429 and `Retry-After`.
    #[schemars(extend("default" = 4096))]
    pub max_queue_items: Option<At<i64>>,
    /// How long a job may wait for its answer, queueing included; then 504. Default: the upstream's `total_timeout`.
    pub timeout: Option<At<String>>,
}

/// Traffic that is not a model call: a path and everything below it.
#[derive(Clone, Debug, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRoute {
    /// Begins with `/`; takes itself and everything below it. `/` takes all; the longest path wins.
    #[schemars(required)]
    pub path: Option<At<String>>,
    /// The upstream that serves it, by name.
    #[schemars(required)]
    pub upstream: Option<At<String>>,
    /// Times for its calls, where they differ from its upstream's.
    pub timeouts: Option<RawTimeouts>,
    /// Pass websockets through (RFC 6455): the upgrade is checked on both sides, then bytes go both ways. Default false: 501.
    #[schemars(extend("default" = false))]
    pub websocket: Option<At<bool>>,
    /// Silence in both directions of a websocket after which both connections are closed. Longer than the pings of usual libraries.
    #[schemars(extend("default" = "5m"))]
    pub websocket_idle_timeout: Option<At<String>>,
}

/// A word or a number: `"auto"` or a count.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(untagged)]
pub(super) enum RawShards {
    Count(i64),
    /// `shape` has seen to it that no other word comes here.
    Auto(Auto),
}

#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Auto {
    Auto,
}

/// The JSON Schema as a value: the same that [`super::schema`] prints and that `shape` walks.
pub(super) fn schema_value() -> serde_json::Value {
    let settings = schemars::generate::SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut value = settings.into_generator().into_root_schema_for::<RawConfig>().to_value();
    as_toml(&mut value);
    value
}

/// TOML has no null: an optional key is left out, so the `null` that an `Option` allows is taken out of the schema. Number formats
/// name our types and not what is allowed; the line breaks of descriptions are those of this file.
fn as_toml(value: &mut serde_json::Value) {
    use serde_json::Value;
    match value {
        Value::Object(map) => {
            map.retain(|key, value| key != "format" || !value.is_string());
            if let Some(Value::String(description)) = map.get_mut("description") {
                *description = description.replace('\n', " ");
            }
            if let Some(Value::Array(types)) = map.get_mut("type") {
                types.retain(|one| one != "null");
                if let [one] = types.as_slice() {
                    let one = one.clone();
                    map.insert("type".to_owned(), one);
                }
            }
            if let Some(Value::Array(choices)) = map.get_mut("anyOf") {
                choices.retain(|one| one.get("type").is_none_or(|kind| kind != "null"));
                if let [Value::Object(one)] = choices.as_slice() {
                    let one = one.clone();
                    map.remove("anyOf");
                    // What stands beside the reference (the key's own description) is said for this place and wins.
                    for (key, inner) in one {
                        map.entry(key).or_insert(inner);
                    }
                }
            }
            map.values_mut().for_each(as_toml);
        }
        Value::Array(items) => items.iter_mut().for_each(as_toml),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<At<T>, D::Error> {
        let spanned = toml::Spanned::<T>::deserialize(deserializer)?;
        Ok(At { place: spanned.span(), value: spanned.into_inner() })
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }

    fn inline_schema() -> bool {
        T::inline_schema()
    }
}

impl JsonSchema for RawShards {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Shards".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string", "enum": ["auto"] }, { "type": "integer" }] })
    }
}

impl JsonSchema for RawEndpoint {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Endpoint".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = generator.subschema_for::<RawEndpointTable>();
        json_schema!({ "anyOf": [{ "type": "string" }, table] })
    }
}

impl<'de> Deserialize<'de> for RawEndpoint {
    /// By hand: serde's untagged enums lose the places of the values inside.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawEndpoint, D::Error> {
        struct EndpointVisitor;

        impl<'de> Visitor<'de> for EndpointVisitor {
            type Value = RawEndpoint;

            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("an address or { url = \"...\", weight = 1 }")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RawEndpoint, E> {
                Ok(RawEndpoint::Plain(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawEndpoint, A::Error> {
                RawEndpointTable::deserialize(MapAccessDeserializer::new(map)).map(RawEndpoint::Full)
            }
        }

        deserializer.deserialize_any(EndpointVisitor)
    }
}
