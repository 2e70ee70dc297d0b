//! Two thousand clients that do not read, or only slowly.

use std::io::Read;
use std::time::Duration;

use super::{Fault, Stop};
use crate::ask::{Ask, Way};
use crate::client::Client;
use crate::script::{Script, Shape};
use crate::stage::{CONFIG, Common, Stage};
use crate::tally::Right;

pub(crate) const FAULT: Fault = Fault {
    name: "slow-readers",
    what: "2,000 clients ask for 384 KiB each; 1,900 never read, 100 read 24 KiB every 100 ms",
    promise: "who stands still is cut after `write_timeout`, who reads slowly gets everything; their waiting bytes take no receive buffers \
              from others, who are served meanwhile",
    both: true,
    stage: Some(stage),
    run,
};

const READERS: usize = 100;
const SIZE: usize = 384 << 10;

fn stage(common: &Common) -> Result<Stage, Stop> {
    // The loopback's backlog (`net.core.netdev_max_backlog`) loses packets in such a crowd, and two cores serve both ends of it: what is
    // sent again after seconds is in time.
    let config = CONFIG.replace("first_byte_timeout = \"3s\"", "first_byte_timeout = \"20s\"");
    let config = config.replace("total_timeout = \"4s\"", "total_timeout = \"30s\"\nconnect_timeout = \"5s\"");
    Ok(Stage::with(common, &config, "", None, super::slowloris::CLIENTS)?)
}

fn run(stage: &Stage) -> Result<String, Stop> {
    let mut most = 0;
    stage.beside(4, || {
        let mut open = Vec::with_capacity(super::slowloris::CLIENTS);
        for number in 0..super::slowloris::CLIENTS {
            let shape = if number % 2 == 0 { Shape::Length } else { Shape::Chunked };
            let ask = Ask::new(Way::Route, Script { size: SIZE, ..Script::shaped(shape) });
            stage.tally.begin();
            let Ok(mut client) = Client::connect_small(stage.gateway.addr) else { continue };
            client.send(&ask.bytes());
            open.push((ask, client));
        }
        // The slow ones were among the last, so that all of them stand still at some moment.
        let readers = open.split_off(open.len().saturating_sub(READERS));
        open.iter().for_each(|_| stage.tally.cancelled());
        std::thread::scope(|scope| {
            let threads: Vec<_> = readers.into_iter().map(|(ask, client)| scope.spawn(move || slowly(stage, &ask, client))).collect();
            while threads.iter().any(|thread| !thread.is_finished()) {
                most = most.max(stage.gateway.resident());
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        // They still have not read: the gateway has let go of them, but for the honest ones' calls.
        if !stage.eventually(|| stage.metric("headrace_upstream_calls_in_flight", &[]) <= 4.0) {
            stage.tally.broken("clients that do not read hold their upstream calls".to_owned());
        }
    });
    Ok(format!("at most {:.1} MiB meanwhile", most as f64 / f64::from(1 << 20)))
}

/// Reads a little at a time, then judges all of it as any answer.
fn slowly(stage: &Stage, ask: &Ask, mut client: Client) {
    let mut bytes = Vec::with_capacity(SIZE + 4096);
    let mut piece = [0; 24 << 10];
    while bytes.len() < SIZE {
        match client.stream.read(&mut piece) {
            Ok(count @ 1..) => bytes.extend_from_slice(&piece[..count]),
            _ => break,
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let got = client.answer_behind(bytes);
    stage.tally.judge(ask, &got, Right::ANSWERED);
}
