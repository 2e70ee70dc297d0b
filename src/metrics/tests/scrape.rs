//! What a scrape says: after each method, over shards, across reloads, and while a shard counts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::checker::{Samples, check};
use crate::config::{Arm, Config, ModelId, RouteId, Shadow, Split, UpstreamId};
use crate::mesh::ShardId;
use crate::metrics::{
    BatchReason, BreakerTo, FallbackReason, HedgeResult, MeasureOutcome, Metric, Phase, Registry, RingStats, ShadowOutcome, ShardMetrics,
    ShedReason, SplitOutcome, StreamOutcome, Target, TokenKind, TooManySnapshots, UpstreamOutcome,
};
use crate::policy::tests::{route, sample_config};
use crate::policy::{Operation, Why};
use crate::sys::Instant;

const EMBEDDINGS: Operation = Operation::Embeddings;

fn config(models: &[&str]) -> Config {
    let mut config = sample_config(models);
    config.routes.push(route("/files"));
    config
}

fn scrape(registry: &mut Registry) -> Samples {
    check(&registry.render(Instant::ZERO))
}

/// `name{labels}`, labels as `a=b,c=d`; `None` when there is no such sample.
fn value(samples: &Samples, name: &str, labels: &str) -> Option<f64> {
    let labels = labels.split(',').filter(|label| !label.is_empty()).map(|label| label.split_once('=').unwrap());
    let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    samples.get(&(name.to_owned(), labels)).copied()
}

/// Calls every method once, so that every metric has a sample.
fn count_everything(metrics: &ShardMetrics) {
    metrics.request(Target::Model(ModelId(0)), 200);
    metrics.phase(Phase::Call, 5_000_000);
    metrics.stream_ttft(Target::Model(ModelId(0)), 250_000_000);
    metrics.stream_itl(Target::Route(RouteId(0)), 20_000_000);
    metrics.stream(Target::Model(ModelId(0)), StreamOutcome::Died);
    metrics.stream_tokens(Target::Model(ModelId(0)), TokenKind::Output, 34);
    metrics.client_closed(Phase::Call);
    metrics.shed(ShedReason::LaneFull);
    metrics.batch_left(ModelId(0), EMBEDDINGS, 5, BatchReason::Full);
    metrics.batch_wait(ModelId(0), EMBEDDINGS, 2_000_000);
    metrics.batch_jobs(ModelId(0), EMBEDDINGS, ShardId(1), 3);
    metrics.isolation_call(ModelId(0));
    metrics.lane_solo(ModelId(0));
    metrics.admission_limit(UpstreamId(0), 8);
    (0..2).for_each(|_| metrics.admission_begun(UpstreamId(0)));
    metrics.admission_ended(UpstreamId(0));
    (0..3).for_each(|_| metrics.admission_waits(UpstreamId(0)));
    metrics.admission_waited(UpstreamId(0));
    metrics.admission_wait(UpstreamId(0), 3_000_000);
    metrics.upstream(UpstreamId(0), 1, UpstreamOutcome::Ok);
    metrics.upstream_retry(UpstreamId(0));
    metrics.endpoint_chosen(UpstreamId(0), Why::Prefix);
    metrics.upstream_connection_opened(UpstreamId(0), 0);
    metrics.connection_opened();
    metrics.connection_handed_over();
    metrics.exchange_begun();
    metrics.upstream_call_begun();
    metrics.lanes(2);
    metrics.queued_items(7);
    metrics.tickets(3);
    metrics.ring_stats(&RingStats { turns: 10, enters: 9, enobufs: 8, cq_overflows: 7, stale_completions: 6, task_panics: 5 });
    metrics.doorbells_rung(2);
    metrics.cross_shard_job();
    metrics.breaker(UpstreamId(0), 1, BreakerTo::Open, 2);
    metrics.endpoint_paused(UpstreamId(0), 1);
    metrics.retry_refused(UpstreamId(0));
    metrics.fallback(ModelId(0), FallbackReason::Timeout);
    metrics.hedge(ModelId(0), HedgeResult::Won);
    metrics.split_request(ModelId(0), SplitOutcome::Error, 3_000_000);
    metrics.split_measured(ModelId(0), MeasureOutcome::Bad);
    metrics.shadow_request(ModelId(0), ShadowOutcome::Full);
}

