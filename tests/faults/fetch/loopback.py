"""A real HTTP server on loopback that misbehaves as told, and counts what it sent."""

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Served:
    """One file and how it is served.

    cut: bytes after which each answer breaks off, one for each of the first answers. ranges: whether Range is heeded.
    claim: added to Content-Length. refusals: (status, headers) of the first answers. to: where it redirects.
    drip: (bytes, seconds) of each piece. versions: data and ETag that replace the present ones after the first answer.
    etag, date, length: whether these headers are sent.
    """

    data: bytes = b""
    etag: str | None = '"one"'
    date: bool = True
    length: bool = True
    ranges: bool = True
    if_range: bool = True
    cut: list[int] = field(default_factory=list)
    claim: int = 0
    refusals: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    to: str | None = None
    drip: tuple[int, float] | None = None
    versions: list[tuple[bytes, str]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Asked:
    """One request and what was sent for it."""

    path: str
    start: int
    sent: int = 0
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)


class Loopback:
    def __init__(self) -> None:
        self.files: dict[str, Served] = {}
        self.log: list[Asked] = []
        self.lock = threading.Lock()
        self.base = ""

    def asked(self, path: str) -> list[Asked]:
        return [each for each in self.log if each.path == path]

    def sent(self, path: str) -> int:
        return sum(each.sent for each in self.asked(path))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        loopback: Loopback = self.server.loopback
        found = loopback.files.get(self.path.partition("?")[0])
        spoken = self.headers.get("Range", "")
        start = int(spoken.removeprefix("bytes=").rstrip("-")) if spoken else 0
        asked = Asked(self.path.partition("?")[0], start, headers=dict(self.headers))
        with loopback.lock:
            loopback.log.append(asked)
        with suppress(BrokenPipeError, ConnectionResetError):
            self._answer(found, start, asked)

    def _answer(self, found: Served | None, start: int, asked: Asked) -> None:
        loopback: Loopback = self.server.loopback
        if found is None:
            return self._short(asked, 404, {})
        with loopback.lock:
            refusal = found.refusals.pop(0) if found.refusals else None
        if refusal:
            return self._short(asked, *refusal)
        if found.to is not None:
            return self._short(asked, 302, {"Location": found.to})
        with loopback.lock:
            data, etag = found.data, found.etag
            cut = found.cut.pop(0) if found.cut else None
            if found.versions:
                found.data, found.etag = found.versions.pop(0)
        changed = found.if_range and "If-Range" in self.headers and self.headers["If-Range"] not in (etag, _DATE)
        partial = start > 0 and found.ranges and not changed
        if partial and start >= len(data):
            return self._short(asked, 416, {"Content-Range": f"bytes */{len(data)}"})
        body = data[start:] if partial else data
        asked.status = 206 if partial else 200
        self.send_response(asked.status)
        if partial:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if etag:
            self.send_header("ETag", etag)
        if found.date:
            self.send_header("Last-Modified", _DATE)
        if found.length:
            self.send_header("Content-Length", str(len(body) + found.claim))
        else:
            self.send_header("Connection", "close")
        for name, value in found.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self._send(body if cut is None else body[:cut], found.drip, asked)
        if cut is not None or found.claim or not found.length:
            self.close_connection = True
        return None

    def _send(self, body: bytes, drip: tuple[int, float] | None, asked: Asked) -> None:
        size, pause = drip or (1 << 16, 0.0)
        for at in range(0, len(body), size):
            piece = body[at : at + size]
            self.wfile.write(piece)
            asked.sent += len(piece)
            if pause:
                time.sleep(pause)

    def _short(self, asked: Asked, status: int, headers: dict[str, str]) -> None:
        asked.status = status
        self.send_response_only(status)
        headers = {"Date": self.date_time_string()} | headers
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()


_DATE = formatdate(1_700_000_000, usegmt=True)


@contextmanager
def serving(certificate: Path | None = None) -> Iterator[Loopback]:
    """A server in threads of its own; with a certificate (chain and key in one PEM file) it speaks TLS."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    loopback = Loopback()
    server.loopback = loopback  # type: ignore[attr-defined]
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that hangs up is the point
    scheme = "http"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    loopback.base = f"{scheme}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield loopback
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
