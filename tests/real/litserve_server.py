"""A LitServe embedding server with a GPU-shaped cost: 5 ms a call + 0.1 ms an item, one call at a time, no batching of its own.

Every vector is a function of its own input, so an answer that reached the wrong client shows. Two inputs are special:
`refuse:...` fails the whole call with a 400 whose body quotes *every* input of the call (what FastAPI-style servers do, and what a
gateway must never pass on), `hold:N:...` keeps the call busy for N ms more. Calls and items are counted in the file named by
COUNTER, as text, so that the test can say how many calls the requests became without asking the gateway.

    python litserve_server.py PORT
"""

import os
import sys
import time
import zlib

import litserve
from fastapi import HTTPException
from litserve import OpenAIEmbeddingSpec

CALL_S = 0.005
ITEM_S = 0.0001


def vector(text: str, batch: int) -> list[float]:
    """Length, a 16-bit checksum, the size of the call it travelled in, and padding to 8 dimensions."""
    raw = text.encode()
    return [float(len(raw)), float(zlib.crc32(raw) & 0xFFFF), 0.5, float(batch), 0.25, -1.0, 2.0, 3.0]


class Embedder(litserve.LitAPI):
    def setup(self, device):
        self.calls = self.items = 0
        self.counter = os.open(os.environ["COUNTER"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        self.count(0)

    def count(self, items):
        self.calls += items > 0
        self.items += items
        os.pwrite(self.counter, b"%010d %010d\n" % (self.calls, self.items), 0)

    def predict(self, inputs):
        texts = [inputs] if isinstance(inputs, str) else list(inputs)
        self.count(len(texts))
        held_ms = sum(int(t.split(":")[1]) for t in texts if t.startswith("hold:"))
        time.sleep(CALL_S + ITEM_S * len(texts) + held_ms / 1e3)
        if any(t.startswith("refuse:") for t in texts):
            raise HTTPException(status_code=400, detail=f"cannot embed {texts!r}")
        return [vector(t, len(texts)) for t in texts], sum(len(t.encode()) for t in texts)

    def encode_response(self, output, **_):
        vectors, tokens = output
        return {"embeddings": vectors, "prompt_tokens": tokens, "total_tokens": tokens}


if __name__ == "__main__":
    api = Embedder(max_batch_size=1, spec=OpenAIEmbeddingSpec())
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=60)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, num_api_servers=1, log_level="warning", access_log=False)
