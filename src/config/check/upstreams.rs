//! `[[upstreams]]` and their endpoints.

use std::time::Duration;

use super::super::mistake::{listed, nearest};
use super::super::raw::{At, RawEndpoint, RawEndpointTable, RawUpstream};
use super::super::{Endpoint, Upstream, UpstreamId, defaults, limits};
use super::server::TIMEOUT_MAX;
use super::{Checker, Seen, address};

impl Checker {
    pub(super) fn upstreams(&mut self, raw: &[At<RawUpstream>]) -> Vec<Upstream> {
        if let Some(over) = raw.get(limits::UPSTREAMS_MAX) {
            self.at_most(raw.len(), limits::UPSTREAMS_MAX, &over.place, "upstreams");
        }
        let mut seen = Seen::new();
        raw.iter().take(limits::UPSTREAMS_MAX).map(|one| self.upstream(one, &mut seen)).collect()
    }

    /// The upstream a model or route names.
    pub(super) fn upstream_id(&mut self, found: Option<&At<String>>, upstreams: &[Upstream], path: &str) -> UpstreamId {
        let nowhere = UpstreamId(0);
        let Some(At { value, place }) = found else { return nowhere };
        if let Some(index) = upstreams.iter().position(|upstream| upstream.name == *value) {
            return UpstreamId(u32::try_from(index).unwrap_or(0));
        }
        if self.mistakes.is_full() {
            self.mistakes.add(place, "", "", "");
            return nowhere;
        }
        // An upstream whose name could not be read may be the one that is meant.
        let nameless = upstreams.iter().any(|upstream| upstream.name.is_empty());
        if nameless || self.cut.has(self.root_start, "upstreams") {
            return nowhere;
        }
        let names = || upstreams.iter().map(|upstream| upstream.name.as_str());
        let help = match nearest(value, names()) {
            Some(meant) => format!("did you mean {meant:?}?"),
            None if upstreams.is_empty() => format!("add it:\n[[upstreams]]\nname = {value:?}\nendpoints = [\"http://127.0.0.1:8000\"]"),
            None => format!("name one that is there ({}) or add an [[upstreams]] table", listed(names())),
        };
        self.mistakes.add(place, format!("`{path}` names {value:?}, and there is no such upstream"), "unknown upstream", help);
        nowhere
    }

