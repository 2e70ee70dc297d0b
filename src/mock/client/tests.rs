//! The template's holes, that the checker tells somebody else's answer from ours ("0 wrong" means nothing otherwise), and what is
//! counted in pretended time.

use std::time::Duration;

use super::check::Checker;
use super::run::begin;
use super::template::Template;
use super::{LoadBody, LoadConfig, Pace};
use crate::mock::{MockConfig, serve, vector, write_base64, write_numbers};
use crate::runtime::driver::sim::Faults;
use crate::runtime::{Rt, SimKernel};
use crate::sys::BufferPool;
use crate::sys::net::Address;

fn template(items: u32, base64: bool) -> Template {
    let address = Address::Unix("/unused".into());
    let mut config = LoadConfig::embeddings(address, "m \"x\"", 1, Duration::ZERO);
    config.body = LoadBody::Embeddings { model: "m \"x\"".to_owned(), items, input_bytes: 24, base64, dims: 4 };
    Template::new(&config, &config.body)
}

/// An answer whose element with index `i` holds the vector of item `from` of request `unique`, for each (i, from, unique).
fn answer(template: &Template, elements: &[(usize, usize, u64)]) -> Vec<u8> {
    let (mut body, mut item) = (b"{\"data\":[".to_vec(), Vec::new());
    for (at, (index, from, unique)) in elements.iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        body.extend_from_slice(format!("{comma}{{\"object\":\"embedding\",\"index\":{index},\"embedding\": ").as_bytes());
        template.write_item(*from, *unique, &mut item);
        if template.base64 {
            write_base64(&mut body, &item, 4)
        } else {
            write_numbers(&mut body, &item, 4)
        }
        body.push(b'}');
    }
    body.extend_from_slice(b"]}");
    body
}

#[test]
fn a_request_is_well_formed_and_unique() {
    for (items, base64) in [(1, false), (12, true)] {
        let template = template(items, base64);
        let (mut one, mut two) = (Vec::<u8>::new(), Vec::<u8>::new());
        one.extend(template.request(0x0123_4567_89ab_cdef, Vec::new(), false).slices().flatten());
        two.extend(template.request(u64::MAX, Vec::new(), false).slices().flatten());
        assert_eq!(one.len(), two.len());
        let text = String::from_utf8(one).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["model"], "m \"x\"");
        let texts: Vec<&str> = body["input"]
            .as_str()
            .map_or_else(|| body["input"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect(), |text| vec![text]);
        assert_eq!(texts.len(), items as usize);
        for (at, text) in texts.iter().enumerate() {
            assert!(text.starts_with(&format!("0123456789abcdef-{at}")) && text.len() == 24, "{text}");
            let mut item = Vec::new();
            template.write_item(at, 0x0123_4567_89ab_cdef, &mut item);
            assert_eq!(item, text.as_bytes(), "what is checked is what was sent");
        }
    }
}

#[test]
fn only_our_own_answer_is_right() {
    for base64 in [false, true] {
        let template = template(2, base64);
        for (elements, right, why) in [
            (&[(0, 0, 7), (1, 1, 7)][..], true, "ours"),
            (&[(1, 1, 7), (0, 0, 7)], true, "ours in another order"),
            (&[(0, 0, 8), (1, 1, 8)], false, "another request's"),
            (&[(0, 0, 7), (1, 1, 8)], false, "one of them another's"),
            (&[(0, 1, 7), (1, 0, 7)], false, "our two swapped"),
            (&[(0, 0, 7), (0, 0, 7)], false, "an index twice"),
            (&[(0, 0, 7)], false, "one too few"),
            (&[(0, 0, 7), (1, 1, 7), (2, 1, 7)], false, "one too many"),
            (&[(0, 0, 7), (2, 1, 7)], false, "an index nobody asked for"),
            (&[], false, "none"),
        ] {
            assert_eq!(Checker::default().check(&answer(&template, elements), &template, 7), right, "{why}, base64 {base64}");
        }
        assert!(!Checker::default().check(b"{\"error\":{}}", &template, 7));
        assert!(!Checker::default().check(b"", &template, 7));
    }
}

#[test]
fn numbers_in_another_spelling_are_compared_by_value() {
    let template = template(1, false);
    let mut item = Vec::new();
    template.write_item(0, 7, &mut item);
    let spelled = |numbers: &[f32]| {
        let numbers: Vec<String> = numbers.iter().map(|number| format!("{number:e}")).collect();
        format!("{{\"data\":[{{\"index\":0,\"embedding\" : [ {} ]}}]}}", numbers.join(" , ")).into_bytes()
    };
    let mut numbers = vector(&item, 4);
    assert!(Checker::default().check(&spelled(&numbers), &template, 7));
    numbers[3] += 0.000_002;
    assert!(!Checker::default().check(&spelled(&numbers), &template, 7));
}

