//! Plants a violation of each rule of `tidy.rs` and asks that it is found, on its line; and that what looks like one is not. The
//! planted texts are values: nothing is written.

use std::collections::BTreeSet;

use super::text::Code;
use super::{Complaint, FILE_LINES_MAX, KEPT, MAP_LINES_MAX, MARKS, PLACES, README_LINES_MAX, ROOMS, UNFINISHED};
use super::{check_map, check_readme, check_source, check_text, unused_edges};

/// What is said about a file with this body, as `line: start of the complaint`.
fn said(path: &str, body: &str) -> Vec<String> {
    let mut out = Vec::new();
    check_source(path, &format!("//! A file. It has two sentences.\n{body}"), &mut out);
    out.into_iter().map(|Complaint { line, what, .. }| format!("{line}: {what}")).collect()
}

#[track_caller]
fn finds(path: &str, body: &str, start: &str) {
    let said = said(path, body);
    assert!(said.len() == 1 && said[0].starts_with(start), "{path}: {said:?}");
}

#[track_caller]
fn accepts(path: &str, body: &str) {
    assert_eq!(said(path, body), Vec::<String>::new());
}

#[test]
fn an_edge_that_is_not_in_the_table_is_found_in_every_spelling() {
    finds("src/http/body.rs", "use crate::runtime::Rt;", "2: `http` may not use `runtime`");
    finds("src/http/body.rs", "\nfn f() { let x = crate :: shard::turn(); }", "3: `http` may not use `shard`");
    finds("src/batch/home/mod.rs", "use crate::{\n    json::{Splice, Items},\n    mesh::ShardId,\n};", "2: `batch` may not use `mesh`");
    finds("src/runtime/mod.rs", "use crate::config::limits;", "2: `runtime` may not use `config`");
    finds("src/config/mod.rs", "use crate::*;", "2: `config` may not use `*`");
    finds("src/main.rs", "fn main() { headrace::shard::run() }", "2: `main.rs` may not use `shard`");
    finds("src/json/walk.rs", "use super::super::http::Known;", "2: `super::super::` leaves the room");
    finds("src/json/mod.rs", "use super::http::Known;", "2: `super::` leaves the room");
    finds("src/newroom/mod.rs", "use crate::sys::Instant;", "2: room `newroom` is not in the table");
}

#[test]
fn an_edge_of_the_table_and_what_is_no_edge_are_accepted() {
    accepts("src/batch/home/send.rs", "use super::super::call::Call;\nuse super::calls;\nuse crate::sys::Instant;\nuse crate::batch::Job;");
    accepts("src/http/body.rs", "// see crate::shard\n/* crate::shard /* nested */ crate::mesh */\nconst A: &str = \"crate::shard\";");
    accepts("src/http/body.rs", "const A: &[u8] = br#\"crate::\"shard\"#;\nconst B: char = '\"';\nfn f<'a>(x: &'a str) {} // crate::mesh");
    accepts("src/http/body.rs", "#[cfg(test)]\nmod tests {\n    use crate::runtime::Rt;\n}\n#[cfg(test)]\nuse crate::mesh::{Port};\n");
    accepts("src/http/tests/body.rs", "use crate::runtime::Rt;");
    accepts("src/http/tests.rs", "use crate::shard::Shard;");
}

#[test]
fn code_behind_test_code_is_still_looked_at() {
    finds("src/http/body.rs", "#[cfg(test)]\nfn f(a: [u8; 2]) { g(); }\nuse crate::mesh::Port;", "4: `http` may not use `mesh`");
    finds("src/http/body.rs", "const A: char = '\\'';\nuse crate::mesh::Port; // '", "3: `http` may not use `mesh`");
    finds("src/http/body.rs", "const A: &str = \"\\\"\\\\\"; use crate::mesh::Port;", "2: `http` may not use `mesh`");
}

#[test]
fn kept_words_are_found_outside_their_rooms_only() {
    finds("src/batch/lane.rs", "async fn f() {}", "2: `async` is for shard, runtime, control");
    finds("src/policy/route.rs", "fn f() { g().await }", "2: `.await` is for shard");
    finds("src/shard/turn.rs", "fn f() { unsafe { g() } }", "2: `unsafe` is for sys");
    finds("src/metrics/tally.rs", "use std::sync::Arc;", "2: `Arc` is for mesh, control, sys");
    finds("src/mesh/inbox.rs", "use std::sync::Mutex;", "2: `Mutex` is for control");
    finds("src/shard/turn.rs", "thread_local! {}", "2: `thread_local` is for no room");
    finds("src/shard/turn.rs", "use tokio::time;", "2: `tokio` is for control, cli");
    finds("src/runtime/mod.rs", "use io_uring::opcode;", "2: `io_uring` is for sys");
    finds("src/http/body.rs", "fn f() { std::thread::yield_now() }", "2: `thread` in a pure room");
    finds("src/shard/mod.rs", "mod tests;", "2: `mod tests` without");
    accepts("src/sys/ring.rs", "use std::sync::Arc;\nfn f() { unsafe { g() } }");
    accepts("src/shard/turn.rs", "// unsafe, Arc\nasync fn f() { g().await }\nstruct Archive;\n#[cfg(test)]\nmod tests;");
}

