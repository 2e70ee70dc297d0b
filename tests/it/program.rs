//! The program itself in a process of its own, for what a process has: memory, signals, an exit code.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use headrace::config::Io;
use rustix::process::{Pid, Signal, kill_process};

use crate::client::{Client, get};
use crate::gate::{eventually, io, scratch, sum};
use crate::{checker, gate};

pub(crate) struct Program {
    child: Child,
    pub(crate) file: PathBuf,
    pub(crate) addr: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Program {
    /// Serves `text`, in which `$LISTEN` and `$ADMIN` stand for addresses that are free and `$UP` for the endpoint.
    pub(crate) fn serve(shards: u32, text: &str, up: &str) -> Program {
        Program::logging(shards, text, up, Stdio::inherit)
    }

    /// The same, with its log going to `log`.
    pub(crate) fn logging(shards: u32, text: &str, up: &str, log: impl Fn() -> Stdio) -> Program {
        // A free port may be taken by somebody else before the program binds it: then others are tried.
        (0..10).find_map(|_| Program::try_serve(shards, text, up, log())).expect("the program starts")
    }

    fn try_serve(shards: u32, text: &str, up: &str, log: Stdio) -> Option<Program> {
        let (addr, admin) = (free_port(), free_port());
        let file = scratch("serve.toml");
        let text = text.replace("$LISTEN", &addr.to_string()).replace("$ADMIN", &admin.to_string()).replace("$UP", up);
        std::fs::write(&file, text).unwrap();
        let driver = if io() == Io::Epoll { "epoll" } else { "uring" };
        let child = Command::new(env!("CARGO_BIN_EXE_headrace"))
            .args(["serve", "--shards", &shards.to_string(), "--io", driver, "--config"])
            .arg(&file)
            .arg("--pid-file")
            .arg(pid_file(&file))
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut program = Program { child, file, addr, admin };
        let mut alive = true;
        eventually("the program serves or ends", || {
            alive = program.child.try_wait().unwrap().is_none();
            // The page is bound first and answers last.
            !alive || (TcpStream::connect(admin).is_ok() && Client::tcp(admin).ask(get("/livez")).status == 200)
        });
        alive.then_some(program)
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The process that serves now: after an upgrade it is not the one that was started.
    pub(crate) fn pid(&self) -> Option<Pid> {
        Pid::from_raw(std::fs::read_to_string(pid_file(&self.file)).ok()?.trim().parse().ok()?)
    }

    /// Asks the process that serves to hand over to a new one, waits until that serves, and returns the old one.
    pub(crate) fn upgrade(&self) -> Pid {
        let mut old = None;
        eventually("it has written its id", || {
            old = self.pid();
            old.is_some()
        });
        let old = old.unwrap();
        kill_process(old, Signal::USR2).unwrap();
        eventually("the new process serves", || self.pid().is_some_and(|pid| pid != old));
        old
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> ExitStatus {
        let mut status = None;
        eventually("the program ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    pub(crate) fn metrics(&self) -> checker::Samples {
        let answer = Client::tcp(self.admin).ask(get("/metrics"));
        checker::check(answer.text())
    }

    pub(crate) fn comes_to_rest(&self) {
        eventually("all gauges return to zero", || {
            let samples = self.metrics();
            gate::GAUGES.iter().all(|name| sum(&samples, name, &[]) == 0.0)
        });
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // A successor of this child, if there is one.
        if let Some(pid) = self.pid().filter(|pid| *pid != Pid::from_child(&self.child) && is_alive(*pid)) {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = std::fs::remove_file(pid_file(&self.file));
        // Only this child, and only while it has not been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.file);
    }
}

fn pid_file(file: &Path) -> PathBuf {
    file.with_extension("pid")
}

/// Whether the process is there and has not ended; one that nobody has waited for yet has.
pub(crate) fn is_alive(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
