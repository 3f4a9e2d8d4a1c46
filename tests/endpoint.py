"""A fake endpoint that speaks OpenAI's protocol, on this machine: what a test tells it to say, piece by piece."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Endpoint:
    """``pieces`` are streamed; ``raw`` is sent as it is instead; ``hold`` is waited for before the last piece."""

    def __init__(self) -> None:
        self.pieces = ["The moon ", "pulls ", "the sea."]
        self.raw: bytes | None = None
        self.status = 200
        self.media = "text/event-stream"
        self.hold: threading.Event | None = None
        self.by_model: dict[str, list[str]] = {}
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server.server_port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}/v1"

    def handler(self) -> type[BaseHTTPRequestHandler]:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.requests.append((self.path, dict(self.headers), body))
                self.send_response(endpoint.status)
                self.send_header("Content-Type", endpoint.media)
                self.end_headers()
                endpoint.answer(self, body["model"])

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def answer(self, handler: BaseHTTPRequestHandler, model: str) -> None:
        if self.raw is not None:
            handler.wfile.write(self.raw)
            return
        pieces = self.by_model.get(model, self.pieces)
        for number, piece in enumerate(pieces):
            if self.hold is not None and number == len(pieces) - 1:
                self.hold.wait(20)
            event = {"choices": [{"delta": {"content": piece}}]}
            handler.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
            handler.wfile.flush()
        handler.wfile.write(b"data: [DONE]\n\n")


@contextmanager
def fake_endpoint(settings: Any) -> Iterator[Endpoint]:
    """The endpoint, and an installation that may ask it."""
    endpoint = Endpoint()
    thread = threading.Thread(target=endpoint.server.serve_forever, daemon=True)
    thread.start()
    settings.OUTBOUND_NETWORKS = ["127.0.0.0/8"]
    settings.GENERATOR_HOSTS = [endpoint.host]
    try:
        yield endpoint
    finally:
        endpoint.server.shutdown()
        endpoint.server.server_close()
        thread.join(5)
