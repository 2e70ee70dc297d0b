//! The program and its signals: SIGHUP reads the file again, SIGTERM drains.

use rustix::process::Signal;

use crate::client::{Client, crowd, get, join, post};
use crate::gate::eventually;
use crate::program::Program;
use crate::upstream::{Door, Reply, Upstream, ok};

const TEXT: &str = r#"
[server]
listen = ["$LISTEN"]

[admin]
listen = "$ADMIN"

[[upstreams]]
name = "up"
endpoints = ["$UP"]

[[models]]
name = "m"
upstream = "up"

[[routes]]
path = "/wait"
upstream = "up"
"#;

#[test]
fn sighup_takes_the_file_as_it_is_now_and_sigterm_drains() {
    let door = Door::default();
    let of_script = door.clone();
    let up = Upstream::new(move |seen, _| {
        of_script.pass();
        Reply::Bytes(ok(&seen.body))
    });
    let program = Program::serve(2, TEXT, &up.url());
    let text = std::fs::read_to_string(&program.file).unwrap();
    let models = || Client::tcp(program.addr).ask(get("/v1/models")).text().to_owned();
    assert!(!models().contains("second"));

    std::fs::write(&program.file, format!("{text}\n[[models]]\nname = \"second\"\nupstream = \"up\"\n")).unwrap();
    program.signal(Signal::HUP);
    eventually("the second model is there", || models().contains("second"));

    std::fs::write(&program.file, "this is no configuration").unwrap();
    program.signal(Signal::HUP);
    eventually("the refusal is counted", || {
        crate::gate::sum(&program.metrics(), "headrace_config_reloads_total", &[("result", "failed")]) == 1.0
    });
    assert!(models().contains("second"));

    let addr = program.addr;
    let begun = crowd(8, move |number| Client::tcp(addr).ask(post("/wait", &number.to_string())));
    eventually("8 are begun", || door.came() == 8);
    program.signal(Signal::TERM);
    eventually("nobody listens", || std::net::TcpStream::connect(addr).is_err());
    door.open();
    for (number, answer) in join(begun).into_iter().enumerate() {
        assert_eq!((answer.status, answer.text()), (200, number.to_string().as_str()));
    }
    assert_eq!(program.end().code(), Some(0));
}

#[test]
fn a_second_sigterm_cuts_what_is_left() {
    let door = Door::default();
    let of_script = door.clone();
    let up = Upstream::new(move |_, _| {
        of_script.pass();
        Reply::Bytes(ok(""))
    });
    let program = Program::serve(2, TEXT, &up.url());
    let mut client = Client::tcp(program.addr);
    client.send(get("/wait"));
    eventually("it is begun", || door.came() == 1);
    program.signal(Signal::TERM);
    let addr = program.addr;
    eventually("nobody listens", || std::net::TcpStream::connect(addr).is_err());
    program.signal(Signal::TERM);
    assert_eq!(program.end().code(), Some(0));
    assert!(client.try_answer().is_err());
    door.open();
}

#[test]
fn a_log_that_cannot_be_written_ends_nothing() {
    let up = Upstream::new(|seen, _| Reply::Bytes(ok(&seen.body)));
    // As on a full disk: every write fails with ENOSPC.
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap().into();
    let program = Program::logging(2, TEXT, &up.url(), full);
    std::fs::write(&program.file, "this is no configuration").unwrap();
    program.signal(Signal::HUP);
    eventually("the refusal is counted, though it cannot be told", || {
        crate::gate::sum(&program.metrics(), "headrace_config_reloads_total", &[("result", "failed")]) == 1.0
    });
    assert_eq!(Client::tcp(program.addr).ask(post("/wait", "still here")).text(), "still here");
    program.signal(Signal::TERM);
    assert!(program.end().success());
}
