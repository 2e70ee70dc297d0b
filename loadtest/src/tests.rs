#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop loudly")]

use std::time::Duration;

use clap::{CommandFactory, Parser};
use headrace::config::Io;
use headrace::mock::client::{LoadBody, LoadReport, Mix, Pace, run};
use headrace::mock::{MockConfig, start};
use headrace::sys::net::Address;

use crate::args::{Arguments, Command, Place, parse_url};
use crate::print;

#[test]
fn the_arguments_are_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn urls() {
    let tcp = |place: &str| Place::Tcp(place.to_owned());
    for (text, place, authority, path) in [
        ("http://127.0.0.1:8080/v1/x?y=1", tcp("127.0.0.1:8080"), "127.0.0.1:8080", "/v1/x?y=1"),
        ("http://gpu", tcp("gpu:80"), "gpu", ""),
        ("http://[::1]:9/", tcp("[::1]:9"), "[::1]:9", "/"),
        ("http://[::1]/", tcp("[::1]:80"), "[::1]", "/"),
        ("unix:/run/a.sock:/v1/embeddings", Place::Unix("/run/a.sock".into()), "localhost", "/v1/embeddings"),
        ("unix:/run/a.sock", Place::Unix("/run/a.sock".into()), "localhost", ""),
    ] {
        let url = parse_url(text).unwrap();
        assert_eq!((url.place, url.authority.as_str(), url.path.as_deref().unwrap_or("")), (place, authority, path), "{text}");
    }
    for bad in ["", "127.0.0.1:80", "https://a/", "http:///x", "http://u@h/", "unix:relative", "unix:/a:b"] {
        assert!(parse_url(bad).is_err(), "{bad}");
    }
}

#[test]
fn arguments_become_a_load() {
    let parse = |line: &str| Arguments::try_parse_from(line.split(' ')).map(|arguments| arguments.load);
    let args =
        parse("headrace-loadtest --url unix:/a.sock:/x -c 3 -d 250ms --rate 100.5 --items 4 --input-bytes 100 --check --path /y").unwrap();
    let load = args.load().unwrap();
    assert_eq!(load.address, Address::Unix("/a.sock".into()));
    assert_eq!((load.path.as_str(), load.connections, load.duration, load.check), ("/y", 3, Duration::from_millis(250), true));
    assert_eq!(load.pace, Pace::Open { per_second: 100.5 });
    assert!(matches!(load.body, LoadBody::Embeddings { items: 4, input_bytes: 100, .. }));
    assert_eq!(parse("headrace-loadtest --url http://127.0.0.1:1/ --get").unwrap().load().unwrap().body, LoadBody::Get);
    assert!(parse("headrace-loadtest --url http://127.0.0.1:1/ --post /no/such/file").unwrap().load().is_err());
    assert!(parse("headrace-loadtest --url http://127.0.0.1:1/ -c 0").unwrap().load().is_err());
    assert_eq!(parse("headrace-loadtest --url http://127.0.0.1:1 -c 0 --idle 5").unwrap().load().unwrap().path, "/v1/embeddings");
    let chat = parse("headrace-loadtest --url http://127.0.0.1:1 --stream --max-tokens 5 --model-last").unwrap().load().unwrap();
    assert_eq!(chat.path, "/v1/chat/completions");
    assert!(matches!(chat.body, LoadBody::Chat { max_tokens: Some(5), model_last: true, .. }));
    let mixed =
        parse("headrace-loadtest --url http://127.0.0.1:1 --body-bytes 70 --mix 0.01 --warmup 1s --churn 9").unwrap().load().unwrap();
    assert!(matches!(mixed.body, LoadBody::Sized { body_bytes: 70, model_last: false, .. }));
    assert!(matches!(mixed.mix, Some(Mix { share: 0.01, body: LoadBody::Sized { body_bytes: 225_280, .. } })));
    assert_eq!(parse("headrace-loadtest --url http://127.0.0.1:1 -c 1024").unwrap().load().unwrap().io, Io::Auto);
    assert_eq!(parse("headrace-loadtest --url http://127.0.0.1:1 -c 1000 --idle 25").unwrap().load().unwrap().io, Io::Epoll);
    assert_eq!(parse("headrace-loadtest --url http://127.0.0.1:1 -c 5000 --io uring").unwrap().load().unwrap().io, Io::Uring);
    assert_eq!((mixed.warmup, mixed.churn), (Duration::from_secs(1), Some(9)));
    for bad in [
        "--rate 0",
        "--rate nan",
        "--churn 0",
        "--mix 0.5",
        "--body-bytes 41",
        "--stream --check",
        "--body-bytes 70 --items 2",
        "--items 3000",
        "--input-bytes 3",
        "-d 5",
        "--get --post x",
        "--get --check",
    ] {
        assert!(parse(&format!("headrace-loadtest --url http://127.0.0.1:1/ {bad}")).is_err(), "{bad}");
    }
}

