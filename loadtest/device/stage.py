"""The stage of loadtest/device/run: which cores are whose, processes started by id and ended at exit, what a process cost, the load.

What is measured is in shards.py and embed.py; how it is shown in report.py.
"""

import atexit
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TICKS = os.sysconf("SC_CLK_TCK")
START_LIMIT_S = 15


class Failure(Exception):
    """One measurement could not be made: told in one line and in the report; the others go on."""


@dataclass
class Stage:
    headrace: Path
    generator: Path
    nginx: str | None
    logs: Path
    deadline: float
    cores: list[int] = field(default_factory=lambda: sorted(os.sched_getaffinity(0)))
    children: list = field(default_factory=list)

    def __post_init__(self):
        atexit.register(self.end_all)
        self.logs.mkdir(parents=True, exist_ok=True)

    def left(self) -> float:
        return self.deadline - time.monotonic()

    def start(self, name: str, arguments: list, cores: list[int]) -> "Process":
        process = Process(name, arguments, cores, self.logs / f"{name}.log")
        self.children.append(process)
        return process

    def end(self, *processes) -> None:
        for process in processes:
            process.end()
            self.children.remove(process)

    def end_all(self) -> None:
        self.end(*reversed(self.children))

    def has_light_upstream(self) -> bool:
        asked = [self.generator, "upstream", "--help"]
        return subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, timeout=10).returncode == 0

    def load(self, url: str, connections: int, seconds: float, cores: list[int], *more) -> dict:
        """One run of the generator, as it reports it. Errors and wrong answers are in there, not raised."""
        arguments = [self.generator, "--url", url, "-c", connections, "-d", f"{seconds:.2f}s", "--threads", len(cores), "-o", "json", *more]
        limit = seconds + 45
        try:
            done = subprocess.run(
                list(map(str, arguments)), stdin=subprocess.DEVNULL, capture_output=True, timeout=limit, preexec_fn=pinned(cores), text=True
            )
        except subprocess.TimeoutExpired:
            raise Failure(f"the generator took more than {limit:.0f} s") from None
        try:
            return json.loads(done.stdout)
        except ValueError:
            raise Failure(f"the generator ended with {done.returncode}: {done.stderr.strip()[-300:]}") from None


class Process:
    """A server pinned to its cores; its output is in a log."""

    def __init__(self, name: str, arguments: list, cores: list[int], log: Path):
        self.name, self.log = name, log
        with log.open("ab") as out:
            arguments = list(map(str, arguments))
            self.child = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=out, stderr=out, preexec_fn=pinned(cores))

    def answers(self, url: str, limit_s: float = START_LIMIT_S) -> None:
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            if self.child.poll() is not None:
                raise Failure(f"{self.name} ended with {self.child.returncode}: {self.tail()}")
            try:
                with urllib.request.urlopen(url, timeout=2):
                    return
            except urllib.error.HTTPError:
                return
            except OSError:
                time.sleep(0.05)
        raise Failure(f"{self.name} does not answer on {url} after {limit_s:.0f} s: {self.tail()}")

    def listens(self, port: int) -> None:
        """For servers that answer no GET: somebody takes connections there."""
        until = time.monotonic() + START_LIMIT_S
        while time.monotonic() < until and self.child.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        raise Failure(f"{self.name} does not listen on port {port}: {self.tail()}")

    def tail(self) -> str:
        return " / ".join(self.log.read_text(errors="replace").splitlines()[-4:])

    def pids(self) -> list[int]:
        """This process and its children (nginx's workers)."""
        with_children = [self.child.pid]
        for task in Path(f"/proc/{self.child.pid}/task").glob("*/children"):
            with_children += map(int, task.read_text().split())
        return with_children

    def thread_seconds(self) -> dict[int, float]:
        """Processor time of each thread."""
        found = {}
        for pid in self.pids():
            for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
                try:
                    fields = stat.read_text().rpartition(")")[2].split()
                except OSError:
                    # The thread ended between the two looks.
                    continue
                found[int(stat.parent.name)] = (int(fields[11]) + int(fields[12])) / TICKS
        return found

    def resident_mib(self) -> float:
        sizes = [line.split()[1] for pid in self.pids() for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
        return sum(map(int, sizes)) / 1024

    def end(self) -> None:
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(5)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


def pinned(cores: list[int]):
    return lambda: os.sched_setaffinity(0, cores)


_taken: set[int] = set()


def free_port() -> int:
    """A port of 24000 to 24999 nobody listens on now (below the range the kernel gives to clients); each is handed out once."""
    for port in range(24_000 + os.getpid() % 500, 25_000):
        with socket.socket() as probe:
            if port in _taken or probe.connect_ex(("127.0.0.1", port)) == 0:
                continue
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _taken.add(port)
        return port
    raise Failure("no free port from 24000 to 24999")


def gateway(stage: Stage, name: str, cores: list[int], shards: int, config: str, more: str = "") -> tuple[Process, int, int]:
    """headrace with this configuration on these cores, `more` under [server]; its port and its admin port."""
    port, admin = free_port(), free_port()
    file = stage.logs / f"{name}.toml"
    file.write_text(f'[server]\nlisten = ["127.0.0.1:{port}"]\n{more}[admin]\nlisten = "127.0.0.1:{admin}"\n{config}')
    process = stage.start(name, [stage.headrace, "serve", "--shards", shards, "--config", file], cores)
    process.answers(f"http://127.0.0.1:{admin}/livez")
    return process, port, admin


def metrics(admin: int, name: str) -> float:
    """The sum of a metric over its labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=5) as page:
        lines = page.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)


def machine(stage: Stage, commit: str | None) -> dict:
    """Where this was measured."""

    def said(*arguments) -> str:
        try:
            done = subprocess.run(list(map(str, arguments)), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, cwd=ROOT)
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""

    model = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "unknown")
    gpu = said("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader") if shutil.which("nvidia-smi") else ""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "cpu": model,
        "cores": len(stage.cores),
        "kernel": platform.release(),
        "gpu": gpu or "none",
        "headrace": said(stage.headrace, "--version"),
        "commit": commit or said("git", "rev-parse", "--short", "HEAD") or "not known",
        "nginx": stage.nginx or "not here",
    }
