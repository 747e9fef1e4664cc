"""A web server for tests: with ranges or without, with faults and secrets if asked for."""

from __future__ import annotations

import hashlib
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


@dataclass
class Web:
    """What the server has, how it behaves, and what it was asked.

    Attributes:
        url: Where it is, without a slash at the end.
        files: The contents by path.
        ranges: Whether it gives ranges.
        identity: Whether it tells size and ETag.
        signature: What the parameter X-Amz-Signature must be; None: any.
        password: What HTTP's Authorization must be; None: any.
        cuts: How many answers to break off in the middle.
        tls: The certificate that it shows; None: it is no HTTPS.
        asked: Each request: its method, its path and its Range header.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    identity: bool = True
    signature: str | None = None
    password: str | None = None
    cuts: int = 0
    tls: ssl.SSLContext | None = None
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    web: Web
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, *, body: bool):
        parts = urlsplit(self.path)
        self.web.asked.append((self.command, parts.path, self.headers["Range"]))
        signature = parse_qs(parts.query).get("X-Amz-Signature", [""])[0]
        if self.web.signature is not None and signature != self.web.signature:
            return self.refuse(403)
        if self.web.password is not None and self.headers["Authorization"] != self.web.password:
            return self.refuse(401)
        if parts.path not in self.web.files:
            return self.refuse(404)
        return self.send(self.web.files[parts.path], body=body)

    def refuse(self, status: int):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send(self, content: bytes, *, body: bool):
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or "")
        start, end = 0, len(content)
        if part and self.web.ranges:
            start, end = int(part[1]), min(int(part[2] or end) + 1, end)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        else:
            self.send_response(200)
        if self.web.identity:
            self.send_header("Content-Length", str(end - start))
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()[:16]}"')
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if not body:
            return
        if self.web.cuts and end - start > 1000:
            self.web.cuts -= 1
            end = (start + end) // 2
            self.close_connection = True
        self.wfile.write(content[start:end])


@contextmanager
def serving(**behaviour) -> Iterator[Web]:
    """Run a server on a free port of this machine until the end of the block."""
    web = Web(**behaviour)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"web": web}))
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # the loader may go away in the middle
    web.url = f"http://127.0.0.1:{server.server_port}"
    if web.tls is not None:
        server.socket = web.tls.wrap_socket(server.socket, server_side=True)
        web.url = f"https://localhost:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
