//! `[server]` and `[admin]`.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use super::super::raw::{At, Auto, RawAdmin, RawServer, RawShards};
use super::super::units::show_size;
use super::super::{Admin, Io, ListenAddr, Server, Shards, defaults, limits};
use super::{Checker, address};

/// Timeouts on clients: shorter than a millisecond cuts honest ones, longer than a day is a slip.
const TIMEOUT_MIN: Duration = Duration::from_millis(1);
pub(super) const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);

impl Checker {
    pub(super) fn server(&mut self, raw: Option<&RawServer>) -> Server {
        let absent = RawServer::default();
        let raw = raw.unwrap_or(&absent);
        let timeouts = TIMEOUT_MIN..=TIMEOUT_MAX;
        let server = Server {
            listen: self.listeners(raw.listen.as_ref()),
            shards: self.shards(raw.shards.as_ref()),
            io: match raw.io.as_ref().map(|io| io.value.as_str()) {
                Some("uring") => Io::Uring,
                Some("epoll") => Io::Epoll,
                _ => Io::Auto,
            },
            max_connections: self.count(
                raw.max_connections.as_ref(),
                defaults::MAX_CONNECTIONS,
                1..=limits::CONNECTIONS_MAX,
                "server.max_connections",
            ),
            header_timeout: self.duration(raw.header_timeout.as_ref(), defaults::HEADER_TIMEOUT, timeouts.clone(), "server.header_timeout"),
            body_timeout: self.duration(raw.body_timeout.as_ref(), defaults::BODY_TIMEOUT, timeouts.clone(), "server.body_timeout"),
            write_timeout: self.duration(raw.write_timeout.as_ref(), defaults::WRITE_TIMEOUT, timeouts.clone(), "server.write_timeout"),
            half_close: raw.half_close.as_ref().map_or(defaults::HALF_CLOSE, |found| found.value),
            idle_timeout: self.duration(raw.idle_timeout.as_ref(), defaults::IDLE_TIMEOUT, timeouts, "server.idle_timeout"),
            drain_timeout: self.duration(
                raw.drain_timeout.as_ref(),
                defaults::DRAIN_TIMEOUT,
                Duration::ZERO..=TIMEOUT_MAX,
                "server.drain_timeout",
            ),
            upgrade_timeout: self.duration(
                raw.upgrade_timeout.as_ref(),
                defaults::UPGRADE_TIMEOUT,
                Duration::ZERO..=TIMEOUT_MAX,
                "server.upgrade_timeout",
            ),
            max_body_bytes: self.size(raw.max_body.as_ref(), defaults::MAX_BODY_BYTES, 1..=limits::HELD_BYTES_MAX, "server.max_body"),
            max_held_bytes: self.size(raw.max_held.as_ref(), defaults::MAX_HELD_BYTES, 1..=limits::SHARD_HELD_BYTES_MAX, "server.max_held"),
            memory_max: self.memory_max(raw.memory_max.as_ref()),
            receive_buffers: u16::try_from(self.power_of_two(
                raw.receive_buffers.as_ref(),
                u32::from(defaults::RECEIVE_BUFFERS),
                u32::from(limits::RECEIVE_BUFFERS_MIN)..=u32::from(limits::RECEIVE_BUFFERS_MAX),
                "server.receive_buffers",
            ))
            .unwrap_or(defaults::RECEIVE_BUFFERS),
            receive_buffer_bytes: self.receive_buffer(raw.receive_buffer.as_ref()),
            inbox_slots: self.power_of_two(
                raw.inbox_slots.as_ref(),
                defaults::INBOX_SLOTS,
                limits::INBOX_SLOTS_MIN..=limits::INBOX_SLOTS_MAX,
                "server.inbox_slots",
            ),
            state_dir: self.state_dir(raw.state_dir.as_ref()),
            watch_config: raw.watch_config.as_ref().is_some_and(|found| found.value),
            trust_forwarded: raw.trust_forwarded.as_ref().map_or(defaults::TRUST_FORWARDED, |found| found.value),
            zone: self.zone(raw.zone.as_ref(), "server.zone"),
            debug_headers: raw.debug_headers.as_ref().map_or(defaults::DEBUG_HEADERS, |found| found.value),
        };
        self.bodies_fit(raw, &server);
        server
    }

    fn state_dir(&mut self, raw: Option<&At<String>>) -> Option<PathBuf> {
        let At { value, place } = raw?;
        if value.starts_with('/') {
            return Some(PathBuf::from(value));
        }
        let help = "write a path from the root, like \"/var/lib/headrace\": where a process was started says little";
        self.mistakes.add(place, format!("`server.state_dir` cannot be {value:?}"), "not from the root", help);
        None
    }

    /// A body that may be held must fit into what a shard may hold.
    fn bodies_fit(&mut self, raw: &RawServer, server: &Server) {
        if server.max_held_bytes >= server.max_body_bytes {
            return;
        }
        let Some(At { value, place }) = raw.max_held.as_ref().or(raw.max_body.as_ref()) else { return };
        let (held, body) = (show_size(server.max_held_bytes), show_size(server.max_body_bytes));
        let message = format!("{value:?} makes `server.max_held` ({held}) less than `server.max_body` ({body})");
        self.mistakes.add(place, message, "a body of the allowed size could never be held", format!("write max_held = \"{body}\" or more"));
    }

