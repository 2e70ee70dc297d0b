"""Drives an OpenAI embeddings endpoint with openai-python, many tasks at once, and checks every vector, index and usage figure.

    python client_openai.py BASE_URL MODEL RULE REQUESTS FORMAT      RULE: infinity | litserve, FORMAT: float | base64 |
                                                                 default (what the client asks for itself)

Requests carry one to five ASCII inputs (one alone goes as a plain string), every input of a run has its own length, and both rules
make the vector a function of the input: a misdelivered or misordered answer shows.
No input begins or ends with a space: Infinity strips those, and then its usage is not the bytes that were sent. One JSON line comes out:
{"answers":N,"items":N,"wrong":N,"errors":N,"seconds":S}; the first faults are told on stderr.
"""

import array
import asyncio
import base64
import json
import sys
import time
import zlib

import openai

CLIENTS = 8  # each has its own connection pool, so the same key arrives over several pools
FAULTS_TOLD = 5
LIMIT_S = 20


def right_vector(rule: str, text: str, vector: list[float]) -> bool:
    if rule == "infinity":
        return vector == [float(len(text))] * 13
    return len(vector) == 8 and vector[:3] == [float(len(text)), float(zlib.crc32(text.encode()) & 0xFFFF), 0.5]


def floats(embedding) -> list[float]:
    """The client decodes base64 only where it chose base64 itself; an explicit base64 comes back as the string."""
    return array.array("f", base64.b64decode(embedding)).tolist() if isinstance(embedding, str) else list(embedding)


def inputs_of(requests: int) -> list[list[str]]:
    """Request i carries i % 5 + 1 inputs; lengths 1, 2, 3 ... over the whole run, dealt so that neighbours differ widely."""
    total = sum(i % 5 + 1 for i in range(requests))
    lengths = iter(sorted(range(1, total + 1), key=lambda n: (n * 7919) % total))
    text = lambda n: (f"{n}:" + "the-quick-brown-fox-jumps-over-the-lazy-dog-" * (n // 44 + 1))[:n]
    return [[text(next(lengths)) for _ in range(i % 5 + 1)] for i in range(requests)]


def fault(rule: str, texts: list[str], answer) -> str | None:
    if [d.index for d in answer.data] != list(range(len(texts))):
        return f"indices {[d.index for d in answer.data]} for {len(texts)} inputs"
    for text, item in zip(texts, answer.data):
        vector = floats(item.embedding)
        if item.object != "embedding" or not right_vector(rule, text, vector):
            return f"input of {len(text)} characters got {vector[:4]}..."
    tokens = sum(map(len, texts))
    if (answer.usage.prompt_tokens, answer.usage.total_tokens) != (tokens, tokens):
        return f"usage {answer.usage} for {tokens} characters"
    return None


async def main(base_url: str, model: str, rule: str, requests: int, encoding: str) -> None:
    tally = {"answers": 0, "items": 0, "wrong": 0, "errors": 0}
    clients = [openai.AsyncOpenAI(base_url=base_url, api_key="sk-real-test", max_retries=0, timeout=LIMIT_S) for _ in range(CLIENTS)]

    async def ask(i: int, texts: list[str]) -> None:
        try:
            answer = await clients[i % CLIENTS].embeddings.create(
                model=model, input=texts[0] if len(texts) == 1 else texts, **({} if encoding == "default" else {"encoding_format": encoding})
            )
            why = fault(rule, texts, answer)
        except openai.OpenAIError as error:
            tally["errors"] += 1
            why = f"{type(error).__name__}: {str(error)[:300]}"
        else:
            tally["wrong" if why else "answers"] += 1
            tally["items"] += len(texts)
        if why and tally["wrong"] + tally["errors"] <= FAULTS_TOLD:
            print(f"request {i}: {why}", file=sys.stderr)

    begun = time.monotonic()
    await asyncio.gather(*(ask(i, texts) for i, texts in enumerate(inputs_of(requests))))
    print(json.dumps(tally | {"seconds": round(time.monotonic() - begun, 2)}))
    await asyncio.gather(*(c.close() for c in clients))


asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5]))
