//! The one table of metrics: name, kind, labels, help. The text form, docs/metrics.md and the tests are held to it.

/// What a metric's value means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Counter,
    Gauge,
    /// Of seconds or of items, by its name.
    Histogram,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// As written in queries (counters with `_total`).
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

macro_rules! metrics {
    ($($metric:ident $kind:ident $name:literal [$($label:literal),*] $help:literal;)+) => {
        /// A metric by name; the discriminant is the row in [`METRICS`].
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Metric {
            $(#[doc = $name] $metric,)+
        }

        impl Metric {
            pub const ALL: &[Metric] = &[$(Metric::$metric,)+];

            #[must_use]
            pub fn description(self) -> &'static Description {
                &METRICS[self as usize]
            }
        }

        /// All metrics, in the order they are written.
        pub const METRICS: [Description; Metric::ALL.len()] = [
            $(Description { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help },)+
        ];
    };
}

metrics! {
    Requests Counter "headrace_requests_total" ["route", "model", "status"]
        "Requests answered; route or model is empty for the other kind, both for requests refused before routing";
    RequestDuration Histogram "headrace_request_duration_seconds" ["phase"]
        "Time requests spent in each phase; phase=exchange is the whole";
    ExchangesInFlight Gauge "headrace_exchanges_in_flight" ["shard"]
        "Requests begun and not yet answered";
    ClientClosed Counter "headrace_client_closed_total" ["phase"]
        "Clients that left before their answer was complete, by the phase the request was in";
    Shed Counter "headrace_shed_total" ["reason"]
        "Requests refused on purpose, to protect what is begun";

    AdmissionLimit Gauge "headrace_admission_limit" ["upstream"]
        "Requests the upstream is given at a time: the fixed limit, or the sum of what the shards have learned";
    AdmissionInFlight Gauge "headrace_admission_in_flight" ["upstream"]
        "Requests that hold a place at an upstream with a limit";
    AdmissionWaiting Gauge "headrace_admission_waiting" ["upstream"]
        "Requests that wait for a place at the upstream";
    AdmissionWait Histogram "headrace_admission_wait_seconds" ["upstream"]
        "Time requests waited for a place and got it; those that got one at once are not counted";
    StreamTtft Histogram "headrace_stream_ttft_seconds" ["route", "model"]
        "Time from a request's head to the first event of the stream that answered it";
    StreamItl Histogram "headrace_stream_itl_seconds" ["route", "model"]
        "Time between two arrivals of events in a stream";
    Streams Counter "headrace_streams_total" ["route", "model", "outcome"]
        "Event streams that were passed on, by how they ended";
    StreamTokens Counter "headrace_stream_tokens_total" ["route", "model", "kind"]
        "Tokens of streams, where the server told their usage";
    SplitRequests Counter "headrace_split_requests_total" ["model", "target", "outcome"]
        "Requests for a model with several targets, by the target that served them";
    SplitDuration Histogram "headrace_split_duration_seconds" ["model", "target"]
        "Time to the answer's first byte for a model with several targets, by target";
    SplitMeasured Counter "headrace_split_measured_total" ["model", "target", "outcome"]
        "Answers measured by the metric of a model's rollout, by target";
    SplitShare Gauge "headrace_split_share" ["model", "target"]
        "The target's present share of the model's requests, in parts of 10000";
    RolloutEvents Counter "headrace_rollout_events_total" ["model", "event"]
        "What happened to a model's shares: steps, rollbacks, orders of a person";
    ShadowRequests Counter "headrace_shadow_requests_total" ["model", "outcome"]
        "Copies of a model's requests for its shadow, by what became of them";

    Batches Counter "headrace_batches_total" ["model", "operation", "reason"]
        "Batches sent, by why they left when they did";
    BatchItems Histogram "headrace_batch_items" ["model", "operation"]
        "Items per batch sent";
    BatchWait Histogram "headrace_batch_wait_seconds" ["model", "operation"]
        "Time jobs waited at their home shard before their batch left";
    BatchJobs Counter "headrace_batch_jobs_total" ["model", "operation", "origin_shard"]
        "Jobs that home shards took into batches, by the shard that accepted the request";
    IsolationCalls Counter "headrace_isolation_calls_total" ["model"]
        "Upstream calls made to find the culprit of a refused batch";
    LanesSolo Counter "headrace_lanes_solo_total" ["model"]
        "Lanes that stopped merging because the upstream answered a batch with the wrong number of answers";
    Lanes Gauge "headrace_lanes" ["shard"]
        "Lanes at home on the shard";
    QueuedItems Gauge "headrace_queued_items" ["shard"]
        "Items waiting in the shard's lanes";
    Tickets Gauge "headrace_tickets" ["shard"]
        "Requests of the shard that wait for a batch's answer";

    UpstreamRequests Counter "headrace_upstream_requests_total" ["upstream", "endpoint", "outcome"]
        "Calls to endpoints, by how they ended";
    UpstreamRetries Counter "headrace_upstream_retries_total" ["upstream"]
        "Calls made again after a failure";
    EndpointsChosen Counter "headrace_endpoints_chosen_total" ["upstream", "reason"]
        "Endpoints chosen where more than the calls in flight decides (p2c, hash, affinity, zones, engines, prompts), by what decided";
    UpstreamConnectionsOpened Counter "headrace_upstream_connections_opened_total" ["upstream", "endpoint"]
        "Connections opened to endpoints";
    UpstreamCallsInFlight Gauge "headrace_upstream_calls_in_flight" ["shard"]
        "Calls sent to endpoints and not yet ended";
    EndpointUnhealthy Gauge "headrace_endpoint_unhealthy" ["upstream", "endpoint"]
        "Shards that hold the endpoint unhealthy at present";

    BreakerTransitions Counter "headrace_breaker_transitions_total" ["upstream", "endpoint", "to"]
        "Breakers that opened, half opened or closed, over shards";
    BreakerState Gauge "headrace_breaker_state" ["upstream", "endpoint", "state"]
        "Shards whose breaker for the endpoint is in the state";
    HealthProbes Counter "headrace_health_probes_total" ["upstream", "endpoint", "result"]
        "Active probes of endpoints, by whether they were answered as expected: ok or failed";
    EndpointPauses Counter "headrace_endpoint_pauses_total" ["upstream", "endpoint"]
        "Pauses that the endpoint asked for with Retry-After";
    RetriesRefused Counter "headrace_retries_refused_total" ["upstream"]
        "Calls not made again because the retry budget was used up";
    Fallbacks Counter "headrace_fallbacks_total" ["model", "reason"]
        "Requests that went on to a fallback, by the model that was asked for and why";
    Hedges Counter "headrace_hedges_total" ["model", "result"]
        "Second calls made because the first took long, and those of them that won";

    Connections Gauge "headrace_connections" ["shard"]
        "Open client connections";
    ConnectionsOpened Counter "headrace_connections_opened_total" ["shard"]
        "Client connections taken on";
    ConnectionsHandedOver Counter "headrace_connections_handed_over_total" ["shard"]
        "Client connections accepted here and given to a shard with less to do";
    Turns Counter "headrace_turns_total" ["shard"]
        "Passes of the shard's event loop";
    RingEnters Counter "headrace_ring_enters_total" ["shard"]
        "System calls into the ring (or epoll waits)";
    RingEnobufs Counter "headrace_ring_enobufs_total" ["shard"]
        "Receives that found the buffer ring empty and were armed again";
    RingCqOverflows Counter "headrace_ring_cq_overflows_total" ["shard"]
        "Times the completion queue overflowed";
    StaleCompletions Counter "headrace_stale_completions_total" ["shard"]
        "Completions of operations that were given up before";
    TaskPanics Counter "headrace_task_panics_total" ["shard"]
        "Connections and calls that ended in a panic, alone; each is a bug to report";
    DoorbellsRung Counter "headrace_doorbells_rung_total" ["shard"]
        "Sleeping shards this shard woke";
    CrossShardJobs Counter "headrace_cross_shard_jobs_total" ["shard"]
        "Jobs this shard sent to a home on another shard";

    MemoryResident Gauge "headrace_memory_resident_bytes" []
        "Resident memory of the process";
    MemoryMax Gauge "headrace_memory_max_bytes" []
        "The ceiling on it in effect (server.memory_max); 0 without one";
    BuildInfo Gauge "headrace_build_info" ["version"]
        "Always 1; the version is in the label";
    ConfigReloads Counter "headrace_config_reloads_total" ["result"]
        "Attempts to load a configuration after the first";
    ConfigLastReloadSuccessful Gauge "headrace_config_last_reload_successful" []
        "1 when the last attempt succeeded (or there was none), else 0";
    UpgradesFailed Counter "headrace_upgrades_failed_total" []
        "New processes that were to take over and did not serve; this one went on";
    ConfigSnapshots Gauge "headrace_config_snapshots" []
        "Snapshots of the configuration in use: the current one and those that begun exchanges still hold";
}
