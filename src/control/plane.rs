//! What the control plane knows of a running gateway and may do to it: read its counters, hand it the next configuration, let it
//! drain, cut it. One [`Plane`] per gateway, shared between the control thread, the admin page and whoever started it. When to do
//! which is settled in `supervise`; how a shard does its part is the shard's.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::error::ReloadError;
use super::load::load_text;
use super::memory;
use super::notify::Notify;
use super::reload::needs_restart;
use super::resolve::resolve;
use super::rollouts::{Rollouts, Wish, WishError};
use super::store::ConfigStore;
use super::thread::Beat;
use crate::config::{Config, MemoryMax, UpstreamId};
use crate::mesh::{Dials, Pressure, Sender, Shared, Shares};
use crate::metrics::{Breakers, Registry, ShardMetrics};
use crate::policy::Router;
use crate::runtime::RealClock;
use crate::shard::{Message, ShardSnapshot};
use crate::sys::Instant;

#[derive(Debug)]
pub(super) struct Plane {
    clock: RealClock,
    shards: Vec<ShardLine>,
    config_path: Option<PathBuf>,
    /// Held for a moment only: the admin page waits for it.
    current: Mutex<Current>,
    /// Held for a whole reload, which may wait for a name server and for full inboxes.
    reload: Mutex<()>,
    /// Held while the shares of split models are written down.
    keeping: Mutex<()>,
    draining: AtomicBool,
    /// Every shard was told to drain; one that leaves is not.
    told_drain: AtomicBool,
    notify: Notify,
    cut: AtomicBool,
    /// The text of the configuration in force, where it came from a file.
    written: Mutex<Option<String>>,
    /// The generation of the current configuration, for those who work under it.
    changes: watch::Sender<u32>,
}

/// The paths from control to one shard.
#[derive(Debug)]
pub(super) struct ShardLine {
    pub(super) sender: Sender<Message>,
    pub(super) beat: Arc<Beat>,
}

#[derive(Debug)]
pub(super) struct Current {
    pub(super) config: Shared<Config>,
    pub(super) generation: u32,
    pub(super) registry: Registry,
    /// Places at upstreams with a limit, kept over reloads.
    pub(super) shares: Shares,
    /// How near memory is to its ceiling, for all shards; and the ceiling in bytes.
    pub(super) pressure: Pressure,
    pub(super) memory_ceiling: Option<u64>,
    /// The shares of split models, and where shards read them.
    pub(super) rollouts: Rollouts,
    pub(super) dials: Dials,
}

impl Plane {
    pub(super) fn new(clock: RealClock, shards: Vec<ShardLine>, config_path: Option<PathBuf>, current: Current, notify: Notify) -> Plane {
        let changes = watch::Sender::new(current.generation);
        Plane {
            clock,
            shards,
            config_path,
            current: Mutex::new(current),
            reload: Mutex::new(()),
            keeping: Mutex::new(()),
            draining: AtomicBool::new(false),
            told_drain: AtomicBool::new(false),
            notify,
            cut: AtomicBool::new(false),
            written: Mutex::new(None),
            changes,
        }
    }

    pub(super) fn shards(&self) -> &[ShardLine] {
        &self.shards
    }

    /// Tells of every new configuration.
    pub(super) fn changes(&self) -> watch::Receiver<u32> {
        self.changes.subscribe()
    }

    pub(super) fn current_config(&self) -> (u32, Shared<Config>) {
        let current = self.current();
        (current.generation, current.config.clone())
    }

    pub(super) fn drain_timeout(&self) -> Duration {
        self.current().config.server.drain_timeout
    }

    /// What time it is for the shards.
    pub(super) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// The metrics as Prometheus reads them.
    pub(super) fn render(&self) -> String {
        let now = self.clock.now();
        let mut current = self.current();
        let ceiling = current.memory_ceiling;
        current.registry.set_memory(memory::resident().unwrap_or(0), ceiling);
        current.registry.render(now)
    }

    /// The ceiling on memory as it is configured.
    pub(super) fn memory_max(&self) -> MemoryMax {
        self.current().config.server.memory_max
    }

    /// Where the shards read how near memory is to its ceiling.
    pub(super) fn pressure(&self) -> Pressure {
        self.current().pressure.clone()
    }

    /// The ceiling that is watched, for the metrics.
    pub(super) fn note_ceiling(&self, bytes: Option<u64>) {
        self.current().memory_ceiling = bytes;
    }

    /// The configuration in use and its number.
    pub(super) fn configured(&self) -> (Shared<Config>, u32) {
        let current = self.current();
        (current.config.clone(), current.generation)
    }

    /// What the shards' breakers have done under the current configuration.
    pub(super) fn breakers(&self) -> Breakers {
        self.current().registry.breakers()
    }

