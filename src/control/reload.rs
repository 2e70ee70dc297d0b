//! Which changes a running gateway can take. All others are refused whole: half a configuration is nobody's intention.

use crate::config::Config;

/// The changed keys that only a restart can apply: they shape the shards, their memory and what is bound.
#[must_use]
pub fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let (server, next) = (&old.server, &new.server);
    [
        ("server.listen", server.listen != next.listen),
        ("server.shards", server.shards != next.shards),
        ("server.io", server.io != next.io),
        ("server.receive_buffers", server.receive_buffers != next.receive_buffers),
        ("server.receive_buffer", server.receive_buffer_bytes != next.receive_buffer_bytes),
        ("server.inbox_slots", server.inbox_slots != next.inbox_slots),
        ("admin.listen", old.admin.listen != new.admin.listen),
    ]
    .into_iter()
    .filter_map(|(key, changed)| changed.then_some(key))
    .collect()
}
