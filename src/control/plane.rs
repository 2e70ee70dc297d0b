//! What the control plane knows of a running gateway and may do to it: read its counters, hand it the next configuration, let it
//! drain, cut it. One [`Plane`] per gateway, shared between the control thread, the admin page and whoever started it. When to do
//! which is settled in `supervise`; how a shard does its part is the shard's.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::error::ReloadError;
use super::load::load_text;
use super::notify::Notify;
use super::reload::needs_restart;
use super::resolve::resolve;
use super::rollouts::{Rollouts, Wish, WishError};
use super::store::ConfigStore;
use super::thread::Beat;
use crate::config::Config;
use crate::mesh::{Dials, Sender, Shared};
use crate::metrics::{Registry, ShardMetrics};
use crate::policy::Router;
use crate::runtime::RealClock;
use crate::shard::{Message, ShardSnapshot};

#[derive(Debug)]
pub(super) struct Plane {
    clock: RealClock,
    shards: Vec<ShardLine>,
    config_path: Option<PathBuf>,
    /// Held for a moment only: the admin page waits for it.
    current: Mutex<Current>,
    /// Held for a whole reload, which may wait for a name server and for full inboxes.
    reload: Mutex<()>,
    draining: AtomicBool,
    /// Every shard was told to drain; one that leaves is not.
    told_drain: AtomicBool,
    notify: Notify,
    cut: AtomicBool,
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
    /// The shares of split models, and where shards read them.
    pub(super) rollouts: Rollouts,
    pub(super) dials: Dials,
}

impl Plane {
    pub(super) fn new(clock: RealClock, shards: Vec<ShardLine>, config_path: Option<PathBuf>, current: Current, notify: Notify) -> Plane {
        Plane {
            clock,
            shards,
            config_path,
            current: Mutex::new(current),
            reload: Mutex::new(()),
            draining: AtomicBool::new(false),
            told_drain: AtomicBool::new(false),
            notify,
            cut: AtomicBool::new(false),
        }
    }

    pub(super) fn shards(&self) -> &[ShardLine] {
        &self.shards
    }

    pub(super) fn drain_timeout(&self) -> Duration {
        self.current().config.server.drain_timeout
    }

    /// The metrics as Prometheus reads them.
    pub(super) fn render(&self) -> String {
        let now = self.clock.now();
        self.current().registry.render(now)
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
        match loaded {
            Ok((text, config)) => {
                self.reload(Ok(config))?;
                self.keep(&text);
                Ok(())
            }
            Err(error) => self.reload(Err(error)),
        }
    }

    /// Keeps the text of the configuration in force where `headrace rollback` finds it, if there is such a place.
    pub(super) fn keep(&self, text: &str) {
        let Some(folder) = self.current().config.server.state_dir.clone() else { return };
        if let Err(error) = ConfigStore::new(&folder).keep(text) {
            tracing::error!(
                "the configuration is in force and could not be kept in {}: {error}; `headrace rollback` will not know it",
                folder.display()
            );
        }
    }

    /// The file to look at for changes, when the configuration asks for that.
    pub(super) fn watched(&self) -> Option<PathBuf> {
        self.config_path.clone().filter(|_| self.current().config.server.watch_config)
    }

    /// As [`Plane::reload_file`] with a configuration that is there already (or the reason why it is not, which is counted).
    pub(super) fn reload(&self, loaded: Result<Config, ReloadError>) -> Result<(), ReloadError> {
        let _one_at_a_time = self.reload.lock().unwrap_or_else(PoisonError::into_inner);
        self.notify.reloading();
        let result = loaded.and_then(|config| self.apply(config));
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
            (snapshots(current.generation, &config, &router, metrics, &current.dials), current.generation)
        };
        for (line, snapshot) in self.shards.iter().zip(snapshots) {
            self.send(line, Message::Snapshot(Box::new(snapshot)));
        }
        tracing::debug!("generation {generation} is in every shard's inbox");
        Ok(())
    }

    /// Whether some model has several targets.
    pub(super) fn has_rollouts(&self) -> bool {
        !self.current().rollouts.is_empty()
    }

    /// Reads what the targets of split models answered and lets rollouts decide.
    pub(super) fn look_at_rollouts(&self) {
        let now = self.clock.now();
        let Current { registry, rollouts, dials, .. } = &mut *self.current();
        rollouts.look(registry, dials, now);
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
    metrics: Vec<ShardMetrics>,
    dials: &Dials,
) -> Vec<ShardSnapshot> {
    let snapshot = |metrics| ShardSnapshot { generation, config: config.clone(), router: router.clone(), metrics, dials: dials.clone() };
    metrics.into_iter().map(snapshot).collect()
}

const INBOX_RETRY: Duration = Duration::from_millis(1);
