"""An OpenAI-compatible endpoint on this machine that answers as a test tells it to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Respond = Callable[["Request"], None]


class Request(BaseHTTPRequestHandler):
    """One request; `number` counts them, `body` is what was sent."""

    number: int
    body: dict[str, Any]
    released: threading.Event

    counted = False

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        server: Any = self.server
        server.respond_get(self)

    def do_POST(self) -> None:
        server: Any = self.server
        self.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            self.number = len(server.seen)
            server.seen.append((self.path, self.headers.get("Authorization"), self.body))
            server.busy += 1
            server.busiest = max(server.busiest, server.busy)
        self.counted = True
        self.released = server.released
        try:
            server.respond(self)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            self.done()

    def done(self) -> None:
        """Count this request out, once: before its reply, after which the client asks again."""
        server: Any = self.server
        with server.lock:
            server.busy -= self.counted
            self.counted = False

    def send(self, data: bytes, status: int = 200, **headers: str) -> None:
        self.done()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def say(self, text: str | None, finish: str = "stop", **usage: int) -> None:
        body: dict[str, Any] = {
            "choices": [{"message": {"role": "assistant", "content": text},
                         "finish_reason": finish}]
        }  # fmt: skip
        if usage:
            body["usage"] = usage
        self.send(json.dumps(body).encode())


@contextmanager
def judge_server(respond: Respond) -> Iterator[Any]:
    """Serve until the block ends; `.url`, `.seen` (requests) and `.busiest` are readable."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Request)
    server.daemon_threads = True
    server.respond, server.seen, server.lock = respond, [], threading.Lock()
    server.busy = server.busiest = 0
    server.respond_get = lambda r: r.send(b"no", 404)
    server.released = threading.Event()
    server.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
