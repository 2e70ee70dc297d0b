//! What prefix affinity is worth, shown under virtual time: 200 conversations against 4 mock model servers that keep a KV cache, through
//! two gateway shards that share nothing, once by least in flight and once by prefix affinity. The cache of one server holds a third of
//! the conversations, so all four hold them all if each stays where it is.

use crate::rng::Rng;
use headrace::config::check;
use headrace::mesh::{Bell, Dials, Mesh, Ring, Shared, Shares};
use headrace::metrics::Registry;
use headrace::mock::{Mock, MockConfig, MockStats, Prefill};
use headrace::policy::Router;
use headrace::runtime::driver::sim::{Faults, SimKernel};
use headrace::runtime::simulation::{Bounds, Simulation};
use headrace::runtime::{Rt, Socket};
use headrace::shard::{Shard, ShardSeed, ShardSnapshot};
use headrace::sys::net::Address;
use headrace::sys::{BufferPool, SimBell};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

/// What a run showed.
#[derive(Debug)]
struct Shown {
    /// Median time from a request to its first event, of all turns but the first of each conversation.
    ttft_p50: Duration,
    /// The highest of the endpoints' mean calls in flight over the mean of all, from samples at every 10 ms.
    spread: f64,
    /// The share of prompt bytes that were in a cache.
    hits: f64,
    answered: usize,
}

#[test]
fn prefix_affinity_halves_the_time_to_the_first_token() {
    let seed = crate::number("HEADRACE_SEED").unwrap_or(1);
    let (plain, steered) = (run(seed, ""), run(seed, "prefix_affinity = {}"));
    println!("least in flight: {plain:?}\nprefix affinity: {steered:?}");
    assert_eq!((plain.answered, steered.answered), (CONVERSATIONS * TURNS, CONVERSATIONS * TURNS));
    assert!(plain.ttft_p50 >= steered.ttft_p50 * 2, "{plain:?}\n{steered:?}");
    assert!(steered.spread <= 1.3, "{steered:?}");
    assert!(steered.hits > plain.hits + 0.3, "{plain:?}\n{steered:?}");
}

fn run(seed: u64, steering: &str) -> Shown {
    let kernel = SimKernel::new(seed, Faults::calm());
    let mut simulation = Simulation::new(kernel);
    simulation.set_bounds(Bounds { steps_max: 20_000_000, time_max: Duration::from_mins(20), ..Bounds::default() });
    let mocks: Vec<Mock> = ENDPOINTS.iter().map(|address| model_server(&mut simulation, address)).collect();
    let shards = gateway(&mut simulation, steering, seed);
    let times = Rc::new(RefCell::new(Vec::new()));
    let left = Rc::new(Cell::new(CONVERSATIONS));
    let (_, rt, _) = simulation.add("clients", pool(4096));
    for number in 0..CONVERSATIONS {
        let mut conversation = Conversation::new(number, seed, rt.clone());
        let (times, left) = (Rc::clone(&times), Rc::clone(&left));
        rt.spawn(async move {
            conversation.talk(&times).await;
            left.set(left.get() - 1);
        });
    }
    let sums = Rc::new(RefCell::new(vec![0_u64; mocks.len()]));
    rt.spawn(sample(rt.clone(), mocks.clone(), Rc::clone(&sums)));
    simulation.run(|| left.get() == 0).unwrap_or_else(|stuck| panic!("{stuck}"));
    drop(shards);

    let stats: Vec<MockStats> = mocks.iter().map(Mock::stats).collect();
    let (cached, all) = stats.iter().fold((0, 0), |(cached, all), one| (cached + one.prompt_bytes_cached, all + one.prompt_bytes));
    let sums = sums.borrow();
    let (most, total) = (*sums.iter().max().unwrap(), sums.iter().sum::<u64>());
    let mut times = times.borrow_mut();
    let answered = times.len();
    times.retain(|(turn, _)| *turn > 0);
    times.sort_by_key(|(_, took)| *took);
    Shown {
        ttft_p50: times[times.len() / 2].1,
        spread: most as f64 * mocks.len() as f64 / total as f64,
        hits: cached as f64 / all as f64,
        answered,
    }
}

fn model_server(simulation: &mut Simulation, address: &str) -> Mock {
    let (_, rt, _) = simulation.add("model server", pool(1024));
    let listener = rt.listen(&tcp(address), 1024).unwrap();
    let mock = Mock::new(MockConfig {
        chat_events: 20,
        chat_delay: Duration::from_millis(10),
        prefill: Some(Prefill { per_kib: Duration::from_millis(2), cache_bytes: (CONVERSATIONS * PROMPT_BYTES_MEAN / 3) as u64 }),
        ..MockConfig::default()
    });
    let serving = mock.clone();
    let own = rt.clone();
    rt.spawn(async move { serving.serve(own, listener).await });
    mock
}

