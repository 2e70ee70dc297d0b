"""What was measured as Markdown: medians of the rounds with least and most, and what went wrong. The JSON beside it holds every round."""

from statistics import median


def spread(values: list[float], form: str) -> str:
    """`12.5 (12.1-13.0)`; one round has no spread."""
    values = [value for value in values if value is not None]
    if not values:
        return "-"
    middle = format(median(values), form)
    return middle if len(values) == 1 else f"{middle} ({format(min(values), form)}-{format(max(values), form)})"


def markdown(result: dict) -> str:
    place = result["machine"]
    lines = [
        "# headrace on one host: shards, and a GPU behind it",
        "",
        f"{place['date']}, {place['cores']} cores ({place['cpu']}), Linux {place['kernel']}, GPU: {place['gpu']}, {place['headrace']}, commit {place['commit']}.",
        f"Command: `{result['command']}`, {result['took_s']:.0f} s. Medians of the rounds, with least and most.",
    ]
    if "shards" in result:
        lines += shards(result["shards"])
    if "knob" in result:
        lines += knob(result["knob"])
    if "embed" in result:
        lines += embed(result["embed"])
    return "\n".join(lines) + "\n"


def shards(part: dict) -> list[str]:
    lines = ["", "## Shards", "", f"Upstream: {part['upstream']}; {part['seconds']:.1f} s a run; 64 connections a shard."]
    for work, title in (("plain", "Forwarded: POST of 70 bytes"), ("merged", "Merged: one text a request, every vector checked, the mock model server at cost 0")):
        rows = sorted((row for row in part["rows"] if row["work"] == work), key=lambda row: (row["shards"], row["contender"]))
        if not rows:
            continue
        lines += ["", f"### {title}", "", "| shards | | requests/s | CPU us a request | busy | shards apart | p50 us | p99 us | errors | wrong | note |", "|---|---|---|---|---|---|---|---|---|---|---|"]
        for row in rows:
            runs = row["rounds"]
            each = lambda key: [run[key] for run in runs]
            note = "cores shared with generator and upstream" if runs[0]["shared"] else ""
            if not note and median(each("busy")) < 0.9:
                note = "not saturated: generator or upstream is the limit"
            lines.append(
                f"| {row['shards']} | {row['contender']} | {spread(each('requests_per_second'), ',.0f')} | {spread(each('cpu_us_per_request'), '.2f')} "
                f"| {median(each('busy')):.0%} | {median(each('shard_spread')):.0%} | {spread(each('p50_us'), ',.0f')} | {spread(each('p99_us'), ',.0f')} "
                f"| {sum(each('errors'))} | {sum(each('wrong'))} | {note} |"
            )
    return lines + complaints(part)


def knob(part: dict) -> list[str]:
    columns = ("requests_per_second", ",.0f"), ("cpu_us_per_request", ".2f"), ("p50_us", ",.0f"), ("p99_us", ",.0f"), ("resident_mib", ".1f")
    lines = ["", f"## tuning/{part['knob']}", "", f"One POST of 70 bytes, forwarded; {part['seconds']:.1f} s a run, off and on in turn.", ""]
    lines += ["| | requests/s | CPU us a request | p50 us | p99 us | resident MiB | errors |", "|---|---|---|---|---|---|---|"]
    for row in part["rows"]:
        cells = [spread([run[key] for run in row["rounds"]], form) for key, form in columns]
        lines.append(f"| {row['way']} | {' | '.join(cells)} | {sum(run['errors'] for run in row['rounds'])} |")
    return lines + complaints(part)


def embed(part: dict) -> list[str]:
    lines = ["", "## A GPU that computes one call at a time", ""]
    if part["rows"]:
        lines += [
            f"One text of 128 bytes a request, base64 answers, {part['seconds']:.1f} s a run, at most 128 items a call.",
        ]
    for model in dict.fromkeys(row["model"] for row in part["rows"]):
        rows = [row for row in part["rows"] if row["model"] == model]
        lines += ["", f"### {model}: {rows[0]['engine']}", ""]
        lines += ["| clients | direct/s | headrace/s | gain | p50 ms direct | p50 ms headrace | p99 ms direct | p99 ms headrace | mean batch | GPU busy direct | GPU busy headrace | headrace CPU us a request | errors |"]
        lines += ["|---|---|---|---|---|---|---|---|---|---|---|---|---|"]
        for clients in dict.fromkeys(row["clients"] for row in rows):
            get = lambda way, key: [row[key] for row in rows if (row["clients"], row["way"]) == (clients, way) and row[key] is not None]
            direct, through = get("direct", "requests_per_second"), get("headrace", "requests_per_second")
            gain = f"{median(through) / median(direct):.1f}x" if direct and through and median(direct) else "-"
            lines.append(
                f"| {clients} | {spread(direct, ',.0f')} | {spread(through, ',.0f')} | {gain} | {spread(get('direct', 'p50_ms'), '.2f')} "
                f"| {spread(get('headrace', 'p50_ms'), '.2f')} | {spread(get('direct', 'p99_ms'), '.2f')} | {spread(get('headrace', 'p99_ms'), '.2f')} "
                f"| {spread(get('headrace', 'mean_batch'), '.1f')} | {spread(get('direct', 'gpu_busy_percent'), '.0f')} | {spread(get('headrace', 'gpu_busy_percent'), '.0f')} "
                f"| {spread(get('headrace', 'headrace_cpu_us_per_request'), '.1f')} | {sum(get('direct', 'errors')) + sum(get('headrace', 'errors'))} |"
            )
    for check in part["checks"]:
        lines += ["", f"{check['model']}: {check['checked']} answers under load compared with the text's own vector, {check['merged']} of them from merged calls, {check['wrong']} wrong, least cosine {check['least_cosine']:.6f}."]
        lines += [f"- {one}" for one in check["complaints"]]
    return lines + complaints(part)


def complaints(part: dict) -> list[str]:
    return ["", "Not measured:", "", *(f"- {one}" for one in part["failures"])] if part["failures"] else []