    fn upstream<'a>(&mut self, At { value: raw, place }: &'a At<RawUpstream>, seen: &mut Seen<'a>) -> Upstream {
        let name = self.required(raw.name.as_ref(), place, "upstreams.name", "name = \"gpu0\"");
        if let Some(name) = name {
            self.upstream_name(name);
            self.unique(seen, name, "the upstream", "give one of them another name, or put its endpoints into the first");
        }
        let timeouts = Duration::from_millis(1)..=TIMEOUT_MAX;
        let upstream = Upstream {
            name: name.map(|name| name.value.clone()).unwrap_or_default(),
            endpoints: self.endpoints(raw, place),
            balance: Self::balance(raw),
            steering: self.steering(raw),
            connect_timeout: self.duration(
                raw.connect_timeout.as_ref(),
                defaults::CONNECT_TIMEOUT,
                timeouts.clone(),
                "upstreams.connect_timeout",
            ),
            first_byte_timeout: self.duration(
                raw.first_byte_timeout.as_ref(),
                defaults::FIRST_BYTE_TIMEOUT,
                timeouts.clone(),
                "upstreams.first_byte_timeout",
            ),
            stream_idle_timeout: self.duration(
                raw.stream_idle_timeout.as_ref(),
                defaults::STREAM_IDLE_TIMEOUT,
                timeouts.clone(),
                "upstreams.stream_idle_timeout",
            ),
            total_timeout: self.duration(raw.total_timeout.as_ref(), defaults::TOTAL_TIMEOUT, timeouts, "upstreams.total_timeout"),
            pool_idle_timeout: self.duration(
                raw.pool_idle_timeout.as_ref(),
                defaults::POOL_IDLE_TIMEOUT,
                Duration::ZERO..=TIMEOUT_MAX,
                "upstreams.pool_idle_timeout",
            ),
            pool_max_idle: self.count(
                raw.pool_max_idle.as_ref(),
                defaults::POOL_MAX_IDLE,
                0..=limits::POOL_IDLE_MAX,
                "upstreams.pool_max_idle",
            ),
            max_response_bytes: self.size(
                raw.max_response.as_ref(),
                defaults::MAX_RESPONSE_BYTES,
                1..=limits::HELD_BYTES_MAX,
                "upstreams.max_response",
            ),
            forward_authorization: raw.forward_authorization.as_ref().map_or(defaults::FORWARD_AUTHORIZATION, |found| found.value),
            concurrency: self.concurrency(raw.concurrency.as_ref()),
            resilience: self.resilience(raw),
        };
        self.timeouts_nest(raw, &upstream);
        self.steering_agrees(raw, &upstream);
        upstream
    }

    /// A part cannot take longer than the whole. Only what was written is a mistake: where `total_timeout` alone is shorter than the
    /// defaults of its parts, it ends the call and the parts do not matter.
    fn timeouts_nest(&mut self, raw: &RawUpstream, upstream: &Upstream) {
        let parts = [
            ("connect_timeout", raw.connect_timeout.as_ref(), upstream.connect_timeout),
            ("first_byte_timeout", raw.first_byte_timeout.as_ref(), upstream.first_byte_timeout),
            ("stream_idle_timeout", raw.stream_idle_timeout.as_ref(), upstream.stream_idle_timeout),
        ];
        for (key, found, part) in parts {
            if let Some(At { value, place }) = found
                && part > upstream.total_timeout
            {
                let whole = super::show_duration(upstream.total_timeout);
                let message = format!("`upstreams.{key}` is {value:?}, longer than `total_timeout` ({whole})");
                self.mistakes.add(place, message, "never reached", format!("write at most \"{whole}\" or raise `total_timeout`"));
            }
        }
    }

    fn upstream_name(&mut self, At { value, place }: &At<String>) {
        let fine = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
        if value.is_empty() || value.len() > limits::NAME_BYTES_MAX || !fine {
            let help = format!("use 1 to {} letters, digits, `_`, `-` or `.`: the name is a metric label", limits::NAME_BYTES_MAX);
            self.mistakes.add(place, format!("{value:?} cannot be the name of an upstream"), "not a name", help);
        }
    }

    fn endpoints(&mut self, raw: &RawUpstream, table: &std::ops::Range<usize>) -> Vec<Endpoint> {
        let example = "endpoints = [\"http://127.0.0.1:8000\"]";
        let Some(At { value: list, place }) = self.required(raw.endpoints.as_ref(), table, "upstreams.endpoints", example) else {
            return Vec::new();
        };
        if list.is_empty() && !self.mistakes.any_within(place) {
            self.mistakes.add(place, "`upstreams.endpoints` is empty", "no endpoint", format!("write at least one: {example}"));
        }
        self.at_most(list.len(), limits::ENDPOINTS_MAX, place, "endpoints in one upstream");
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for one in list.iter().take(limits::ENDPOINTS_MAX) {
            let Some((endpoint, place)) = self.endpoint(one) else { continue };
            if endpoints.iter().any(|other| other.addr == endpoint.addr) {
                let help = "remove one of them; for a larger share write { url = \"...\", weight = 2 }";
                self.mistakes.add(&place, format!("the endpoint \"{}\" is there twice", endpoint.authority), "again", help);
            } else {
                endpoints.push(endpoint);
            }
        }
        endpoints
    }

    fn endpoint(&mut self, At { value, place }: &At<RawEndpoint>) -> Option<(Endpoint, std::ops::Range<usize>)> {
        let (url, url_place, weight, zone) = match value {
            RawEndpoint::Plain(url) => (url, place, None, None),
            RawEndpoint::Full(RawEndpointTable { url, weight, zone }) => {
                let url = self.required(url.as_ref(), place, "upstreams.endpoints.url", "url = \"http://127.0.0.1:8000\"");
                let weight = weight.as_ref();
                let Some(url) = url else {
                    self.weight(weight);
                    self.zone(zone.as_ref(), "upstreams.endpoints.zone");
                    return None;
                };
                (&url.value, &url.place, weight, zone.as_ref())
            }
        };
        let weight = self.weight(weight);
        let zone = self.zone(zone, "upstreams.endpoints.zone");
        match address::endpoint(url) {
            Ok((addr, authority)) => Some((Endpoint { addr, weight, zone, authority }, url_place.clone())),
            Err(error) => {
                self.mistakes.add(url_place, format!("{url:?} cannot be an endpoint"), error.why, error.help);
                None
            }
        }
    }

    fn weight(&mut self, found: Option<&At<i64>>) -> u32 {
        self.count(found, defaults::WEIGHT, 1..=limits::WEIGHT_MAX, "upstreams.endpoints.weight")
    }
}
