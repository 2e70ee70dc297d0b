#!/usr/bin/env python3
"""An embeddings server as people write them first: one model, one lock around it, no batching of requests.

It speaks OpenAI's /v1/embeddings (a text or a list of texts, float or base64). The texts of one request are one padded batch; requests
wait for one another at the lock. That is what headrace's mode `exclusive` is for, and why it is plain on purpose.

The model is a BERT-shaped encoder with random weights made on the spot (mean pooling, unit length), so that a GPU does the work of a real
one and nothing need be fetched. Seed and tokenizer are fixed: the same text gives the same vector, but for rounding that depends on the
batch. Engines: `cuda` and `cpu` need PyTorch; `pretend` sleeps as long as a GPU would take and makes vectors of a hash of the text.

What is measured with it is in embed.py.
"""

import argparse
import array
import asyncio
import base64
import hashlib
import json
import math
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

# layers, width, heads, and for `pretend` the cost of a call: a + b * n milliseconds.
SHAPES = {"minilm": (6, 384, 12, 2.0, 0.05), "300m": (24, 1024, 16, 8.0, 0.3)}
VOCABULARY = 30_522
POSITIONS = 512
BODY_BYTES_MAX = 8 << 20


def tokens(text: str) -> list[int]:
    """About four letters a token, as English has. 101 and 102 begin and end a text, 0 is padding."""
    pieces = [word[at : at + 4] for word in text.split() for at in range(0, len(word), 4)]
    return [101, *(1000 + zlib.crc32(piece.encode()) % (VOCABULARY - 1000) for piece in pieces[: POSITIONS - 2]), 102]


class Pretend:
    """No model: time passes under the lock as it would on a GPU, and a vector is a function of its text."""

    name = "pretend (sleeps; no model computes)"

    def __init__(self, shape: str):
        _, self.width, _, self.base_ms, self.item_ms = SHAPES[shape]

    def embed(self, texts: list[str]) -> list[bytes]:
        time.sleep((self.base_ms + self.item_ms * len(texts)) / 1000)
        return [self.vector(text) for text in texts]

    def vector(self, text: str) -> bytes:
        words = array.array("i", hashlib.shake_256(text.encode()).digest(4 * self.width))
        length = math.sqrt(sum(float(word) * word for word in words))
        return array.array("f", [word / length for word in words]).tobytes()


def encoder(shape: str, device: str):
    """The model, on its device. PyTorch is imported here so that `pretend` needs none."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    layers, width, heads, _, _ = SHAPES[shape]

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

        def forward(self, x, mask):
            n, length, _ = x.shape
            q, k, v = self.qkv(x).view(n, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
            seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            x = self.norm1(x + self.out(seen.transpose(1, 2).reshape(n, length, width)))
            return self.norm2(x + self.down(F.gelu(self.up(x))))

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.places = nn.Embedding(VOCABULARY, width), nn.Embedding(POSITIONS, width)
            self.norm = nn.LayerNorm(width)
            self.blocks = nn.ModuleList(Block() for _ in range(layers))

        def forward(self, ids):
            real = ids != 0
            x = self.norm(self.words(ids) + self.places.weight[: ids.shape[1]])
            mask = real[:, None, None, :]
            for block in self.blocks:
                x = block(x, mask)
            share = real.unsqueeze(2).to(x.dtype)
            return F.normalize(((x * share).sum(1) / share.sum(1)).float(), dim=1)

    torch.manual_seed(7)
    model = Encoder().eval()
    return model.to(device, torch.float16 if device == "cuda" else torch.float32)


class Torch:
    """The encoder, one batch at a time."""

    def __init__(self, shape: str, device: str):
        import torch

        self.torch, self.device, self.model = torch, device, encoder(shape, device)
        count = sum(weight.numel() for weight in self.model.parameters()) / 1e6
        where = torch.cuda.get_device_name() if device == "cuda" else f"cpu, {torch.get_num_threads()} threads"
        self.name = f"{count:.0f}M parameters on {where}, torch {torch.__version__}"
        for n in (1, 8, 32, 128):
            self.embed(["warm up the kernels for a batch of this size"] * n)

    def embed(self, texts: list[str]) -> list[bytes]:
        rows = [tokens(text) for text in texts]
        most = max(map(len, rows))
        # Lengths are rounded up, so that the kernels chosen depend less on who shares the batch.
        most += -most % 16
        ids = self.torch.tensor([row + [0] * (most - len(row)) for row in rows])
        with self.torch.inference_mode():
            vectors = self.model(ids.to(self.device, non_blocking=True)).cpu().numpy()
        return [vector.tobytes() for vector in vectors]


class Server:
    """HTTP/1.1 with keep-alive over asyncio; the model runs on one thread behind one lock."""

    def __init__(self, engine):
        self.engine, self.lock, self.thread = engine, asyncio.Lock(), ThreadPoolExecutor(1)
        self.calls = self.items = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
                length = fields.get("content-length", "0")
                if "transfer-encoding" in fields or not length.isdigit() or int(length) > BODY_BYTES_MAX:
                    writer.write(answer(411, {"error": {"message": "send a Content-Length of at most 8 MiB"}}))
                    await writer.drain()
                    return
                body = await reader.readexactly(int(length))
                writer.write(await self.respond(head[0], body))
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass
        finally:
            writer.close()

    async def respond(self, line: str, body: bytes) -> bytes:
        method, path = line.split(" ")[:2]
        if path == "/health":
            return answer(200, {"engine": self.engine.name, "calls": self.calls, "items": self.items})
        if (method, path) != ("POST", "/v1/embeddings"):
            return answer(404, {"error": {"message": f"no {method} {path} here"}})
        try:
            asked = json.loads(body)
            texts, form = asked["input"], asked.get("encoding_format", "float")
            texts = [texts] if isinstance(texts, str) else texts
            if not texts or not all(isinstance(text, str) for text in texts) or form not in ("float", "base64"):
                raise ValueError("input: a text or a list of texts; encoding_format: float or base64")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return answer(400, {"error": {"message": f"{type(error).__name__}: {error}", "type": "invalid_request_error"}})
        async with self.lock:
            vectors = await asyncio.get_running_loop().run_in_executor(self.thread, self.engine.embed, texts)
        self.calls, self.items = self.calls + 1, self.items + len(texts)
        shown = [base64.b64encode(v).decode() if form == "base64" else array.array("f", v).tolist() for v in vectors]
        data = [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(shown)]
        count = sum(len(tokens(text)) for text in texts)
        usage = {"prompt_tokens": count, "total_tokens": count}
        return answer(200, {"object": "list", "data": data, "model": asked.get("model", "random"), "usage": usage})


def answer(status: int, value: dict) -> bytes:
    body = json.dumps(value, separators=(",", ":")).encode()
    reason = {200: "OK", 400: "Bad Request", 404: "Not Found", 411: "Length Required"}[status]
    return b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (status, reason.encode(), len(body), body)


async def run(arguments: argparse.Namespace) -> None:
    engine = Pretend(arguments.model) if arguments.engine == "pretend" else Torch(arguments.model, arguments.engine)
    server = await asyncio.start_server(Server(engine).serve, "127.0.0.1", arguments.port, backlog=1024)
    print(f"serving on port {arguments.port}: {engine.name}", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", choices=SHAPES, default="minilm")
    parser.add_argument("--engine", choices=("cuda", "cpu", "pretend"), default="cuda")
    try:
        asyncio.run(run(parser.parse_args()))
    except KeyboardInterrupt:
        pass
