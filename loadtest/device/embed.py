"""A GPU that computes one call at a time (embed_server.py), asked directly and through headrace by 1, 32, 128 and 256 clients with one
text a request. Afterwards, and apart from what is timed, requests with known texts go through headrace under load, with the same fields,
so that they share calls with the load: each must come back as the vector that the server gave for that text alone.
"""

import array
import base64
import http.client
import json
import math
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager

from stage import HERE, Failure, Stage, free_port, gateway, metrics

CLIENTS = (1, 32, 128, 256)
TEXT_BYTES = 128
MAX_ITEMS = 128
MODELS = ("minilm", "300m")
# Floats of a batch differ from solo ones in the last digits (half precision on a GPU); another text's vector differs in the first.
COSINE_MIN = 0.999
SAMPLES = 24
CHECK_S = 2.0


class Checker:
    """Knows the vectors of some texts asked alone, and compares what comes back under load."""

    def __init__(self, port: int):
        """Asks the server itself."""
        self.texts = [f"sample {at}: " + " ".join(f"word{(at * 7919 + n * 104729) % 1000}" for n in range(3 + at)) for at in range(SAMPLES)]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.solo = [ask(connection, text, at % 2 == 0)[0] for at, text in enumerate(self.texts)]
        self.checked, self.wrong, self.merged, self.least, self.complaints = 0, 0, 0, 1.0, []
        self.lock = threading.Lock()
        near = max(cosine(a, b) for at, a in enumerate(self.solo) for b in self.solo[:at])
        if near >= COSINE_MIN:
            raise Failure(f"two texts have the same vector (cosine {near:.5f}): a mix-up could not be told")

    @contextmanager
    def watch(self, port: int, as_base64: bool, threads: int = 4):
        """Asks all the while."""
        stop = threading.Event()
        workers = [threading.Thread(target=self.work, args=(port, as_base64, at, threads, stop)) for at in range(threads)]
        for worker in workers:
            worker.start()
        try:
            yield
        finally:
            stop.set()
            for worker in workers:
                worker.join()

    def work(self, port: int, as_base64: bool, first: int, step: int, stop: threading.Event) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        turn = 0
        while not stop.wait(0.005):
            at = (first + step * turn) % SAMPLES
            turn += 1
            batch, complaint = 0, ""
            try:
                vector, batch = ask(connection, self.texts[at], as_base64)
                likeness = cosine(vector, self.solo[at])
            except (OSError, http.client.HTTPException, Failure, ValueError, KeyError) as error:
                connection.close()
                likeness, complaint = -1.0, f"{type(error).__name__}: {error}"
            with self.lock:
                self.checked += 1
                self.merged += batch > 1
                self.least = min(self.least, likeness)
                if likeness < COSINE_MIN:
                    self.wrong += 1
                    self.complaints.append(complaint or f"text {at}: cosine {likeness:.5f}")


def ask(connection: http.client.HTTPConnection, text: str, as_base64: bool) -> tuple[array.array, int]:
    """A text's vector, and how many shared the call (0 when it is not said). The fields are those of the generator's requests."""
    form = {"encoding_format": "base64"} if as_base64 else {}
    body = json.dumps({"model": "random", **form, "input": text}, separators=(",", ":"))
    connection.request("POST", "/v1/embeddings", body, {"content-type": "application/json"})
    got = connection.getresponse()
    answer = got.read()
    if got.status != 200:
        raise Failure(f"status {got.status}: {answer[:200]!r}")
    (item,) = json.loads(answer)["data"]
    vector = item["embedding"]
    batch = int(got.headers.get("x-headrace-batch-size", 0))
    return (array.array("f", base64.b64decode(vector)) if as_base64 else array.array("f", vector)), batch


def cosine(a: array.array, b: array.array) -> float:
    if len(a) != len(b):
        return -1.0
    return sum(x * y for x, y in zip(a, b)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


class Gpu:
    """How busy the GPU was, sampled twice a second where nvidia-smi is."""

    def __init__(self):
        self.child = None
        if shutil.which("nvidia-smi"):
            arguments = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "500"]
            self.child = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def end(self) -> float | None:
        if self.child is None:
            return None
        self.child.terminate()
        values = [float(line) for line in self.child.communicate()[0].split() if line.isdigit()]
        return sum(values) / len(values) if values else None


def layout(cores: list[int]) -> dict[str, list[int]]:
    """On a small machine all share what is there."""
    if len(cores) < 8:
        return {"headrace": cores, "shards": [0] * min(2, len(cores)), "generator": cores[-1:], "server": cores}
    return {"headrace": cores[:4], "shards": [0] * 4, "generator": cores[4:6], "server": cores[6:]}


def engine(cpu: bool) -> str:
    """What can compute here."""
    try:
        import torch
    except ImportError:
        if cpu:
            return "pretend"
        raise Failure("PyTorch is not here: install it, or take the stand-in with --cpu") from None
    if cpu:
        return "cpu"
    if not torch.cuda.is_available():
        raise Failure("PyTorch sees no GPU: take the stand-in with --cpu")
    return "cuda"


