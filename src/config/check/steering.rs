//! How an upstream's endpoints are chosen: `balance` and the tables beside it.

use super::super::raw::{At, RawHash, RawPrefixAffinity, RawScrape, RawUpstream};
use super::super::{Balance, Engine, HashKey, PrefixAffinity, Scrape, Steering, Upstream, defaults, limits};
use super::Checker;

impl Checker {
    pub(super) fn balance(raw: &RawUpstream) -> Balance {
        match raw.balance.as_ref().map(|balance| balance.value.as_str()) {
            Some("round_robin") => Balance::RoundRobin,
            Some("p2c") => Balance::P2c,
            Some("consistent_hash") => Balance::ConsistentHash,
            _ => Balance::LeastInFlight,
        }
    }

    pub(super) fn steering(&mut self, raw: &RawUpstream) -> Steering {
        let engine = raw.engine.as_ref().and_then(|engine| Engine::ALL.into_iter().find(|one| one.as_str() == engine.value));
        let header = raw.affinity.as_ref().and_then(|At { value, place }| {
            self.required(
                value.header.as_ref(),
                place,
                "upstreams.affinity.header",
                "header = \"x-session-id\", the field that names sessions",
            )
        });
        Steering {
            hash: raw.hash.as_ref().map(|hash| self.hash_key(hash)).unwrap_or_default(),
            affinity: header.map(|header| self.field_name(header, "upstreams.affinity.header")),
            engine,
            scrape: engine.map(|engine| self.scrape(raw.scrape.as_ref().map(|scrape| &scrape.value), engine)),
            prefix_affinity: raw.prefix_affinity.as_ref().map(|prefix| self.prefix_affinity(&prefix.value)),
            zone_spill: self.count(raw.zone_spill.as_ref(), defaults::ZONE_SPILL, 1..=limits::ZONE_SPILL_MAX, "upstreams.zone_spill"),
        }
    }

    /// What is fine alone and wrong together.
    pub(super) fn steering_agrees(&mut self, raw: &RawUpstream, upstream: &Upstream) {
        if let Some(hash) = &raw.hash
            && upstream.balance != Balance::ConsistentHash
        {
            let message = format!("`upstreams.hash` is there, but `balance` is \"{}\"", upstream.balance.as_str());
            self.mistakes.add(&hash.place, message, "never used", "write balance = \"consistent_hash\", or remove `hash`");
        }
        if let Some(scrape) = &raw.scrape
            && raw.engine.is_none()
        {
            let help = "write engine = \"vllm\" (or sglang, tei, tgi, llamacpp, triton, infinity): it says what the metrics are called";
            self.mistakes.add(&scrape.place, "`upstreams.scrape` is there without `upstreams.engine`", "never used", help);
        }
        if let Some(prefix) = &raw.prefix_affinity
            && upstream.endpoints.len() > limits::PREFIX_ENDPOINTS_MAX
        {
            let message = format!("an upstream with `prefix_affinity` has {} endpoints", upstream.endpoints.len());
            let help = format!("at most {} are allowed: split the upstream or remove `prefix_affinity`", limits::PREFIX_ENDPOINTS_MAX);
            self.mistakes.add(&prefix.place, message, "too many endpoints", help);
        }
    }

    fn hash_key(&mut self, At { value: raw, place }: &At<RawHash>) -> HashKey {
        match (&raw.header, &raw.by) {
            (Some(header), None) => HashKey::Header(self.field_name(header, "upstreams.hash.header")),
            (Some(_), Some(by)) => {
                let message = "`upstreams.hash` has both `header` and `by`";
                self.mistakes.add(&by.place, message, "one too many", "keep the one that names your clients");
                HashKey::default()
            }
            (None, Some(by)) if by.value == "credential" => HashKey::Credential,
            (None, Some(_)) => HashKey::ClientIp,
            (None, None) => {
                if !self.mistakes.any_within(place) {
                    let help = "write hash = { header = \"x-user\" }, { by = \"client_ip\" } or { by = \"credential\" }";
                    self.mistakes.add(place, "`upstreams.hash` says nothing", "empty", help);
                }
                HashKey::default()
            }
        }
    }

