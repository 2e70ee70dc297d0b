//! An answer nobody asked for, on a connection that will be pooled or is.

use std::time::Duration;

use super::{Fault, Stop};
use crate::ask::{Ask, Way};
use crate::script::{Odd, Script, Shape};
use crate::stage::Stage;
use crate::tally::Right;

pub(crate) const FAULT: Fault = Fault {
    name: "unasked",
    what: "behind a whole answer comes another one, in the same packet or 10 ms later on the idle pooled connection",
    promise: "the connection is closed, and the stray answer reaches nobody",
    both: true,
    stage: None,
    run,
};

fn run(stage: &Stage) -> Result<String, Stop> {
    stage.beside(2, || {
        stage.each(6, 300, |client, index| {
            let shape = if index % 2 == 0 { Shape::Length } else { Shape::Chunked };
            let way = if index % 3 == 0 { Way::Embed } else { Way::Route };
            stage.ask(client, &Ask::new(way, Script { odd: Odd::Unasked, ..Script::shaped(shape) }), Right::ANSWERED);
            stage.honest(client, way);
        });
    });
    // Alone: whoever used the connection in those 10 ms would be given the stray answer, and HTTP/1.1 has nothing to tell it by.
    let mut client = None;
    for index in 0..60 {
        let way = if index % 3 == 0 { Way::Embed } else { Way::Route };
        stage.ask(&mut client, &Ask::new(way, Script::odd(Odd::UnaskedLater)), Right::ANSWERED);
        std::thread::sleep(Duration::from_millis(20));
        for _ in 0..2 {
            stage.honest(&mut client, way);
        }
    }
    Ok(String::new())
}