#[test]
fn a_load_and_a_command_do_not_mix() {
    let parse = |line: &str| Arguments::try_parse_from(line.split(' '));
    let upstream = parse("headrace-loadtest upstream --listen 127.0.0.1:21000 --answer-bytes 70 --every 20ms").unwrap();
    assert!(
        matches!(upstream.command, Some(Command::Upstream(args)) if args.answer_bytes == 70 && args.every == Duration::from_millis(20))
    );
    assert!(parse("headrace-loadtest -c 3").is_err(), "a load needs its url");
    assert!(parse("headrace-loadtest --url http://a/ upstream --listen 127.0.0.1:21000").is_err());
}

#[test]
fn both_prints_say_the_same() {
    let mock = start(MockConfig::default(), &Address::Tcp(([127, 0, 0, 1], 0).into())).unwrap();
    let url = format!("{}/v1/embeddings", mock.url());
    let args = Arguments::try_parse_from(["headrace-loadtest", "--url", &url, "-c", "2", "-d", "10ms", "--check"]).unwrap().load;
    let report = run(&args.load().unwrap()).unwrap();
    let (human, json) = (print::human(&args, &report), print::json(&args, &report));
    assert_eq!((&json["url"], &json["wrong"], &json["statuses"]["200"]), (&url.into(), &0.into(), &report.done.into()));
    assert!(human.contains(&format!("({} done, 0 errors)", report.done)), "{human}");
    assert!(human.contains(&format!("{} checked, 0 wrong", report.done)), "{human}");
    assert!(json["latency"]["p50_us"].as_f64().unwrap() > 0.0);
}

#[test]
fn the_keys_of_a_report_stay_as_they_are() {
    let line = "headrace-loadtest --url http://127.0.0.1:1 --stream";
    let args = Arguments::try_parse_from(line.split(' ')).unwrap().load;
    let json = print::json(&args, &LoadReport::new());
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(
        keys(&json),
        "checked closed_by_peer connections connects cpu_us_per_request done duration_s elapsed_s errors failures \
         generator_cpu_us_per_request idle idle_connections lag latency long rate received_bytes requests requests_per_second short \
         statuses stream threads unsent url wrong"
    );
    assert_eq!(keys(&json["latency"]), "max_us mean_us p50_us p90_us p999_us p99_us");
    assert_eq!(keys(&json["stream"]), "added cpu_us_per_event cut events gap missing out_of_order streams ttft");
    assert_eq!(keys(&json["stream"]["added"]), keys(&json["latency"]));
    assert_eq!(keys(&json["idle"]), "closed_by_peer failed opened");
    assert!(json["lag"].is_null() && json["short"].is_null());
    let args = Arguments::try_parse_from("headrace-loadtest --url http://a --body-bytes 70 --mix 0.1 --rate 5".split(' ')).unwrap().load;
    let json = print::json(&args, &LoadReport::new());
    assert_eq!(keys(&json["long"]), "done max_us mean_us p50_us p90_us p999_us p99_us");
    assert_eq!(keys(&json["lag"]), keys(&json["latency"]));
    assert!(json["stream"].is_null());
}

#[test]
fn a_distribution_ends_with_all_of_it() {
    let mut report = LoadReport::new();
    for ms in 1..=100 {
        report.latency.record(Duration::from_millis(ms));
    }
    let text = print::distribution(&report);
    let rows: Vec<Vec<f64>> = text
        .lines()
        .filter_map(|line| line.split_whitespace().map(|word| word.parse().ok()).collect())
        .filter(|row: &Vec<f64>| row.len() >= 3)
        .collect();
    assert!(rows.windows(2).all(|two| two[0][0] <= two[1][0] && two[0][1] <= two[1][1] && two[0][2] <= two[1][2]), "{text}");
    let last = rows.last().unwrap();
    assert!((last[0] - 100.0).abs() < 0.2 && last[1] == 1.0 && last[2] == 100.0, "{text}");
    assert!(text.contains("#[Max"), "{text}");
}