    /// A field name (RFC 9110 5.1: a token), in lower case.
    fn field_name(&mut self, At { value, place }: &At<String>, path: &str) -> String {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if value.is_empty() || value.len() > limits::FIELD_NAME_BYTES_MAX || !value.bytes().all(token) {
            let help = format!("write the name of a request field, at most {} bytes, like \"x-session-id\"", limits::FIELD_NAME_BYTES_MAX);
            self.mistakes.add(place, format!("`{path}` cannot be {value:?}"), "not a field name", help);
        }
        value.to_ascii_lowercase()
    }

    /// A zone's name.
    pub(super) fn zone(&mut self, found: Option<&At<String>>, path: &str) -> Option<String> {
        let At { value, place } = found?;
        let fine = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/'));
        if value.is_empty() || value.len() > limits::ZONE_BYTES_MAX || !fine {
            let help = format!("use 1 to {} letters, digits, `_`, `-`, `.` or `/`", limits::ZONE_BYTES_MAX);
            self.mistakes.add(place, format!("`{path}` cannot be {value:?}"), "not a zone", help);
        }
        Some(value.clone())
    }

    fn scrape(&mut self, raw: Option<&RawScrape>, engine: Engine) -> Scrape {
        let path = raw.and_then(|raw| raw.path.as_ref());
        if let Some(At { value, place }) = path
            && (!value.starts_with('/')
                || value.len() > limits::SCRAPE_PATH_BYTES_MAX
                || !value.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            let help = format!("write a path that begins with `/`, like \"{}\"", engine.default_path());
            self.mistakes.add(place, format!("`upstreams.scrape.path` cannot be {value:?}"), "not a path", help);
        }
        let interval = raw.and_then(|raw| raw.interval.as_ref());
        let never = interval.is_some_and(|interval| matches!(super::parse_duration(&interval.value), Ok(time) if time.is_zero()));
        let port = raw.and_then(|raw| raw.port.as_ref());
        Scrape {
            path: path.map_or_else(|| engine.default_path().to_owned(), |path| path.value.clone()),
            interval: if never {
                std::time::Duration::ZERO
            } else {
                let allowed = limits::SCRAPE_INTERVAL_MIN..=limits::SCRAPE_INTERVAL_MAX;
                self.duration(interval, defaults::SCRAPE_INTERVAL, allowed, "upstreams.scrape.interval")
            },
            port: port.map(|_| self.port(port)),
        }
    }

    fn port(&mut self, found: Option<&At<i64>>) -> u16 {
        self.count(found, TRITON_METRICS_PORT, 1..=u16::MAX, "upstreams.scrape.port")
    }

    fn prefix_affinity(&mut self, raw: &RawPrefixAffinity) -> PrefixAffinity {
        PrefixAffinity {
            max_entries: self.count(
                raw.max_entries.as_ref(),
                defaults::PREFIX_ENTRIES,
                limits::PREFIX_ENTRIES_MIN..=limits::PREFIX_ENTRIES_MAX,
                "upstreams.prefix_affinity.max_entries",
            ),
            max_bytes: self.size(
                raw.max_bytes.as_ref(),
                defaults::PREFIX_BYTES,
                limits::PREFIX_BYTES_MIN..=limits::HELD_BYTES_MAX,
                "upstreams.prefix_affinity.max_bytes",
            ),
            load_factor: self.factor(raw.load_factor.as_ref(), "upstreams.prefix_affinity.load_factor"),
        }
    }

    fn factor(&mut self, found: Option<&At<f64>>, path: &str) -> f64 {
        let Some(At { value, place }) = found else { return defaults::PREFIX_LOAD_FACTOR };
        if (1.0..=100.0).contains(value) {
            return *value;
        }
        let help = format!("write 1 to 100; the default is {}", defaults::PREFIX_LOAD_FACTOR);
        self.mistakes.add(place, format!("`{path}` cannot be {value}"), "out of bounds", help);
        defaults::PREFIX_LOAD_FACTOR
    }
}

/// What the port's bounds show as an example.
const TRITON_METRICS_PORT: u16 = 8002;
