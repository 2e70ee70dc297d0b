//! Configurations that are taken by themselves, by order, and taken back: the watched file, `POST /-/reload`, `headrace rollback`.

use std::process::{Command, Output};

use headrace::mock::MockConfig;

use crate::client::{Client, get, post};
use crate::gate::{eventually, mock, scratch, sum};
use crate::program::Program;

fn text(more: &str) -> String {
    format!(
        "[server]\nlisten = [\"$LISTEN\"]\n{more}\n[admin]\nlisten = \"$ADMIN\"\n\
         [[upstreams]]\nname = \"up\"\nendpoints = [\"$UP\"]\n[[models]]\nname = \"first\"\nupstream = \"up\"\n"
    )
}

fn models(program: &Program) -> String {
    Client::tcp(program.addr).ask(get("/v1/models")).text().to_owned()
}

fn add_model(program: &Program, name: &str) -> String {
    let text = std::fs::read_to_string(&program.file).unwrap();
    let text = format!("{text}\n[[models]]\nname = \"{name}\"\nupstream = \"up\"\n");
    std::fs::write(&program.file, &text).unwrap();
    text
}

fn headrace(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_headrace")).args(arguments).output().unwrap()
}

fn rollback(program: &Program, more: &[&str]) -> Output {
    headrace(&[&["rollback", "--config", program.file.to_str().unwrap()], more].concat())
}

#[test]
fn what_was_good_is_kept_and_put_back() {
    let upstream = mock(MockConfig::default());
    let folder = scratch("state");
    let program = Program::serve(1, &text(&format!("state_dir = {folder:?}")), &upstream.url());
    let mut admin = Client::tcp(program.admin);
    let first = std::fs::read_to_string(&program.file).unwrap();
    let output = rollback(&program, &[]);
    assert!(!output.status.success(), "there is nothing before the first");

    let second = add_model(&program, "second");
    let diff = scratch("old.toml");
    std::fs::write(&diff, &first).unwrap();
    let output = headrace(&["check", "--diff", diff.to_str().unwrap(), program.file.to_str().unwrap()]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said.trim_end(), "+ models[second].name = \"second\"\n+ models[second].upstream = \"up\"\na reload takes all of it");
    std::fs::remove_file(diff).unwrap();
    assert_eq!(admin.ask(post("/-/reload", "")).status, 200);
    assert!(models(&program).contains("second"));

    // A mistake is not taken, and going back from it leads to what is in force.
    std::fs::write(&program.file, format!("{second}\nnonsense = 1\n")).unwrap();
    let answer = admin.ask(post("/-/reload", ""));
    assert!(answer.status == 409 && answer.text().contains("nonsense"), "{}", answer.text());
    let output = rollback(&program, &["--state-dir", folder.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::read_to_string(&program.file).unwrap(), second);
    assert!(models(&program).contains("second"));

    // From what is in force it goes to the one before, and from there forth again.
    for (wanted, has_second) in [(&first, false), (&second, true)] {
        let output = rollback(&program, &[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(&std::fs::read_to_string(&program.file).unwrap(), wanted);
        assert_eq!(models(&program).contains("second"), has_second);
    }
    let page = post("/-/reload", "").replacen("\r\n", "\r\norigin: http://evil.example\r\n", 1);
    assert_eq!(admin.ask(page).status, 403, "a page in a browser reloads nothing");
    drop(program);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_place_that_takes_nothing_harms_nothing() {
    let upstream = mock(MockConfig::default());
    let folder = scratch("no-folder");
    std::fs::write(&folder, "a file is in the way").unwrap();
    let program = Program::serve(1, &text(&format!("state_dir = {folder:?}")), &upstream.url());
    add_model(&program, "second");
    assert_eq!(Client::tcp(program.admin).ask(post("/-/reload", "")).status, 200);
    assert!(models(&program).contains("second"));
    drop(program);
    assert_eq!(std::fs::read_to_string(&folder).unwrap(), "a file is in the way");
    std::fs::remove_file(folder).unwrap();
}

#[test]
fn a_watched_file_is_taken_when_it_has_changed() {
    let upstream = mock(MockConfig::default());
    let program = Program::serve(1, &text("watch_config = true"), &upstream.url());
    // The first look may come after the first change: then the next one shows.
    let mut number = 0;
    eventually("a change is taken", || {
        number += 1;
        add_model(&program, &format!("model-{number}"));
        std::thread::sleep(std::time::Duration::from_millis(1200));
        models(&program).contains("model-1")
    });
    let good = std::fs::read_to_string(&program.file).unwrap();
    std::fs::write(&program.file, "broken").unwrap();
    let count = |result| sum(&program.metrics(), "headrace_config_reloads_total", &[("result", result)]);
    eventually("a mistake is told", || count("failed") == 1.0);
    let taken = count("ok");
    std::fs::write(&program.file, good).unwrap();
    eventually("the good one is taken again", || count("ok") > taken);
    assert!(models(&program).contains("model-1"));
}
