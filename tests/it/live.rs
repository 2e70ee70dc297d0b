//! What a running process tells operators of itself: the configuration it serves, and where a request would go now.

use std::process::{Command, Output};

use headrace::control::StartOptions;
use headrace::mock::MockConfig;
use serde_json::Value;

use crate::client::{Client, get, post};
use crate::gate::{Gate, config, eventually, mock};
use crate::program::Program;
use crate::upstream::{Door, Reply, Upstream, ok};

const TEXT: &str = "# a comment with a secret\n[server]\nlisten = [\"$LISTEN\"]\n[admin]\nlisten = \"$ADMIN\"\n\
                    [[upstreams]]\nname = \"up\"\nendpoints = [\"$UP\"]\n[[models]]\nname = \"first\"\nupstream = \"up\"\n";

fn headrace(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_headrace")).args(arguments).output().unwrap()
}

fn said(output: &Output) -> (Option<i32>, String) {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    (output.status.code(), String::from_utf8(text).unwrap().trim_end().to_owned())
}

#[test]
fn a_file_is_compared_with_what_the_process_serves() {
    let upstream = mock(MockConfig::default());
    let program = Program::serve(1, TEXT, &upstream.url());
    let file = program.file.to_str().unwrap();
    let good = std::fs::read_to_string(&program.file).unwrap();
    let live = format!("--live=http://{}", program.admin);
    assert_eq!(said(&headrace(&["check", "--live", file])), (Some(0), "nothing changes".to_owned()));

    std::fs::write(&program.file, format!("{good}[[models]]\nname = \"second\"\nupstream = \"up\"\n")).unwrap();
    let change = "+ models[second].name = \"second\"\n+ models[second].upstream = \"up\"\na reload takes all of it";
    for asked in ["--live", &live] {
        assert_eq!(said(&headrace(&["check", asked, file])), (Some(0), change.to_owned()));
    }
    // Once it is taken nothing changes any more.
    let mut admin = Client::tcp(program.admin);
    assert_eq!(admin.ask(post("/-/reload", "")).status, 200);
    assert_eq!(said(&headrace(&["check", "--live", file])).1, "nothing changes");
    // A file with a mistake is not taken, and not what the process serves.
    std::fs::write(&program.file, "nonsense = 1").unwrap();
    assert_eq!(admin.ask(post("/-/reload", "")).status, 409);
    let (code, why) = said(&headrace(&["check", &live, file]));
    assert!(code == Some(1) && why.contains("nonsense"), "{why}");
    assert!(admin.ask(get("/-/config")).text().contains("second"));

    // What takes a restart has an exit code of its own.
    std::fs::write(&program.file, good.replace("[server]\n", "[server]\ninbox_slots = 1024\n")).unwrap();
    let (code, told) = said(&headrace(&["check", &live, file, "-o", "json"]));
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, &told["ok"], &told["restart"][0]), (Some(3), &false.into(), &"server.inbox_slots".into()));

    assert!(!admin.ask(get("/-/config")).text().contains("secret"), "comments stay where they are");
    let page = get("/-/config").replacen("\r\n", "\r\norigin: http://evil.example\r\n", 1);
    assert_eq!(admin.ask(page).status, 403, "a page in a browser learns nothing");
    drop(program);
    let (code, why) = said(&headrace(&["check", &live, "/dev/null"]));
    assert!(code == Some(1), "{why}");
}