/// Two shards with a mesh between them; a new connection goes to either.
fn gateway(simulation: &mut Simulation, steering: &str, seed: u64) -> Vec<Rc<Shard>> {
    let endpoints: Vec<String> = ENDPOINTS.iter().map(|address| format!("\"http://{address}\"")).collect();
    let text = format!(
        "[[upstreams]]\nname = \"llm\"\nendpoints = [{}]\n{steering}\n[[models]]\nname = \"*\"\nupstream = \"llm\"\nbatching = {{ mode = \"off\" }}\n",
        endpoints.join(", ")
    );
    let config = check("affinity.toml", &text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let runtimes = ["shard 0", "shard 1"].map(|name| simulation.add(name, pool(1024)));
    let bells = runtimes.iter().map(|(_, _, bell)| -> Bell { Box::new(MeshBell(bell.clone())) });
    let ports = Mesh::new(4096, bells).into_ports();
    let (_registry, metrics) = Registry::new(&config, 2);
    let (router, config) = (Shared::new(Router::new(&config)), Shared::new(config));
    let parts = runtimes.into_iter().zip(ports).zip(metrics).zip(1..);
    let shards = parts.map(|((((id, rt, _), port), metrics), number)| {
        let snapshot = ShardSnapshot {
            generation: 1,
            config: config.clone(),
            router: router.clone(),
            shares: Shares::default(),
            metrics,
            dials: Dials::default(),
        };
        let listener = rt.listen(&tcp(GATEWAY), 1024).unwrap();
        let shard = Shard::new(ShardSeed { port, snapshot, lane_seed: seed, seed: seed << 2 | number }, rt, vec![listener]);
        let own = Rc::clone(&shard);
        simulation.set_step(id, move || own.turn());
        shard
    });
    shards.collect()
}

struct MeshBell(SimBell);

impl Ring for MeshBell {
    fn ring(&self) {
        self.0.ring();
    }
}

/// Calls in flight at each server, summed over samples.
async fn sample(rt: Rt, mocks: Vec<Mock>, sums: Rc<RefCell<Vec<u64>>>) {
    loop {
        rt.sleep_until(rt.now() + Duration::from_millis(10)).await;
        for (sum, mock) in sums.borrow_mut().iter_mut().zip(&mocks) {
            *sum += mock.stats().in_flight;
        }
    }
}

/// One client: every turn sends the whole conversation again, over a new connection.
struct Conversation {
    rng: Rng,
    rt: Rt,
    messages: String,
}

impl Conversation {
    fn new(number: usize, seed: u64, rt: Rt) -> Conversation {
        let mut rng = Rng::new(seed << 16 | number as u64);
        let document = words(&mut rng, DOCUMENT_BYTES);
        let system = "You are a careful assistant. ".repeat(16);
        let messages = format!("[{{\"role\":\"system\",\"content\":\"{system}\"}},{{\"role\":\"user\",\"content\":\"{document}\"}}");
        Conversation { rng, rt, messages }
    }

    async fn talk(&mut self, times: &RefCell<Vec<(usize, Duration)>>) {
        for turn in 0..TURNS {
            let pause = Duration::from_micros(self.rng.between(200_000, 3_800_000));
            self.rt.sleep_until(self.rt.now() + pause).await;
            let took = self.ask().await;
            times.borrow_mut().push((turn, took));
            let (answer, question) = (words(&mut self.rng, TURN_BYTES / 2), words(&mut self.rng, TURN_BYTES / 2));
            self.messages.push_str(&format!(
                ",{{\"role\":\"assistant\",\"content\":\"{answer}\"}},{{\"role\":\"user\",\"content\":\"{question}\"}}"
            ));
        }
    }

    /// Sends the conversation so far; the time to the first event.
    async fn ask(&self) -> Duration {
        let body = format!("{{\"model\":\"m\",\"stream\":true,\"messages\":{}]}}", self.messages);
        let socket = self.rt.connect(&tcp(GATEWAY)).await.unwrap();
        let head = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
        let began = self.rt.now();
        socket.start_send(format!("{head}{body}").into_bytes());
        let mut bytes = Vec::new();
        let mut first = None;
        while let Some(lease) = receive(&socket).await {
            bytes.extend_from_slice(&lease);
            if first.is_none() && bytes.windows(6).any(|window| window == b"data: ") {
                first = Some(self.rt.now().since(began));
            }
        }
        assert!(bytes.starts_with(b"HTTP/1.1 200") && bytes.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&bytes));
        first.unwrap()
    }
}

async fn receive(socket: &Socket) -> Option<Vec<u8>> {
    Some(socket.recv().await.unwrap()?.to_vec())
}

/// Text of this length that no other conversation has.
fn words(rng: &mut Rng, len: usize) -> String {
    (0..len / 8).map(|_| format!("{:07x} ", rng.below(1 << 28))).collect()
}

fn tcp(address: &str) -> Address {
    Address::Tcp(address.parse().unwrap())
}

fn pool(buffers: u16) -> BufferPool {
    BufferPool::new(buffers, 8192).unwrap()
}

const GATEWAY: &str = "10.0.0.1:80";
const ENDPOINTS: [&str; 4] = ["10.0.1.1:80", "10.0.1.2:80", "10.0.1.3:80", "10.0.1.4:80"];
const CONVERSATIONS: usize = 200;
const TURNS: usize = 8;
/// What a conversation begins with.
const DOCUMENT_BYTES: usize = 4096;
/// What a turn adds.
const TURN_BYTES: usize = 1200;
const PROMPT_BYTES_MEAN: usize = 512 + DOCUMENT_BYTES + TURN_BYTES * (TURNS - 1) / 2;
