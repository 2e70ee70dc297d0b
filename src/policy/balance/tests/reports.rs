//! What engines report, in their words and in the choice.

use std::time::Duration;

use proptest::prelude::{prop_assert, proptest};

use super::{begin, choose_at, four};
use crate::config::Engine;
use crate::policy::{Balancer, Report, Why, Wish, hash_bytes, read_orca, read_scrape};
use crate::sys::Instant;

const VLLM: &str = "engine = \"vllm\"\nscrape = { interval = \"1s\" }";

fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

fn busy(waiting: u32, running: u32) -> Report {
    Report { waiting, running: Some(running), ..Report::default() }
}

fn waits(waiting: u32) -> Report {
    Report { waiting, ..Report::default() }
}

fn place(balancer: &mut Balancer, now: Instant) -> u32 {
    choose_at(balancer, &Wish::default(), now).endpoint
}

#[test]
fn a_report_counts_what_others_sent_and_fades() {
    let mut balancer = four(VLLM);
    (0..4).for_each(|endpoint| begin(&mut balancer, endpoint, 4));
    balancer.handle_report(1, busy(10, 6), at(0));
    assert_eq!((0..12).filter(|_| place(&mut balancer, at(0)) == 1).count(), 0, "twelve calls of others are there");
    // Two calls fewer there: own 2 + others 12 x 2^-t is below 4 when t is over 2.6 intervals.
    balancer.end(1);
    balancer.end(1);
    assert_ne!(place(&mut balancer, at(2500)), 1);
    assert_eq!(place(&mut balancer, at(2700)), 1, "an old report counts little");
    // Its own calls are no news: eight of ours running are eight of ours.
    let mut balancer = four(VLLM);
    begin(&mut balancer, 0, 8);
    balancer.handle_report(0, busy(0, 8), at(0));
    begin(&mut balancer, 1, 9);
    begin(&mut balancer, 2, 9);
    begin(&mut balancer, 3, 9);
    assert_eq!(place(&mut balancer, at(0)), 0);
}

#[test]
fn no_report_outweighs_all_own_calls() {
    let mut balancer = four(VLLM);
    balancer.handle_report(2, busy(1_000_000, 1_000_000), at(0));
    // With seven calls in flight the correction is at most eight: ten at each of the others are more.
    [0, 1, 3].into_iter().for_each(|endpoint| begin(&mut balancer, endpoint, 2));
    assert_ne!(place(&mut balancer, at(0)), 2);
    let mut filled = 0;
    while place(&mut balancer, at(0)) != 2 {
        let endpoint = place(&mut balancer, at(0));
        balancer.begin(endpoint);
        filled += 1;
        assert!(filled < 100_000 || balancer.in_flight(2) > 0, "never again");
        if filled > 1000 {
            break;
        }
    }
    // The bound grows with the own calls, so while the report is new it gets none; when it is stale it does.
    assert_eq!(place(&mut balancer, at(30_000)), 2);
}

/// An answer tells what waits and not what runs: it does not make a busy endpoint idle.
#[test]
fn an_answer_says_less_than_a_scrape() {
    let mut balancer = four(VLLM);
    balancer.handle_report(1, busy(0, 30), at(0));
    for millis in [10, 20, 30] {
        balancer.handle_report(1, waits(0), at(millis));
        assert!((0..8).all(|_| place(&mut balancer, at(millis)) != 1), "thirty are running there");
    }
    balancer.handle_report(1, waits(0), at(6000));
    assert!((0..8).any(|_| place(&mut balancer, at(6000)) == 1), "the scrapes have ended, and what they said too");
}

#[test]
fn a_cache_that_is_nearly_full_is_left_alone() {
    let mut balancer = four(VLLM);
    (0..4).for_each(|endpoint| begin(&mut balancer, endpoint, 4));
    balancer.end(3);
    assert_eq!(place(&mut balancer, at(0)), 3);
    balancer.handle_report(3, Report { cache_used: Some(0.89), ..Report::default() }, at(0));
    assert_eq!(place(&mut balancer, at(0)), 3, "below nine tenths it says nothing");
    balancer.handle_report(3, Report { cache_used: Some(0.99), ..Report::default() }, at(0));
    assert_ne!(place(&mut balancer, at(0)), 3);
}

#[test]
fn an_adapter_is_used_where_it_is_loaded_unless_that_is_full() {
    let mut balancer = four(VLLM);
    let adapter = hash_bytes(0, b"sql-lora");
    balancer.handle_report(2, Report { adapters: Some(Box::new([adapter])), ..Report::default() }, at(0));
    let wish = Wish { model: Some(adapter), ..Wish::default() };
    let choice = choose_at(&mut balancer, &wish, at(0));
    assert_eq!((choice.endpoint, choice.why), (2, Why::Adapter));
    // A report without a word of adapters forgets none.
    balancer.handle_report(2, busy(0, 0), at(0));
    assert_eq!(choose_at(&mut balancer, &wish, at(0)).endpoint, 2);
    assert_ne!(choose_at(&mut balancer, &Wish { model: Some(7), ..Wish::default() }, at(0)).why, Why::Adapter);
    begin(&mut balancer, 2, 2);
    assert_ne!(choose_at(&mut balancer, &wish, at(0)).endpoint, 2, "(2 + 1) x 2 / 4 = 1.5: it may have two");
    [0, 1, 3].into_iter().for_each(|endpoint| begin(&mut balancer, endpoint, 2));
    assert_eq!(choose_at(&mut balancer, &wish, at(0)).endpoint, 2, "(8 + 1) x 2 / 4 = 4.5: it may have five");
}

