"""A real, small language model behind an OpenAI-compatible endpoint on loopback.

`python -m tests.benchmarks.model_server MODEL.gguf` prints its URL when it is ready.
"""

import functools
import json
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import patch


class Model:
    """A quantised chat model as transformers reads it; one reply at a time, always the likeliest."""

    def __init__(self, file: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        read_gguf_faster()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        self._model: Any = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
        self._lock = threading.Lock()

    def complete(self, messages, max_tokens):
        """Return the reply, the tokens of the prompt and of the reply, and why it ended."""
        prompt = self._tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        with self._lock:
            tokens = self._model.generate(**prompt, max_new_tokens=max_tokens, do_sample=False)[0]
        told = prompt["input_ids"].shape[1]
        text = self._tokenizer.decode(tokens[told:], skip_special_tokens=True)
        ended = tokens[-1].item() == self._tokenizer.eos_token_id
        return text, told, len(tokens) - told, "stop" if ended else "length"


def read_gguf_faster() -> None:
    """Spare transformers most of 20 seconds: it parses the vocabulary of a file again and again."""
    import gguf
    import numpy as np
    from transformers import modeling_gguf_pytorch_utils as reading

    reader: Any = gguf.GGUFReader

    @functools.cache
    def read(path: str) -> Any:
        with patch.object(np, "memmap", lambda path, mode: np.fromfile(path, np.uint8)):
            return reader(path)  # whose many slices of a memmap are slow

    setattr(gguf, "GGUFReader", read)  # noqa: B010
    gguf.get_tensor_name_map = functools.cache(gguf.get_tensor_name_map)
    parse: Any = reading._gguf_parse_value
    parsed: dict[int, Any] = {}  # by the part's place in memory: the reader is kept

    def parse_once(part: Any, types: Any) -> Any:
        if id(part) not in parsed:
            parsed[id(part)] = parse(part, types)
        return parsed[id(part)]

    reading._gguf_parse_value = parse_once


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        assert isinstance(self.server, Server)
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/chat/completions" or asked.get("temperature", 0):
            return self.send(400, {"error": {"message": "only chat completions at temperature 0"}})
        text, prompt_tokens, completion_tokens, why = self.server.model.complete(
            asked["messages"], asked.get("max_tokens", 64)
        )
        message = {"role": "assistant", "content": text}
        return self.send(
            200,
            {
                "id": f"chatcmpl-{uuid.uuid4().hex}",
                "object": "chat.completion",
                "created": int(time.time()),
                "model": asked["model"],
                "choices": [{"index": 0, "finish_reason": why, "message": message}],
                "usage": {
                    "prompt_tokens": prompt_tokens,
                    "completion_tokens": completion_tokens,
                    "total_tokens": prompt_tokens + completion_tokens,
                },
            },
        )

    def send(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    def __init__(self, model):
        super().__init__(("127.0.0.1", 0), Handler)
        self.model = model


if __name__ == "__main__":
    server = Server(Model(Path(sys.argv[1])))
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}/v1\n")
    sys.stdout.flush()
    server.serve_forever()