    /// Counts a probe; one of a configuration that was replaced meanwhile names other endpoints.
    pub(super) fn count_probe(&self, generation: u32, upstream: UpstreamId, endpoint: u32, good: bool) {
        let mut current = self.current();
        if current.generation == generation {
            current.registry.probed(upstream, endpoint, good);
        }
    }

    /// What an upstream and one of its endpoints are called.
    pub(super) fn endpoint_names(&self, upstream: UpstreamId, endpoint: u32) -> (String, String) {
        let current = self.current();
        let name = current.config.upstreams.get(upstream.0 as usize).map(|upstream| upstream.name.clone());
        let endpoint = current.registry.endpoint_name(upstream, endpoint).map(str::to_owned);
        (name.unwrap_or_default(), endpoint.unwrap_or_default())
    }

    /// The names of upstreams without a healthy endpoint.
    pub(super) fn unready_upstreams(&self) -> Vec<String> {
        let current = self.current();
        let unready = current.registry.unready_upstreams(self.clock.now());
        unready.into_iter().map(|id| current.config.upstream(id).name.clone()).collect()
    }

    /// Reads the configuration file again and, if all of it can be taken, gives it to every shard.
    ///
    /// # Errors
    /// Why it was refused; the former one goes on.
    pub(super) fn reload_file(&self) -> Result<(), ReloadError> {
        let loaded = match &self.config_path {
            Some(path) => load_text(path).map_err(ReloadError::Load),
            None => Err(ReloadError::NoFile),
        };
        self.take(loaded.map(|(text, config)| (Some(text), config)))
    }

    /// What is written in the configuration in force, without its comments: those may say what is nobody's business.
    pub(super) fn written(&self) -> Option<String> {
        let text = self.written.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        toml::to_string(&text.parse::<toml::Table>().ok()?).ok()
    }

    /// Keeps the text of the configuration in force, also where `headrace rollback` finds it, if there is such a place.
    pub(super) fn keep(&self, text: &str) {
        self.note_text(Some(text.to_owned()));
        let Some(folder) = self.current().config.server.state_dir.clone() else { return };
        if let Err(error) = ConfigStore::new(&folder).keep(text) {
            tracing::error!(
                "the configuration is in force and could not be kept in {}: {error}; `headrace rollback` will not know it",
                folder.display()
            );
        }
    }

