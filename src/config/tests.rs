//! What a person types and what comes of it. The transcripts of mistakes are in tests/golden/config; HEADRACE_BLESS=1 writes them
//! anew.

mod admission;
mod documents;
mod fuzz;
pub(crate) mod golden;
mod steering;

use std::time::Duration;

use super::{
    Admission, Balance, BatchingMode, Config, EndpointAddr, Io, ListenAddr, MemoryKind, MemoryMax, Shards, Steering, Timeouts, UpstreamId,
    WebSocket, check, limits, memory, schema, units,
};

const DESIGN_EXAMPLE: &str = r#"
# headrace.toml: this is a complete configuration
[server]
listen = ["127.0.0.1:8080"]          # also "unix:/run/headrace.sock"

[[upstreams]]
name = "gpu0"
endpoints = ["http://127.0.0.1:8000"] # also { url = "unix:/run/vllm.sock", weight = 2 }

[[models]]
name = "*"                            # the model clients ask for; "*" takes every model
upstream = "gpu0"
"#;

fn good(text: &str) -> Config {
    check("test.toml", text).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

/// The messages of all mistakes.
fn bad(text: &str) -> Vec<String> {
    let mistakes = check("test.toml", text).expect_err("this should be refused");
    mistakes.list().iter().map(|mistake| format!("{}:{} {}", mistake.line, mistake.column, mistake.message)).collect()
}

/// The example with one table more, or with lines for its upstream or model.
fn with(upstream: &str, model: &str, rest: &str) -> String {
    format!(
        "{rest}\n[[upstreams]]\nname = \"gpu0\"\nendpoints = [\"http://127.0.0.1:8000\"]\n{upstream}\n[[models]]\nname = \"*\"\nupstream = \"gpu0\"\n{model}\n"
    )
}

#[test]
fn the_example_of_the_design_is_a_complete_configuration() {
    let config = good(DESIGN_EXAMPLE);
    assert_eq!(config.server.listen, [ListenAddr::Tcp("127.0.0.1:8080".parse().unwrap())]);
    assert_eq!(config.models[0].name, "*");
    assert_eq!(config.upstream(config.models[0].upstream).name, "gpu0");
    assert_eq!(config.upstreams[0].endpoints[0].authority, "127.0.0.1:8000");
}

/// The values that `Config` documents, written out once more: a default cannot change by accident.
#[test]
fn every_default_is_the_documented_one() {
    let config = good(&with("", "", ""));
    let server = &config.server;
    assert_eq!(server.listen, [ListenAddr::Tcp("127.0.0.1:8080".parse().unwrap())]);
    assert_eq!((server.shards, server.io), (Shards::Auto, Io::Auto));
    assert_eq!(server.max_connections, 10_000);
    assert_eq!(server.header_timeout, Duration::from_secs(10));
    assert_eq!(server.body_timeout, Duration::from_secs(30));
    assert_eq!((server.write_timeout, server.half_close), (Duration::from_secs(30), false));
    assert_eq!(server.idle_timeout, Duration::from_secs(60));
    assert_eq!(server.drain_timeout, Duration::from_secs(30));
    assert_eq!(server.upgrade_timeout, Duration::from_secs(600));
    assert_eq!(server.max_body_bytes, 32 * 1024 * 1024);
    assert_eq!(server.max_held_bytes, 256 * 1024 * 1024);
    assert_eq!((server.receive_buffers, server.receive_buffer_bytes), (1024, 32 << 10));
    assert_eq!(server.inbox_slots, 4096);
    assert_eq!((server.memory_max, &config.admission), (MemoryMax::Auto, &Admission::default()));
    assert_eq!((&server.state_dir, server.watch_config), (&None, false));
    assert!(!server.trust_forwarded);
    assert!(!server.debug_headers);
    assert_eq!(config.admin.listen, "127.0.0.1:9090".parse().unwrap());
    let upstream = &config.upstreams[0];
    assert_eq!(upstream.balance, Balance::LeastInFlight);
    assert_eq!(upstream.steering, Steering { zone_spill: 8, ..Steering::default() });
    assert_eq!(upstream.connect_timeout, Duration::from_secs(1));
    assert_eq!(upstream.first_byte_timeout, Duration::from_secs(120));
    assert_eq!(upstream.stream_idle_timeout, Duration::from_secs(120));
    assert_eq!(upstream.total_timeout, Duration::from_secs(600));
    assert_eq!(upstream.pool_idle_timeout, Duration::from_secs(4));
    assert_eq!(upstream.pool_max_idle, 1024);
    assert_eq!(upstream.max_response_bytes, 64 * 1024 * 1024);
    assert!(!upstream.forward_authorization);
    assert_eq!(upstream.concurrency, None);
    assert_eq!(upstream.endpoints[0].weight, 1);
    assert_eq!((config.models[0].timeouts, config.models[0].stream_comments), (upstream.timeouts(), None));
    let batching = &config.models[0].batching;
    assert_eq!(batching.mode, BatchingMode::Exclusive);
    assert_eq!(batching.max_items, 32);
    assert_eq!(batching.max_bytes, 2 * 1024 * 1024);
    assert_eq!(batching.max_delay, Duration::ZERO);
    assert_eq!(batching.in_flight, 1);
    assert_eq!(batching.max_queue_items, 4096);
    assert_eq!(batching.timeout, Duration::from_secs(600));
}

#[test]
fn defaults_that_follow_other_keys() {
    let batching = good(&with("total_timeout = \"20s\"", "batching = { mode = \"batching\" }", "")).models[0].batching.clone();
    assert_eq!((batching.in_flight, batching.timeout), (4, Duration::from_secs(20)));
    let batching = good(&with("", "batching = { mode = \"batching\", in_flight = 9, timeout = \"3s\" }", "")).models[0].batching.clone();
    assert_eq!((batching.in_flight, batching.timeout), (9, Duration::from_secs(3)));
}

#[test]
fn models_and_routes_may_have_times_of_their_own() {
    let second = Duration::from_secs(1);
    let own = "timeouts = { first_byte = \"300s\", stream_idle = \"5s\", total = \"400s\" }";
    let config = good(&with("", &format!("{own}\nstream_comments = \"15s\""), ""));
    let model = &config.models[0];
    assert_eq!(model.timeouts, Timeouts { first_byte: 300 * second, stream_idle: 5 * second, total: 400 * second });
    assert_eq!((model.stream_comments, model.batching.timeout), (Some(15 * second), 400 * second));
    let route = "\n[[routes]]\npath = \"/ws\"\nupstream = \"gpu0\"\nwebsocket = true\nwebsocket_idle_timeout = \"7s\"\ntimeouts = { total = \"9s\" }\n";
    let config = good(&with("", "", route));
    let route = &config.routes[0];
    assert_eq!(route.websocket, Some(WebSocket { idle_timeout: 7 * second }));
    assert_eq!((route.timeouts.total, route.timeouts.stream_idle), (9 * second, 120 * second));
    let mistakes =
        check("test.toml", &with("", "timeouts = { stream_idle = \"20s\", total = \"10s\", furst_byte = \"1s\" }", "")).unwrap_err();
    let told = mistakes.to_string();
    assert_eq!(mistakes.list().len(), 2, "{told}");
    assert!(told.contains("longer than the whole call may take") && told.contains("first_byte"), "{told}");
}

/// Writing every default of the schema out changes nothing: what the schema says is what happens.
#[test]
fn the_schema_tells_the_true_defaults() {
    let schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
    let mut written = 0;
    let mut lines = |table: &str| {
        let properties = schema.pointer(table).unwrap_or_else(|| panic!("{table} is not in the schema")).as_object().unwrap();
        let defaults = properties.iter().filter_map(|(key, inner)| Some((key, inner.get("default")?)));
        defaults
            .map(|(key, default)| {
                written += 1;
                format!("{key} = {default}\n")
            })
            .collect::<String>()
    };
    let server = format!("[admin]\n{}[server]\n{}", lines("/properties/admin/properties"), lines("/properties/server/properties"));
    let upstream = lines("/properties/upstreams/items/properties");
    let inline = ["breaker", "slow_start", "retry", "health"].map(|table| {
        let keys = lines(&format!("/properties/upstreams/items/properties/{table}/properties"));
        format!("{table} = {{ {} }}\n", keys.trim_end().replace('\n', ", "))
    });
    let hedge = lines("/properties/models/items/properties/hedge/properties").trim_end().replace('\n', ", ");
    let batching = format!("[models.batching]\n{}", lines("/properties/models/items/properties/batching/properties"));
    let text = with(&(upstream + &inline.concat()), &format!("hedge = {{ {hedge} }}\n{batching}"), &server);
    let (mut written_out, left_out) = (good(&text), good(&with("", "", "")));
    // These two are there only when they are written.
    assert_eq!(written_out.upstreams[0].resilience.probe.take(), Some(crate::config::Probe::default()));
    assert_eq!(written_out.models[0].resilience.hedge.take(), Some(crate::config::Hedge::default()));
    assert_eq!(written_out, left_out);
    assert_eq!(
        written,
        20 + 1 + 11 + 5 + (9 + 2 + 5 + 6) + 2,
        "a key without a default was added, or one with: say so in the schema and here"
    );
}

#[test]
fn everything_can_be_set() {
    let config = good(
        r#"
        [server]
        listen = ["[::1]:80", "unix:/run/headrace.sock"]
        shards = 3
        io = "epoll"
        max_body = "1.5MiB"
        max_held = "3MiB"
        receive_buffers = 0x10
        trust_forwarded = true
        [admin]
        listen = "[::1]:9091"
        [[upstreams]]
        name = "tei"
        balance = "round_robin"
        endpoints = ["http://GPU-0.internal/", { url = "unix:/run/vllm.sock", weight = 2 }, "http://[::1]:8000", "http://10.0.0.1:80"]
        forward_authorization = true
        [[routes]]
        path = "/"
        upstream = "tei"
        [[routes]]
        path = "/tokenize"
        upstream = "tei"
        "#,
    );
    assert_eq!(config.server.listen[1], ListenAddr::Unix("/run/headrace.sock".into()));
    assert_eq!((config.server.shards, config.server.io), (Shards::Count(3), Io::Epoll));
    assert_eq!((config.server.max_body_bytes, config.server.receive_buffers), (1_572_864, 16));
    let upstream = &config.upstreams[0];
    let authorities: Vec<&str> = upstream.endpoints.iter().map(|end| end.authority.as_str()).collect();
    assert_eq!(authorities, ["gpu-0.internal", "localhost", "[::1]:8000", "10.0.0.1"]);
    assert_eq!(upstream.endpoints[0].addr, EndpointAddr::Tcp { host: "gpu-0.internal".into(), port: 80, resolved: None });
    assert_eq!(upstream.endpoints[1].weight, 2);
    assert_eq!(
        upstream.endpoints[2].addr,
        EndpointAddr::Tcp { host: "::1".into(), port: 8000, resolved: Some("[::1]:8000".parse().unwrap()) }
    );
    let paths: Vec<&str> = config.routes.iter().map(|route| route.path.as_str()).collect();
    assert_eq!(paths, ["/tokenize", "/"], "the longest path comes first");
    assert_eq!(config.routes[0].upstream, UpstreamId(0));
}

#[test]
fn a_mistake_is_told_once_and_not_again_for_what_follows_from_it() {
    // A name that could not be read is not missing, and who refers to it is not wrong.
    let text = "[[upstreams]]\nname = 7\nendpoints = [\"http://a\"]\n[[models]]\nname = \"*\"\nupstream = \"gpu0\"\n";
    assert_eq!(bad(text), ["2:8 `upstreams.name` must be a string, but this is a whole number"]);
    let text = "[[upstreams]]\nnmae = \"gpu0\"\nendpoints = [\"http://a\"]\n[[models]]\nname = \"*\"\nupstream = \"gpu0\"\n";
    assert_eq!(bad(text), ["2:1 unknown key `upstreams.nmae`"]);
    assert_eq!(bad("models = 5\n"), ["1:10 `models` must be an array, but this is a whole number"]);
}

#[test]
fn endpoints_that_cannot_be() {
    for url in [
        "",
        "gpu",
        "127.0.0.1:8000",
        "ftp://a",
        "https://a",
        "http://",
        "http://:80",
        "http://a:0",
        "http://a:65536",
        "http://a:+80",
        "http://a:",
        "http://a b",
        "http://a/v1",
        "http://a?x",
        "http://user:pw@a",
        "http://[::1",
        "http://[::1]8",
        "http://300.0.0.1",
        "http://::1",
        "unix:",
        "unix:run/x",
        "unix:/run/",
        "http://a..b",
        "http://ä",
    ] {
        let text = with("", "", "").replace("http://127.0.0.1:8000", url);
        let found = bad(&text);
        assert_eq!(found.len(), 1, "{url}: {found:?}");
        assert!(found[0].contains("cannot be an endpoint"), "{url}: {found:?}");
    }
    let long = format!("unix:/{}", "x".repeat(limits::UNIX_PATH_BYTES_MAX));
    assert_eq!(bad(&with("", "", "").replace("http://127.0.0.1:8000", &long)).len(), 1);
}

#[test]
fn listeners_that_cannot_be() {
    for addr in
        ["", "8080", ":8080", "localhost:8080", "127.0.0.1", "::1", "http://127.0.0.1:80", "127.0.0.1:0", "127.0.0.1:99999", "unix:x"]
    {
        assert_eq!(bad(&with("", "", &format!("[server]\nlisten = [{addr:?}]"))).len(), 1, "{addr}");
    }
    for (left, right) in [
        ("127.0.0.1:80", "127.0.0.1:80"),
        ("0.0.0.0:80", "127.0.0.1:80"),
        ("10.0.0.1:80", "0.0.0.0:80"),
        ("[::]:80", "127.0.0.1:80"),
        ("unix:/a", "unix:/a"),
    ] {
        assert_eq!(bad(&with("", "", &format!("[server]\nlisten = [{left:?}, {right:?}]"))).len(), 1, "{left} {right}");
    }
    for (left, right) in
        [("127.0.0.1:80", "127.0.0.1:81"), ("127.0.0.1:80", "[::1]:80"), ("127.0.0.1:80", "127.0.0.2:80"), ("0.0.0.0:80", "[::1]:80")]
    {
        good(&with("", "", &format!("[server]\nlisten = [{left:?}, {right:?}]")));
    }
    assert_eq!(bad(&with("", "", "[admin]\nlisten = \"127.0.0.1:8080\"")).len(), 1, "the default listener has that port");
    assert_eq!(bad(&with("", "", "[server]\nlisten = [\"0.0.0.0:9090\"]")).len(), 1, "the default admin address has that port");
}

#[test]
fn numbers_at_their_bounds() {
    for (key, inside, outside) in [
        ("max_connections", "1", "0"),
        ("max_connections", "1_000_000", "1_000_001"),
        ("receive_buffers", "32768", "65536"),
        ("receive_buffers", "16", "8"),
        ("receive_buffers", "1024", "1023"),
        ("inbox_slots", "64", "96"),
        ("inbox_slots", "1048576", "9_223_372_036_854_775_808"),
        ("shards", "1", "0"),
        ("shards", "1024", "-1"),
        ("shards", "\"auto\"", "\"all\""),
        ("max_body", "\"256MiB\"", "\"2GiB\""),
        ("max_held", "\"1024GiB\"", "\"31MiB\""),
        ("max_body", "\"1B\"", "\"0B\""),
        ("receive_buffer", "\"4KiB\"", "\"4095B\""),
        ("header_timeout", "\"1ms\"", "\"0s\""),
        ("header_timeout", "\"24h\"", "\"25h\""),
        ("drain_timeout", "\"0s\"", "\"-1s\""),
        ("header_timeout", "\"0.5s\"", "0.5"),
    ] {
        good(&with("", "", &format!("[server]\n{key} = {inside}")));
        assert_eq!(bad(&with("", "", &format!("[server]\n{key} = {outside}"))).len(), 1, "{key} = {outside}");
    }
    for (key, inside, outside) in
        [("max_items", "2048", "2049"), ("in_flight", "1", "0"), ("max_delay", "\"10s\"", "\"11s\""), ("max_queue_items", "32", "31")]
    {
        good(&with("", &format!("batching.{key} = {inside}"), ""));
        assert_eq!(bad(&with("", &format!("batching.{key} = {outside}"), "")).len(), 1, "{key} = {outside}");
    }
}

#[test]
fn mistakes_beyond_the_bound_are_counted() {
    let text: String = (0..250).map(|n| format!("key{n} = 1\n")).collect();
    let mistakes = check("test.toml", &text).unwrap_err();
    assert_eq!((mistakes.list().len(), mistakes.count()), (super::MISTAKES_MAX, 251));
    assert!(mistakes.to_string().ends_with("test.toml: 251 mistakes, of which the first 100 are shown\n"));
}

#[test]
fn a_file_that_is_too_large_is_refused_before_it_is_read() {
    let text = "#".repeat(limits::CONFIG_FILE_BYTES_MAX + 1);
    assert_eq!(bad(&text), ["1:1 the file is larger than 4MiB"]);
}

#[test]
fn the_memory_sum_adds_up() {
    let config = good(&with("", "", ""));
    let sum = memory(&config, 2);
    for line in &sum.lines {
        assert_eq!(line.total_bytes, line.count * line.bytes_each, "{}", line.what);
    }
    let of = |kind: MemoryKind| sum.lines.iter().filter(|line| line.kind == kind).map(|line| line.total_bytes).sum::<u64>();
    assert_eq!(sum.standing_bytes, of(MemoryKind::Standing));
    assert_eq!(sum.load_bytes, sum.standing_bytes + of(MemoryKind::Load));
    assert_eq!(sum.worst_bytes, sum.load_bytes + of(MemoryKind::Worst));
    let line = |what: &str| sum.lines.iter().find(|line| line.what.starts_with(what)).unwrap().total_bytes;
    assert_eq!(line("receive buffers"), 2 * 1024 * crate::sys::stride(32 << 10) as u64);
    assert_eq!(line("held request bodies"), 2 * (256 << 20));
    assert_eq!(line("pooled connections"), 2 * 1024 * limits::POOLED_CONNECTION_BYTES);
    // P10: a thousand connections under load stay within 64 MiB, besides what stands.
    const { assert!(1000 * (limits::CONNECTION_BYTES + limits::JOB_BYTES) <= 64 << 20) };
    // The largest configuration there can be must not overflow.
    let mut largest = config;
    largest.server.max_connections = limits::CONNECTIONS_MAX;
    largest.server.max_held_bytes = limits::SHARD_HELD_BYTES_MAX;
    assert!(memory(&largest, limits::SHARDS_MAX).worst_bytes > 0);
}

#[test]
fn units_as_people_write_them() {
    for (text, nanos) in [
        ("250ms", 250_000_000),
        ("1.5s", 1_500_000_000),
        ("5 s", 5_000_000_000),
        ("0ms", 0),
        ("2m", 120_000_000_000),
        ("1h", 3_600_000_000_000),
        ("0.1ms", 100_000),
        ("1.50s", 1_500_000_000),
    ] {
        assert_eq!(units::parse_duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
    }
    for (text, error) in [
        ("", units::UnitError::NoNumber),
        ("s", units::UnitError::NoNumber),
        (".5s", units::UnitError::NoNumber),
        ("1.s", units::UnitError::NoNumber),
        ("1.2.3s", units::UnitError::NoNumber),
        ("-1s", units::UnitError::NoNumber),
        ("5", units::UnitError::NoUnit),
        ("5S", units::UnitError::UnknownUnit),
        ("5 seconds", units::UnitError::UnknownUnit),
        ("1e3s", units::UnitError::UnknownUnit),
        ("0.5ns", units::UnitError::OutOfRange),
        ("99999999999h", units::UnitError::OutOfRange),
        ("18446744073709551616ns", units::UnitError::OutOfRange),
    ] {
        assert_eq!(units::parse_duration(text), Err(error), "{text:?}");
    }
    for (text, bytes) in [("8KiB", 8192), ("32MiB", 32 << 20), ("1GB", 1_000_000_000), ("0.5KiB", 512), ("12B", 12)] {
        assert_eq!(units::parse_size(text), Ok(bytes), "{text}");
    }
    assert_eq!(units::parse_size("8kb"), Err(units::UnitError::UnknownUnit));
    for (nanos, text) in [(600_000_000_000, "600s"), (0, "0ms"), (1_500_000, "1500us"), (86_400_000_000_000, "24h")] {
        assert_eq!(units::show_duration(Duration::from_nanos(nanos)), text);
    }
    for (bytes, text) in
        [(32 << 20, "32 MiB"), (1536, "1.50 KiB"), (0, "0 B"), (1_288_490_189, "1.20 GiB"), (171 << 20 | 200 << 10, "171.1 MiB")]
    {
        assert_eq!(units::show_size_rounded(bytes), text);
    }
}

/// The rooms that act at a bound keep the number beside the code, because they know no configuration; this page must say the same.
#[test]
fn the_rooms_hold_the_bounds_this_page_names() {
    let (heads, answers) = (crate::http::HeadLimits::default(), crate::http::HeadLimits::answers());
    assert_eq!((heads.target_bytes, heads.field_bytes), (limits::TARGET_BYTES_MAX, limits::FIELD_BYTES_MAX));
    assert_eq!((heads.head_bytes, heads.fields), (limits::HEAD_BYTES_MAX, limits::FIELDS_MAX));
    assert_eq!(answers.head_bytes, limits::ANSWER_HEAD_BYTES_MAX);
    assert_eq!(crate::json::ITEMS_MAX, limits::REQUEST_ITEMS_MAX as usize);
    assert_eq!(crate::runtime::LEASES_MAX, limits::RECEIVE_LEASES_MAX);
    assert_eq!(crate::runtime::LEASES_BURST_MAX, limits::RECEIVE_LEASES_BURST_MAX);
    assert_eq!(crate::runtime::ARRIVED_LOW_MAX, limits::RECEIVE_LEASES_BYTES_MAX);
}
