//! From a configuration to a gateway that serves: names resolved, everything bound, one thread per shard with its driver made, the
//! mesh between them, the control thread beside them. It starts everything or nothing.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::admin;
use super::crew::Crew;
use super::error::{Ended, RunError, Shown, StartError};
use super::gateway::RunningGateway;
use super::health;
use super::inherit::Inherited;
use super::listen::{self, Bound};
use super::memory;
use super::notify::Notify;
use super::plane::{Current, Plane, ShardLine, shares, snapshots};
use super::resolve::resolve;
use super::rollouts::Rollouts;
use super::scrape;
use super::store::ConfigStore;
use super::supervise::{Signals, Supervisor};
use super::upgrade::Estate;
use crate::config::{Config, Io, ListenAddr, Shards};
use crate::mesh::{Bell, Mesh, Shared, Shares};
use crate::metrics::Registry;
use crate::policy::Router;
use crate::runtime::RealClock;
use crate::shard::{Message, ShardSeed};
use crate::sys::{Instant, cores};

/// What is not in the configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StartOptions {
    /// In place of `server.shards`.
    pub shards: Option<u32>,
    /// In place of `server.io`.
    pub io: Option<Io>,
    /// What SIGHUP and [`RunningGateway::reload_file`] read again.
    pub config_path: Option<PathBuf>,
    /// The text the configuration was read from, to be kept in `server.state_dir`.
    pub config_text: Option<String>,
    /// Pin each shard to a core of its own where there are enough. Default true.
    pub pin: bool,
    /// How long a shard looks for work before it sleeps, as long as that pays. Zero, the default, never looks.
    pub spin: Duration,
    /// Take SIGTERM, SIGINT and SIGHUP. Default false: they belong to the process, and only `serve` owns it.
    pub signals: bool,
}

impl Default for StartOptions {
    fn default() -> StartOptions {
        StartOptions { shards: None, io: None, config_path: None, config_text: None, pin: true, spin: Duration::ZERO, signals: false }
    }
}

/// Starts a gateway. It blocks while names are resolved and threads begin (milliseconds otherwise); when it returns, every listener
/// accepts and the admin page answers.
///
/// # Errors
/// What was missing. Nothing is left running or bound then.
pub fn start(config: Config, options: StartOptions) -> Result<RunningGateway, StartError> {
    start_with(config, options, Inherited::default())
}

/// As [`start`], with listening sockets that are there already.
///
/// # Errors
/// What was missing. What was inherited is closed then.
pub fn start_with(mut config: Config, mut options: StartOptions, mut inherited: Inherited) -> Result<RunningGateway, StartError> {
    resolve(&mut config).map_err(StartError::Resolve)?;
    options.io = inherited.io().or(options.io);
    let shards = shard_count(&config, &options);
    // The admin address first: it is not shared, so a second gateway with the same configuration is refused here instead of taking
    // half of the first one's clients.
    let room = ControlRoom::new(config.admin.listen, options.signals, inherited.take_admin(config.admin.listen))?;
    let Bound { sockets, addrs, shown, files } = listen::bind(&config.server.listen, shards, &mut inherited)?;
    inherited.close_rest();
    let (events, inbox) = mpsc::channel(shards as usize + EVENTS_SPARE);
    let clock = RealClock::start();
    let crew = Crew::hire(&config, &options, shards, &clock, &events)?;
    let (driver, refused) = (crew.driver, crew.refused.clone());

    let estate = if options.signals { Some(estate(&sockets, &room, driver)?) } else { None };
    let (registry, metrics) = Registry::new(&config, shards);
    let (router, config) = (Shared::new(Router::new(&config)), Shared::new(config));
    let bells = crew.beats.iter().map(|beat| -> Bell { Box::new(beat.bell()) });
    let mesh: Mesh<Message> = Mesh::new(config.server.inbox_slots, bells);
    let lines = mesh.senders().into_iter().zip(&crew.beats).map(|(sender, beat)| ShardLine { sender, beat: Arc::clone(beat) });
    let shares = shares(&config, shards as usize, &Shares::default());
    let rollouts = rollouts(&config, clock.now());
    let dials = rollouts.dials(&config);
    let notify = if options.signals { Notify::from_env() } else { Notify::default() };
    let current = Current {
        config: config.clone(),
        generation: FIRST_GENERATION,
        registry,
        shares: shares.clone(),
        pressure: mesh.pressure(),
        memory_ceiling: None,
        rollouts,
        dials: dials.clone(),
    };
    let plane = Arc::new(Plane::new(clock, lines.collect(), options.config_path, current, notify));

    let lane_seed = random();
    let snapshots = snapshots(FIRST_GENERATION, &config, &router, &shares, metrics, &dials);
    let seeds = mesh.into_ports().into_iter().zip(snapshots);
    let seeds = seeds.map(|(port, snapshot)| ShardSeed { port, snapshot, lane_seed, seed: random() }).collect();
    let threads = crew.go(seeds, sockets)?;
    // Before anybody can ask for a reload, which keeps the next one.
    if let Some(text) = &options.config_text {
        plane.keep(text);
    }

    let admin_addr = room.addr;
    let supervisor =
        Supervisor { plane: Arc::clone(&plane), events: inbox, signals: Signals::default(), threads, files, estate, page: None };
    let thread = room.open(supervisor)?;
    let io = refused.map_or_else(|| driver.to_owned(), |why| format!("{driver} ({why})"));
    announce(&config, shards, &io, &shown, admin_addr);
    plane.notify().ready();
    inherited.say_ready();
    Ok(RunningGateway { plane, events, thread: Some(thread), addrs, admin_addr, driver })
}

