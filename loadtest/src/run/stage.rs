//! Sets the stage for one scenario: the upstream, then every contender started, asked once and its answer judged. Who cannot take part
//! stays listed with the reason. What happens on the stage is `rounds`' business.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::child::{Child, Program};
use super::host::{self, Interrupts};
use super::peer::{self, Peer, Places, Start};
use super::probe::{self, Answer};
use super::scenario::{Contender, DIRECT, Scenario, Upstream, Verify};
use super::usage;

/// Where things are, the same for all scenarios of a run.
#[derive(Clone, Debug)]
pub(crate) struct Grounds {
    /// `loadtest/peers`.
    pub(crate) peers: PathBuf,
    /// Where `headrace` and this program are.
    pub(crate) bin: PathBuf,
    /// Folders for configurations and logs.
    pub(crate) work: PathBuf,
    /// The first port to try.
    pub(crate) port: u16,
}

pub(crate) struct Stage {
    /// Kept only to end with the stage.
    _upstreams: Vec<Child>,
    pub(crate) standing: Vec<Standing>,
}

/// A contender on the stage.
pub(crate) struct Standing {
    pub(crate) name: String,
    pub(crate) version: String,
    /// `None`: the direct contender, or one that failed.
    pub(crate) child: Option<Child>,
    /// Why it takes no part, or no longer.
    pub(crate) fault: Option<String>,
    pub(crate) port: u16,
    pub(crate) rss_bytes_start: u64,
}

/// What contenders forward to.
struct Behind {
    port: u16,
    socket: PathBuf,
    answer: Answer,
}

const UPSTREAM_LIMIT: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(50);

impl Stage {
    /// # Errors
    /// When the upstream does not stand, or the person wants an end; a contender's failure is its own.
    pub(crate) fn set(scenario: &Scenario, grounds: &Grounds, signals: &Interrupts) -> Result<Stage, String> {
        let mut builder = Builder { scenario, grounds, signals, port: grounds.port };
        let (upstreams, behind) = builder.upstreams()?;
        let mut standing = Vec::new();
        for contender in &scenario.contenders {
            let mut one = Standing {
                name: contender.name.clone(),
                version: String::new(),
                child: None,
                fault: None,
                port: behind.port,
                rss_bytes_start: 0,
            };
            if contender.peer != DIRECT {
                one.fault = builder.contender(contender, &behind, &mut one).err();
                // An end the person wants is no fault of the contender's.
                signals.pause(Duration::ZERO)?;
            }
            if let Some(child) = one.child.take_if(|_| one.fault.is_some()) {
                drop(child);
            }
            if let Some(child) = &one.child {
                one.rss_bytes_start = usage::rss_bytes(&usage::proc(), &child.pids());
                child.freeze();
            }
            standing.push(one);
        }
        Ok(Stage { _upstreams: upstreams, standing })
    }
}

struct Builder<'a> {
    scenario: &'a Scenario,
    grounds: &'a Grounds,
    signals: &'a Interrupts,
    port: u16,
}

