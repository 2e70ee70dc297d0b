//! `[admission]`, `upstreams.concurrency` and `server.memory_max`.

use std::time::Duration;

use super::super::raw::admission::{RawAdmission, RawConcurrency, RawLimit};
use super::super::raw::{At, RawModel, RawUpstream};
use super::super::units::{parse_size, show_size};
use super::super::{Admission, BatchingMode, Concurrency, ConcurrencyLimit, MemoryMax, Model, UpstreamId, defaults, limits};
use super::Checker;
use super::server::TIMEOUT_MAX;

impl Checker {
    pub(super) fn admission(&mut self, raw: Option<&RawAdmission>) -> Admission {
        let absent = RawAdmission::default();
        let raw = raw.unwrap_or(&absent);
        Admission {
            priority_header: self.header(raw.priority_header.as_ref(), "admission.priority_header", "x-priority"),
            tenant_header: self.header(raw.tenant_header.as_ref(), "admission.tenant_header", "x-tenant"),
        }
    }

    /// A field's name, in lower case.
    fn header(&mut self, found: Option<&At<String>>, path: &str, example: &str) -> Option<String> {
        let At { value, place } = found?;
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if value.is_empty() || value.len() > limits::NAME_BYTES_MAX || !value.bytes().all(is_token) {
            let help = format!("write the name of a request field, like {example:?}: at most {} bytes", limits::NAME_BYTES_MAX);
            self.mistakes.add(place, format!("`{path}` cannot be {value:?}"), "not a field name", help);
            return None;
        }
        Some(value.to_ascii_lowercase())
    }

    pub(super) fn concurrency(&mut self, found: Option<&At<RawConcurrency>>) -> Option<Concurrency> {
        let At { value: raw, place } = found?;
        let path = "upstreams.concurrency";
        let limit = self.required(raw.limit.as_ref(), place, "upstreams.concurrency.limit", "limit = \"adaptive\", or a number");
        let limit = match limit.map(|limit| (&limit.value, &limit.place)) {
            Some((RawLimit::Adaptive(_), _)) => {
                let bounds = 1..=limits::CONCURRENCY_MAX;
                let min = self.count(raw.min.as_ref(), defaults::CONCURRENCY_MIN, bounds.clone(), "upstreams.concurrency.min");
                let max = self.count(raw.max.as_ref(), defaults::CONCURRENCY_MAX.max(min), bounds, "upstreams.concurrency.max");
                if let Some(At { place, .. }) = raw.max.as_ref().filter(|_| max < min) {
                    self.mistakes.add(place, format!("`{path}.max` ({max}) is less than `min` ({min})"), "below min", "swap them");
                }
                ConcurrencyLimit::Adaptive { min, max: max.max(min) }
            }
            fixed => {
                for (key, bound) in [("min", &raw.min), ("max", &raw.max)] {
                    if let (Some(At { place, .. }), Some(_)) = (bound, fixed) {
                        let help = format!("remove it, or write limit = \"adaptive\" to have the limit learned above `{key}`");
                        let help = if key == "max" { help.replace("above", "below") } else { help };
                        self.mistakes.add(
                            place,
                            format!("`{path}.{key}` bounds a learned limit, and this one is fixed"),
                            "of no use",
                            help,
                        );
                    }
                }
                let written = fixed.and_then(|(limit, place)| match limit {
                    RawLimit::Fixed(count) => Some(At { value: *count, place: place.clone() }),
                    RawLimit::Adaptive(_) => None,
                });
                let limit =
                    self.count(written.as_ref(), defaults::CONCURRENCY_MAX, 1..=limits::CONCURRENCY_MAX, "upstreams.concurrency.limit");
                ConcurrencyLimit::Fixed(limit)
            }
        };
        Some(Concurrency {
            limit,
            queue_max: self.count(
                raw.queue_max.as_ref(),
                defaults::QUEUE_MAX,
                0..=limits::QUEUE_PLACES_MAX,
                "upstreams.concurrency.queue_max",
            ),
            queue_timeout: self.duration(
                raw.queue_timeout.as_ref(),
                defaults::QUEUE_TIMEOUT,
                Duration::from_millis(1)..=TIMEOUT_MAX,
                "upstreams.concurrency.queue_timeout",
            ),
        })
    }

    /// A learned limit has nothing to learn from an upstream that computes one call at a time: its calls in flight are what
    /// `models.batching.in_flight` says.
    pub(super) fn learned_limits_fit(&mut self, upstreams: &[At<RawUpstream>], raw: &[At<RawModel>], models: &[Model]) {
        for (id, At { value: upstream, .. }) in (0..).map(UpstreamId).zip(upstreams) {
            let Some(limit) = upstream.concurrency.as_ref().and_then(|found| found.value.limit.as_ref()) else { continue };
            let exclusive = |model: &Model| model.upstream == id && model.batching.mode == BatchingMode::Exclusive;
            if !matches!(limit.value, RawLimit::Adaptive(_)) {
                continue;
            }
            if let Some((model, At { place, .. })) = models.iter().zip(raw).find(|(model, _)| exclusive(model)) {
                let line = self.line_of(place.start);
                let message = format!(
                    "`upstreams.concurrency.limit` is to be learned, but the model {:?} takes this upstream for one that computes one call \
                     at a time",
                    model.name
                );
                let help = format!(
                    "if it batches by itself, write batching = {{ mode = \"batching\" }} (or \"off\") for the model on line {line}; \
                     if not, write a number: `models.batching.in_flight` bounds merged calls already"
                );
                self.mistakes.add(&limit.place, message, "nothing to learn", help);
            }
        }
    }

    pub(super) fn memory_max(&mut self, found: Option<&At<String>>) -> MemoryMax {
        let Some(At { value, place }) = found else { return MemoryMax::Auto };
        match value.as_str() {
            "auto" => MemoryMax::Auto,
            "none" => MemoryMax::None,
            size => match parse_size(size) {
                Ok(bytes) if bytes >= limits::MEMORY_MAX_MIN_BYTES => MemoryMax::Bytes(bytes),
                Ok(_) => {
                    let least = show_size(limits::MEMORY_MAX_MIN_BYTES);
                    let help = format!("write {least} or more: below it the gateway could not even start");
                    self.mistakes.add(place, format!("`server.memory_max` cannot be {value:?}"), "out of bounds", help);
                    MemoryMax::Auto
                }
                Err(_) => {
                    let help = "write \"auto\" (four fifths of the cgroup's memory.max), \"none\", or a size like \"4GiB\"";
                    self.mistakes.add(place, format!("`server.memory_max` cannot be {value:?}"), "not a size", help);
                    MemoryMax::Auto
                }
            },
        }
    }
}
