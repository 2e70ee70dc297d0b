//! What of the shares outlives the process: written into the config store (`rollouts.json`) when something has happened and every
//! while of a running rollout, read at the start. Whoever reads it first is the successor of an upgrade, then any process after this one.
//! A store that cannot be written or read is a warning: shares then begin with what the configuration says.

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::rollouts::{Line, Rollouts, stage_name};
use super::store::ConfigStore;
use crate::config::WHOLE;
use crate::policy::{KeptRollout, Rollout, Stage};
use crate::sys::Instant;

/// What was written down, as far as that is to be known.
#[derive(Default, Debug)]
pub(super) struct Keeping {
    /// Something has happened since.
    pub(super) is_stale: bool,
    at: Instant,
    /// It could not be written, which was told.
    is_failing: bool,
}

impl Keeping {
    /// Under the next configuration.
    pub(super) fn for_next(&self) -> Keeping {
        Keeping { is_stale: true, ..*self }
    }
}

/// The file.
#[derive(Serialize, Deserialize)]
struct Kept {
    models: Vec<KeptLine>,
}

#[derive(Serialize, Deserialize)]
struct KeptLine {
    model: String,
    targets: Vec<String>,
    /// Shares of [`WHOLE`], as the configuration had them and as they were.
    configured: Vec<u32>,
    shares: Vec<u32>,
    rollout: Option<KeptRollout>,
}

impl Rollouts {
    /// Whether it is time to write: something has happened, or a rollout runs and nothing was written for a while.
    pub(super) fn is_keep_due(&self, now: Instant) -> bool {
        self.kept.is_stale || (self.is_running() && now.since(self.kept.at) >= KEEP_EVERY)
    }

    /// What is to be written, if anything has changed; it counts as written from now on.
    pub(super) fn take_text(&mut self, now: Instant) -> Option<String> {
        if self.lines.is_empty() || !(self.kept.is_stale || self.is_running()) {
            return None;
        }
        (self.kept.is_stale, self.kept.at) = (false, now);
        let line = |line: &Line| KeptLine {
            model: line.model.clone(),
            targets: line.targets.clone(),
            configured: line.configured.clone(),
            shares: line.shares.clone(),
            rollout: line.machine.as_ref().map(|machine| machine.keep(now)),
        };
        serde_json::to_string_pretty(&Kept { models: self.lines.iter().map(line).collect() }).ok()
    }

    /// What became of the writing. A failure is told once, until one succeeds.
    pub(super) fn note_kept(&mut self, written: &io::Result<()>, store: &ConfigStore) {
        if let Err(error) = written
            && !self.kept.is_failing
        {
            let folder = store.folder().display();
            tracing::warn!("the shares of split models cannot be kept in {folder}: {error}; after a restart they begin anew");
        }
        self.kept.is_failing = written.is_err();
    }

    /// Goes on where an earlier process stood, with each model whose targets, weights and steps are as they were.
    pub(super) fn take_up(&mut self, store: &ConfigStore, now: Instant) {
        if self.lines.is_empty() {
            return;
        }
        let parse = |text: String| serde_json::from_str::<Kept>(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error));
        match store.rollouts().and_then(|text| text.map(parse).transpose()) {
            Ok(Some(kept)) => self.lines.iter_mut().for_each(|line| line.take_up(&kept.models, now)),
            Ok(None) => {}
            Err(error) => {
                let folder = store.folder().display();
                tracing::warn!("the shares of split models that are kept in {folder} cannot be read, they begin anew: {error}");
            }
        }
        // What holds now is written down soon: what did not go on is not to be met again.
        self.kept.is_stale = true;
    }

    fn is_running(&self) -> bool {
        self.lines.iter().any(|line| line.machine.as_ref().is_some_and(|machine| machine.stage() == Stage::Running))
    }
}

impl Line {
    fn take_up(&mut self, kept: &[KeptLine], now: Instant) {
        let Some(kept) = kept.iter().find(|kept| kept.model == self.model) else { return };
        if !self.goes_on(kept, now) {
            let what = if self.machine.is_some() { "its rollout begins at its first step" } else { "they share as its weights say" };
            tracing::info!("the targets, weights or steps of {} are not those that were kept: {what}", self.model);
            return;
        }
        let shares = self.targets.iter().zip(&self.shares).map(|(name, share)| format!("{name} {} %", f64::from(*share) / 100.0));
        let stage = self.machine.as_ref().map(|machine| format!(", {}", stage_name(machine.stage()))).unwrap_or_default();
        tracing::info!("the targets of {} share as before this process: {}{stage}", self.model, shares.collect::<Vec<_>>().join(", "));
    }

    /// Whether what was kept is of the same targets; then it holds.
    fn goes_on(&mut self, kept: &KeptLine, now: Instant) -> bool {
        let sum: u64 = kept.shares.iter().map(|share| u64::from(*share)).sum();
        let is_sound = kept.shares.len() == self.shares.len() && sum == u64::from(WHOLE);
        if !is_sound || kept.targets != self.targets || kept.configured != self.configured {
            return false;
        }
        let machine = match (&self.split.rollout, &kept.rollout) {
            (None, None) => None,
            (Some(rules), Some(kept)) => match Rollout::taken_up(rules.clone(), kept, now) {
                Some(machine) => Some(machine),
                None => return false,
            },
            _ => return false,
        };
        self.machine = machine;
        self.shares.clone_from(&kept.shares);
        true
    }
}

/// What a process that is killed may have forgotten of a running rollout: this much of its time and of its answers.
const KEEP_EVERY: Duration = Duration::from_secs(10);
