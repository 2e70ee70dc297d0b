//! Fifty new configurations under load.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use super::{Fault, Stop};
use crate::ask::{Ask, WAYS, Way};
use crate::script::{Script, Shape};
use crate::stage::{CONFIG, Common, Stage};
use crate::tally::Right;

pub(crate) const FAULT: Fault = Fault {
    name: "reload",
    what: "50 reloads (SIGHUP), each with a model more, and 5 refused ones, under the load of 16 clients and 8 that read streams of 0.5 s",
    promise: "no request fails, no stream is cut; a refused configuration changes nothing; former ones are let go",
    both: false,
    stage: Some(stage),
    run,
};

const RELOADS: usize = 50;
const REFUSED: usize = 5;

fn stage(common: &Common) -> Result<Stage, Stop> {
    Ok(Stage::with(common, CONFIG, "", None, 64)?)
}

fn run(stage: &Stage) -> Result<String, Stop> {
    let streams = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 0..24 {
            let (stop, streams) = (&stop, &streams);
            scope.spawn(move || {
                let mut client = None;
                let mut turn = number;
                while !stop.load(Ordering::Relaxed) {
                    turn += 1;
                    if number < 8 {
                        let script = Script { drip: 800, size: 400, ..Script::shaped(Shape::Events) };
                        stage.ask(&mut client, &Ask::new(Way::Chat, script), Right::ANSWERED);
                        streams.fetch_add(1, Ordering::Relaxed);
                    } else {
                        stage.honest(&mut client, WAYS[turn % 3]);
                        std::thread::sleep(Duration::from_millis(2));
                    }
                }
            });
        }
        reloads(stage);
        stop.store(true, Ordering::Relaxed);
    });
    if !stage.eventually(|| stage.metric("headrace_config_snapshots", &[]) == 1.0) {
        stage.tally.broken("former configurations are held".to_owned());
    }
    Ok(format!("{} streams through {RELOADS} reloads", streams.into_inner()))
}

fn reloads(stage: &Stage) {
    let file = stage.gateway.config_file();
    let mut text = fs::read_to_string(&file).unwrap_or_default();
    let count = |result: &str| stage.metric("headrace_config_reloads_total", &[&format!("result=\"{result}\"")]);
    for reload in 1..=RELOADS {
        if reload % (RELOADS / REFUSED) == 0 {
            let before = count("ok");
            let _ = fs::write(&file, format!("{text}\n[[models]]\nname = \"odd\"\nupstream = \"nowhere\"\n"));
            stage.gateway.signal(Signal::HUP);
            let refused = (reload * REFUSED / RELOADS) as f64;
            if !stage.eventually(|| stage.metric("headrace_config_reloads_total", &[]) - count("ok") >= refused) || count("ok") > before {
                stage.tally.broken("a wrong configuration was not refused".to_owned());
            }
        }
        text += &format!("\n[[models]]\nname = \"more-{reload}\"\nupstream = \"up\"\n");
        let _ = fs::write(&file, &text);
        stage.gateway.signal(Signal::HUP);
        if !stage.eventually(|| count("ok") >= reload as f64) {
            stage.tally.broken(format!("reload {reload} was not taken: {}", stage.gateway.log()));
            return;
        }
    }
}