#[test]
fn a_route_is_explained_with_what_the_shards_know() {
    let door = Door::default();
    let of_script = door.clone();
    let slow = Upstream::new(move |_, _| {
        of_script.pass();
        Reply::Bytes(ok("{}"))
    });
    let text = format!(
        "[[upstreams]]\nname = \"up\"\nendpoints = [\"{}\", \"http://127.0.0.1:1\"]\nbreaker = {{ failures = 1, open = \"1h\", open_max = \"1h\" }}\n\
         [[models]]\nname = \"*\"\nupstream = \"up\"\nbatching = {{ mode = \"off\" }}\n",
        slow.url()
    );
    let gate = Gate::with(2, config(&text, ""), StartOptions::default());
    let admin = format!("http://{}", gate.gateway.admin_addr());
    let explain = |more: &[&str]| headrace(&[&["routes", "explain", "--admin", &admin, "--model", "m"], more].concat());
    let told = || -> Value { serde_json::from_str(&said(&explain(&["-o", "json"])).1).unwrap() };
    let first = told();
    assert_eq!(first["shards"].as_array().unwrap().len(), 2);
    for shard in first["shards"].as_array().unwrap() {
        let told = &shard["told"];
        assert_eq!((&told["target"], &told["upstream"], &told["reason"]), (&"model \"*\"".into(), &"up".into(), &"least_in_flight".into()));
        assert!(told["candidates"].as_array().unwrap().iter().all(|one| one["in_flight"] == 0 && one["breaker"] == "closed"));
    }
    // Calls that never end; those that meet the dead endpoint first open the breaker of their shard.
    let body = "{\"model\":\"m\",\"messages\":[]}";
    let mut clients: Vec<Client> = Vec::new();
    eventually("both shards have a call in flight and an open breaker", || {
        let mut client = gate.client();
        client.send(post("/v1/chat/completions", body));
        clients.push(client);
        std::thread::sleep(std::time::Duration::from_millis(20));
        let told = told();
        let mut shards = told["shards"].as_array().unwrap().iter().map(|shard| &shard["told"]["candidates"]);
        shards.all(|of| of[0]["in_flight"].as_u64().unwrap() > 0 && of[1]["breaker"] == "open" && of[1]["usable"] == false)
    });
    let (code, human) = said(&explain(&[]));
    for part in
        ["model \"*\" -> upstream up, balance least_in_flight", "shard 0: ", "shard 1: ", "breaker open", "because: the least in flight"]
    {
        assert!(code == Some(0) && human.contains(part), "{part}: {human}");
    }
    drop(clients);
    door.open();
    gate.comes_to_rest();

    let (code, why) = said(&explain(&["--path", "/nowhere"]));
    assert!(code == Some(1) && why.contains("no route takes /nowhere"), "{why}");
    let (code, why) = said(&headrace(&["routes", "explain", "--admin", "http://127.0.0.1:1"]));
    assert!(code == Some(1) && why.contains("nobody answers on 127.0.0.1:1"), "{why}");
    assert_eq!(said(&headrace(&["routes", "explain"])).0, Some(2), "neither a file nor a process");
}

#[test]
fn what_an_endpoint_has_seen_is_in_the_explanation() {
    let servers: Vec<Upstream> = (0..3).map(|_| Upstream::new(|_, _| Reply::Bytes(ok("{}")))).collect();
    let endpoints: Vec<String> = servers.iter().map(|server| format!("\"{}\"", server.url())).collect();
    let text = format!(
        "[[upstreams]]\nname = \"up\"\nendpoints = [{}]\nprefix_affinity = {{}}\n[[models]]\nname = \"*\"\nupstream = \"up\"\n",
        endpoints.join(", ")
    );
    let gate = Gate::with(1, config(&text, ""), StartOptions::default());
    let body = format!("{{\"model\":\"m\",\"messages\":[{{\"role\":\"user\",\"content\":\"{}\"}}]}}", "once upon a time ".repeat(100));
    let file = crate::gate::scratch("prompt.json");
    std::fs::write(&file, &body).unwrap();
    let admin = format!("http://{}", gate.gateway.admin_addr());
    let told = || -> Value {
        let output = headrace(&["routes", "explain", "--admin", &admin, "--body", file.to_str().unwrap(), "-o", "json"]);
        let told: Value = serde_json::from_str(&said(&output).1).unwrap();
        told["shards"][0]["told"].clone()
    };
    let before = told();
    assert_eq!(before["reason"], "opening");
    // It stays what it is by being asked, and is what happens.
    assert_eq!(told(), before);
    assert_eq!(gate.client().ask(post("/v1/chat/completions", &body)).status, 200);
    let after = told();
    // One message is a conversation that has just begun.
    assert_eq!((&after["reason"], &after["endpoint"]), (&"conversation".into(), &before["endpoint"]));
    std::fs::remove_file(file).unwrap();
}
