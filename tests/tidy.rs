//! Style rules that run as a test: which room may use which, where `async`, `unsafe` and shared memory may stand, how files open
//! and how long they get, what the documents must name. It reads the repository as text (`tidy/text.rs` blanks comments, strings
//! and test code first); what the compiler and clippy can say is left to them. `tidy/planted.rs` shows that each rule can fail.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot read the repository should stop loudly")]

#[path = "tidy/planted.rs"]
mod planted;
#[path = "tidy/text.rs"]
mod text;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use text::{Code, has_word, words};

/// The allowed edges: a room, the rooms it may use, and why. DESIGN: `cli -> control -> shard -> {batch, http, policy, llm, mesh,
/// metrics, runtime} -> {json, config, sys}`. An edge nobody uses any more is to be deleted here.
const ROOMS: &[(&str, &[(&str, &str)])] = &[
    ("main.rs", &[("cli", "the program is its command line")]),
    (
        "cli",
        &[
            ("config", "reads, checks and explains configurations"),
            ("control", "serves by starting the control plane"),
            ("mock", "`headrace mock` and `headrace demo` run it"),
            ("sys", "`doctor` and `check` ask which cores and socket addresses there are"),
        ],
    ),
    (
        "control",
        &[
            ("config", "loads, compares and hands out snapshots"),
            ("http", "asks engines for their metrics, and reads the answers as strictly as a shard does"),
            ("mesh", "makes the mesh and sends snapshots through it"),
            ("metrics", "owns the registry and prints it"),
            ("policy", "makes the router once for all shards; reads what engines tell of their load"),
            ("runtime", "makes each shard's driver and clock"),
            ("shard", "starts shards and speaks their messages"),
            ("sys", "cores, bells, buffer pools"),
        ],
    ),
    (
        "shard",
        &[
            ("batch", "dispatch, way 2"),
            ("config", "the snapshot it serves under"),
            ("http", "heads and bodies"),
            ("json", "scans bodies for the model and the items"),
            ("llm", "the dialect of an error"),
            ("mesh", "its port"),
            ("metrics", "its counters"),
            ("policy", "route, balance, health, retry"),
            ("runtime", "the ground it stands on"),
            ("sys", "moments, spans, message parts"),
        ],
    ),
    (
        "mock",
        &[
            ("config", "which driver (`Io`)"),
            ("http", "speaks it as the gateway does"),
            ("json", "reads requests as the gateway does"),
            ("runtime", "the ground it stands on"),
            ("sys", "moments, message parts, buffer pools"),
        ],
    ),
    (
        "batch",
        &[
            ("config", "batching modes and model ids"),
            ("json", "spans of items, the splice writer"),
            ("policy", "who waits in a lane stands in `policy::Queue`, the one machine for priorities and fair shares"),
            ("sys", "moments, spans"),
        ],
    ),
    ("http", &[("sys", "spans")]),
    ("policy", &[("config", "routes, models, balance modes"), ("sys", "moments")]),
    (
        "llm",
        &[
            ("json", "finds the members of an event"),
            ("policy", "an error's dialect is chosen by `policy::Operation`, the one list of operations a path can name"),
            ("sys", "spans"),
        ],
    ),
    ("mesh", &[]),
    (
        "metrics",
        &[
            ("config", "names of upstreams and models are label values"),
            ("mesh", "counter blocks cross cores there; `ShardId` is a label value"),
            ("policy", "`policy::Operation` is a label value: the one list of operations a path can name"),
            ("sys", "moments"),
        ],
    ),
    ("runtime", &[("sys", "the ring, the pool, sockets by number")]),
    ("json", &[("sys", "spans")]),
    ("config", &[]),
    ("sys", &[]),
];

/// Words of the language or the standard library that only some rooms may use.
struct Kept {
    words: &'static [&'static str],
    rooms: &'static [&'static str],
    instead: &'static str,
}