    pub(super) fn admin(&mut self, raw: Option<&RawAdmin>, server: &Server, raw_server: Option<&RawServer>) -> Admin {
        let found = raw.and_then(|admin| admin.listen.as_ref());
        let listen = match found {
            None => defaults::ADMIN_LISTEN,
            Some(At { value, place }) => match address::socket(value) {
                Ok(addr) => addr,
                Err(error) => {
                    self.mistakes.add(place, format!("`admin.listen` cannot be {value:?}"), error.why, error.help);
                    return Admin { listen: defaults::ADMIN_LISTEN };
                }
            },
        };
        let taken = server.listen.iter().any(|one| matches!(one, ListenAddr::Tcp(addr) if collide(*addr, listen)));
        if taken {
            let written = raw_server.and_then(|server| server.listen.as_ref()).map(|list| &list.place);
            let place = found.map(|found| &found.place).or(written).cloned().unwrap_or(0..0);
            let message = format!("the admin address {listen} is also in `server.listen`");
            self.mistakes.add(&place, message, "the same port", "give `admin.listen` a port of its own, like \"127.0.0.1:9091\"");
        }
        Admin { listen }
    }

    fn listeners(&mut self, raw: Option<&At<Vec<At<String>>>>) -> Vec<ListenAddr> {
        let Some(At { value: list, place }) = raw else { return vec![ListenAddr::Tcp(defaults::LISTEN)] };
        if list.is_empty() {
            self.mistakes.add(
                place,
                "`server.listen` is empty, so nobody could connect",
                "empty",
                "write [\"127.0.0.1:8080\"] or leave it out",
            );
        }
        self.at_most(list.len(), limits::LISTENERS_MAX, place, "listeners");
        let mut seen: Vec<(ListenAddr, &Range<usize>)> = Vec::new();
        for At { value, place } in list.iter().take(limits::LISTENERS_MAX) {
            match address::listen(value) {
                Ok(addr) => match seen.iter().find(|(other, _)| alike(other, &addr)) {
                    Some((_, first)) => {
                        let line = self.line_of(first.start);
                        let help = "remove one of them; 0.0.0.0 and [::] take every address of the host";
                        self.mistakes.add(place, format!("{value:?} is listened on twice"), format!("first on line {line}"), help);
                    }
                    None => seen.push((addr, place)),
                },
                Err(error) => self.mistakes.add(place, format!("cannot listen on {value:?}"), error.why, error.help),
            }
        }
        seen.into_iter().map(|(addr, _)| addr).collect()
    }

    fn shards(&mut self, raw: Option<&At<RawShards>>) -> Shards {
        match raw {
            Some(At { value: RawShards::Count(count), place }) => match u32::try_from(*count) {
                Ok(count) if (1..=limits::SHARDS_MAX).contains(&count) => Shards::Count(count),
                _ => {
                    let help = format!("write \"auto\" (the default) or 1 to {}", limits::SHARDS_MAX);
                    self.mistakes.add(place, format!("`server.shards` cannot be {count}"), "out of bounds", help);
                    Shards::Auto
                }
            },
            Some(At { value: RawShards::Auto(Auto::Auto), .. }) | None => Shards::Auto,
        }
    }

    fn receive_buffer(&mut self, raw: Option<&At<String>>) -> u32 {
        let allowed = u64::from(limits::RECEIVE_BUFFER_BYTES_MIN)..=u64::from(limits::RECEIVE_BUFFER_BYTES_MAX);
        let bytes = self.size(raw, u64::from(defaults::RECEIVE_BUFFER_BYTES), allowed, "server.receive_buffer");
        u32::try_from(bytes).unwrap_or(defaults::RECEIVE_BUFFER_BYTES)
    }
}

fn alike(left: &ListenAddr, right: &ListenAddr) -> bool {
    match (left, right) {
        (ListenAddr::Tcp(left), ListenAddr::Tcp(right)) => collide(*left, *right),
        (ListenAddr::Unix(left), ListenAddr::Unix(right)) => left == right,
        (ListenAddr::Tcp(_), ListenAddr::Unix(_)) | (ListenAddr::Unix(_), ListenAddr::Tcp(_)) => false,
    }
}

/// Whether the kernel would refuse the second, or (with `SO_REUSEPORT`) give each of them half of the connections.
fn collide(left: SocketAddr, right: SocketAddr) -> bool {
    let everywhere = |addr: SocketAddr| addr.ip().is_unspecified();
    // `[::]` takes IPv4 too unless told otherwise, so it collides with every address of its port.
    let wide = |wide: SocketAddr, other: SocketAddr| everywhere(wide) && (wide.is_ipv6() || other.is_ipv4());
    left.port() == right.port() && (left.ip() == right.ip() || wide(left, right) || wide(right, left))
}