/// The split models, where an earlier process left them.
fn rollouts(config: &Config, now: Instant) -> Rollouts {
    let mut rollouts = Rollouts::new(config, now);
    if let Some(folder) = &config.server.state_dir {
        rollouts.take_up(&ConfigStore::new(folder), now);
    }
    rollouts
}

/// What a successor will need.
fn estate(sockets: &[Vec<OwnedFd>], room: &ControlRoom, driver: &'static str) -> Result<Arc<Estate>, StartError> {
    let admin = room.listener.as_fd().try_clone_to_owned();
    let estate = admin.and_then(|admin| Estate::new(sockets.iter().flatten().chain([&admin]), driver));
    estate.map(Arc::new).map_err(|error| StartError::Resources { what: "duplicates of the listening sockets", error })
}

fn shard_count(config: &Config, options: &StartOptions) -> u32 {
    let configured = || match config.server.shards {
        Shards::Auto => cores::shard_count(),
        Shards::Count(count) => count,
    };
    options.shards.unwrap_or_else(configured).max(1)
}

/// The control thread before it runs: what can be refused is had already.
struct ControlRoom {
    runtime: Runtime,
    listener: tokio::net::TcpListener,
    signals: Signals,
    addr: SocketAddr,
}

impl ControlRoom {
    #[expect(clippy::disallowed_methods, reason = "the admin page's socket is control's own")]
    fn new(address: SocketAddr, signals: bool, inherited: Option<OwnedFd>) -> Result<ControlRoom, StartError> {
        let resources = |error| StartError::Resources { what: "the control thread's runtime", error };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_keep_alive(BLOCKING_THREAD_REST)
            .thread_name("control-wait")
            .build()
            .map_err(resources)?;
        let entered = runtime.enter();
        let bound = inherited.map_or_else(|| std::net::TcpListener::bind(address), |socket| Ok(socket.into()));
        let bound = bound.and_then(|listener: std::net::TcpListener| {
            listener.set_nonblocking(true)?;
            let addr = listener.local_addr()?;
            Ok((tokio::net::TcpListener::from_std(listener)?, addr))
        });
        let (listener, addr) = bound.map_err(|error| StartError::Admin { address, error })?;
        let signals = if signals { Signals::install().map_err(resources)? } else { Signals::default() };
        drop(entered);
        Ok(ControlRoom { runtime, listener, signals, addr })
    }

    /// Starts the control thread. If the system grants none, the shards are cut.
    fn open(self, supervisor: Supervisor) -> Result<JoinHandle<Result<Ended, RunError>>, StartError> {
        let ControlRoom { runtime, listener, signals, addr: _ } = self;
        let plane = Arc::clone(&supervisor.plane);
        let supervisor = Supervisor { signals, ..supervisor };
        let run = move || {
            let page = runtime.spawn(admin::serve(listener, Arc::clone(&supervisor.plane)));
            let supervisor = Supervisor { page: Some(page.abort_handle()), ..supervisor };
            runtime.spawn(memory::watch(Arc::clone(&supervisor.plane)));
            runtime.spawn(memory::tidy());
            runtime.spawn(health::watch(Arc::clone(&supervisor.plane)));
            runtime.spawn(scrape::scrape_all(Arc::clone(&supervisor.plane)));
            let result = runtime.block_on(supervisor.run());
            // A reload may wait for a name server: it is not waited for.
            runtime.shutdown_background();
            result
        };
        std::thread::Builder::new().name("control".to_owned()).spawn(run).map_err(|error| {
            plane.cut();
            StartError::Resources { what: "no thread for control", error }
        })
    }
}

/// The start line.
fn announce(config: &Config, shards: u32, io: &str, listeners: &[ListenAddr], admin: SocketAddr) {
    if io.contains("refused") {
        tracing::warn!("io_uring is refused here, so the slower epoll driver serves; `headrace doctor` says why and how to mend it");
    }
    let listeners: Vec<String> = listeners.iter().map(|address| Shown(address).to_string()).collect();
    let endpoints = config.upstreams.iter().map(|upstream| upstream.endpoints.len()).sum();
    tracing::info!(
        "headrace {} serves: {}, io={io}, listening on {}, admin on {admin}, {} with {}, {}, {}",
        env!("CARGO_PKG_VERSION"),
        counted(shards as usize, "shard"),
        listeners.join(" "),
        counted(config.upstreams.len(), "upstream"),
        counted(endpoints, "endpoint"),
        counted(config.written_models().count(), "model"),
        counted(config.routes.len(), "route"),
    );
}

fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// From the keys the standard library draws from the operating system for its hash maps.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

const FIRST_GENERATION: u32 = 1;
/// Room for what the owner of a gateway may tell it, besides one last word from each shard.
const EVENTS_SPARE: usize = 8;
/// A reload and the order to drain.
const BLOCKING_THREADS: usize = 2;
/// A thread that waited for others ends when it has had nothing to do for so long: what it made and others freed since (a configuration
/// that was replaced) lies in its heap, which it does not look at while it rests.
const BLOCKING_THREAD_REST: Duration = Duration::from_secs(1);