const KEPT: &[Kept] = &[
    Kept {
        words: &["async", ".await"],
        rooms: &["shard", "runtime", "control", "mock", "cli"],
        instead: "make it a machine of four verbs (handle, poll, next_timeout, getters) that the shard drives",
    },
    Kept { words: &["unsafe"], rooms: &["sys"], instead: "give sys a safe face for it, with the invariant at the head of its file" },
    Kept {
        words: &["Arc", "atomic", "AtomicBool", "AtomicU8", "AtomicU16", "AtomicU32", "AtomicU64", "AtomicUsize"],
        rooms: &["mesh", "control", "sys"],
        instead: "send a message through the mesh, or share a value with mesh::Shared",
    },
    Kept { words: &["Mutex", "RwLock", "Condvar"], rooms: &["control"], instead: "send a message: nothing on a shard may wait for a lock" },
    Kept { words: &["thread_local", "static mut"], rooms: &[], instead: "put it into the struct of who owns it (shard::Shard lists all)" },
    // `headrace mock` waits for its signals with tokio; it has no control plane that could.
    Kept { words: &["tokio"], rooms: &["control", "cli"], instead: "shards run on runtime; what may block is control's" },
    Kept { words: &["axum"], rooms: &["control"], instead: "the data plane has its own http; axum is for the admin page" },
    // `headrace doctor` only asks the kernel whether it would give us a ring.
    Kept { words: &["io_uring"], rooms: &["sys", "cli"], instead: "go through sys::Ring" },
];

/// Rooms in which a test, a clock or a socket has no place, because their time and input are arguments.
const PURE: &[&str] = &["batch", "http", "policy", "llm", "json"];
const IMPURE: &[&str] =
    &["TcpStream", "TcpListener", "UnixStream", "UdpSocket", "SystemTime", "thread", "socket2", "rustix", "libc", "quanta"];

/// Left-over marks, put together here so that this file does not hold them.
const MARKS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];
const UNFINISHED: &[&str] = &[concat!("to", "do!"), concat!("unimpl", "emented!"), concat!("db", "g!")];
const PLACES: &[&str] = &[concat!("/ho", "me/"), concat!("/Us", "ers/"), concat!("/ro", "ot/"), concat!("/wo", "rk/")];

const FILE_LINES_MAX: usize = 500;
const README_LINES_MAX: usize = 300;
const MAP_LINES_MAX: usize = 250;

/// What is wrong, where, and what to do.
#[derive(PartialEq, Eq, Debug)]
struct Complaint {
    path: String,
    line: usize,
    what: String,
}

/// Complaints about one file.
struct Desk<'a> {
    path: &'a str,
    out: &'a mut Vec<Complaint>,
}

impl Desk<'_> {
    fn complain(&mut self, line: usize, what: String) {
        self.out.push(Complaint { path: self.path.to_owned(), line, what });
    }
}

/// The room of a path like `src/batch/home/mod.rs`: `batch`; of `src/main.rs`: `main.rs`. `None` outside `src/`.
fn room_of(path: &str) -> Option<&str> {
    path.strip_prefix("src/")?.split('/').next()
}

fn is_test(path: &str) -> bool {
    path.split('/').any(|part| part == "tests" || part == "tests.rs")
}

/// All rules for one Rust file under `src/`.
fn check_source(path: &str, source: &str, out: &mut Vec<Complaint>) {
    let mut desk = Desk { path, out };
    check_opening(source, &mut desk);
    if is_test(path) {
        return;
    }
    let Some(room) = room_of(path) else { return };
    let code = Code::of(source);
    check_edges(room, &code, &mut desk);
    for kept in KEPT {
        if !kept.rooms.contains(&room) {
            for word in kept.words {
                if let Some(line) = code.line_of_word(word) {
                    let rooms = if kept.rooms.is_empty() { "no room".to_owned() } else { kept.rooms.join(", ") };
                    desk.complain(line, format!("`{word}` is for {rooms}: {}", kept.instead));
                }
            }
        }
    }
    if PURE.contains(&room) {
        for word in IMPURE {
            if let Some(line) = code.line_of_word(word) {
                desk.complain(line, format!("`{word}` in a pure room: take what it would give you as an argument"));
            }
        }
    }
    if let Some(line) = code.line_of_word("mod tests") {
        desk.complain(line, "`mod tests` without `#[cfg(test)]`".to_owned());
    }
}