impl Builder<'_> {
    fn next_port(&mut self) -> Result<u16, String> {
        let port = host::free_port(self.port)?;
        self.port = port.saturating_add(1);
        Ok(port)
    }

    fn folder(&self, name: &str) -> PathBuf {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        self.grounds.work.join(&self.scenario.name).join(name.chars().map(plain).collect::<String>())
    }

    fn own(&self, name: &str) -> String {
        self.grounds.bin.join(name).display().to_string()
    }

    fn ask(&self, port: u16) -> Result<Answer, String> {
        probe::ask(port, &self.scenario.load.path, self.scenario.load.model())
    }

    fn upstreams(&mut self) -> Result<(Vec<Child>, Behind), String> {
        let port = self.next_port()?;
        // A socket's path has room for 107 bytes, which a deep checkout would fill.
        let socket = std::env::temp_dir().join(format!("headrace-loadtest-{}.sock", std::process::id()));
        let mut children = vec![self.upstream(&format!("127.0.0.1:{port}"), port)?];
        if self.scenario.contenders.iter().any(|one| one.unix) {
            let _ = std::fs::remove_file(&socket);
            children.push(self.upstream(&format!("unix:{}", socket.display()), port)?);
            self.wait_for(&mut children, |_| socket.exists())?;
        }
        self.wait_for(&mut children, |_| self.ask(port).is_ok_and(|answer| answer.status == 200))?;
        let answer = self.ask(port)?;
        Ok((children, Behind { port, socket, answer }))
    }

    fn upstream(&self, listen: &str, port: u16) -> Result<Child, String> {
        let words = |words: &[&str], args: &[String]| words.iter().map(|word| (*word).to_owned()).chain(args.iter().cloned()).collect();
        let mut env = BTreeMap::new();
        let folder = self.folder(if listen.starts_with("unix:") { "upstream-unix" } else { "upstream" });
        let command: Vec<String> = match &self.scenario.upstream {
            Upstream::Light { args } => words(&[&self.own("headrace-loadtest"), "upstream", "--listen", listen], args),
            Upstream::Mock { args } => words(&[&self.own("headrace"), "mock", "--listen", listen], args),
            Upstream::Server { peer: name } => {
                let home = self.grounds.peers.join(name);
                let peer = Peer::read(&home)?;
                peer.install(&home, &self.grounds.bin)?;
                let places = self.places(name, &folder, port, port);
                let start = peer.fill(&home, &[], &BTreeMap::new(), &places)?;
                write_files(&folder, &start)?;
                env = start.env;
                start.command
            }
        };
        Child::start(&Program { name: "upstream", command: &command, env: &env, cores: &self.scenario.cores.load, folder: &folder })
    }

    /// Waits until all live and `ready` says so.
    fn wait_for(&self, children: &mut [Child], mut ready: impl FnMut(&[Child]) -> bool) -> Result<(), String> {
        let until = host::now() + UPSTREAM_LIMIT;
        while !ready(children) {
            for child in &mut *children {
                child.alive()?;
            }
            if host::now() > until {
                let tails: String = children.iter().map(Child::tail).collect();
                return Err(format!("the upstream does not answer POST {} with 200{tails}", self.scenario.load.path));
            }
            self.signals.pause(STEP)?;
        }
        Ok(())
    }

    fn places(&self, name: &str, folder: &Path, port: u16, admin: u16) -> Places {
        let path = |path: &Path| path.display().to_string();
        [
            ("DIR", path(folder)),
            ("PEER", path(&self.grounds.peers.join(name))),
            ("INSTALLED", path(&peer::installed(&self.grounds.peers, name))),
            ("BIN", path(&self.grounds.bin)),
            ("PORT", port.to_string()),
            ("ADMIN_PORT", admin.to_string()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }

    /// Installs, starts and asks. What was reached before a failure stays in `one`.
    fn contender(&mut self, contender: &Contender, behind: &Behind, one: &mut Standing) -> Result<(), String> {
        let home = self.grounds.peers.join(&contender.peer);
        let peer = Peer::read(&home)?;
        one.version = peer.install(&home, &self.grounds.bin)?;
        one.port = self.next_port()?;
        let (folder, admin) = (self.folder(&contender.name), self.next_port()?);
        let mut places = self.places(&contender.peer, &folder, one.port, admin);
        let socket = behind.socket.display();
        let (upstream, url) = if contender.unix {
            (format!("unix:{socket}"), format!("unix:{socket}"))
        } else {
            (format!("127.0.0.1:{}", behind.port), format!("http://127.0.0.1:{}", behind.port))
        };
        for (name, value) in [("UPSTREAM", upstream), ("UPSTREAM_URL", url), ("UPSTREAM_PORT", behind.port.to_string())] {
            places.insert(name.to_owned(), value);
        }
        let start = peer.fill(&home, &contender.args, &contender.set, &places)?;
        write_files(&folder, &start)?;
        let cores = contender.cores.as_deref().unwrap_or(&self.scenario.cores.shard);
        let program = Program { name: &contender.name, command: &start.command, env: &start.env, cores, folder: &folder };
        let child = one.child.insert(Child::start(&program)?);
        let expected = (self.scenario.load.verify == Verify::Same && !peer.rewrites).then_some(&behind.answer);
        let until = host::now() + peer.start_limit()?;
        loop {
            child.alive()?;
            let judged = self.ask(one.port).and_then(|answer| answer.judge(expected));
            match judged {
                Ok(()) => return Ok(()),
                Err(why) if host::now() > until => return Err(format!("{why}{}", child.tail())),
                Err(_) => self.signals.pause(STEP)?,
            }
        }
    }
}

fn write_files(folder: &Path, start: &Start) -> Result<(), String> {
    let fail = |error: std::io::Error| format!("{}: {error}", folder.display());
    std::fs::create_dir_all(folder).map_err(fail)?;
    for (name, text) in &start.files {
        #[expect(clippy::disallowed_methods, reason = "the runner is a tool, not a shard")]
        std::fs::write(folder.join(name), text).map_err(fail)?;
    }
    Ok(())
}