    fn note_text(&self, text: Option<String>) {
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    /// The file to look at for changes, when the configuration asks for that.
    pub(super) fn watched(&self) -> Option<PathBuf> {
        self.config_path.clone().filter(|_| self.current().config.server.watch_config)
    }

    /// As [`Plane::reload_file`] with a configuration that is there already (or the reason why it is not, which is counted).
    pub(super) fn reload(&self, loaded: Result<Config, ReloadError>) -> Result<(), ReloadError> {
        self.take(loaded.map(|config| (None, config)))
    }

    fn take(&self, loaded: Result<(Option<String>, Config), ReloadError>) -> Result<(), ReloadError> {
        let _one_at_a_time = self.reload.lock().unwrap_or_else(PoisonError::into_inner);
        self.notify.reloading();
        let result = loaded.and_then(|(text, config)| self.apply(config).map(|()| text));
        let result = result.map(|text| match text {
            Some(text) => self.keep(&text),
            None => self.note_text(None),
        });
        self.notify.ready();
        self.current().registry.reloaded(result.is_ok());
        match &result {
            Ok(()) => tracing::info!("configuration reloaded (generation {})", self.current().generation),
            Err(error) => tracing::error!("configuration not reloaded, the former one goes on: {error}"),
        }
        result
    }

    fn apply(&self, mut config: Config) -> Result<(), ReloadError> {
        let changed = needs_restart(&self.current().config, &config);
        if !changed.is_empty() {
            return Err(ReloadError::NeedsRestart(changed));
        }
        resolve(&mut config).map_err(ReloadError::Resolve)?;
        if self.is_draining() {
            return Err(ReloadError::Draining);
        }
        let router = Shared::new(Router::new(&config));
        let (snapshots, generation) = {
            let mut current = self.current();
            let metrics = current.registry.next_snapshot(&config).map_err(ReloadError::TooManySnapshots)?;
            let config = Shared::new(config);
            current.config = config.clone();
            current.rollouts = current.rollouts.carried_to(&config, self.clock.now());
            current.dials = current.rollouts.dials(&config);
            current.generation = current.generation.wrapping_add(1);
            current.shares = shares(&config, self.shards.len(), &current.shares);
            (snapshots(current.generation, &config, &router, &current.shares, metrics, &current.dials), current.generation)
        };
        for (line, snapshot) in self.shards.iter().zip(snapshots) {
            self.send(line, Message::Snapshot(Box::new(snapshot)));
        }
        self.changes.send_replace(generation);
        tracing::debug!("generation {generation} is in every shard's inbox");
        Ok(())
    }

    /// Whether some model has several targets.
    pub(super) fn has_rollouts(&self) -> bool {
        !self.current().rollouts.is_empty()
    }

    /// Reads what the targets of split models answered and lets rollouts decide. Whether [`Plane::keep_rollouts`] should follow.
    pub(super) fn look_at_rollouts(&self) -> bool {
        let now = self.clock.now();
        let Current { registry, rollouts, dials, config, .. } = &mut *self.current();
        rollouts.look(registry, dials, now);
        config.server.state_dir.is_some() && rollouts.is_keep_due(now)
    }

    /// Writes down where rollouts stand, if that has changed and there is a place for it. Blocks.
    pub(super) fn keep_rollouts(&self) {
        // The later one writes the later state.
        let _one_at_a_time = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        let (store, text) = {
            let mut current = self.current();
            let Some(folder) = current.config.server.state_dir.clone() else { return };
            let Some(text) = current.rollouts.take_text(self.clock.now()) else { return };
            (ConfigStore::new(&folder), text)
        };
        let written = store.keep_rollouts(&text);
        self.current().rollouts.note_kept(&written, &store);
    }

    /// All split models, or one.
    pub(super) fn show_rollouts(&self, model: Option<&str>) -> Option<serde_json::Value> {
        let current = self.current();
        match model {
            Some(model) => current.rollouts.show_one(model),
            None => Some(current.rollouts.show()),
        }
    }

    /// # Errors
    /// Why it is not granted; nothing changed.
    pub(super) fn wish(&self, model: &str, wish: Wish) -> Result<serde_json::Value, WishError> {
        let now = self.clock.now();
        let Current { registry, rollouts, dials, .. } = &mut *self.current();
        rollouts.wish(model, wish, registry, dials, now)
    }

    /// Begins the drain: `/readyz` says so from now on, and every shard is told. It does not wait for a reload that waits for a
    /// name server: that one is refused when it comes back.
    pub(super) fn begin_drain(&self) {
        self.draining.store(true, Ordering::Release);
        if self.told_drain.swap(true, Ordering::AcqRel) {
            return;
        }
        self.notify.stopping();
        for line in &self.shards {
            self.send(line, Message::Drain);
        }
    }

    /// As a drain, for a process whose successor accepts already: connections that are open may ask once more.
    pub(super) fn begin_leave(&self) {
        if self.draining.swap(true, Ordering::AcqRel) {
            return;
        }
        for line in &self.shards {
            self.send(line, Message::Leave);
        }
    }

    pub(super) fn count_failed_upgrade(&self) {
        self.current().registry.upgrade_failed();
    }

    pub(super) fn notify(&self) -> &Notify {
        &self.notify
    }

    pub(super) fn upgrade_timeout(&self) -> Duration {
        self.current().config.server.upgrade_timeout
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Whether no shard has anything left to finish. A shard without work may still be the home of another's lanes, so none ends
    /// before all are done: one with a client that waits is not empty, whoever works for it. Nudges those that sleep, because a
    /// shard says how it stands at the end of a turn.
    pub(super) fn is_drained(&self) -> bool {
        let drained = self.shards.iter().all(|line| line.beat.is_drained());
        if !drained {
            self.nudge();
        }
        drained
    }

    /// Ends every shard after the turn it is in.
    pub(super) fn cut(&self) {
        self.draining.store(true, Ordering::Release);
        self.cut.store(true, Ordering::Release);
        for line in &self.shards {
            line.beat.cut();
        }
    }

    /// Lets every sleeping shard turn once.
    pub(super) fn nudge(&self) {
        for line in &self.shards {
            line.beat.nudge();
        }
    }

    /// Waits for room: a shard that lives empties its inbox. One that does not is past being told anything.
    #[expect(clippy::disallowed_methods, reason = "control waits for a shard here, on a thread that may block")]
    fn send(&self, line: &ShardLine, mut message: Message) {
        while let Err(back) = line.sender.send(message) {
            if line.beat.has_ended() || self.cut.load(Ordering::Acquire) {
                return;
            }
            message = back;
            std::thread::sleep(INBOX_RETRY);
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One configuration as each shard gets it.
pub(super) fn snapshots(
    generation: u32,
    config: &Shared<Config>,
    router: &Shared<Router>,
    shares: &Shares,
    metrics: Vec<ShardMetrics>,
    dials: &Dials,
) -> Vec<ShardSnapshot> {
    let snapshot = |metrics| ShardSnapshot {
        generation,
        config: config.clone(),
        router: router.clone(),
        shares: shares.clone(),
        metrics,
        dials: dials.clone(),
    };
    metrics.into_iter().map(snapshot).collect()
}

/// Rows for the upstreams that have a limit; those that had one keep it.
pub(super) fn shares(config: &Config, shards: usize, former: &Shares) -> Shares {
    let limited = config.upstreams.iter().map(|upstream| upstream.concurrency.is_some().then_some(upstream.name.as_str()));
    Shares::new(u32::try_from(shards).unwrap_or(u32::MAX), limited, former)
}

const INBOX_RETRY: Duration = Duration::from_millis(1);
