//! Where rollouts stand outlives the process: over a restart, over an upgrade, and not when the targets are others. A store that cannot be
//! read or written stops nobody.

use std::path::Path;

use headrace::config::Config;
use headrace::control::{Ended, StartOptions};
use headrace::mock::{MockConfig, MockHandle};

use crate::client::{Client, embed, get, post};
use crate::gate::{Gate, config, eventually, mock, scratch};
use crate::program::{Program, is_alive};

const WEIGHTS: &str = "targets = [{ upstream = \"old\", weight = 3 }, { upstream = \"new\" }]";
const ROLLOUT: &str = "targets = [{ upstream = \"old\" }, { upstream = \"new\" }]\nrollout = { canary = \"new\", steps = [5, 50] }";

struct Pair(MockHandle, MockHandle);

impl Pair {
    fn new() -> Pair {
        Pair(mock(MockConfig::default()), mock(MockConfig::default()))
    }

    fn text(&self, server: &str, model: &str) -> String {
        let (old, new) = (self.0.url(), self.1.url());
        format!(
            "{server}\n[[upstreams]]\nname = \"old\"\nendpoints = [\"{old}\"]\n[[upstreams]]\nname = \"new\"\nendpoints = [\"{new}\"]\n\
             [[models]]\nname = \"m\"\n{model}\n"
        )
    }

    fn config(&self, folder: &Path, model: &str) -> Config {
        config(&self.text(&format!("[server]\nstate_dir = {folder:?}"), model), "")
    }

    fn gate(&self, folder: &Path, model: &str) -> Gate {
        Gate::with(1, self.config(folder, model), StartOptions::default())
    }
}

fn shown(admin: std::net::SocketAddr) -> serde_json::Value {
    serde_json::from_str(Client::tcp(admin).ask(get("/rollouts/m")).text()).unwrap()
}

/// The new target's share in percent, and the rollout's stage.
fn stands(admin: std::net::SocketAddr) -> (f64, String) {
    let shown = shown(admin);
    (shown["targets"][1]["percent"].as_f64().unwrap(), shown["rollout"]["stage"].as_str().unwrap_or_default().to_owned())
}

