"""Streams chat completions with openai-python: whole ones, ones it leaves in the middle, and ones whose server dies.

    python client_stream.py BASE_URL MODEL STREAMS          each promise with so many streams at once

One JSON line comes out: {"whole":N,"wrong":N,"first_ms":T,"left":N,"told":N,"untold":N}. `whole` have every word, finish reason and usage;
`first_ms` is the median time to the first word of streams that take 600 ms; `left` were left after three words; `told` are those whose
server died and that the client raised as an API error (`untold`: they ended as if whole, or in another way).
"""

import asyncio
import json
import statistics
import sys
import time

import openai

LIMIT_S = 20


def messages(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


async def main(base_url: str, model: str, streams: int) -> None:
    client = openai.AsyncOpenAI(base_url=base_url, api_key="sk-real-test", max_retries=0, timeout=LIMIT_S)
    tally = {"whole": 0, "wrong": 0, "left": 0, "told": 0, "untold": 0}
    firsts: list[float] = []

    async def whole(i: int) -> None:
        said, text, finish, usage, begun = f"{i} " + "ä-word " * (i % 7 + 5), "", None, None, time.monotonic()
        stream = await client.chat.completions.create(
            model=model, messages=messages(f"delay:{600 // (i % 7 + 6)} {said}"), stream=True, stream_options={"include_usage": True}
        )
        async for chunk in stream:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                if choice.delta.content and not text:
                    firsts.append((time.monotonic() - begun) * 1e3)
                text, finish = text + (choice.delta.content or ""), choice.finish_reason or finish
        right = text.split() == said.split() and finish == "stop" and usage and usage.completion_tokens == len(said.split())
        tally["whole" if right else "wrong"] += 1
        if not right:
            print(f"stream {i}: {text[:80]!r} {finish} {usage}", file=sys.stderr)

    async def leave(i: int) -> None:
        stream = await client.chat.completions.create(model=model, messages=messages(f"delay:5 repeat:100000 gone{i}"), stream=True)
        seen = 0
        async for chunk in stream:
            seen += bool(chunk.choices and chunk.choices[0].delta.content)
            if seen == 3:
                break
        await stream.close()
        tally["left"] += seen == 3

    async def die(i: int) -> None:
        try:
            async for _ in await client.chat.completions.create(model=model, messages=messages(f"some words {i} die never said"), stream=True):
                pass
            tally["untold"] += 1
        except openai.APIError as error:
            told = "closed the connection" in str(error)
            tally["told" if told else "untold"] += 1
            if not told:
                print(f"died {i}: {type(error).__name__}: {str(error)[:200]}", file=sys.stderr)

    for part in (whole, leave, die):
        await asyncio.gather(*(part(i) for i in range(streams)))
    print(json.dumps(tally | {"first_ms": round(statistics.median(firsts), 1) if firsts else -1}))
    await client.close()


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
