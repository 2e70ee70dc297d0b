//! The disk is full where the last good configuration is kept.

use std::fs;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::{Fault, Stop};
use crate::ask::WAYS;
use crate::stage::{CONFIG, Common, Stage};

pub(crate) const FAULT: Fault = Fault {
    name: "store-full",
    what: "`server.state_dir` lies on a full disk (a tiny tmpfs) while ten configurations are taken and clients ask",
    promise: "new configurations are taken, no request fails; what cannot be kept is told in the log",
    both: false,
    stage: Some(stage),
    run,
};

const STATE: &str = "drain_timeout = \"10s\"\nstate_dir = \"$FOLDER/state\"\n";
/// In namespaces of its own, so that nothing of it is seen outside and it goes with the process. Ends with `NO_MOUNT` where that is
/// not allowed.
const FULL: &str = r#"
exec unshare --user --map-root-user --mount sh -c '
    mkdir -p "$HEADRACE_FAULTS_FOLDER/state"
    mount -t tmpfs -o size=16k tmpfs "$HEADRACE_FAULTS_FOLDER/state" || { echo NO_MOUNT >&2; exit 77; }
    dd if=/dev/zero of="$HEADRACE_FAULTS_FOLDER/state/fill" bs=4k count=8 2>/dev/null
    exec "$@"' sh "$@"
"#;

fn stage(common: &Common) -> Result<Stage, Stop> {
    let config = CONFIG.replace("drain_timeout = \"10s\"\n", STATE);
    if !takes(common, &config) {
        return Err(Stop::Skipped("this build keeps no configuration on disk (server.state_dir)".to_owned()));
    }
    match Stage::with(common, &config, FULL, None, 16) {
        Ok(stage) => Ok(stage),
        Err(why) if why.contains("NO_MOUNT") || why.contains("unshare") => {
            Err(Stop::Skipped("no tmpfs may be mounted here, not even in a namespace of one's own".to_owned()))
        }
        Err(why) => Err(Stop::Failed(why)),
    }
}

/// Whether `headrace check` knows every key of this configuration.
fn takes(common: &Common, config: &str) -> bool {
    let file = std::env::temp_dir().join(format!("headrace-faults-{}-check.toml", std::process::id()));
    let folder = std::env::temp_dir().display().to_string();
    let text = config.replace("$LISTEN", "127.0.0.1:1").replace("$ADMIN", "127.0.0.1:2").replace("$FOLDER", &folder);
    let text = text.replace("$UP", "\"http://127.0.0.1:3\"");
    let status = fs::write(&file, text)
        .and_then(|()| Command::new(&common.bin).arg("check").arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).status());
    let _ = fs::remove_file(&file);
    status.is_ok_and(|status| status.success())
}

fn run(stage: &Stage) -> Result<String, Stop> {
    let file = stage.gateway.config_file();
    let text = fs::read_to_string(&file).unwrap_or_default();
    let taken = || stage.metric("headrace_config_reloads_total", &["result=\"ok\""]);
    stage.beside(4, || {
        for round in 1..=10 {
            let _ = fs::write(&file, format!("{text}\n[[models]]\nname = \"more-{round}\"\nupstream = \"up\"\n"));
            stage.gateway.signal(Signal::HUP);
            if !stage.eventually(|| taken() >= f64::from(round)) {
                stage.tally.broken(format!("reload {round} was not taken: {}", stage.gateway.log()));
                return;
            }
        }
        stage.each(4, 60, |client, index| {
            stage.honest(client, WAYS[index % 3]);
        });
    });
    let told = stage.gateway.log().lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).count();
    if told == 0 {
        stage.tally.broken("the log does not say that the configuration could not be kept".to_owned());
    }
    Ok(format!("{told} warnings in the log"))
}