fn order(admin: std::net::SocketAddr, body: &str) {
    let answer = Client::tcp(admin).ask(post("/rollouts/m", body));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn end(gate: Gate) {
    assert_eq!(gate.gateway.drain().unwrap(), Ended::Clean);
}

#[test]
fn shares_survive_a_restart_while_the_targets_are_the_same() {
    let (pair, folder) = (Pair::new(), scratch("state"));
    let gate = pair.gate(&folder, WEIGHTS);
    assert_eq!(stands(gate.gateway.admin_addr()).0, 25.0);
    order(gate.gateway.admin_addr(), r#"{"action":"promote","target":"new"}"#);
    // It was written before it was answered: an end without a word loses nothing.
    drop(gate);
    let gate = pair.gate(&folder, WEIGHTS);
    assert_eq!(stands(gate.gateway.admin_addr()).0, 100.0);
    eventually("the metric says so too", || gate.metric("headrace_split_share", &[("target", "new")]) == 10_000.0);
    let mut client = gate.client();
    for _ in 0..20 {
        assert_eq!(client.ask(embed("x")).status, 200);
    }
    assert_eq!(gate.metric("headrace_split_requests_total", &[("target", "new")]), 20.0);
    drop(client);
    end(gate);
    // Other weights are another intention, and then those are what is kept.
    let gate = pair.gate(&folder, &WEIGHTS.replace('3', "1"));
    assert_eq!(stands(gate.gateway.admin_addr()).0, 50.0);
    end(gate);
    let gate = pair.gate(&folder, WEIGHTS);
    assert_eq!(stands(gate.gateway.admin_addr()).0, 25.0);
    end(gate);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_rollout_goes_on_after_a_restart() {
    let (pair, folder) = (Pair::new(), scratch("state"));
    let standing = |model: &str, body: Option<&str>| {
        let gate = pair.gate(&folder, model);
        if let Some(body) = body {
            order(gate.gateway.admin_addr(), body);
        }
        let stands = stands(gate.gateway.admin_addr());
        end(gate);
        stands
    };
    let (running, abort) = ((5.0, "running".to_owned()), r#"{"action":"abort"}"#);
    assert_eq!(standing(ROLLOUT, None), running);
    assert_eq!(standing(ROLLOUT, Some(abort)), (0.0, "rolled_back".to_owned()));
    assert_eq!(standing(ROLLOUT, None), (0.0, "rolled_back".to_owned()), "nobody started it again");
    assert_eq!(standing(&ROLLOUT.replace("50", "60"), None), running, "other steps are another rollout");
    assert_eq!(standing(ROLLOUT, Some(r#"{"action":"promote"}"#)), (100.0, "completed".to_owned()));
    assert_eq!(standing(ROLLOUT, None), (100.0, "completed".to_owned()));
    assert_eq!(standing(ROLLOUT, Some(r#"{"action":"start"}"#)), running);
    assert_eq!(standing(ROLLOUT, None), running);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_reload_with_other_thresholds_is_no_second_chance() {
    let (pair, folder) = (Pair::new(), scratch("state"));
    let gate = pair.gate(&folder, ROLLOUT);
    let admin = gate.gateway.admin_addr();
    let reload = |model: &str| {
        gate.gateway.reload(pair.config(&folder, model)).unwrap();
        stands(admin)
    };
    order(admin, r#"{"action":"abort"}"#);
    let rolled_back = (0.0, "rolled_back".to_owned());
    let (other, more) =
        (ROLLOUT.replace("steps", "min_requests = 7, steps"), ROLLOUT.replace("50]", "50], metric = { finish = [\"length\"] }"));
    assert_eq!([reload(ROLLOUT), reload(&other), reload(&more)], [rolled_back.clone(), rolled_back.clone(), rolled_back]);
    assert_eq!(reload(&ROLLOUT.replace("50]", "60]")), (5.0, "running".to_owned()), "other steps are another rollout");
    end(gate);
    let _ = std::fs::remove_dir_all(folder);
}

#[test]
fn a_successor_takes_up_what_its_predecessor_decided() {
    let (pair, folder) = (Pair::new(), scratch("state"));
    let server = format!("[server]\nlisten = [\"$LISTEN\"]\nstate_dir = {folder:?}\n[admin]\nlisten = \"$ADMIN\"");
    let program = Program::serve(1, &pair.text(&server, ROLLOUT), "");
    assert_eq!(stands(program.admin), (5.0, "running".to_owned()));
    order(program.admin, r#"{"action":"weight","target":"new","percent":30}"#);
    for body in [None, Some(r#"{"action":"abort"}"#)] {
        if let Some(body) = body {
            order(program.admin, body);
        }
        let before = stands(program.admin);
        let old = program.upgrade();
        eventually("the old process has ended", || !is_alive(old));
        assert_eq!(stands(program.admin), before);
    }
    assert_eq!(stands(program.admin), (0.0, "rolled_back".to_owned()));
    drop(program);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_store_that_cannot_be_used_is_no_reason_not_to_serve() {
    let pair = Pair::new();
    let gate = pair.gate(Path::new("/dev/null/state"), WEIGHTS);
    order(gate.gateway.admin_addr(), r#"{"action":"promote","target":"new"}"#);
    assert_eq!(stands(gate.gateway.admin_addr()).0, 100.0);
    end(gate);

    let folder = scratch("state");
    std::fs::create_dir_all(&folder).unwrap();
    let none = r#"{"models":[{"model":"m","targets":["old","new"],"configured":[7500,2500],"shares":[1,2],"rollout":null}]}"#;
    for broken in ["", "{", "[]", none] {
        std::fs::write(folder.join("rollouts.json"), broken).unwrap();
        let gate = pair.gate(&folder, WEIGHTS);
        assert_eq!(stands(gate.gateway.admin_addr()).0, 25.0, "{broken:?}");
        end(gate);
    }
    std::fs::remove_dir_all(folder).unwrap();
}