/// `bge` with one target and a shadow.
fn split_config() -> Config {
    let mut config = config(&["bge"]);
    let arm = Arm { model: ModelId(0), upstream: UpstreamId(0), share: 10_000 };
    config.models[0].split = Some(Box::new(Split { arms: vec![arm], sticky: None, rollout: None }));
    config.models[0].shadow = Some(Shadow { upstream: UpstreamId(0), percent: 1, max_in_flight: 1 });
    config
}

#[test]
fn every_method_counts_where_it_says() {
    let (mut registry, shards) = Registry::new(&split_config(), 2);
    count_everything(&shards[0]);
    registry.set_memory(5000, Some(7000));
    registry.set_shares([(["bge".to_owned(), "gpu0".to_owned()], 2500)]);
    registry.rollout_event("bge", "step");
    registry.probed(UpstreamId(0), 1, false);
    registry.probed(UpstreamId(0), 99, true);
    let counts = registry.split_counts(ModelId(0));
    assert_eq!((counts.ok, counts.client_errors, counts.errors, counts.times.iter().sum::<u64>()), (0, 0, 1, 1));
    let samples = scrape(&mut registry);
    let table = [
        ("headrace_requests_total", "route=,model=bge,status=200", 1.0),
        ("headrace_request_duration_seconds_count", "phase=call", 1.0),
        ("headrace_request_duration_seconds_sum", "phase=call", 0.005),
        ("headrace_stream_ttft_seconds_sum", "route=,model=bge", 0.25),
        ("headrace_stream_itl_seconds_count", "route=/files,model=", 1.0),
        ("headrace_streams_total", "route=,model=bge,outcome=died", 1.0),
        ("headrace_stream_tokens_total", "route=,model=bge,kind=output", 34.0),
        ("headrace_client_closed_total", "phase=call", 1.0),
        ("headrace_shed_total", "reason=lane_full", 1.0),
        ("headrace_batches_total", "model=bge,operation=embeddings,reason=full", 1.0),
        ("headrace_batch_items_sum", "model=bge,operation=embeddings", 5.0),
        ("headrace_batch_items_bucket", "le=4.0,model=bge,operation=embeddings", 0.0),
        ("headrace_batch_items_bucket", "le=6.0,model=bge,operation=embeddings", 1.0),
        ("headrace_batch_wait_seconds_sum", "model=bge,operation=embeddings", 0.002),
        ("headrace_batch_jobs_total", "model=bge,operation=embeddings,origin_shard=1", 3.0),
        ("headrace_isolation_calls_total", "model=bge", 1.0),
        ("headrace_lanes_solo_total", "model=bge", 1.0),
        ("headrace_admission_limit", "upstream=gpu0", 8.0),
        ("headrace_admission_in_flight", "upstream=gpu0", 1.0),
        ("headrace_admission_waiting", "upstream=gpu0", 2.0),
        ("headrace_admission_wait_seconds_sum", "upstream=gpu0", 0.003),
        ("headrace_breaker_transitions_total", "upstream=gpu0,endpoint=unix:/run/vllm.sock,to=open", 1.0),
        ("headrace_breaker_state", "upstream=gpu0,endpoint=unix:/run/vllm.sock,state=open", 1.0),
        ("headrace_breaker_state", "upstream=gpu0,endpoint=unix:/run/vllm.sock,state=closed", 1.0),
        ("headrace_endpoint_pauses_total", "upstream=gpu0,endpoint=unix:/run/vllm.sock", 1.0),
        ("headrace_retries_refused_total", "upstream=gpu0", 1.0),
        ("headrace_fallbacks_total", "model=bge,reason=timeout", 1.0),
        ("headrace_hedges_total", "model=bge,result=won", 1.0),
        ("headrace_upstream_requests_total", "upstream=gpu0,endpoint=unix:/run/vllm.sock,outcome=ok", 1.0),
        ("headrace_upstream_retries_total", "upstream=gpu0", 1.0),
        ("headrace_endpoints_chosen_total", "upstream=gpu0,reason=prefix", 1.0),
        ("headrace_upstream_connections_opened_total", "upstream=gpu0,endpoint=10.0.0.1:8000", 1.0),
        ("headrace_connections", "shard=0", 1.0),
        ("headrace_connections", "shard=1", 0.0),
        ("headrace_connections_opened_total", "shard=0", 1.0),
        ("headrace_connections_handed_over_total", "shard=0", 1.0),
        ("headrace_exchanges_in_flight", "shard=0", 1.0),
        ("headrace_upstream_calls_in_flight", "shard=0", 1.0),
        ("headrace_lanes", "shard=0", 2.0),
        ("headrace_queued_items", "shard=0", 7.0),
        ("headrace_tickets", "shard=0", 3.0),
        ("headrace_turns_total", "shard=0", 10.0),
        ("headrace_ring_enters_total", "shard=0", 9.0),
        ("headrace_ring_enobufs_total", "shard=0", 8.0),
        ("headrace_ring_cq_overflows_total", "shard=0", 7.0),
        ("headrace_stale_completions_total", "shard=0", 6.0),
        ("headrace_task_panics_total", "shard=0", 5.0),
        ("headrace_doorbells_rung_total", "shard=0", 2.0),
        ("headrace_cross_shard_jobs_total", "shard=0", 1.0),
        ("headrace_endpoint_unhealthy", "upstream=gpu0,endpoint=10.0.0.1:8000", 0.0),
        ("headrace_memory_resident_bytes", "", 5000.0),
        ("headrace_memory_max_bytes", "", 7000.0),
        ("headrace_split_requests_total", "model=bge,target=gpu0,outcome=error", 1.0),
        ("headrace_split_duration_seconds_sum", "model=bge,target=gpu0", 0.003),
        ("headrace_split_measured_total", "model=bge,target=gpu0,outcome=bad", 1.0),
        ("headrace_split_share", "model=bge,target=gpu0", 2500.0),
        ("headrace_rollout_events_total", "model=bge,event=step", 1.0),
        ("headrace_health_probes_total", "upstream=gpu0,endpoint=unix:/run/vllm.sock,result=failed", 1.0),
        ("headrace_shadow_requests_total", "model=bge,outcome=full", 1.0),
        ("headrace_build_info", concat!("version=", env!("CARGO_PKG_VERSION")), 1.0),
        ("headrace_config_reloads_total", "result=ok", 0.0),
        ("headrace_config_last_reload_successful", "", 1.0),
        ("headrace_upgrades_failed_total", "", 0.0),
        ("headrace_config_snapshots", "", 1.0),
    ];
    for (name, labels, wanted) in table {
        assert_eq!(value(&samples, name, labels), Some(wanted), "{name}{{{labels}}}");
    }
    for metric in Metric::ALL {
        let name = metric.description().name;
        assert!(samples.keys().any(|(sample, _)| sample.starts_with(name)), "{name} has no sample");
        assert!(table.iter().any(|(sample, ..)| sample.starts_with(name)), "{name} is not in this test");
    }
}