#[test]
fn every_kept_word_is_found_where_no_room_may_have_it() {
    for word in KEPT.iter().flat_map(|kept| kept.words) {
        let said = said("src/llm/dialect.rs", &format!("fn f() {{ x {word} }}"));
        assert!(said.iter().any(|line| line.starts_with(&format!("2: `{word}` is for"))), "{word}: {said:?}");
    }
}

#[test]
fn a_file_that_does_not_say_what_it_is_is_found() {
    let opening = |path: &str, text: &str| {
        let mut out = Vec::new();
        check_source(path, text, &mut out);
        out.len()
    };
    assert_eq!(opening("src/http/body.rs", "use std::io;\n"), 1);
    assert_eq!(opening("src/http/tests.rs", "use std::io;\n"), 1);
    assert_eq!(opening("src/http/mod.rs", "//! One sentence about v1.2 only.\n"), 1);
    assert_eq!(opening("src/http/mod.rs", "//! One.\n//!\n//! And another, too late.\n"), 1);
    assert_eq!(opening("src/http/mod.rs", "//! One sentence,\n//! over two lines. And another.\n"), 0);
    assert_eq!(opening("src/http/body.rs", "//! One sentence.\n"), 0);
}

#[test]
fn marks_places_and_length_are_found_in_text() {
    let said = |path: &str, text: &str| {
        let mut out = Vec::new();
        check_text(path, text, &mut out);
        out.into_iter().map(|one| one.line).collect::<Vec<_>>()
    };
    for mark in MARKS.iter().chain(UNFINISHED) {
        assert_eq!(said("src/a.rs", &format!("fine\n// {mark}(): later\n")), [2], "{mark}");
    }
    for place in PLACES {
        assert_eq!(said("docs/a.md", &format!("fine\nsee {place}me\n")), [2], "{place}");
        assert_eq!(said("docs/a.md", &format!("src/batch{place}mod.rs")), [], "{place} inside a relative path");
    }
    assert_eq!(said("src/a.rs", &"//\n".repeat(FILE_LINES_MAX)), [FILE_LINES_MAX]);
    assert_eq!(said("src/a.rs", &"//\n".repeat(FILE_LINES_MAX - 1)), []);
    assert_eq!(said("docs/a.md", &format!("{}S method_to{}\n", MARKS[0], "do!")), [], "parts of longer words");
}

#[test]
fn documents_are_held_to_their_length_and_to_the_rooms() {
    let mut out = Vec::new();
    check_readme(&"a\n".repeat(README_LINES_MAX), &mut out);
    check_map(&format!("`json/`{}", "\n".repeat(MAP_LINES_MAX + 1)), &["json"], |_| true, &mut out);
    check_map(
        "`json/` is\nin `json/walk.rs` and `json/{a,b}.rs`, not `json/run.rs`",
        &["json", "mesh"],
        |name| name == "json/walk.rs",
        &mut out,
    );
    let said: Vec<_> = out.iter().map(|one| (one.path.as_str(), one.line, one.what.split(':').next().unwrap())).collect();
    let map = "ARCHITECTURE.md";
    let long = MAP_LINES_MAX + 1;
    assert_eq!(
        said,
        [
            ("README.md", README_LINES_MAX, "300 lines"),
            (map, long, "251 lines"),
            (map, 1, "does not name the room `mesh/`"),
            (map, 2, "names `json/run.rs`, which is not there"),
        ]
    );
    out.clear();
    check_readme(&"a\n".repeat(README_LINES_MAX - 1), &mut out);
    check_map("`json/`", &["json"], |_| false, &mut out);
    assert_eq!(out, []);
}

#[test]
fn an_edge_nobody_uses_is_found() {
    let pair = |room: &str, target: &str| (room.to_owned(), target.to_owned());
    let mut used: BTreeSet<_> = ROOMS.iter().flat_map(|(room, edges)| edges.iter().map(|(target, _)| pair(room, target))).collect();
    assert_eq!(unused_edges(&used), []);
    used.remove(&pair("llm", "policy"));
    assert_eq!(unused_edges(&used), [("llm", "policy")]);
}

#[test]
fn the_table_has_no_circle() {
    // Rooms whose every target is already placed can be placed; what is left over uses itself in a circle.
    let mut placed: BTreeSet<&str> = BTreeSet::new();
    while let Some((room, _)) =
        ROOMS.iter().find(|(room, edges)| !placed.contains(room) && edges.iter().all(|(target, _)| placed.contains(target)))
    {
        placed.insert(room);
    }
    let left: Vec<_> = ROOMS.iter().map(|(room, _)| *room).filter(|room| !placed.contains(room)).collect();
    assert_eq!(left, Vec::<&str>::new());
}

#[test]
fn lines_keep_their_numbers() {
    let code = Code::of("/* a\nb */ \"c\nd\" 'e' r\"f\ng\"\n#[cfg(test)]\nmod t {\n}\nasync");
    assert_eq!(code.line_of_word("async"), Some(8));
}
