//! Whole exchanges: a real shard on a scripted driver, from the bytes a client sends to the bytes it gets. All that is ours per request
//! is in these figures, but the ring's own entries and the kernel.

use bytes::Bytes;
use headrace::config::check;
use headrace::mesh::{Bell, Dials, FlagBell, Mesh, Shared, Shares};
use headrace::metrics::Registry;
use headrace::policy::Router;
use headrace::runtime::Rt;
use headrace::shard::{Shard, ShardSeed, ShardSnapshot};
use headrace::sys::net::Address;
use headrace::sys::{BufferPool, Fd};
use std::rc::Rc;

use crate::samples;
use crate::script::Script;

/// A shard, its clients, and what they send.
struct World {
    shard: Rc<Shard>,
    script: Script,
    clients: Vec<Fd>,
    request: Bytes,
    /// Read by nobody; the shard's counters live in it.
    _registry: Registry,
}

impl World {
    fn new(clients: u32, request: Vec<u8>, answer_body: &str) -> World {
        let length = answer_body.len();
        let head = format!("HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
        let script = Script::new([head.as_bytes(), answer_body.as_bytes()].concat());
        let rt = Rt::new(Box::new(script.driver(BufferPool::new(1024, 8192).unwrap())), script.clock());
        let config = check("headrace.toml", CONFIG).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let (registry, mut metrics) = Registry::new(&config, 1);
        let port = Mesh::new(64, [Box::new(FlagBell::default()) as Bell]).into_ports().remove(0);
        let router = Shared::new(Router::new(&config));
        let dials = Dials::new(config.shares());
        let snapshot = ShardSnapshot {
            generation: 0,
            router,
            config: Shared::new(config),
            shares: Shares::default(),
            metrics: metrics.remove(0),
            dials,
        };
        let listener = rt.listen(&Address::Tcp(([127, 0, 0, 1], 8080).into()), 128).unwrap();
        let shard = Shard::new(ShardSeed { port, snapshot, lane_seed: 7, seed: 11 }, rt, vec![listener]);
        shard.turn().unwrap();
        let clients = (0..clients).map(|_| script.connect()).collect();
        World { shard, script, clients, request: Bytes::from(request), _registry: registry }
    }

    /// Every client asks once, at the same moment, and gets its answer.
    fn round(&self) {
        let wanted = self.script.answered() + u32::try_from(self.clients.len()).unwrap();
        self.clients.iter().for_each(|client| self.script.say(*client, &self.request));
        for _ in 0..TURNS_MAX {
            self.shard.turn().unwrap();
            if self.script.answered() == wanted {
                return;
            }
        }
        panic!("{} of {wanted} answers after {TURNS_MAX} turns", self.script.answered());
    }
}

fn request(path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: 127.0.0.1:8080\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
    [head.as_bytes(), body.as_bytes()].concat()
}

/// An answer as small as the mock's.
const SMALL_ANSWER: &str = r#"{"object":"list","model":"m","usage":{"prompt_tokens":7,"total_tokens":7}}"#;

/// By a route: nobody looks at the body.
pub(crate) fn forward_by_route() -> Box<dyn FnMut()> {
    let world = World::new(1, request("/plain/v1", &samples::texts(70)), SMALL_ANSWER);
    Box::new(move || world.round())
}

/// By the model named in the body.
pub(crate) fn forward_by_model(body_bytes: usize) -> Box<dyn FnMut()> {
    let world = World::new(1, request("/v1/chat/completions", &samples::chat(body_bytes)), SMALL_ANSWER);
    Box::new(move || world.round())
}

/// A lone request of a lane: sent as it came.
pub(crate) fn embedding_alone() -> Box<dyn FnMut()> {
    let world = World::new(1, request("/v1/embeddings", &samples::texts(70)), &samples::answer(1, &samples::base64(384)));
    Box::new(move || world.round())
}

/// 32 clients at once: one call, its answer cut into 32.
pub(crate) fn embeddings_32() -> Box<dyn FnMut()> {
    let world = World::new(32, request("/v1/embeddings", &samples::texts(70)), &samples::answer(32, &samples::base64(384)));
    Box::new(move || world.round())
}

/// More than any of these takes.
const TURNS_MAX: u32 = 200;

const CONFIG: &str = r#"
[server]
listen = ["127.0.0.1:8080"]

[[upstreams]]
name = "gpu"
endpoints = ["http://127.0.0.1:8000"]

[[models]]
name = "llama-3.1-8b"
upstream = "gpu"

[[models]]
name = "bge-small"
upstream = "gpu"

[[routes]]
path = "/plain"
upstream = "gpu"
"#;
