"""One script of tuning/ off and on, in turn, on one shard: what the knob is worth on this host. The script's own --undo puts back what
was there before, also when a run fails. The server is started for each run, since sockets and memory take some settings at their birth.
"""

import os
import subprocess

from shards import one
from stage import ROOT, Failure, Stage


def script(stage: Stage, words: list[str], mode: str) -> None:
    command = [str(ROOT / "tuning" / words[0]), *words[1:], mode, "--state", str(stage.logs / "tuning")]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    if done.returncode != 0:
        raise Failure(f"{' '.join(command)}: {done.stdout[-300:]}{done.stderr[-300:]}")
    if mode == "--apply" and "nothing to change" in done.stdout:
        raise Failure(f"tuning/{' '.join(words)} finds nothing to change here, so there is nothing to measure")


def run(stage: Stage, words: list[str], shards: int, seconds: float, rounds: int, tell) -> dict:
    if not words or not os.access(ROOT / "tuning" / words[0], os.X_OK):
        raise Failure(f"no script tuning/{' '.join(words)}")
    light = stage.has_light_upstream()
    results: dict[str, list[dict]] = {"off": [], "on": []}
    failures = []
    for turn in range(rounds):
        for way in results:
            if stage.left() < seconds + 8:
                failures.append(f"round {turn + 1}, {way}: no time left")
                continue
            tell(f"round {turn + 1} of {rounds}: {words[0]} {way}")
            try:
                if way == "on":
                    script(stage, words, "--apply")
                results[way].append(one(stage, "plain", "headrace", shards, seconds, light))
            except Failure as failure:
                failures.append(f"round {turn + 1}, {way}: {failure}")
            finally:
                if way == "on":
                    script(stage, words, "--undo")
    rows = [{"way": way, "rounds": runs} for way, runs in results.items() if runs]
    return {"knob": " ".join(words), "rows": rows, "failures": failures, "seconds": seconds}
