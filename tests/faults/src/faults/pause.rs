//! The gateway itself stands still, and time jumps for it.

use std::time::Duration;

use rustix::process::Signal;

use super::{Fault, Stop};
use crate::ask::{Ask, WAYS};
use crate::script::{Odd, Script};
use crate::stage::Stage;
use crate::tally::Right;

pub(crate) const FAULT: Fault = Fault {
    name: "clock-jump",
    what: "the gateway is stopped for 2.5 s in the middle of calls (as a suspended machine is) and finds its clock that much later; twice",
    promise: "what was answered meanwhile is passed on, what ran out of time is told so; nothing hangs. A jump of the wall clock changes \
              only the log's time stamps and how long a `Retry-After` that is a date, without a `Date` beside it, asks to wait (bounded)",
    both: true,
    stage: None,
    run,
};

fn run(stage: &Stage) -> Result<String, Stop> {
    // Longer than the head's and the body's time, shorter than the first byte's.
    let right = Right::failed(&["upstream_timeout", "header_timeout", "body_timeout", "deadline_exceeded"]).or_answered();
    for _ in 0..2 {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                stage.each(24, 24 * 4, |client, index| {
                    stage.ask(client, &Ask::new(WAYS[index % 3], Script::odd(Odd::Slow(100))), right);
                });
            });
            std::thread::sleep(Duration::from_millis(150));
            stage.gateway.signal(Signal::STOP);
            std::thread::sleep(Duration::from_millis(2500));
            stage.gateway.signal(Signal::CONT);
        });
    }
    stage.each(8, 48, |client, index| {
        stage.honest(client, WAYS[index % 3]);
    });
    let reads = reads_wall_clock();
    if !reads.is_empty() {
        stage.tally.broken(format!("the data plane reads the wall clock: {}", reads.join(", ")));
    }
    Ok("the wall clock is the machine's and was left alone".to_owned())
}

/// Files of the gateway, where its source lies beside us, that read the wall clock, but for the one that may: what an answer's
/// `Retry-After` means is worked out in `shard/health.rs`.
fn reads_wall_clock() -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../src"))];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                // Control may ask for it, for what it writes down.
                folders.extend((!path.ends_with("control") && !path.ends_with("tests")).then_some(path));
            } else if !path.ends_with("runtime/clock.rs")
                && !path.ends_with("runtime/mod.rs")
                && std::fs::read_to_string(&path)
                    .is_ok_and(|text| WALL.iter().any(|wall| text.contains(wall)) && !path.ends_with("shard/health.rs"))
            {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

const WALL: [&str; 3] = ["SystemTime::now", "ClockId::Realtime", ".wall()"];
