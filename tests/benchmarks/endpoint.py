"""A scripted OpenAI-compatible endpoint: real HTTP over loopback, misbehaviour included."""

import json
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Script:
    """What the endpoint does: `reply(prompt)` gives a text, or bad behaviour for the nth time."""

    def __init__(self, reply, trouble=()):
        self.reply = reply
        self.trouble = trouble
        """Behaviour of the first requests with the same prompt: "timeout", "rate", "garbage" …"""
        self.prompts = []
        self.seen: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.ended = threading.Event()

    def behaviour(self, prompt):
        with self.lock:
            self.prompts.append(prompt)
            number = self.seen[prompt]
            self.seen[prompt] += 1
        return self.trouble[number] if number < len(self.trouble) else "answer"


class Server(ThreadingHTTPServer):
    def __init__(self, script):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = script

    def handle_error(self, request, client_address):
        """A client that gave up waiting is what some tests are about."""


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        assert isinstance(self.server, Server)
        script = self.server.script
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][-1]["content"]
        behaviour = script.behaviour(prompt)
        if behaviour == "timeout":
            script.ended.wait(20)  # the client has long given up
            return None
        if behaviour == "rate":
            return self.send(429, {"error": {"message": "slow down"}}, {"Retry-After": "0.01"})
        if behaviour == "broken":
            return self.send(500, {"error": {"message": "oh no"}})
        if behaviour == "html":
            return self.send(200, "<html>welcome</html>", {"Content-Type": "text/html"})
        if behaviour == "garbage":
            return self.send(200, '{"choices": [{"mess')
        if behaviour == "empty":
            return self.send(200, {"choices": []})
        text = script.reply(prompt)
        message = {"role": "assistant", "content": text}
        usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": len(text.split())}
        usage["total_tokens"] = sum(usage.values())
        return self.send(
            200,
            {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": body["model"],
                "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                "usage": usage,
            },
        )

    def send(self, status, body, headers=None):
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@contextmanager
def serving(script):
    """Yield the endpoint's URL."""
    server = Server(script)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        script.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
