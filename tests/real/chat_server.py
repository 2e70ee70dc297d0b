"""A chat server on FastAPI and uvicorn, the stack of vLLM's front end: it streams the words of the last message back, one event each.

`delay:N` as the first word waits N ms before each word, `repeat:N` as the next says the rest N times, `die` closes the connection in the
middle. Words generated, streams begun and streams whose client left are counted in the file named by COUNTER.

    python chat_server.py PORT
"""

import asyncio
import json
import os
import sys

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

app = FastAPI()
counter = os.open(os.environ["COUNTER"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
counts = {"words": 0, "begun": 0, "left": 0}


def count(what: str) -> None:
    counts[what] += 1
    os.pwrite(counter, f"{counts['words']:010} {counts['begun']:010} {counts['left']:010}\n".encode(), 0)


def event(model: str, delta: dict, finish: str | None = None, **more) -> bytes:
    choices = [] if "usage" in more else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return b"data: " + json.dumps({"id": "chat-1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": choices} | more).encode() + b"\n\n"


async def words(model: str, text: str, usage: bool):
    said = text.split()
    delay = int(said.pop(0)[6:]) / 1e3 if said[0].startswith("delay:") else 0.0
    if said[0].startswith("repeat:"):
        said = said[1:] * int(said[0][7:])
    count("begun")
    whole = False
    try:
        yield event(model, {"role": "assistant", "content": ""})
        for word in said:
            if word == "die":
                whole = True
                raise RuntimeError("told to die")
            await asyncio.sleep(delay)
            count("words")
            yield event(model, {"content": word + " "})
        whole = True
        yield event(model, {}, "stop")
        if usage:
            total = len(text.split()) + len(said)
            yield event(model, {}, usage={"prompt_tokens": len(text.split()), "completion_tokens": len(said), "total_tokens": total})
        yield b"data: [DONE]\n\n"
    finally:
        if not whole:
            count("left")


@app.post("/v1/chat/completions")
async def chat(request: Request):
    body = await request.json()
    usage = bool((body.get("stream_options") or {}).get("include_usage"))
    return StreamingResponse(words(body["model"], body["messages"][-1]["content"], usage), media_type="text/event-stream")


count("words")
counts["words"] = 0
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="critical", access_log=False)
