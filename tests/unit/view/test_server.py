"""What the server refuses, and what it answers, over real sockets."""

import http.client
import io
import json
import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from us43d.errors import UsageError
from us43d.harmonize.corpus import Corpus
from us43d.view import opening, safety
from us43d.view.browse import Browse
from us43d.view.server import Running, Site, serve
from us43d.view.thumbs import Thumbs


@pytest.fixture(scope="module")
def running(home: Path, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    browse = Browse(opening.catalogue(corpus, home), Thumbs(tmp_path_factory.mktemp("thumbs")), "corpus us43d")
    server = serve(Site(browse.routes(), "/"), port=0)
    yield server
    server.stop()


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    @property
    def json(self) -> dict:
        return json.loads(self.body)


def ask(running: Running, path: str, *, method: str = "GET", token: bool = True, body: bytes | None = None, **headers):
    """One request, its path sent as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
    secret = urlsplit(running.url).query.removeprefix("token=")
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if token:
        sent["Cookie"] = f"us43d-{running.port}={secret}"
    connection.request(method, path, body, sent)
    try:
        return Answer(connection.getresponse())
    finally:
        connection.close()


def test_without_the_token_nothing_is_shown(running: Running) -> None:
    for path in ("/", "/api/grid", "/static/style.css", "/api/alive", "/thumb/1"):
        assert ask(running, path, token=False).status == 403
    assert ask(running, "/", token=False, Cookie=f"us43d-{running.port}=wrong").status == 403
    assert ask(running, "/?token=wrong", token=False).status == 403
    assert ask(running, "/").status == 200


def test_the_printed_address_gives_the_token_as_a_cookie_and_goes_on_here(running: Running) -> None:
    secret = urlsplit(running.url).query
    answer = ask(running, f"//evil.example/x?{secret}&q=a", token=False)
    assert answer.status == 303
    assert answer.headers["location"] == "/evil.example/x?q=a"  # this host, not the other
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1:1", "", "127.0.0.1.evil.example:{port}"]
)
def test_dns_rebinding_a_foreign_host_is_refused(running: Running, host: str) -> None:
    assert ask(running, "/api/grid", Host=host.format(port=running.port)).status == 421


def test_a_request_that_changes_something_needs_the_origin_of_the_page(running: Running) -> None:
    for origin in ("http://evil.example", "null", f"https://127.0.0.1:{running.port}"):
        answer = ask(running, "/api/grid", method="POST", body=b"{}", Origin=origin)
        assert answer.status == 403
    assert ask(running, "/api/grid", method="POST", body=b"{}").status == 403
    own = ask(running, "/api/grid", method="POST", body=b"{}", Origin=f"http://127.0.0.1:{running.port}")
    assert own.status == 405  # through the guard; this route only reads
    large = {"Origin": f"http://127.0.0.1:{running.port}", "Content_Length": str(safety.LARGEST_BODY + 1)}
    assert ask(running, "/api/grid", method="POST", **large).status == 413


def test_every_answer_binds_the_browser(running: Running) -> None:
    for path in ("/", "/api/grid", "/static/dom.js", "/nowhere"):
        headers = ask(running, path).headers
        assert headers["content-security-policy"] == safety.CSP
        assert headers["x-content-type-options"] == "nosniff"
    assert "unsafe" not in safety.CSP
    assert ask(running, "/", token=False).headers["content-security-policy"] == safety.CSP


@pytest.mark.parametrize(
    "path",
    ["/static/../server.py", "/static/%2e%2e%2fserver.py", "/static/..%2fserver.py", "/static/base.html",
     "/static//etc/passwd", "/static/%2fetc%2fpasswd", "/thumb/../../etc/passwd", "/pixels/..%2f..%2fetc%2fpasswd",
     "/source/..%2f..", "/static/", "/static/.", "/static/__init__.py"],
)  # fmt: skip
def test_no_path_leads_outside(running: Running, path: str) -> None:
    answer = ask(running, path)
    assert answer.status == 404
    assert b"root:" not in answer.body
    assert b"import" not in answer.body


@pytest.mark.parametrize(
    "path",
    ["/api/grid?start=-1", "/api/grid?start=1e9", "/api/grid?count=abc", "/api/grid?sort=%3Cb%3E", "/api/grid?like=x",
     "/api/grid?id=99999999999999999999", "/pixels/{id}?low=nan", "/pixels/{id}?low=-1", "/pixels/{id}?high=1e30",
     f"/api/facets?{'&group=a' * 201}"],
)  # fmt: skip
def test_odd_requests_are_refused_in_one_sentence(running: Running, path: str) -> None:
    first = ask(running, "/api/grid").json["rows"][0]["id"]
    answer = ask(running, path.format(id=first))
    assert answer.status == 400
    assert len(answer.body) < 2000


def test_a_window_of_the_grid(running: Running) -> None:
    whole = ask(running, "/api/grid?count=500").json
    assert len(whole["rows"]) == whole["total"]
    part = ask(running, "/api/grid?start=10&count=5").json
    assert part["rows"] == whole["rows"][10:15]
    place = ask(running, f"/api/grid?id={whole['rows'][33]['id']}&count=2").json
    assert (place["place"], place["rows"]) == (33, whole["rows"][33:35])
    assert ask(running, "/api/grid?start=99999999").json["rows"] == []


def test_pixels_are_those_of_the_file_and_masks_those_of_the_corpus(running: Running, corpus: Corpus) -> None:
    for n in (0, len(corpus) - 1):
        number = int(corpus.images["id"][n])
        pixels = cv2.imdecode(np.frombuffer(ask(running, f"/pixels/{number}").body, np.uint8), cv2.IMREAD_UNCHANGED)
        wanted = corpus.picture(n)
        assert np.array_equal(pixels if pixels.ndim == 2 else pixels[:, :, ::-1], wanted)
        answer = ask(running, f"/api/image/{number}").json
        assert [mask["rle"].encode() for mask in answer["masks"]] == [corpus.rle(a) for a in corpus.of(n)]
        assert answer["key"] == corpus.key(n)
        official = corpus.sources[corpus.images["source"][n]]["name"] == "CAMUS"
        assert answer["why"] == "as published" if official else answer["why"].startswith("groups ordered by")
        small = cv2.imdecode(np.frombuffer(ask(running, f"/thumb/{number}").body, np.uint8), cv2.IMREAD_COLOR)
        assert max(small.shape) <= 288
    assert ask(running, "/api/image/12").status == 404


def test_an_answer_is_sent_at_once(running: Running) -> None:
    """Nagle's algorithm would hold the body back until the head is acknowledged, 40 ms later."""
    connection = http.client.HTTPConnection("127.0.0.1", running.port)
    secret = urlsplit(running.url).query.removeprefix("token=")
    times = []
    for _ in range(6):
        start_time = time.perf_counter()
        connection.request("GET", "/api/alive", headers={"Cookie": f"us43d-{running.port}={secret}"})
        assert connection.getresponse().read()
        times.append(time.perf_counter() - start_time)
    connection.close()
    assert min(times[1:]) < 0.03


def test_a_lab_reaches_every_address_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo
    debian = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.1.1", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *more: debian if more[0] is None else real(host, *more))
    server = serve(Site([], "/"), host="0.0.0.0", port=0)
    try:
        host = urlsplit(server.url).hostname
        for name in ("127.0.0.1", "127.0.1.1", "localhost", host):
            assert ask(server, "/api/alive", Host=f"{name}:{server.port}").status == 200
        assert ask(server, "/api/alive", Host=f"evil.example:{server.port}").status == 421
    finally:
        server.stop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:  # a machine without a network
            assert host == socket.gethostname()
        else:
            assert host == probe.getsockname()[0]


def test_logging_of_the_process_stays_as_it_is() -> None:
    """A logging configuration of the server would close all handlers, and absl's closes its stream."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.close = stream.close  # type: ignore[method-assign]
    serve(Site([], "/", lambda: None)).stop()
    assert not stream.closed
    assert logging.getLogger("uvicorn.error").level == logging.CRITICAL


def test_a_port_that_is_taken(running: Running) -> None:
    closed: list[bool] = []
    with pytest.raises(UsageError, match=str(running.port)):
        serve(Site([], "/", lambda: closed.append(True)), port=running.port)
    assert closed == [True]


@pytest.mark.parametrize("port", [104, 5061, 6000])
def test_a_port_that_browsers_refuse(port: int) -> None:
    with pytest.raises(UsageError, match=rf"^Browsers refuse to open port {port}\.") as refused:
        serve(Site([], "/"), port=port)
    assert refused.value.next == "the same with --port 5043"


@pytest.mark.parametrize("port", [None, 5043])
def test_an_address_of_another_machine(port: int | None) -> None:
    with pytest.raises(UsageError, match=r"^The address 192\.0\.2\.1 cannot be used: ") as refused:
        serve(Site([], "/"), host="192.0.2.1", port=port)
    assert refused.value.next == "the same with --host 127.0.0.1"


def test_thumbnails_stay_below_their_bound(tmp_path: Path) -> None:
    kept = Thumbs(tmp_path, limit=10_000)
    for n in range(30):
        kept.put(f"name {n}", bytes([n]) * 1000)
    kept.prune()
    sizes = [file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()]
    assert sum(sizes) <= 10_000
    assert len(sizes) >= 5
    assert kept.get("name 3") is None or kept.get("name 3") == bytes([3]) * 1000
    assert kept.get("never put") is None
