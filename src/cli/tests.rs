//! What a person types on the command line, and what is made of it.

use std::time::Duration;

use clap::{CommandFactory, Parser};

use super::mock::Cost;
use super::{Arguments, Command, IoChoice};
use crate::control::Asked;

#[test]
fn the_arguments_are_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn what_a_person_types() {
    let arguments = Arguments::try_parse_from(["headrace", "serve", "--config", "a.toml", "--shards", "2", "--io", "epoll"]).unwrap();
    let Command::Serve(serve) = arguments.command else { panic!("not serve") };
    assert_eq!((serve.shards, serve.io), (Some(2), Some(IoChoice::Epoll)));

    let arguments = Arguments::try_parse_from(["headrace", "mock", "--listen", "unix:/tmp/m.sock", "--cost", "5ms+0.1ms"]).unwrap();
    let Command::Mock(mock) = arguments.command else { panic!("not mock") };
    assert_eq!(mock.cost, Cost { fixed: Duration::from_millis(5), per_item: Duration::from_micros(100) });

    for good in
        [&["headrace", "check", "a.toml", "-o", "json"][..], &["headrace", "check", "--schema"], &["headrace", "doctor", "-o", "json"]]
    {
        assert!(Arguments::try_parse_from(good).is_ok(), "{good:?}");
    }
    for (bad, why) in [
        (&["headrace", "serve"][..], "no configuration"),
        (&["headrace", "serve", "--config", "a", "--shards", "0"], "no shard"),
        (&["headrace", "serve", "--config", "a", "--io", "kqueue"], "no such driver"),
        (&["headrace", "check"], "no file"),
        (&["headrace", "mock", "--cost", "5"], "no unit"),
        (&["headrace", "mock", "--listen", "localhost:1"], "a name"),
        (&["headrace", "sing"], "no such command"),
    ] {
        assert_eq!(Arguments::try_parse_from(bad).unwrap_err().exit_code(), 2, "{why}");
    }
}

const ROUTED: &str = r#"
[server]
zone = "a"
[[upstreams]]
name = "chat"
balance = "consistent_hash"
hash = { header = "x-user" }
affinity = { header = "x-session-id" }
prefix_affinity = {}
endpoints = [{ url = "http://one:8000", zone = "a" }, { url = "http://two:8000", zone = "b", weight = 2 }]
[[upstreams]]
name = "up"
endpoints = ["http://three:1", "unix:/run/four.sock"]
[[models]]
name = "chat"
upstream = "chat"
[[models]]
name = "embed"
upstream = "up"
[[routes]]
path = "/tokenize"
upstream = "up"
"#;

#[test]
fn a_route_is_explained_with_its_reason() {
    let config = crate::config::check("routed.toml", ROUTED).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let explain = |path: &str, model: Option<&str>, field: Option<(&str, &str)>, body: &str| {
        let fields = field.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
        let model = model.map(str::to_owned);
        crate::control::explain(
            &config,
            &Asked { path: path.to_owned(), model, fields, client: String::new(), body: body.as_bytes().to_vec() },
        )
    };
    const CHAT: &str = "/v1/chat/completions";
    let session = explain(CHAT, Some("chat"), Some(("X-Session-ID", "s1")), "").unwrap();
    let told = super::routes::as_json(&config, &session);
    assert_eq!((&told["upstream"], &told["reason"], &told["target"]), (&"chat".into(), &"session".into(), &"model \"chat\"".into()));
    assert_eq!(told["candidates"].as_array().unwrap().iter().filter(|one| one["chosen"] == true).count(), 1);
    assert_eq!(told["candidates"][1]["near"], false);
    let hashed = explain(CHAT, Some("chat"), Some(("x-user", "u1")), "").unwrap();
    let human = super::routes::human(&config, &hashed);
    for part in
        ["model \"chat\" -> upstream chat, balance consistent_hash", "* http://one:8000", "the key's hash", "zone b (far)", "give --body"]
    {
        assert!(human.contains(part), "{part}: {human}");
    }
    let body = format!(r#"{{"model":"chat","messages":[{{"role":"user","content":"{}"}}]}}"#, "x".repeat(1000));
    let prompt = explain(CHAT, None, None, &body).unwrap();
    let told = super::routes::as_json(&config, &prompt);
    assert_eq!((&told["reason"], &told["prompt_blocks"]), (&"opening".into(), &4.into()));
    let merged = explain("/v1/embeddings", Some("embed"), None, "").unwrap();
    assert!(merged.is_merged && super::routes::human(&config, &merged).contains("coalesced"));
    let route = super::routes::as_json(&config, &explain("/tokenize/x?y=1", None, None, "").unwrap());
    assert_eq!(
        (&route["target"], &route["endpoint"], &route["reason"]),
        (&"route /tokenize".into(), &"http://three:1".into(), &"least_in_flight".into())
    );
    for (path, model, field, body, why) in [
        (CHAT, Some("other"), None, "", "no model takes \"other\" (404); there are chat, embed"),
        ("/else", Some("chat"), None, "", "no route takes /else"),
        (CHAT, None, None, "{}", "nothing says which model"),
        (CHAT, None, None, "nonsense", "the body: "),
        (CHAT, Some("chat"), Some(("a b", "c")), "", "a request with these fields is refused"),
    ] {
        let told = explain(path, model, field, body).unwrap_err();
        assert!(told.contains(why), "{told}");
    }
}