#[test]
fn series_do_not_run_into_each_other() {
    let models = ["a", "b", "c"];
    let (mut registry, shards) = Registry::new(&config(&models), 2);
    for (id, count) in (0..3).map(ModelId).zip([1_u32, 10, 100]) {
        for _ in 0..count {
            shards[0].request(Target::Model(id), 999);
            shards[1].batch_left(id, Operation::Pooling, 4096, BatchReason::Drain);
            shards[1].batch_jobs(id, Operation::Pooling, ShardId(1), 1);
        }
    }
    shards[0].request(Target::Route(RouteId(0)), 101);
    shards[0].request(Target::None, 404);
    let samples = scrape(&mut registry);
    for (model, count) in models.iter().zip([1.0, 10.0, 100.0]) {
        assert_eq!(value(&samples, "headrace_requests_total", &format!("route=,model={model},status=other")), Some(count));
        let batches = value(&samples, "headrace_batches_total", &format!("model={model},operation=pooling,reason=drain"));
        assert_eq!(batches, Some(count));
        let jobs = value(&samples, "headrace_batch_jobs_total", &format!("model={model},operation=pooling,origin_shard=1"));
        assert_eq!(jobs, Some(count));
    }
    assert_eq!(value(&samples, "headrace_requests_total", "route=/files,model=,status=101"), Some(1.0));
    assert_eq!(value(&samples, "headrace_requests_total", "route=,model=,status=404"), Some(1.0));
    let requests = samples.keys().filter(|(name, _)| name == "headrace_requests_total").count();
    assert_eq!(requests, 5, "a series appears when it has counted something");
}

