//! `[[models]]` with their batching, and `[[routes]]`.

use std::time::Duration;

use super::super::raw::{At, RawBatching, RawModel, RawRoute};
use super::super::{Batching, BatchingMode, Model, Route, Timeouts, Upstream, UpstreamId, defaults, limits};
use super::server::TIMEOUT_MAX;
use super::streams::{MODEL_KEYS, ROUTE_KEYS};
use super::{Checker, Seen, show_duration};

impl Checker {
    pub(super) fn models(&mut self, raw: &[At<RawModel>], upstreams: &[Upstream]) -> Vec<Model> {
        if let Some(over) = raw.get(limits::MODELS_MAX) {
            self.at_most(raw.len(), limits::MODELS_MAX, &over.place, "models");
        }
        let mut seen = Seen::new();
        raw.iter().take(limits::MODELS_MAX).map(|one| self.model(one, upstreams, &mut seen)).collect()
    }

    /// Longest path first, so that the first match is the best.
    pub(super) fn routes(&mut self, raw: &[At<RawRoute>], upstreams: &[Upstream]) -> Vec<Route> {
        if let Some(over) = raw.get(limits::ROUTES_MAX) {
            self.at_most(raw.len(), limits::ROUTES_MAX, &over.place, "routes");
        }
        let mut seen = Seen::new();
        let mut routes: Vec<Route> = raw.iter().take(limits::ROUTES_MAX).map(|one| self.route(one, upstreams, &mut seen)).collect();
        routes.sort_by(|left, right| right.path.len().cmp(&left.path.len()).then_with(|| left.path.cmp(&right.path)));
        routes
    }

