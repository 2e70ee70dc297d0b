"""HTTP/1.1 by hand over asyncio, for what the ordinary clients never do: chunked bodies, bodies in dribbles, hanging up mid-request.

One request a connection (`Connection: close` is not sent: the answer's own length ends it, as for a keep-alive client). It checks the
framing of the answer and raises `Framing` where it is broken; what the body must say is the caller's business.
"""

import asyncio
import json
from dataclasses import dataclass


class Framing(Exception):
    """The answer is not one well-formed HTTP/1.1 response."""


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self):
        return json.loads(self.body)


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    version, status = head[0].split(" ", 2)[:2]
    if version != "HTTP/1.1":
        raise Framing(f"version {version!r}")
    headers: dict[str, str] = {}
    for line in filter(None, head[1:]):
        name, _, value = line.partition(":")
        if name.lower() in headers and name.lower() in ("content-length", "transfer-encoding", "content-type"):
            raise Framing(f"{name} twice")
        headers[name.lower()] = value.strip()
    if "content-length" in headers:
        if "transfer-encoding" in headers:
            raise Framing("content-length and transfer-encoding together")
        return Answer(int(status), headers, await reader.readexactly(int(headers["content-length"])))
    if headers.get("transfer-encoding", "").lower() != "chunked":
        raise Framing(f"no length: {headers}")
    body = b""
    while size := int((await reader.readline()).split(b";")[0], 16):
        body += await reader.readexactly(size)
        if await reader.readexactly(2) != b"\r\n":
            raise Framing("chunk without an end")
    await reader.readline()
    return Answer(int(status), headers, body)


def request_bytes(port: int, body: bytes, path: str, form: str) -> list[bytes]:
    """The pieces to write, one write each. Forms: plain, chunked, dribble (the body in many small writes)."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\nAuthorization: Bearer sk-real-test\r\n"
    if form == "chunked":
        cuts = [body[i : i + 700] for i in range(0, len(body), 700)]
        return [head.encode() + b"Transfer-Encoding: chunked\r\n\r\n"] + [b"%x\r\n%s\r\n" % (len(c), c) for c in cuts] + [b"0\r\n\r\n"]
    whole = head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body
    if form == "dribble":
        step = max(1, len(whole) // 12)
        return [whole[i : i + step] for i in range(0, len(whole), step)]
    return [whole]


async def post(port: int, body: dict, path: str = "/v1/embeddings", form: str = "plain", hang_up: bool = False) -> Answer | None:
    """Send and read the answer; with `hang_up` close as soon as all is written and return None."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=8 << 20)
    try:
        for piece in request_bytes(port, json.dumps(body).encode(), path, form):
            writer.write(piece)
            await writer.drain()
        return None if hang_up else await read_answer(reader)
    finally:
        writer.close()
        try:
            await writer.wait_closed()
        except OSError:
            pass


async def fetch(port: int, path: str) -> Answer:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=8 << 20)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        return await read_answer(reader)
    finally:
        writer.close()
