//! One of three upstreams stands still for five seconds.

use std::time::Duration;

use super::kill::{comes_back, load, with_first};
use super::{Fault, Stop};
use crate::stage::Stage;
use crate::tally::Right;

pub(crate) const FAULT: Fault = Fault {
    name: "stopped",
    what: "under the load of 24 clients one of three upstream processes is stopped (SIGSTOP) for 5 s",
    promise: "only those under way on it, and what is sent there in vain, fail, with 504 `upstream_timeout` or a visible cut; it has its \
              share of the calls again",
    both: false,
    stage: Some(super::kill::stage),
    run,
};

fn run(stage: &Stage) -> Result<String, Stop> {
    let mut remark = String::new();
    load(stage, Right::failed(&["upstream_timeout"]).or_answered().or_cut(), || {
        std::thread::sleep(Duration::from_millis(500));
        with_first(stage, |helper| helper.stop());
        std::thread::sleep(Duration::from_secs(5));
        with_first(stage, |helper| helper.go_on());
        remark = comes_back(stage);
    });
    Ok(remark)
}
