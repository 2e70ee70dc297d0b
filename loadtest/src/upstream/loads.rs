//! Each kind of load against the light upstream, on both drivers, over real sockets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop loudly")]

use std::time::Duration;

use headrace::config::Io;
use headrace::mock::client::{LoadBody, LoadConfig, LoadReport, Mix, run};
use headrace::sys::net::Address;

use super::Answers;
use super::tests::serve;

const ANSWERS: Answers = Answers { status: 200, body_bytes: 70, events: 20, every: Duration::from_millis(1) };

/// The report of a load on both drivers.
fn load(answers: &Answers, change: impl Fn(&mut LoadConfig)) -> Vec<LoadReport> {
    let both = [Io::Epoll, Io::Uring].into_iter().filter_map(|io| Some((io, serve(io, answers)?)));
    both.map(|(io, addr)| {
        let mut config = LoadConfig::embeddings(Address::Tcp(addr), "mock", 4, Duration::from_millis(60));
        config.body = LoadBody::Sized { model: "mock".to_owned(), body_bytes: 70, model_last: false, dims: 1 };
        (config.check, config.io) = (false, io);
        change(&mut config);
        if let LoadBody::Chat { .. } = config.body {
            config.path = "/v1/chat/completions".to_owned();
        }
        run(&config).unwrap()
    })
    .collect()
}

fn chat() -> LoadBody {
    LoadBody::Chat { model: "mock".to_owned(), body_bytes: 200, model_last: false, max_tokens: None }
}

#[test]
fn bodies_of_all_sizes_arrive() {
    for bytes in [70, 1024, 16_384, 225_280] {
        for report in load(&ANSWERS, |config| {
            config.body = LoadBody::Sized { model: "mock".to_owned(), body_bytes: bytes, model_last: true, dims: 1 };
        }) {
            assert!(report.done >= 4, "{bytes}");
            assert_eq!((report.errors(), report.connects, report.closed_by_peer), (0, 0, 0));
        }
    }
}

#[test]
fn large_answers_are_read_to_their_end() {
    for report in load(&Answers { body_bytes: 300_000, ..ANSWERS }, |_| {}) {
        assert_eq!(report.errors(), 0);
        assert!(report.done >= 4 && report.received_bytes > report.done * 300_000);
    }
}

#[test]
fn every_event_of_every_stream_is_counted() {
    for report in load(&ANSWERS, |config| config.body = chat()) {
        let streams = &report.streams;
        assert!(report.done >= 4);
        assert_eq!((report.errors(), streams.streams, streams.cut), (0, report.done, 0));
        assert_eq!((streams.events, streams.missing, streams.out_of_order), (report.done * 20, 0, 0));
        assert_eq!((streams.ttft.len(), streams.gap.len(), streams.added.len()), (report.done, report.done * 19, report.done * 20));
    }
}

#[test]
fn a_stream_may_be_asked_to_be_short() {
    let body = LoadBody::Chat { model: "mock".to_owned(), body_bytes: 200, model_last: true, max_tokens: Some(3) };
    for report in load(&ANSWERS, |config| config.body = body.clone()) {
        assert_eq!((report.errors(), report.streams.events), (0, report.done * 3));
    }
}

#[test]
fn a_chat_that_is_not_answered_as_a_stream_is_cut() {
    for report in load(&Answers { events: 0, ..ANSWERS }, |config| config.body = chat()) {
        assert_eq!((report.done, report.streams.events), (0, 0));
        assert_eq!(report.failures.keys().copied().collect::<Vec<_>>(), ["cut"]);
        assert_eq!(report.streams.cut, report.failures["cut"]);
    }
}

#[test]
fn other_statuses_are_errors() {
    for report in load(&Answers { status: 503, ..ANSWERS }, |_| {}) {
        assert_eq!((report.done, report.errors()), (0, report.statuses[&503]));
    }
}

#[test]
fn churn_mix_and_idle_go_together() {
    for report in load(&ANSWERS, |config| {
        let body = LoadBody::Sized { model: "mock".to_owned(), body_bytes: 16_384, model_last: false, dims: 1 };
        config.mix = Some(Mix { share: 0.25, body });
        (config.churn, config.idle) = (Some(2), 200);
    }) {
        assert_eq!((report.errors(), report.idle.opened, report.idle.failed, report.idle.closed_by_peer), (0, 200, 0, 0));
        assert_eq!((report.short.len() + report.long.len(), report.long.len()), (report.done, report.done / 4));
        assert!(report.connects <= report.done / 2 && report.connects + 4 >= report.done / 2, "{} {}", report.connects, report.done);
    }
}