/// As they come from the servers, shortened.
#[test]
fn each_engine_is_read_in_its_own_words() {
    let cases: &[(Engine, &str, Report)] = &[
        (
            Engine::Vllm,
            "# HELP vllm:num_requests_running Number\n# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{engine=\"0\",model_name=\"m\"} 3.0\nvllm:num_requests_waiting{engine=\"0\",model_name=\"m}\"} 2.0\nvllm:num_requests_waiting{engine=\"1\",model_name=\"m\"} 1.0 1700000000\nvllm:kv_cache_usage_perc{engine=\"0\"} 0.25\n",
            Report { waiting: 3, running: Some(3), cache_used: Some(0.25), adapters: None },
        ),
        (
            Engine::Vllm,
            "vllm:num_requests_waiting 1\nvllm:gpu_cache_usage_perc 0.5\nvllm:lora_requests_info{max_lora=\"4\",running_lora_adapters=\"old\",waiting_lora_adapters=\"\"} 1.7e+09\nvllm:lora_requests_info{max_lora=\"4\",running_lora_adapters=\"a,b\",waiting_lora_adapters=\"c\"} 1.8e+09\n",
            Report {
                waiting: 1,
                running: None,
                cache_used: Some(0.5),
                adapters: Some([b"a", b"b", b"c"].map(|name| hash_bytes(0, name)).into()),
            },
        ),
        (
            Engine::Sglang,
            "sglang:num_running_reqs{model_name=\"m\"} 4.0\nsglang:num_queue_reqs{model_name=\"m\"} 7.0\nsglang:token_usage{model_name=\"m\"} 0.4\n",
            Report { waiting: 7, running: Some(4), cache_used: Some(0.4), adapters: None },
        ),
        (Engine::Tei, "te_queue_size 12\nte_batch_next_size_sum 4\n", waits(12)),
        (Engine::Tgi, "tgi_queue_size 5\ntgi_batch_current_size 8\n", busy(5, 8)),
        (Engine::LlamaCpp, "llamacpp:requests_processing 2\nllamacpp:requests_deferred 1\n", busy(1, 2)),
        (
            Engine::Triton,
            "nv_inference_pending_request_count{model=\"a\",version=\"1\"} 3\nnv_inference_pending_request_count{model=\"b\",version=\"1\"} 4\n",
            waits(7),
        ),
        (
            Engine::Infinity,
            "{\"data\":[{\"id\":\"m\",\"stats\":{\"queue_fraction\":0.1,\"queue_absolute\":6,\"results_pending\":2,\"batch_size\":32}}],\"object\":\"list\"}",
            busy(6, 2),
        ),
    ];
    for (engine, text, report) in cases {
        assert_eq!(read_scrape(*engine, text.as_bytes()).as_ref(), Some(report), "{engine:?}");
    }
}

#[test]
fn nonsense_says_nothing() {
    for engine in Engine::ALL {
        for text in [
            "",
            "\n\n",
            "# TYPE x gauge",
            "{",
            "other_metric 5\n",
            "<html>404</html>",
            "vllm:num_requests_waiting",
            "a{b=\"c\" 1\n",
            "tgi_queue_size NaN\n",
            "\u{0}\u{1}",
        ] {
            assert_eq!(read_scrape(engine, text.as_bytes()), None, "{engine:?} {text:?}");
        }
        assert_eq!(read_scrape(engine, b"\xff\xfe"), None);
    }
    let huge = read_scrape(Engine::Tgi, b"tgi_queue_size 1e300\ntgi_batch_current_size -4\n").unwrap();
    assert_eq!((huge.waiting, huge.running), (1_000_000, Some(0)));
}

#[test]
fn orca_in_both_spellings() {
    let text = b"TEXT named_metrics.kv_cache_usage_perc=0.4, named_metrics.num_requests_waiting=3";
    let json = br#"JSON {"cpu_utilization":0.9,"named_metrics":{"kv_cache_usage_perc":0.4,"num_requests_waiting":3}}"#;
    let plain = b"kv_cache_usage_perc=0.4,num_requests_waiting=3.0";
    for value in [text.as_slice(), json.as_slice(), plain.as_slice()] {
        let report = read_orca(value).unwrap();
        assert_eq!((report.waiting, report.running, report.cache_used), (3, None, Some(0.4)));
    }
    for value in [b"".as_slice(), b"JSON {", b"TEXT cpu_utilization=0.3", b"JSON []", b"\xff"] {
        assert_eq!(read_orca(value), None, "{value:?}");
    }
}

proptest! {
    /// Whatever a server says, reading it ends, and no number is larger than makes sense.
    #[test]
    fn any_text_is_read_to_its_end(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300), text in "[a-z_:{}=\", .0-9\n]{0,300}") {
        for engine in Engine::ALL {
            for input in [&bytes[..], text.as_bytes(), format!("vllm:num_requests_waiting {text}\ntgi_queue_size{{{text}").as_bytes()] {
                if let Some(report) = read_scrape(engine, input) {
                    prop_assert!(report.waiting <= 1_000_000 && report.running.unwrap_or(0) <= 1_000_000);
                }
            }
        }
        for input in [&bytes[..], text.as_bytes(), format!("TEXT {text}").as_bytes(), format!("JSON {text}").as_bytes()] {
            if let Some(report) = read_orca(input) {
                prop_assert!(report.cache_used.is_none_or(|used| (0.0..=1.0).contains(&used)));
            }
        }
    }
}
