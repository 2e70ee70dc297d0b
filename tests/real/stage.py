"""Sets the stage for tests/real/run: virtual environments, the generator, free ports, processes started by id and ended at exit.

What is checked on that stage is in checks.py; which versions are installed is in the *.txt lists beside this file.
"""

import atexit
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
NODE_OPENAI = "6.49.0"
START_LIMIT_S = 60
INSTALL_LIMIT_S = 240


class Failure(Exception):
    """The stage could not be set: told in one line, without a traceback."""


def workspace() -> Path:
    path = Path(os.environ.get("HEADRACE_REAL_DIR", ROOT / "target" / "real")).resolve()
    (path / "logs").mkdir(parents=True, exist_ok=True)
    return path


def call(args: list, log: Path, limit_s: float) -> None:
    """Run to the end; on failure the log's tail is the message."""
    with log.open("wb") as out:
        try:
            code = subprocess.run(list(map(str, args)), stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=limit_s).returncode
        except subprocess.TimeoutExpired:
            code = f"more than {limit_s:.0f} s"
        except FileNotFoundError as missing:
            code = missing
    if code != 0:
        raise Failure(f"{Path(args[0]).name} {args[1]}: {code}\n{tail(log)}")


def tail(log: Path, lines: int = 15) -> str:
    return "\n".join("    " + line for line in log.read_text(errors="replace").splitlines()[-lines:])


def cached(folder: Path, marker: str, build) -> bool:
    """Build `folder` unless its marker says that just this was built there before. True when it had to be built."""
    stamp = folder / ".installed"
    if stamp.is_file() and stamp.read_text() == marker:
        return False
    shutil.rmtree(folder, ignore_errors=True)
    build()
    stamp.write_text(marker)
    return True


def virtual_environment(work: Path, name: str) -> Path:
    """The python of the environment that holds exactly what NAME.txt lists."""
    folder, pins = work / name, HERE / f"{name}.txt"

    def build():
        log = work / "logs" / f"install-{name}.log"
        call([sys.executable, "-m", "venv", folder], log, INSTALL_LIMIT_S)
        call([folder / "bin" / "pip", "install", "--no-compile", "--disable-pip-version-check", "-q", "-r", pins], log, INSTALL_LIMIT_S)

    marker = hashlib.sha256(pins.read_bytes() + sys.version.encode() + str(folder).encode()).hexdigest()
    cached(folder, marker, build)
    return folder / "bin" / "python"


def node_modules(work: Path) -> Path:
    folder = work / "node"

    def build():
        folder.mkdir(parents=True)
        log = work / "logs" / "install-node.log"
        call(["npm", "install", "--prefix", folder, "--no-audit", "--no-fund", "--no-save", f"openai@{NODE_OPENAI}"], log, INSTALL_LIMIT_S)

    cached(folder, NODE_OPENAI, build)
    return folder / "node_modules"


def generator(work: Path) -> Path:
    """The load generator: HEADRACE_GENERATOR (same arguments, same output) or generate.c, compiled."""
    if chosen := os.environ.get("HEADRACE_GENERATOR"):
        return Path(chosen)
    source = HERE / "generate.c"
    folder = work / "generator"

    def build():
        folder.mkdir(parents=True)
        call([os.environ.get("CC", "cc"), "-O2", "-Wall", "-Werror", "-o", folder / "generate", source], work / "logs" / "install-generator.log", 60)

    cached(folder, hashlib.sha256(source.read_bytes()).hexdigest(), build)
    return folder / "generate"


def headrace() -> Path:
    """HEADRACE_BIN, or a release build of this checkout."""
    if chosen := os.environ.get("HEADRACE_BIN"):
        return Path(chosen).resolve()
    subprocess.run(["cargo", "build", "--release", "--bin", "headrace"], cwd=ROOT, stdin=subprocess.DEVNULL, check=True)
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "release" / "headrace"


_taken: set[int] = set()


def free_port() -> int:
    """A port nobody listens on now. Held only for a moment, so each is handed out once."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port not in _taken:
            _taken.add(port)
            return port


class Process:
    """A server of ours in a process group of its own, so that its workers end with it."""

    _alive: list["Process"] = []

    def __init__(self, name: str, args: list, work: Path, env: dict[str, str] | None = None):
        self.name, self.log = name, work / "logs" / f"{name}.log"
        with self.log.open("wb") as out:
            self.child = subprocess.Popen(
                list(map(str, args)), stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=os.environ | (env or {}), start_new_session=True, cwd=work
            )
        Process._alive.append(self)

    def await_port(self, port: int) -> "Process":
        until = time.monotonic() + START_LIMIT_S
        while time.monotonic() < until:
            if self.child.poll() is not None:
                raise Failure(f"{self.name} ended with {self.child.returncode} at its start\n{tail(self.log)}")
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return self
            except OSError:
                time.sleep(0.1)
        raise Failure(f"{self.name} does not listen after {START_LIMIT_S} s\n{tail(self.log)}")

    def ask_to_end(self) -> None:
        self.child.send_signal(signal.SIGTERM)

    def exit_code(self, limit_s: float) -> int | None:
        """None when it has not ended in time."""
        try:
            return self.child.wait(limit_s)
        except subprocess.TimeoutExpired:
            return None

    def end(self) -> None:
        """SIGTERM to the group, two seconds of patience, SIGKILL to what is left of it (LitServe's worker outlives its parent)."""
        for number, patience in ((signal.SIGTERM, 2), (signal.SIGKILL, 2)):
            try:
                os.killpg(self.child.pid, number)
            except ProcessLookupError:
                break
            self.exit_code(patience)

    @classmethod
    def end_all(cls) -> None:
        for process in reversed(cls._alive):
            process.end()
        cls._alive.clear()


atexit.register(Process.end_all)
