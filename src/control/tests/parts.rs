//! The parts that decide something, without a gateway.

use std::io;
use std::sync::Arc;

use super::super::admin::silent_shards;
use super::super::crew::pinning;
use super::super::error::{ReloadError, StartError};
use super::super::notify::Notify;
use super::super::plane::{Current, Plane, ShardLine};
use super::super::reload::needs_restart;
use super::super::resolve::resolve_with;
use super::super::rollouts::Rollouts;
use super::super::thread::{Beat, guarded};
use super::{checked, config, text};
use crate::config::{Config, EndpointAddr, Io, Shards};
use crate::mesh::{Dials, Inbox, Pressure, Shared, Shares};
use crate::metrics::Registry;
use crate::runtime::RealClock;

#[test]
fn names_are_asked_once_and_literal_addresses_never() {
    let endpoints = r#"endpoints = ["http://gpu:1", "http://gpu:2", "http://127.0.0.1:3", "unix:/x"]"#;
    let text = text(1).replace(r#"endpoints = ["http://127.0.0.1:1"]"#, endpoints);
    let mut config = checked(&format!("{text}[[upstreams]]\nname = \"same\"\nendpoints = [\"http://gpu:1\"]\n"));
    let mut asked = Vec::new();
    let look_up = |host: &str, port| {
        asked.push((host.to_owned(), port));
        Ok(([10, 0, 0, 1], port).into())
    };
    resolve_with(&mut config, look_up).unwrap();
    assert_eq!(asked, [("gpu".to_owned(), 1), ("gpu".to_owned(), 2)]);
    let resolved = config.upstreams.iter().flat_map(|upstream| &upstream.endpoints).map(|endpoint| match &endpoint.addr {
        EndpointAddr::Tcp { resolved, .. } => resolved.map(|addr| addr.to_string()),
        EndpointAddr::Unix(_) => None,
    });
    let expected = [Some("10.0.0.1:1"), Some("10.0.0.1:2"), Some("127.0.0.1:3"), None, Some("10.0.0.1:1")];
    assert_eq!(resolved.collect::<Vec<_>>(), expected.map(|addr| addr.map(str::to_owned)));
}

#[test]
fn every_name_without_an_address_is_told_with_its_upstream() {
    let two = format!(
        "{}[[upstreams]]\nname = \"other\"\nendpoints = [\"http://gone:8000\", \"http://here\"]\n",
        text(1).replace("http://127.0.0.1:1", "http://lost:1")
    );
    let look_up = |host: &str, port| match host {
        "here" => Ok(([10, 0, 0, 1], port).into()),
        _ => Err(io::Error::other("Name or service not known")),
    };
    let errors = resolve_with(&mut checked(&two), look_up).unwrap_err();
    assert_eq!(
        StartError::Resolve(errors).to_string(),
        "upstream \"gpu0\": the name of endpoint lost:1 has no address: Name or service not known\n\
         upstream \"other\": the name of endpoint gone:8000 has no address: Name or service not known"
    );
}

#[test]
fn what_takes_a_restart() {
    let change = |change: fn(&mut Config)| {
        let mut next = config();
        change(&mut next);
        needs_restart(&config(), &next)
    };
    assert!(change(|_| {}).is_empty());
    assert!(change(|next| next.server.debug_headers = true).is_empty());
    assert!(change(|next| next.upstreams[0].name.push('x')).is_empty());
    assert_eq!(change(|next| next.server.listen.clear()), ["server.listen"]);
    assert_eq!(change(|next| next.server.shards = Shards::Count(3)), ["server.shards"]);
    assert_eq!(change(|next| next.server.io = Io::Epoll), ["server.io"]);
    assert_eq!(change(|next| next.server.receive_buffers = 1 << 10), ["server.receive_buffers"]);
    assert_eq!(change(|next| next.server.receive_buffer_bytes = 1 << 14), ["server.receive_buffer"]);
    assert_eq!(change(|next| next.server.inbox_slots = 1 << 10), ["server.inbox_slots"]);
    assert_eq!(change(|next| next.admin.listen.set_port(1)), ["admin.listen"]);
    let said = ReloadError::NeedsRestart(vec!["server.io", "admin.listen"]).to_string();
    assert!(said.contains("`server.io`, `admin.listen` takes a restart"), "{said}");
}

#[test]
fn a_core_each_or_none() {
    let cores = |shards, allowed: &[usize], quota| (0..shards).map(|index| pinning(shards, allowed, quota).core(index)).collect::<Vec<_>>();
    assert_eq!(cores(2, &[4, 6, 8], None), [Some(4), Some(6)]);
    assert_eq!(cores(2, &[4, 6], Some(2.0)), [Some(4), Some(6)]);
    assert_eq!(cores(3, &[4, 6], None), [None; 3]);
    assert_eq!(cores(2, &[0, 1, 2, 3], Some(2.0)), [None; 2], "all containers of the host would crowd on cores 0 and 1");
    assert_eq!(cores(1, &[], None), [None]);
    assert!(pinning(2, &[4, 6], None).complaint.is_none());
    assert!(pinning(3, &[4, 6], None).complaint.is_some_and(|why| why.contains("3 shards on 2 allowed cores")));
}

#[test]
fn a_demanded_ring_that_is_refused_says_what_to_do() {
    let error = StartError::Ring { shard: 3, error: io::Error::other("io_uring_setup: Operation not permitted") };
    let said = error.to_string();
    for part in ["shard 3", "io_uring_setup", "headrace doctor", "--io auto"] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn how_a_thread_ended_is_told() {
    let told = |work: fn() -> io::Result<()>| {
        let beat = Beat::new().unwrap();
        let mut told = None;
        guarded(7, &beat, work, |index, why| told = Some((index, why)));
        assert!(beat.has_ended() && beat.is_drained());
        told
    };
    assert_eq!(told(|| Ok(())), None);
    assert_eq!(told(|| Err(io::Error::other("the ring is gone"))), Some((7, "the ring is gone".to_owned())));
    assert_eq!(told(|| panic!("lane {}", 3)), Some((7, "panic: lane 3".to_owned())));
}

#[test]
fn a_shard_that_does_not_turn_is_found() {
    let config = config();
    let (registry, _metrics) = Registry::new(&config, 2);
    let beats = [Arc::new(Beat::new().unwrap()), Arc::new(Beat::new().unwrap())];
    let line = |beat: &Arc<Beat>| ShardLine { sender: Inbox::new(2, Box::new(beat.bell())).1, beat: Arc::clone(beat) };
    let (rollouts, dials) = (Rollouts::default(), Dials::default());
    let current = Current {
        config: Shared::new(config),
        generation: 1,
        registry,
        shares: Shares::default(),
        pressure: Pressure::default(),
        memory_ceiling: None,
        rollouts,
        dials,
    };
    let plane = Plane::new(RealClock::start(), beats.iter().map(line).collect(), None, current, Notify::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    assert_eq!(runtime.block_on(silent_shards(&plane, 2)), [0, 1], "nobody turns");
    guarded(1, &beats[1], || Ok(()), |_, _| {});
    assert_eq!(runtime.block_on(silent_shards(&plane, u32::MAX)), [1], "it is gone: no use in waiting");
    assert!(!plane.is_drained());
    guarded(0, &beats[0], || Ok(()), |_, _| {});
    assert!(plane.is_drained());
}
