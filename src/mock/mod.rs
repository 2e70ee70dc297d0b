//! A model server with a GPU-shaped cost, and clients that know its answers: for `headrace mock`, the demo, tests and load tests.
//! It says that it is a mock wherever it speaks. It uses the HTTP, JSON and runtime rooms as the gateway does and leaves to
//! others: arguments and tables (`cli`), scenarios and comparisons (`loadtest/`).
//!
//! - `gpu`: the cost machine, pure. `cache`: the KV cache, pure. `vector`: the answers, pure. `mark`: faults asked for inside a request's text, pure.
//! - `answer`, `embeddings`, `chat`: a request's body to an answer's body, no sockets. `connection`: one client. `thread`: the
//!   mock on a thread of its own.
//! - `client`: closed-loop and open-loop load with checked answers.

mod answer;
mod cache;
mod chat;
pub mod client;
mod connection;
mod embeddings;
mod gpu;
mod mark;
mod stats;
mod thread;
mod vector;

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use crate::runtime::{Listener, Rt};

pub use cache::PromptCache;
pub use chat::reply;
pub use gpu::{Call, Gpu};
pub use mark::Mark;
pub use stats::MockStats;
pub use thread::{MockHandle, own_driver, own_runtime, start};
pub use vector::{DIMS, DIMS_MAX, token_item, vector, write_base64, write_numbers};

use stats::Counters;

/// How the mock behaves. The default costs nothing and takes any batch.
#[derive(Clone, PartialEq, Debug)]
pub struct MockConfig {
    /// The model's name in answers; requests may ask for any.
    pub name: String,
    /// T(n) = base + n * per item, one call at a time.
    pub cost_base: Duration,
    pub cost_per_item: Duration,
    /// Items of one call at most; beyond it the answer is [`MockConfig::over_batch_status`], in TEI's words.
    pub max_batch: Option<u32>,
    /// 422 as TEI answers, or 413 as its documentation says.
    pub over_batch_status: u16,
    /// Elements of a vector, 1 to [`DIMS_MAX`].
    pub dims: u32,
    /// Content events of a chat answer (a request's `max_tokens` may ask for fewer).
    pub chat_events: u32,
    /// Time before each content event of a chat answer. Chats do not queue for the GPU: engines batch them continuously.
    pub chat_delay: Duration,
    /// What a chat's prompt costs before its first event; `None`: nothing.
    pub prefill: Option<Prefill>,
    /// Share of the calls, 0 to 1, that are answered 503 at random.
    pub error_rate: f64,
    /// What the random errors are drawn from: the same seed and order of calls give the same errors.
    pub seed: u64,
    /// Which driver [`start`] uses.
    pub io: crate::config::Io,
}

/// The cost of prompts: one at a time, by their length; what lies in the KV cache costs a tenth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefill {
    /// For a KiB of the messages' text that is not in the cache.
    pub per_kib: Duration,
    /// Bytes of prompts that the cache holds.
    pub cache_bytes: u64,
}

impl Default for MockConfig {
    fn default() -> MockConfig {
        MockConfig {
            name: "mock".to_owned(),
            cost_base: Duration::ZERO,
            cost_per_item: Duration::ZERO,
            max_batch: None,
            over_batch_status: 422,
            dims: DIMS,
            chat_events: 16,
            chat_delay: Duration::ZERO,
            prefill: None,
            error_rate: 0.0,
            seed: 0,
            io: crate::config::Io::Auto,
        }
    }
}

/// One mock model server; clones are the same server.
#[derive(Clone)]
pub struct Mock(Rc<State>);

/// What all of a mock's connections share.
struct State {
    config: MockConfig,
    /// `config.name` as a JSON string.
    name_json: Vec<u8>,
    gpu: Cell<Gpu>,
    /// The same for prompts; an item is a byte.
    prefill: Cell<Gpu>,
    cache: RefCell<PromptCache>,
    /// Draws so far, for random errors.
    draws: Cell<u64>,
    counters: Counters,
}

/// Serves `config` on `listener` until dropped; connections go on until `rt` shuts down.
pub async fn serve(rt: Rt, listener: Listener, config: MockConfig) {
    Mock::new(config).serve(rt, listener).await;
}

impl Mock {
    #[must_use]
    pub fn new(config: MockConfig) -> Mock {
        let config = MockConfig { dims: config.dims.clamp(1, DIMS_MAX), ..config };
        // A string is always JSON.
        let name_json = serde_json::to_vec(&config.name).unwrap_or_else(|_| b"\"mock\"".to_vec());
        let gpu = Cell::new(Gpu::new(config.cost_base, config.cost_per_item));
        let per_byte = config.prefill.map_or(Duration::ZERO, |prefill| prefill.per_kib / 1024);
        let prefill = Cell::new(Gpu::new(Duration::ZERO, per_byte));
        let cache = RefCell::new(PromptCache::new(config.prefill.map_or(0, |prefill| prefill.cache_bytes)));
        Mock(Rc::new(State { config, name_json, gpu, prefill, cache, draws: Cell::new(0), counters: Counters::default() }))
    }

    /// Accepts and serves connections until dropped; connections go on until `rt` shuts down.
    pub async fn serve(&self, rt: Rt, listener: Listener) {
        loop {
            let accepted = listener.accept().await;
            match accepted {
                Ok(socket) if self.0.counters.connections.get() < CONNECTIONS_MAX => {
                    let (mock, of_connection) = (self.clone(), rt.clone());
                    rt.spawn(async move { connection::serve(&mock.0, of_connection, socket).await });
                }
                // Beyond the bound it is closed at once.
                Ok(socket) => drop(socket),
                // Descriptors or memory are out: others may give some back.
                Err(_) => rt.sleep_until(rt.now() + ACCEPT_PAUSE).await,
            }
        }
    }

    /// What happened so far.
    #[must_use]
    pub fn stats(&self) -> MockStats {
        self.0.counters.read()
    }
}

/// Open connections; beyond it new ones are closed at once.
const CONNECTIONS_MAX: u64 = 16_384;
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