#[test]
fn shards_add_up() {
    let (mut registry, shards) = Registry::new(&config(&["bge"]), 4);
    for (shard, metrics) in (1_u32..).zip(&shards) {
        for _ in 0..shard {
            metrics.request(Target::Model(ModelId(0)), 200);
            metrics.phase(Phase::Exchange, 1_000_000_000);
        }
    }
    let samples = scrape(&mut registry);
    assert_eq!(value(&samples, "headrace_requests_total", "route=,model=bge,status=200"), Some(10.0));
    assert_eq!(value(&samples, "headrace_request_duration_seconds_sum", "phase=exchange"), Some(10.0));
}

#[test]
fn hostile_names_are_escaped() {
    let name = "a\"b\\c\nd{e}=,";
    let (mut registry, shards) = Registry::new(&config(&[name]), 1);
    shards[0].isolation_call(ModelId(0));
    let samples = scrape(&mut registry);
    let key = ("headrace_isolation_calls_total".to_owned(), vec![("model".to_owned(), name.to_owned())]);
    assert_eq!(samples.get(&key), Some(&1.0));
}

/// The promise of reloads: whatever is counted, under whichever snapshot, appears once, by name.
#[test]
fn a_reload_neither_loses_nor_doubles_counts() {
    let (mut registry, handles) = Registry::new(&config(&["bge", "e5"]), 2);
    let old = handles.into_iter().next().unwrap();
    count_everything(&old);
    old.request(Target::Model(ModelId(1)), 200);
    // In the new configuration the models have changed places and there is a new one.
    let new = registry.next_snapshot(&config(&["new", "e5", "bge"])).unwrap().remove(0);
    registry.reloaded(true);
    new.request(Target::Model(ModelId(1)), 200);
    new.request(Target::Model(ModelId(2)), 200);
    new.exchange_begun();
    let bge = |samples: &Samples| value(samples, "headrace_requests_total", "route=,model=bge,status=200");
    let e5 = |samples: &Samples| value(samples, "headrace_requests_total", "route=,model=e5,status=200");
    let samples = scrape(&mut registry);
    assert_eq!((bge(&samples), e5(&samples)), (Some(2.0), Some(2.0)));
    assert_eq!(value(&samples, "headrace_config_snapshots", ""), Some(2.0));
    assert_eq!(value(&samples, "headrace_exchanges_in_flight", "shard=0"), Some(2.0));
    // An exchange that began under the old snapshot ends under it, then nobody holds it any more.
    old.request(Target::Model(ModelId(0)), 200);
    old.exchange_ended();
    drop(old);
    let folded = scrape(&mut registry);
    let again = scrape(&mut registry);
    assert_eq!(folded, again, "folded once");
    assert_eq!((bge(&folded), e5(&folded)), (Some(3.0), Some(2.0)));
    assert_eq!(value(&folded, "headrace_config_snapshots", ""), Some(1.0));
    assert_eq!(value(&folded, "headrace_config_reloads_total", "result=ok"), Some(1.0));
    assert_eq!(value(&folded, "headrace_exchanges_in_flight", "shard=0"), Some(1.0), "gauges go on, they are not folded");
    // No sample of the first scrape has gone, no counter has fallen.
    for (key, before) in &samples {
        let after = folded[key];
        assert!(after >= *before || !key.0.ends_with("_total"), "{key:?} fell from {before} to {after}");
    }
    drop(new);
    assert_eq!(bge(&scrape(&mut registry)), Some(3.0), "the current snapshot is read whether or not it is written");
}

