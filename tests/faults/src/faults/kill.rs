//! One of three upstreams is killed and comes back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Fault, Stop};
use crate::ask::{Ask, WAYS, Way};
use crate::script::{Odd, Script, Shape};
use crate::stage::helper::Helper;
use crate::stage::{CONFIG, Common, Stage};
use crate::tally::Right;
use crate::upstream::Upstream;

pub(crate) const FAULT: Fault = Fault {
    name: "kill",
    what: "under the load of 24 clients one of three upstream processes is killed (SIGKILL), and started again 1.5 s later; twice",
    promise: "idempotent requests are all answered; of the others only those under way on it fail, with 502 `upstream_broken` or a visible \
              cut; it has its share of the calls again",
    both: false,
    stage: Some(stage),
    run,
};

pub(super) fn stage(common: &Common) -> Result<Stage, Stop> {
    let helpers = (0..3).map(|_| Helper::start()).collect::<Result<Vec<Helper>, String>>()?;
    let urls: Vec<String> = helpers.iter().map(|helper| format!("\"http://{}\"", helper.addr)).collect();
    let upstream = Upstream::start("127.0.0.1:0", common.swaps).map_err(|error| error.to_string())?;
    let config = CONFIG.replace("$UP", &urls.join(", "));
    Ok(Stage::before(common, upstream, helpers, config, "", None, 64)?)
}

fn run(stage: &Stage) -> Result<String, Stop> {
    let mut remark = String::new();
    load(stage, Right::failed(&["upstream_broken"]).or_answered().or_cut(), || {
        for _ in 0..2 {
            std::thread::sleep(Duration::from_millis(500));
            with_first(stage, Helper::kill);
            std::thread::sleep(Duration::from_millis(1500));
            with_first(stage, |helper| {
                if let Err(why) = helper.restart() {
                    stage.tally.broken(why);
                }
            });
            remark = comes_back(stage);
        }
    });
    Ok(remark)
}

/// Waits until the first upstream answers calls again.
pub(super) fn comes_back(stage: &Stage) -> String {
    let Some(addr) = stage.helpers.lock().ok().and_then(|helpers| helpers.first().map(|helper| helper.addr.to_string())) else {
        return String::new();
    };
    let served = || stage.metric("headrace_upstream_requests_total", &[&addr, "outcome=\"ok\""]);
    let before = served();
    let begun = std::time::Instant::now();
    if !stage.eventually(|| served() > before) {
        stage.tally.broken(format!("the upstream {addr} gets no calls after it came back"));
    }
    format!("calls again {:.1} s after it came back", begun.elapsed().as_secs_f64())
}

pub(super) fn with_first(stage: &Stage, work: impl FnOnce(&mut Helper)) {
    if let Ok(mut helpers) = stage.helpers.lock()
        && let Some(helper) = helpers.first_mut()
    {
        work(helper);
    }
}

/// Load of every kind while `work` runs. `right` is what may become of requests that are not idempotent.
pub(super) fn load(stage: &Stage, right: Right<'_>, work: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 0..24 {
            let stop = &stop;
            scope.spawn(move || {
                let mut client = None;
                let mut turn = number;
                while !stop.load(Ordering::Relaxed) {
                    turn += 1;
                    let stream = Script { drip: 50, size: 400, ..Script::shaped(Shape::Events) };
                    match turn % 8 {
                        0..=2 => stage.ask(
                            &mut client,
                            &Ask { method: "GET", upload: 0, ..Ask::new(Way::Route, Script::odd(Odd::Slow(2))) },
                            Right { cut: false, answered: true, ..right_of_idempotent(right) },
                        ),
                        3 => stage.ask(&mut client, &Ask::new(Way::Chat, stream), right),
                        other => stage.ask(&mut client, &Ask::new(WAYS[other % 3], Script::odd(Odd::Slow(2))), right),
                    };
                }
            });
        }
        work();
        stop.store(true, Ordering::Relaxed);
    });
}

/// What may become of those that can be asked again: nothing but an answer, unless time is what ran out.
fn right_of_idempotent(right: Right<'_>) -> Right<'_> {
    if right.reasons.contains(&"upstream_timeout") { Right { reasons: &["upstream_timeout"], ..Right::ANSWERED } } else { Right::ANSWERED }
}
