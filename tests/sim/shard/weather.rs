//! What one seed brings: the pretend kernel's faults, the gateway's limits, how clients behave and what upstreams do.

use crate::rng::Rng;
use headrace::config::{BatchingMode, Config, check};
use headrace::runtime::driver::sim::{Fault, Faults};
use std::sync::OnceLock;
use std::time::Duration;

#[derive(Clone, Debug)]
pub(crate) struct Weather {
    /// Timing and sizes are wild, but nothing breaks, nobody leaves and no limit is near: everyone must be served.
    pub(crate) gentle: bool,
    pub(crate) faults: Faults,
    pub(crate) config: Config,
    /// What the reload brings.
    pub(crate) next_config: Config,
    /// Receive buffers of a shard: how many, and the bytes of each.
    pub(crate) buffers: (u16, u32),
    pub(crate) inbox_slots: u32,
    pub(crate) clients: u64,
    /// Clients arrive within this time.
    pub(crate) arrival_us: u64,
    pub(crate) habits: Habits,
    /// When the first shard hears of the next configuration, and how much later the second.
    pub(crate) reload: Option<(Duration, Duration)>,
    /// When the drain begins; `None`: when every client has ended.
    pub(crate) drain: Option<Duration>,
    pub(crate) upstream: UpstreamWeather,
}

/// How clients behave: chances per request or per connection.
#[derive(Clone, Default, Debug)]
pub(crate) struct Habits {
    /// Weights of the kinds of requests, in the order of `Kind`.
    pub(crate) kinds: [u64; 5],
    pub(crate) bursts_max: u64,
    pub(crate) pipelined_max: u64,
    pub(crate) items_max: u64,
    pub(crate) lanes: u64,
    pub(crate) poison: f64,
    pub(crate) leave: f64,
    pub(crate) nonsense: f64,
    pub(crate) http10: f64,
    pub(crate) pieces: f64,
    pub(crate) authorization: f64,
    /// Asks for 100 Continue (and sends its body all the same).
    pub(crate) expects: f64,
    /// Reads its answer late.
    pub(crate) slow: f64,
}

/// What upstreams do: chances per call or per connection.
#[derive(Clone, Default, Debug)]
pub(crate) struct UpstreamWeather {
    pub(crate) cost_us: u64,
    pub(crate) overloaded: f64,
    pub(crate) error: f64,
    pub(crate) dies: f64,
    pub(crate) dies_mid: f64,
    pub(crate) wrong: f64,
    pub(crate) silent: f64,
    pub(crate) early: f64,
    pub(crate) closes: f64,
    pub(crate) idle_close: f64,
    pub(crate) interim: f64,
    pub(crate) pieces: f64,
    pub(crate) shuffles: bool,
}

impl Weather {
    pub(crate) fn new(seed: u64) -> Weather {
        let mut rng = Rng::new(seed ^ 0x5a4d);
        let gentle = rng.chance(0.25);
        let most = if gentle { Faults::rough() } else { Faults::stormy() };
        let mut faults = Faults::drawn(seed, &most);
        if !gentle && rng.chance(0.1) {
            faults.descriptors_max = 30;
        }
        let config = config(&mut rng, gentle);
        let mut next_config = config.clone();
        change(&mut next_config, &mut rng);
        let ms = Duration::from_millis;
        let habits = Habits::new(&mut rng, gentle);
        let mut upstream = UpstreamWeather::new(&mut rng, gentle);
        if habits.kinds[2] > 0 && gentle {
            // A body that is streamed up is not held: on a connection that the upstream closed meanwhile it cannot go again.
            upstream.idle_close = 0.0;
        }
        let reload = rng.chance(0.4).then(|| (ms(rng.between(1, 60)), Duration::from_micros(rng.below(8000))));
        let drain = (!gentle && rng.chance(0.4)).then(|| ms(rng.between(2, 120)));
        Weather {
            gentle,
            faults,
            config,
            next_config,
            buffers: rng.pick(&[(16, 128), (32, 256), (64, 512), (64, 4096)]),
            inbox_slots: if gentle { 1024 } else { rng.pick(&[2, 4, 64]) },
            clients: rng.between(4, 22),
            arrival_us: rng.pick(&[1000, 20_000, 80_000]),
            habits,
            reload,
            drain,
            upstream,
        }
    }

