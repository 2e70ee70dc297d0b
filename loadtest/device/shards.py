"""Throughput and processor time per request at 1, 2, 4, 8 and 12 shards: small requests forwarded, and single embeddings merged.

The shards get the first cores; a quarter of the others is for the upstream's processes, the rest for the generator. With many
shards the generator is the bottleneck: `busy` says how much of the shards' cores was used, and the processor time per request is
what to compare. Where there are fewer cores than shards need, all share them, and the row says so.
"""

import statistics
import time

from stage import Failure, Process, Stage, free_port, gateway

SHARDS = (1, 2, 4, 8, 12)
BODY = b'{"model":"m","input":"seventy bytes of JSON, as small calls have it!"}'
CONNECTIONS_PER_SHARD = 64
# The built-in mock answers there too, where the generator has no light upstream.
PLAIN = "/mock/echo"


def layout(cores: list[int], shards: int) -> tuple[list[int], list[int], list[int], bool]:
    """Whose cores are whose: shards, upstream, generator; and whether they are shared."""
    rest = cores[shards:]
    if not rest:
        return cores[:shards], cores, cores, True
    if len(rest) == 1:
        return cores[:shards], rest, rest, False
    upstream = max(1, len(rest) // 4)
    return cores[:shards], rest[:upstream], rest[upstream:], False


def counts(cores: list[int]) -> list[int]:
    """The last one may take all cores: on two of them, two shards still say what a request costs."""
    return [count for count in SHARDS if count < len(cores) or (count == len(cores) <= 2)]


def upstreams(stage: Stage, cores: list[int], light: bool) -> tuple[list[Process], list[int]]:
    """One single-threaded server a core."""
    processes, ports = [], []
    for core in cores:
        port = free_port()
        if light:
            arguments = [stage.generator, "upstream", "--listen", f"127.0.0.1:{port}", "--answer-bytes", 70]
        else:
            arguments = [stage.headrace, "mock", "--listen", f"127.0.0.1:{port}", "--cost", "0ms+0ms"]
        process = stage.start(f"upstream-{port}", arguments, [core])
        processes.append(process)
        process.listens(port)
        ports.append(port)
    return processes, ports


def nginx(stage: Stage, cores: list[int], ports: list[int]) -> tuple[Process, int]:
    """nginx with a worker a core: keep-alive on both sides, no logs, nothing else switched on."""
    port = free_port()
    folder = stage.logs / "nginx"
    folder.mkdir(exist_ok=True)
    servers = "".join(f"    server 127.0.0.1:{one};\n" for one in ports)
    masks = " ".join("".join("1" if core == other else "0" for other in reversed(range(max(cores) + 1))) for core in cores)
    (folder / "nginx.conf").write_text(
        f"""daemon off; worker_processes {len(cores)}; worker_cpu_affinity {masks}; pid {folder}/pid; error_log {folder}/error.log crit;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 100000000; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream up {{
{servers}    keepalive 256; keepalive_requests 100000000;
  }}
  server {{
    listen 127.0.0.1:{port} reuseport backlog=4096;
    location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""
    )
    process = stage.start(f"nginx-{port}", [stage.nginx, "-p", folder, "-c", folder / "nginx.conf"], cores)
    process.listens(port)
    return process, port


def one(stage: Stage, work: str, contender: str, shards: int, seconds: float, light: bool) -> dict:
    """Starts all, warms up, measures once, ends all."""
    mine, theirs, loaders, shared = layout(stage.cores, shards)
    processes, ports = upstreams(stage, theirs, light and work == "plain")
    try:
        if contender == "nginx":
            server, port = nginx(stage, mine, ports)
        else:
            endpoints = ", ".join(f'"http://127.0.0.1:{one}"' for one in ports)
            way = (
                f'[[routes]]\npath = "{PLAIN}"\nupstream = "up"\n'
                if work == "plain"
                else '[[models]]\nname = "*"\nupstream = "up"\nbatching = { mode = "exclusive", max_items = 32 }\n'
            )
            name = f"headrace-{work}-{shards}"
            server, port, _ = gateway(stage, name, mine, shards, f'[[upstreams]]\nname = "up"\nendpoints = [{endpoints}]\n{way}')
        processes.append(server)
        return measure(stage, work, server, port, mine, loaders, seconds) | {"shared": shared}
    finally:
        stage.end(*reversed(processes))


def measure(stage: Stage, work: str, server: Process, port: int, mine: list[int], loaders: list[int], seconds: float) -> dict:
    body = stage.logs / "body.json"
    body.write_bytes(BODY)
    url, more = (f"http://127.0.0.1:{port}{PLAIN}", ["--post", body]) if work == "plain" else (f"http://127.0.0.1:{port}/v1/embeddings", ["--check"])
    connections = CONNECTIONS_PER_SHARD * len(mine)
    stage.load(url, connections, min(1.0, seconds / 2), loaders, *more)
    before, began = server.thread_seconds(), time.monotonic()
    report = stage.load(url, connections, seconds, loaders, *more)
    wall = time.monotonic() - began
    after = server.thread_seconds()
    spent = sorted((after[thread] - before.get(thread, 0.0) for thread in after), reverse=True)
    # The busiest threads are the shards; the control thread hardly runs.
    shares = spent[: len(mine)]
    done = max(1, report["done"])
    return {
        "requests_per_second": report["requests_per_second"],
        "cpu_us_per_request": sum(spent) * 1e6 / done,
        "busy": sum(shares) / len(mine) / min(wall, report["elapsed_s"]),
        "shard_spread": (max(shares) - min(shares)) / max(1e-9, statistics.mean(shares)),
        "p50_us": report["latency"]["p50_us"],
        "p99_us": report["latency"]["p99_us"],
        "connections": connections,
        "errors": report["errors"],
        "wrong": report["wrong"],
        "resident_mib": server.resident_mib(),
        "generator_cpu_us": report.get("generator_cpu_us_per_request", report.get("cpu_us_per_request")),
    }


def run(stage: Stage, seconds: float, rounds: int, tell) -> dict:
    """All shard counts, contender by contender in turn, round by round."""
    light = stage.has_light_upstream()
    results: dict[tuple, list[dict]] = {}
    failures = []
    contenders = ["headrace", *(["nginx"] if stage.nginx else [])]
    plan = [(work, count, contender) for work in ("plain", "merged") for count in counts(stage.cores) for contender in contenders]
    plan = [step for step in plan if step[0] == "plain" or step[2] == "headrace"]
    for turn in range(rounds):
        for work, count, contender in plan:
            if stage.left() < seconds + 10:
                failures.append(f"round {turn + 1}, {work}, {count} shards, {contender}: no time left")
                continue
            tell(f"round {turn + 1} of {rounds}: {work}, {count} shards, {contender}")
            try:
                results.setdefault((work, count, contender), []).append(one(stage, work, contender, count, seconds, light))
            except Failure as failure:
                failures.append(f"round {turn + 1}, {work}, {count} shards, {contender}: {failure}")
    rows = [{"work": work, "shards": count, "contender": contender, "rounds": runs} for (work, count, contender), runs in results.items()]
    upstream = "headrace-loadtest upstream" if light else "headrace mock, cost 0 (it reads the request, so it limits the rate sooner)"
    return {"rows": rows, "failures": failures, "upstream": upstream, "seconds": seconds}