#[test]
fn reloads_beyond_the_bound_are_refused_until_exchanges_end() {
    let config = config(&["bge"]);
    let (mut registry, handles) = Registry::new(&config, 1);
    let mut held = vec![handles];
    while let Ok(handles) = registry.next_snapshot(&config) {
        held.push(handles);
        assert!(held.len() <= 64);
    }
    assert_eq!(held.len(), 64);
    assert_eq!(registry.next_snapshot(&config).err(), Some(TooManySnapshots));
    registry.reloaded(false);
    held[10][0].isolation_call(ModelId(0));
    held.swap_remove(10);
    assert!(registry.next_snapshot(&config).is_ok());
    let samples = scrape(&mut registry);
    assert_eq!(value(&samples, "headrace_isolation_calls_total", "model=bge"), Some(1.0));
    assert_eq!(value(&samples, "headrace_config_last_reload_successful", ""), Some(0.0));
    assert_eq!(value(&samples, "headrace_config_reloads_total", "result=failed"), Some(1.0));
}

#[test]
fn an_upstream_is_unready_when_all_its_endpoints_are_unhealthy_somewhere() {
    let (mut registry, shards) = Registry::new(&config(&["bge"]), 2);
    let (now, later) = (Instant::from_nanos(100), Instant::from_nanos(200));
    assert!(registry.unready_upstreams(now).is_empty());
    shards[0].endpoint_unhealthy_until(UpstreamId(0), 0, later);
    assert!(registry.unready_upstreams(now).is_empty(), "the other endpoint is fine");
    shards[1].endpoint_unhealthy_until(UpstreamId(0), 1, later);
    shards[0].endpoint_unhealthy_until(UpstreamId(0), 1, later);
    assert_eq!(registry.unready_upstreams(now), [UpstreamId(0)]);
    let samples = check(&registry.render(now));
    let unhealthy = |endpoint| value(&samples, "headrace_endpoint_unhealthy", &format!("upstream=gpu0,endpoint={endpoint}"));
    assert_eq!((unhealthy("10.0.0.1:8000"), unhealthy("unix:/run/vllm.sock")), (Some(1.0), Some(2.0)));
    assert!(registry.unready_upstreams(later).is_empty(), "on trial");
    shards[0].endpoint_unhealthy_until(UpstreamId(0), 0, Instant::ZERO);
    assert!(registry.unready_upstreams(now).is_empty(), "restored");
}

/// A shard counts while scrapes go on: each is well formed (the checker compares counts and buckets), nothing falls, and at
/// the end all is there.
#[test]
fn scrapes_while_a_shard_counts_are_consistent() {
    let (mut registry, mut shards) = Registry::new(&config(&["bge"]), 1);
    let metrics = shards.remove(0);
    let stop = AtomicBool::new(false);
    let count = || {
        let metrics = metrics;
        let mut rounds = 0;
        while !stop.load(Ordering::Relaxed) {
            metrics.exchange_begun();
            metrics.request(Target::Model(ModelId(0)), 200);
            metrics.phase(Phase::Exchange, u64::from(rounds) * 1000);
            metrics.batch_left(ModelId(0), EMBEDDINGS, rounds % 40, BatchReason::Idle);
            metrics.exchange_ended();
            rounds += 1;
        }
        rounds
    };
    let requests = |samples: &Samples| value(samples, "headrace_requests_total", "route=,model=bge,status=200");
    let rounds = thread::scope(|scope| {
        let counting = scope.spawn(count);
        let mut before = Samples::new();
        let mut grown = 0;
        while grown < 20 {
            let samples = scrape(&mut registry);
            let in_flight = value(&samples, "headrace_exchanges_in_flight", "shard=0").unwrap();
            assert!((0.0..=1.0).contains(&in_flight), "{in_flight}");
            for (key, value) in before.iter().filter(|(key, _)| key.0 != "headrace_exchanges_in_flight") {
                assert!(samples[key] >= *value, "{key:?} fell");
            }
            grown += u32::from(requests(&samples) > requests(&before));
            before = samples;
        }
        stop.store(true, Ordering::Relaxed);
        counting.join().unwrap()
    });
    let samples = scrape(&mut registry);
    let total = Some(f64::from(rounds));
    assert_eq!(requests(&samples), total);
    assert_eq!(value(&samples, "headrace_request_duration_seconds_count", "phase=exchange"), total);
    assert_eq!(value(&samples, "headrace_batch_items_count", "model=bge,operation=embeddings"), total);
}