def run(stage: Stage, seconds: float, rounds: int, cpu: bool, tell) -> dict:
    try:
        chosen = engine(cpu)
    except Failure as failure:
        return {"rows": [], "checks": [], "failures": [str(failure)], "seconds": seconds}
    rows, checks, failures = [], [], []
    for model in MODELS:
        if stage.left() < 30:
            failures.append(f"{model}: no time left")
            continue
        try:
            one_model(stage, model, chosen, seconds, rounds, tell, rows, checks, failures)
        except Failure as failure:
            failures.append(f"{model}: {failure}")
    return {"rows": rows, "checks": checks, "failures": failures, "seconds": seconds}


def one_model(stage: Stage, model: str, chosen: str, seconds: float, rounds: int, tell, rows: list, checks: list, failures: list) -> None:
    cores = layout(stage.cores)
    port = free_port()
    tell(f"{model}: making the model ({chosen})")
    arguments = [sys.executable, HERE / "embed_server.py", "--port", port, "--model", model, "--engine", chosen]
    server = stage.start(f"embed-{model}", arguments, cores["server"])
    proxy = None
    try:
        server.answers(f"http://127.0.0.1:{port}/health", max(5.0, min(90.0, stage.left() - 20)))
        with_health = json.loads(fetch(port, "/health"))
        config = (
            f'[[upstreams]]\nname = "gpu"\nendpoints = ["http://127.0.0.1:{port}"]\n'
            f'[[models]]\nname = "*"\nupstream = "gpu"\nbatching = {{ mode = "exclusive", max_items = {MAX_ITEMS} }}\n'
        )
        proxy, through, admin = gateway(stage, f"headrace-{model}", cores["headrace"], len(cores["shards"]), config)
        for turn in range(rounds):
            for clients in CLIENTS:
                for way in ("direct", "headrace"):
                    if stage.left() < seconds + 6:
                        failures.append(f"round {turn + 1}, {model}, {clients} clients, {way}: no time left")
                        continue
                    tell(f"round {turn + 1} of {rounds}: {model}, {clients} clients, {way}")
                    target = port if way == "direct" else through
                    try:
                        row = measure(stage, target, clients, seconds, cores["generator"], server, (proxy, admin))
                    except Failure as failure:
                        failures.append(f"round {turn + 1}, {model}, {clients} clients, {way}: {failure}")
                        continue
                    rows.append({"model": model, "engine": with_health["engine"], "clients": clients, "way": way, "round": turn + 1} | row)
        stage.end(proxy)
        proxy = None
        tell(f"{model}: are the answers under load the right ones?")
        checks.append({"model": model} | check(stage, model, port, cores, config))
    finally:
        stage.end(*filter(None, (proxy, server)))


def check(stage: Stage, model: str, port: int, cores: dict[str, list[int]], config: str) -> dict:
    """Known texts among 64 clients' load, as base64 and as numbers. A gateway of its own, which tells the size of the batches."""
    name = f"headrace-{model}-check"
    proxy, through, _ = gateway(stage, name, cores["headrace"], len(cores["shards"]), config, "debug_headers = true\n")
    try:
        checker = Checker(port)
        for as_base64 in (True, False):
            with checker.watch(through, as_base64):
                more = ["--input-bytes", TEXT_BYTES, "--model", "random", *(["--base64"] if as_base64 else [])]
                report = stage.load(f"http://127.0.0.1:{through}/v1/embeddings", 64, CHECK_S, cores["generator"], *more)
                if report["errors"]:
                    checker.complaints.append(f"{report['errors']} errors in the load beside it: {report['statuses']} {report['failures']}")
                    checker.wrong += report["errors"]
    finally:
        stage.end(proxy)
    if checker.merged == 0:
        checker.complaints.append("none of these answers came from a merged call, so nothing was shown")
        checker.wrong += 1
    found = {"checked": checker.checked, "merged": checker.merged, "wrong": checker.wrong, "least_cosine": checker.least}
    return found | {"complaints": checker.complaints[:5]}


def measure(stage: Stage, port: int, clients: int, seconds: float, cores: list[int], server, gate: tuple) -> dict:
    proxy, admin = gate
    url = f"http://127.0.0.1:{port}/v1/embeddings"
    more = ["--input-bytes", TEXT_BYTES, "--base64", "--model", "random"]
    stage.load(url, clients, min(1.0, seconds / 3), cores, *more)
    gpu = Gpu()
    names = ("headrace_batch_items_sum", "headrace_batch_items_count")
    before = [metrics(admin, name) for name in names] + [sum(proxy.thread_seconds().values()), sum(server.thread_seconds().values())]
    report = stage.load(url, clients, seconds, cores, *more)
    after = [metrics(admin, name) for name in names] + [sum(proxy.thread_seconds().values()), sum(server.thread_seconds().values())]
    items, batches, proxy_s, server_s = (now - then for now, then in zip(after, before))
    done = max(1, report["done"])
    return {
        "requests_per_second": report["requests_per_second"],
        "p50_ms": report["latency"]["p50_us"] / 1000,
        "p99_ms": report["latency"]["p99_us"] / 1000,
        "errors": report["errors"],
        "mean_batch": items / batches if batches else None,
        "headrace_cpu_us_per_request": proxy_s * 1e6 / done if batches else None,
        "server_cpu_us_per_request": server_s * 1e6 / done,
        "gpu_busy_percent": gpu.end(),
    }


def fetch(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    return connection.getresponse().read()
