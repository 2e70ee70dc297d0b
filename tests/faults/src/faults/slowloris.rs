//! Two thousand clients that never finish their heads.

use std::io::Write;
use std::time::{Duration, Instant};

use super::{Fault, Stop};
use crate::ask::{Ask, Way};
use crate::client::Client;
use crate::stage::{CONFIG, Common, Stage};
use crate::tally::Right;

pub(crate) const FAULT: Fault = Fault {
    name: "slowloris",
    what: "2,000 clients send a byte of their head every 200 ms",
    promise: "each gets 408 `header_timeout` when its time is over; others are served meanwhile",
    both: true,
    stage: Some(stage),
    run,
};

pub(super) const CLIENTS: usize = 2000;

fn stage(common: &Common) -> Result<Stage, Stop> {
    Ok(Stage::with(common, CONFIG, "", None, CLIENTS)?)
}

fn run(stage: &Stage) -> Result<String, Stop> {
    let mut slowest = Duration::ZERO;
    stage.beside(4, || {
        let mut open: Vec<(Ask, Client)> = Vec::with_capacity(CLIENTS);
        let heads: Vec<Vec<u8>> = (0..CLIENTS)
            .map(|_| {
                let ask = Ask::honest(Way::Route);
                let head = ask.parts().0;
                stage.tally.begin();
                if let Ok(client) = Client::connect(stage.gateway.addr) {
                    open.push((ask, client));
                }
                head
            })
            .collect();
        let begun = Instant::now();
        // For less than their time: who writes to a connection that was ended may lose the answer to it.
        for at in 0..8 {
            for ((_, client), head) in open.iter_mut().zip(&heads) {
                let _ = client.stream.write_all(&head[at..=at]);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        for (ask, client) in &mut open {
            let got = client.answer(false);
            stage.tally.judge(ask, &got, Right::failed(&["header_timeout"]));
        }
        slowest = begun.elapsed();
    });
    Ok(format!("all {CLIENTS} gone {:.1} s after their first byte", slowest.as_secs_f64()))
}