/// The rooms this code names, against the table.
fn check_edges(room: &str, code: &Code, desk: &mut Desk<'_>) {
    let allowed = ROOMS.iter().find(|(name, _)| *name == room).map(|(_, edges)| *edges);
    let depth = desk.path.trim_end_matches("/mod.rs").matches('/').count();
    for (line, chain) in code.escapes(depth) {
        desk.complain(line, format!("`{chain}` leaves the room: write it from `crate::`"));
    }
    for (line, target) in code.rooms_used() {
        if target == room || room == "lib.rs" {
            continue;
        }
        let Some(allowed) = allowed else {
            desk.complain(line, format!("room `{room}` is not in the table of tests/tidy.rs: say there which rooms it may use and why"));
            return;
        };
        if !allowed.iter().any(|(name, _)| *name == target) {
            let may: Vec<&str> = allowed.iter().map(|(name, _)| *name).collect();
            desk.complain(
                line,
                format!(
                    "`{room}` may not use `{target}` (it may use: {}). Take what you need as an argument, move it to the room that owns \
                     it, or add the edge with its reason to the table of tests/tidy.rs and to ARCHITECTURE.md",
                    if may.is_empty() { "nothing".to_owned() } else { may.join(", ") }
                ),
            );
        }
    }
}

/// Each file says what it is; a folder's `mod.rs` also what it leaves to others, which takes two sentences at least.
fn check_opening(source: &str, desk: &mut Desk<'_>) {
    if !source.starts_with("//!") {
        desk.complain(1, "does not open with `//!`: say what this file is and what it leaves to others".to_owned());
        return;
    }
    if desk.path.ends_with("/mod.rs") && !is_test(desk.path) {
        let paragraph = source.lines().map_while(|line| line.strip_prefix("//! ")).collect::<Vec<_>>().join(" ");
        let ends = |(at, _): &(usize, &str)| paragraph[at + 1..].starts_with(' ') || at + 1 == paragraph.len();
        if paragraph.match_indices(['.', '?', '!']).filter(ends).count() < 2 {
            desk.complain(1, "a folder opens with at least two sentences: what it is, and what it leaves to others".to_owned());
        }
    }
}

/// The rules for every text file of the repository.
fn check_text(path: &str, text: &str, out: &mut Vec<Complaint>) {
    let mut desk = Desk { path, out };
    let lines = text.lines().count();
    if path.ends_with(".rs") && lines >= FILE_LINES_MAX {
        desk.complain(lines, format!("{lines} lines: split it into a folder before {FILE_LINES_MAX}"));
    }
    for (index, line) in text.lines().enumerate() {
        for mark in MARKS {
            if has_word(line, mark) {
                desk.complain(index + 1, format!("left-over mark `{mark}`: do it, or write an issue"));
            }
        }
        for macro_name in UNFINISHED {
            if path.ends_with(".rs") && words(line, macro_name.trim_end_matches('!')).any(|end| line[end..].starts_with('!')) {
                desk.complain(index + 1, format!("`{macro_name}` is not for committed code"));
            }
        }
        for place in PLACES {
            // A part of a longer path (`batch` + `home` + ...) is relative.
            let relative = |at: usize| line[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '}'));
            if line.match_indices(place).any(|(at, _)| !relative(at)) {
                desk.complain(index + 1, format!("`{place}`: a path of one machine; write it relative to the repository"));
            }
        }
    }
}