#[test]
fn the_last_request_of_a_connection_says_so() {
    let template = template(1, false);
    let text = |last| -> Vec<u8> { template.request(7, Vec::new(), last).slices().flatten().copied().collect() };
    let (usual, last) = (String::from_utf8(text(false)).unwrap(), String::from_utf8(text(true)).unwrap());
    assert_eq!(last, usual.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n"));
}

#[test]
fn a_body_has_exactly_the_bytes_asked_for() {
    let config = LoadConfig::embeddings(Address::Unix("/unused".into()), "mock", 1, Duration::ZERO);
    for body_bytes in [70, 1024, 16_384, 225_280] {
        for model_last in [false, true] {
            let sized = LoadBody::Sized { model: "mock".to_owned(), body_bytes, model_last, dims: 4 };
            let chat = LoadBody::Chat { model: "mock".to_owned(), body_bytes: body_bytes.max(200), model_last, max_tokens: Some(9) };
            for (body, bytes) in [(sized, body_bytes), (chat, body_bytes.max(200))] {
                let template = Template::new(&config, &body);
                let request: Vec<u8> = template.request(0xabc, Vec::new(), false).slices().flatten().copied().collect();
                let text = String::from_utf8(request).unwrap();
                let (head, body) = text.split_once("\r\n\r\n").unwrap();
                assert_eq!(body.len(), bytes as usize);
                assert!(head.contains(&format!("content-length: {bytes}")), "{head}");
                assert_eq!(body.starts_with("{\"model\":\"mock\","), !model_last);
                assert_eq!(body.ends_with(",\"model\":\"mock\"}"), model_last);
                let body: serde_json::Value = serde_json::from_str(body).unwrap();
                let sent = body["input"].as_str().or(body["messages"][0]["content"].as_str()).unwrap();
                let mut item = Vec::new();
                template.write_item(0, 0xabc, &mut item);
                assert!(sent.starts_with("0000000000000abc") && sent.as_bytes() == item, "what is checked is what was sent");
            }
        }
    }
}

/// A mock of `cost` a call and the load on it, on one runtime in pretended time.
fn in_pretended_time(cost: Duration, change: impl Fn(&mut LoadConfig)) -> super::LoadReport {
    let kernel = SimKernel::new(1, Faults::calm());
    kernel.let_turns_move_time(true);
    let rt = Rt::new(Box::new(kernel.driver(BufferPool::new(64, 4096).unwrap(), "load")), kernel.clock());
    let address = Address::Tcp(([10, 0, 0, 1], 80).into());
    let (listener, of_mock) = (rt.listen(&address, 64).unwrap(), rt.clone());
    rt.spawn(serve(of_mock, listener, MockConfig { cost_base: cost, dims: 4, ..MockConfig::default() }));
    let mut config = LoadConfig::embeddings(address, "m", 1, Duration::from_secs(1));
    config.body = LoadBody::Sized { model: "m".to_owned(), body_bytes: 70, model_last: false, dims: 4 };
    change(&mut config);
    let run = begin(&rt, &kernel.clock(), &config);
    run.to_the_end(&rt, || Ok(()), |_| {}).unwrap();
    let report = run.take_report();
    rt.shut_down();
    report
}

#[test]
fn latency_behind_a_stalled_server_counts_from_the_moment_each_request_was_due() {
    // Due at 0, 1, 2 ... ms, answered at 100, 200, 300 ... ms: request k waits for its turn and ends 100 (k + 1) - k ms late.
    let report = in_pretended_time(Duration::from_millis(100), |config| config.pace = Pace::Open { per_second: 1000.0 });
    assert_eq!((report.done, report.errors(), report.wrong, report.unsent), (10, 0, 0, 990));
    let near = |time: Duration, ms: u64| time.abs_diff(Duration::from_millis(ms)) < Duration::from_millis(4);
    assert!(near(report.latency.at(0.1), 100) && near(report.latency.at(0.5), 496) && near(report.latency.max(), 991), "{report:?}");
    assert!(near(report.lag.max(), 891), "the last was begun when the one before was answered");
}

#[test]
fn a_closed_loop_counts_from_the_moment_it_asks_and_not_in_the_warm_up() {
    let report = in_pretended_time(Duration::from_millis(10), |config| {
        config.warmup = Duration::from_millis(500);
        config.duration = Duration::from_millis(300);
    });
    assert!((28..=30).contains(&report.done), "of about 80 answers those of 300 ms count: {}", report.done);
    assert!(report.latency.max() < Duration::from_millis(12), "{report:?}");
    assert_eq!(report.connects, 0, "made before the start");
}

#[test]
fn worn_connections_are_made_anew() {
    let report = in_pretended_time(Duration::from_millis(10), |config| {
        config.connections = 3;
        config.churn = Some(4);
    });
    assert_eq!((report.errors(), report.wrong, report.closed_by_peer), (0, 0, 0));
    // A connection that was worn by its last request is not made anew.
    assert!((report.done / 4 - 3..=report.done / 4).contains(&report.connects), "{} for {}", report.connects, report.done);
}

#[test]
fn long_requests_of_a_mix_are_told_apart() {
    let report = in_pretended_time(Duration::from_millis(10), |config| {
        let body = LoadBody::Sized { model: "m".to_owned(), body_bytes: 16_384, model_last: true, dims: 4 };
        config.mix = Some(super::Mix { share: 0.1, body });
    });
    assert_eq!((report.errors(), report.wrong, report.checked), (0, 0, report.done));
    assert_eq!(report.short.len() + report.long.len(), report.done);
    assert_eq!(report.long.len(), report.done / 10);
}

#[test]
fn idle_connections_ask_once_and_stay() {
    let report = in_pretended_time(Duration::ZERO, |config| (config.connections, config.idle) = (0, 300));
    assert_eq!(report.idle, super::IdleReport { opened: 300, failed: 0, closed_by_peer: 0 });
    assert_eq!(report.ended(), 0, "what they asked before the start is not counted");
}