    /// The weather in a few lines.
    pub(crate) fn told(&self) -> String {
        let Weather { gentle, buffers, inbox_slots, clients, reload, drain, habits, upstream, config, .. } = self;
        let (server, up, batching) = (&config.server, &config.upstreams[0], &config.models[0].batching);
        let times = (up.connect_timeout, up.first_byte_timeout, up.total_timeout, up.pool_idle_timeout, batching.timeout);
        format!(
            "gentle {gentle}, buffers {buffers:?}, inbox {inbox_slots}, {clients} clients, at most {} connections, idle {:?}, \
            upstream times {times:?}, reload {reload:?}, drain {drain:?}\n{batching:?}\n{habits:?}\n{upstream:?}",
            server.max_connections, server.idle_timeout
        )
    }

    /// The time a request may take from its first byte to its end, whatever happens to it.
    pub(crate) fn patience(&self) -> Duration {
        if self.gentle { Duration::from_mins(5) } else { Duration::from_secs(20) }
    }
}

impl Habits {
    fn new(rng: &mut Rng, gentle: bool) -> Habits {
        let mut sometimes = |share: f64, chances: &[f64]| if rng.chance(share) { rng.pick(chances) } else { 0.0 };
        let poison = sometimes(0.4, &[0.03, 0.15]);
        let leave = if gentle { 0.0 } else { sometimes(0.5, &[0.1, 0.5]) };
        let nonsense = if gentle { 0.0 } else { sometimes(0.4, &[0.1]) };
        let (http10, pieces) = (sometimes(0.3, &[0.1, 0.3]), sometimes(0.5, &[0.2, 0.8]));
        let authorization = sometimes(0.3, &[0.5]);
        let (expects, slow) = (sometimes(0.2, &[0.3]), sometimes(0.3, &[0.3]));
        Habits {
            kinds: rng.pick(&[[10, 1, 1, 1, 1], [10, 3, 4, 4, 1], [1, 0, 0, 0, 0], [1, 1, 5, 5, 1], [6, 6, 1, 1, 0]]),
            bursts_max: rng.between(1, 4),
            pipelined_max: rng.pick(&[1, 1, 2, 5]),
            items_max: rng.pick(&[1, 1, 4, 9]),
            lanes: rng.pick(&[1, 1, 2, 4]),
            poison,
            leave,
            nonsense,
            http10,
            pieces,
            authorization,
            expects,
            slow,
        }
    }
}

impl UpstreamWeather {
    fn new(rng: &mut Rng, gentle: bool) -> UpstreamWeather {
        let cost_us = rng.pick(&[50, 1000, 6000]);
        let shuffles = rng.chance(0.5);
        let mut harmless = |share: f64, chances: &[f64]| if rng.chance(share) { rng.pick(chances) } else { 0.0 };
        let (closes, idle_close) = (harmless(0.3, &[0.1, 0.5]), harmless(0.4, &[0.3, 0.9]));
        let (interim, pieces) = (harmless(0.2, &[0.3]), harmless(0.5, &[0.2, 0.8]));
        let mut harmful = |share: f64, chances: &[f64]| if !gentle && rng.chance(share) { rng.pick(chances) } else { 0.0 };
        UpstreamWeather {
            cost_us,
            overloaded: harmful(0.3, &[0.05, 0.3]),
            error: harmful(0.25, &[0.03, 0.2]),
            dies: harmful(0.25, &[0.03, 0.15]),
            dies_mid: harmful(0.25, &[0.03, 0.15]),
            wrong: harmful(0.3, &[0.1, 0.4]),
            silent: harmful(0.2, &[0.02, 0.1]),
            early: harmful(0.3, &[0.2, 0.5]),
            closes,
            idle_close,
            interim,
            pieces,
            shuffles,
        }
    }
}

