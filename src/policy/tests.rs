//! Tables and properties of the pure decisions, one module per file of the room.

use std::time::Duration;

use crate::config::{
    Admin, Admission, Balance, Batching, BatchingMode, Config, Endpoint, EndpointAddr, Io, ListenAddr, MemoryMax, Model, Route, Server,
    Shards, Steering, Timeouts, Upstream, UpstreamId,
};

mod adaptive;
mod balance;
mod health;
mod kept;
mod limit;
mod measure;
mod path;
mod places;
mod queue;
mod retry;
mod rollout;
mod route;
mod split;
mod spread;

/// A configuration with the given models, no routes, and one upstream `gpu0` with a TCP and a Unix endpoint. For the tests of
/// metrics too.
pub(crate) fn sample_config(models: &[&str]) -> Config {
    let second = Duration::from_secs(1);
    let batching = Batching {
        mode: BatchingMode::Exclusive,
        max_items: 32,
        max_bytes: 2 << 20,
        max_delay: Duration::ZERO,
        in_flight: 1,
        max_queue_items: 4096,
        timeout: second,
    };
    let address = |host: &str| EndpointAddr::Tcp { host: host.to_owned(), port: 8000, resolved: None };
    Config {
        server: Server {
            listen: vec![ListenAddr::Unix("/run/headrace.sock".into())],
            shards: Shards::Auto,
            io: Io::Auto,
            max_connections: 10_000,
            header_timeout: second,
            body_timeout: second,
            write_timeout: second,
            half_close: false,
            idle_timeout: second,
            drain_timeout: second,
            upgrade_timeout: second,
            max_held_bytes: 256 << 20,
            max_body_bytes: 32 << 20,
            memory_max: MemoryMax::None,
            receive_buffers: 1024,
            receive_buffer_bytes: 8192,
            inbox_slots: 4096,
            state_dir: None,
            watch_config: false,
            trust_forwarded: false,
            zone: None,
            debug_headers: false,
        },
        admin: Admin { listen: ([127, 0, 0, 1], 9090).into() },
        admission: Admission::default(),
        upstreams: vec![Upstream {
            name: "gpu0".to_owned(),
            endpoints: vec![
                Endpoint { addr: address("10.0.0.1"), weight: 1, zone: None, authority: "10.0.0.1:8000".to_owned() },
                Endpoint { addr: EndpointAddr::Unix("/run/vllm.sock".into()), weight: 1, zone: None, authority: "localhost".to_owned() },
            ],
            balance: Balance::LeastInFlight,
            steering: Steering::default(),
            connect_timeout: second,
            first_byte_timeout: second,
            stream_idle_timeout: second,
            total_timeout: second,
            pool_idle_timeout: second,
            pool_max_idle: 256,
            max_response_bytes: 64 << 20,
            forward_authorization: false,
            concurrency: None,
            resilience: crate::config::Resilience::default(),
        }],
        models: models
            .iter()
            .map(|name| Model {
                name: (*name).to_owned(),
                upstream: UpstreamId(0),
                batching: batching.clone(),
                resilience: crate::config::ModelResilience::default(),
                timeouts: timeouts(),
                stream_comments: None,
                arm_of: None,
                split: None,
                shadow: None,
            })
            .collect(),
        routes: Vec::new(),
        canned: Vec::new(),
    }
}

/// A second for everything.
pub(crate) fn timeouts() -> Timeouts {
    let second = Duration::from_secs(1);
    Timeouts { first_byte: second, stream_idle: second, total: second }
}

/// A route as `sample_config` would have it.
pub(crate) fn route(path: &str) -> Route {
    Route { path: path.to_owned(), upstream: UpstreamId(0), timeouts: timeouts(), websocket: None }
}