    fn model<'a>(&mut self, At { value: raw, place }: &'a At<RawModel>, upstreams: &[Upstream], seen: &mut Seen<'a>) -> Model {
        let name = self.required(raw.name.as_ref(), place, "models.name", "name = \"*\" for every model, or the name clients ask for");
        if let Some(name) = name {
            if name.value.is_empty() || name.value.len() > limits::MODEL_NAME_BYTES_MAX || name.value.chars().any(char::is_control) {
                let help = format!("use 1 to {} bytes without control characters, or \"*\" for every model", limits::MODEL_NAME_BYTES_MAX);
                self.mistakes.add(&name.place, format!("{:?} cannot be the name of a model", name.value), "not a name", help);
            }
            self.unique(seen, name, "the model", "remove one of them; several servers for a model are endpoints of one upstream");
        }
        // Without it there are targets, or `splits` says that it is missing.
        let upstream = self.upstream_id(raw.upstream.as_ref(), upstreams, "models.upstream");
        let timeouts = self.timeouts(raw.timeouts.as_ref(), upstream_timeouts(upstreams, upstream), &MODEL_KEYS);
        Model {
            name: name.map(|name| name.value.clone()).unwrap_or_default(),
            upstream,
            batching: self.batching(raw.batching.as_ref(), timeouts.total),
            timeouts,
            stream_comments: self.stream_comments(raw.stream_comments.as_ref()),
            resilience: self.model_resilience(raw),
            arm_of: None,
            split: None,
            shadow: None,
        }
    }

    fn batching(&mut self, raw: Option<&RawBatching>, total_timeout: Duration) -> Batching {
        let absent = RawBatching::default();
        let raw = raw.unwrap_or(&absent);
        let mode = match raw.mode.as_ref().map(|mode| mode.value.as_str()) {
            Some("batching") => BatchingMode::Batching,
            Some("off") => BatchingMode::Off,
            _ => BatchingMode::Exclusive,
        };
        let batching = Batching {
            mode,
            max_items: self.count(raw.max_items.as_ref(), defaults::MAX_ITEMS, 1..=limits::BATCH_ITEMS_MAX, "models.batching.max_items"),
            max_bytes: self.size(
                raw.max_bytes.as_ref(),
                defaults::MAX_BATCH_BYTES,
                limits::BATCH_BYTES_MIN..=limits::HELD_BYTES_MAX,
                "models.batching.max_bytes",
            ),
            max_delay: self.duration(
                raw.max_delay.as_ref(),
                defaults::MAX_DELAY,
                Duration::ZERO..=limits::BATCH_DELAY_MAX,
                "models.batching.max_delay",
            ),
            in_flight: self.count(
                raw.in_flight.as_ref(),
                defaults::in_flight(mode),
                1..=limits::BATCHES_IN_FLIGHT_MAX,
                "models.batching.in_flight",
            ),
            max_queue_items: self.count(
                raw.max_queue_items.as_ref(),
                defaults::MAX_QUEUE_ITEMS,
                1..=limits::QUEUE_ITEMS_MAX,
                "models.batching.max_queue_items",
            ),
            timeout: self.duration(raw.timeout.as_ref(), total_timeout, Duration::from_millis(1)..=TIMEOUT_MAX, "models.batching.timeout"),
        };
        self.batching_agrees(raw, &batching);
        batching
    }

    /// What is fine alone and wrong together.
    fn batching_agrees(&mut self, raw: &RawBatching, batching: &Batching) {
        if let Some(At { value, place }) = &raw.max_delay
            && batching.max_delay > batching.timeout
        {
            let timeout = show_duration(batching.timeout);
            let message = format!("`models.batching.max_delay` is {value:?}, longer than the job's timeout ({timeout})");
            self.mistakes.add(place, message, "every job would time out", format!("write less than \"{timeout}\", or \"0ms\""));
        }
        if let Some(At { value, place }) = &raw.max_queue_items
            && batching.max_queue_items < batching.max_items
        {
            let message = format!("`models.batching.max_queue_items` is {value}, less than `max_items` ({})", batching.max_items);
            self.mistakes.add(place, message, "a batch never gets full", format!("write at least {}", batching.max_items));
        }
    }

    fn route<'a>(&mut self, At { value: raw, place }: &'a At<RawRoute>, upstreams: &[Upstream], seen: &mut Seen<'a>) -> Route {
        let path = self.required(raw.path.as_ref(), place, "routes.path", "path = \"/\" for everything, or a path like \"/tokenize\"");
        if let Some(path) = path {
            self.route_path(path);
            self.unique(seen, path, "the route", "remove one of them: a path leads to one upstream");
        }
        let reference = self.required(raw.upstream.as_ref(), place, "routes.upstream", "upstream = \"...\", the name of an upstream");
        let upstream = self.upstream_id(reference, upstreams, "routes.upstream");
        Route {
            path: path.map(|path| path.value.clone()).unwrap_or_default(),
            upstream,
            timeouts: self.timeouts(raw.timeouts.as_ref(), upstream_timeouts(upstreams, upstream), &ROUTE_KEYS),
            websocket: self.websocket(raw),
        }
    }

    fn route_path(&mut self, At { value, place }: &At<String>) {
        let (label, help) = if !value.starts_with('/') {
            ("no / at the front", format!("write \"/{}\"", value.trim_start_matches('/')))
        } else if value.contains(['?', '#', '*']) {
            ("not a path", "write the path alone: a route takes itself and everything below it, so no `*` or `?` is needed".to_owned())
        } else if value.len() > 1 && value.ends_with('/') {
            ("a / at the end", format!("write {:?}: a route takes everything below it anyway", value.trim_end_matches('/')))
        } else if value.contains("//") || value.split('/').any(|segment| segment == "." || segment == "..") {
            ("not a plain path", "write it without `//`, `.` and `..`".to_owned())
        } else if value.len() > limits::ROUTE_PATH_BYTES_MAX || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
            let help =
                format!("use at most {} ASCII characters; others are percent-encoded, as clients send them", limits::ROUTE_PATH_BYTES_MAX);
            ("not a path on the wire", help)
        } else {
            return;
        };
        self.mistakes.add(place, format!("`routes.path` cannot be {value:?}"), label, help);
    }
}

/// Of an upstream that is not there (which is a mistake already), the defaults.
fn upstream_timeouts(upstreams: &[Upstream], id: UpstreamId) -> Timeouts {
    upstreams.get(id.0 as usize).map_or(
        Timeouts { first_byte: defaults::FIRST_BYTE_TIMEOUT, stream_idle: defaults::STREAM_IDLE_TIMEOUT, total: defaults::TOTAL_TIMEOUT },
        Upstream::timeouts,
    )
}