/// The gateway's configuration: the checked text, with values that a person could not write (they are below the least allowed).
fn config(rng: &mut Rng, gentle: bool) -> Config {
    static CHECKED: OnceLock<Config> = OnceLock::new();
    let checked = CHECKED.get_or_init(|| check("sim.toml", TEXT).unwrap_or_else(|mistakes| panic!("{mistakes}")));
    let mut config = checked.clone();
    let ms = Duration::from_millis;
    let server = &mut config.server;
    server.debug_headers = rng.chance(0.3);
    if gentle {
        (server.header_timeout, server.body_timeout, server.idle_timeout) = (ms(60_000), ms(60_000), ms(60_000));
        server.write_timeout = ms(60_000);
    } else {
        (server.header_timeout, server.body_timeout, server.idle_timeout) = (ms(300), ms(500), ms(rng.pick(&[30, 400])));
        server.write_timeout = ms(500);
        server.max_connections = rng.pick(&[2, 1000, 1000, 1000]);
    }
    let forward_authorization = rng.chance(0.5);
    for upstream in &mut config.upstreams {
        upstream.forward_authorization = forward_authorization;
        upstream.pool_idle_timeout = ms(rng.pick(&[0, 20, 500]));
        upstream.pool_max_idle = rng.pick(&[1, 100]);
        let times = if gentle { (60_000, 60_000, 120_000) } else { (rng.pick(&[4, 200]), rng.pick(&[30, 400]), rng.pick(&[60, 800])) };
        (upstream.connect_timeout, upstream.first_byte_timeout, upstream.total_timeout) = (ms(times.0), ms(times.1), ms(times.2));
    }
    config.models[0].timeouts = config.upstreams[0].timeouts();
    config.routes[0].timeouts = config.upstreams[1].timeouts();
    let batching = &mut config.models[0].batching;
    batching.mode = rng.pick(&[BatchingMode::Exclusive, BatchingMode::Exclusive, BatchingMode::Batching]);
    batching.max_items = rng.pick(&[1, 3, 32, 32]);
    batching.max_bytes = rng.pick(&[400, 1 << 20]);
    batching.max_delay = ms(rng.pick(&[0, 0, 3]));
    batching.in_flight = rng.pick(&[1, 1, 4]);
    batching.max_queue_items = if !gentle && rng.chance(0.2) { 3 } else { 4096 };
    batching.timeout = if gentle { ms(120_000) } else { ms(rng.pick(&[15, 900, 900])) };
    config
}

fn change(config: &mut Config, rng: &mut Rng) {
    match rng.below(3) {
        0 => config.upstreams[0].endpoints.reverse(),
        1 => config.upstreams.iter_mut().for_each(|upstream| drop(upstream.endpoints.pop())),
        _ => {}
    }
    config.models[0].batching.max_items = rng.pick(&[2, 32]);
}

/// How often a fault of the pretend kernel may be drawn to strike, for the story of one seed.
pub(crate) fn told(faults: &Faults) -> String {
    Fault::ALL.iter().filter(|fault| faults.rate(**fault) > 0).map(|fault| format!("{fault:?} {}, ", faults.rate(*fault))).collect()
}

pub(crate) const GATEWAY: &str = "127.0.0.1:8080";
pub(crate) const ENDPOINTS: [&str; 2] = ["127.0.0.1:9001", "127.0.0.1:9002"];
const TEXT: &str = r#"
[[upstreams]]
name = "gpu"
endpoints = ["http://127.0.0.1:9001", "http://127.0.0.1:9002"]

[[upstreams]]
name = "app"
endpoints = ["http://127.0.0.1:9001", "http://127.0.0.1:9002"]

[[models]]
name = "m"
upstream = "gpu"

[[routes]]
path = "/plain"
upstream = "app"
"#;