fn check_readme(text: &str, out: &mut Vec<Complaint>) {
    let lines = text.lines().count();
    if lines >= README_LINES_MAX {
        Desk { path: "README.md", out }.complain(lines, format!("{lines} lines: under {README_LINES_MAX}; move the rest to docs/"));
    }
}

/// The map: short, names every room, and names no file that is not there.
fn check_map(text: &str, rooms: &[&str], exists: impl Fn(&str) -> bool, out: &mut Vec<Complaint>) {
    let mut desk = Desk { path: "ARCHITECTURE.md", out };
    let lines = text.lines().count();
    if lines > MAP_LINES_MAX {
        desk.complain(lines, format!("{lines} lines: at most {MAP_LINES_MAX}"));
    }
    for room in rooms {
        if !text.contains(&format!("`{room}/`")) {
            desk.complain(1, format!("does not name the room `{room}/`"));
        }
    }
    for (index, line) in text.lines().enumerate() {
        for name in line.split('`').skip(1).step_by(2).filter(|name| name.contains('/') && name.ends_with(".rs")) {
            if !name.contains(['{', '*', '<']) && !exists(name) {
                desk.complain(index + 1, format!("names `{name}`, which is not there"));
            }
        }
    }
}

/// An edge of the table that no file uses.
fn unused_edges(used: &BTreeSet<(String, String)>) -> Vec<(&'static str, &'static str)> {
    let all = ROOMS.iter().flat_map(|(room, edges)| edges.iter().map(move |(target, _)| (*room, *target)));
    all.filter(|(room, target)| !used.contains(&((*room).to_owned(), (*target).to_owned()))).collect()
}

/// Every text file below `folder`, in order, with its path from the root.
fn files(root: &Path, folder: &str, out: &mut Vec<(String, String)>) {
    let mut entries: Vec<_> = fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap()).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().into_string().unwrap();
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        if SKIPPED.contains(&name.as_str()) {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            files(root, &path, out);
        } else if let Ok(text) = String::from_utf8(fs::read(entry.path()).unwrap()) {
            out.push((path, text));
        }
    }
}

/// Built, downloaded or fed to a parser: not written for a reader.
const SKIPPED: &[&str] = &["target", ".git", ".gl", ".installed", "corpus", "node_modules", "__pycache__", "Cargo.lock"];

#[test]
fn the_repository_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = Vec::new();
    files(root, "", &mut all);
    let mut out = Vec::new();
    let (mut rooms, mut used) = (BTreeSet::new(), BTreeSet::new());
    for (path, text) in &all {
        check_text(path, text, &mut out);
        let Some(room) = room_of(path).filter(|_| path.ends_with(".rs")) else { continue };
        check_source(path, text, &mut out);
        if !room.ends_with(".rs") {
            rooms.insert(room);
        }
        if !is_test(path) {
            used.extend(Code::of(text).rooms_used().into_iter().map(|(_, target)| (room.to_owned(), target)));
        }
    }
    assert!(rooms.len() >= 10, "rooms found: {rooms:?}");
    for (room, target) in unused_edges(&used) {
        let what = format!("the table allows `{room}` -> `{target}`, and no file uses it: delete the edge");
        out.push(Complaint { path: "tests/tidy.rs".to_owned(), line: 1, what });
    }
    let document = |name: &str| all.iter().find(|(path, _)| path == name).map_or("", |(_, text)| text);
    let rooms: Vec<&str> = rooms.into_iter().collect();
    check_readme(document("README.md"), &mut out);
    let exists = |name: &str| root.join(name).exists() || root.join("src").join(name).exists();
    check_map(document("ARCHITECTURE.md"), &rooms, exists, &mut out);
    let list: Vec<String> = out.iter().map(|one| format!("{}:{}: {}", one.path, one.line, one.what)).collect();
    assert!(list.is_empty(), "{} complaints\n{}", list.len(), list.join("\n"));
}
