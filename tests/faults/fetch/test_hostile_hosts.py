"""Hosts that send a byte now and then, header values that are none, and words that command a terminal."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from us43d.errors import FetchError
from us43d.fetch.download import download
from us43d.fetch.http import Remote, Web

#: Seconds until the client gives a host up, and until the test does.
PATIENCE, MOST = 0.6, 10.0


def drip(connection: socket.socket, piece: bytes) -> None:
    """The same bytes again and again, each of them in time."""
    with suppress(OSError):
        for _ in range(400):
            connection.sendall(piece)
            time.sleep(0.05)


def status_line(connection: socket.socket) -> None:
    drip(connection, b"H")


def headers(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    drip(connection, b"X")


def continues(connection: socket.socket) -> None:
    drip(connection, b"HTTP/1.1 100 Continue\r\n\r\n")


def chunk_head(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    drip(connection, b"0")


def error_page(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 403 No\r\nContent-Length: 100000\r\n\r\n")
    drip(connection, b"x")


def body(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    drip(connection, b"x")


@contextmanager
def hosted(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """The address of a host that answers every connection so."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                connection.recv(1 << 16)
                answer(connection)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def impatient() -> Web:
    return Web(attempts=2, pause=0.01, patience=PATIENCE, timeout=(PATIENCE, PATIENCE))


@pytest.mark.parametrize("answer", [status_line, headers, continues, chunk_head, error_page, body])
def test_a_host_that_drips_is_given_up(tmp_path: Path, answer: Callable[[socket.socket], None]) -> None:
    began = time.monotonic()
    with hosted(answer) as base, pytest.raises(FetchError):
        download(Remote("a.zip", f"{base}/a.zip"), tmp_path, impatient())
    assert time.monotonic() - began < MOST
    assert not (tmp_path / "a.zip").exists()


def test_a_text_that_drips_is_given_up() -> None:
    began = time.monotonic()
    with hosted(body) as base, pytest.raises(FetchError):
        impatient().get_text(f"{base}/a.json")
    assert time.monotonic() - began < MOST


def says(status: str, *lines: str, content: bytes = b"") -> Callable[[socket.socket], None]:
    head = "\r\n".join([f"HTTP/1.1 {status}", *lines, "Connection: close", "", ""])

    def answer(connection: socket.socket) -> None:
        connection.sendall(head.encode("latin-1") + content)

    return answer


@pytest.mark.parametrize(
    "answer",
    [
        says("302 Found", "Location: http://[::1", "Content-Length: 0"),
        says("302 Found", "Location: http://h:99999999/", "Content-Length: 0"),
        says("302 Found", "Location: http://h:x/", "Content-Length: 0"),
        says("302 Found", "Location: \x9b31m//", "Content-Length: 0"),
        says("302 Found", "Location: http://" + "a" * 60_000, "Content-Length: 0"),
        says("503 Busy", "Retry-After: " + "9" * 400, "Content-Length: 0"),
        says("503 Busy", "Retry-After: Fri, 31 Dec 99999 23:59:59 GMT", "Content-Length: 0"),
        says("429 Busy", "X-RateLimit-Reset: 1e999", "Date: Thu, 99 Nov", "Content-Length: 0"),
        says("503 Busy", "Retry-After: ²", "Content-Length: 0"),
        says("416 Range", "Content-Range: bytes */" + "9" * 5000),
        says("200 OK", "Content-Length: 1, 2", content=b"x"),
        says("200 OK", "Content-Length: abc, 7", content=b"x"),
        says("200 OK", "Transfer-Encoding: chunked", content=b"-5\r\n"),
        says("200 OK", "Transfer-Encoding: chunked", content=b"f" * 70_000),
        says("200 OK", "Content-Encoding: gzip", content=b"no gzip"),
        says("999999 OK"),
        says("200 OK", *("X: y" for _ in range(500))),
        says("200 OK", "X" * 70_000),
    ],
)
def test_a_header_that_is_none_is_one_error(tmp_path: Path, answer: Callable[[socket.socket], None]) -> None:
    began = time.monotonic()
    with hosted(answer) as base, pytest.raises(FetchError):
        download(Remote("a.zip", f"{base}/a.zip"), tmp_path, impatient())
    assert time.monotonic() - began < MOST


@pytest.mark.parametrize("length", ["9" * 5000, "abc", "-5", "²"])
def test_a_length_that_is_no_number_is_not_believed(tmp_path: Path, length: str) -> None:
    answer = says("200 OK", f"Content-Length: {length}", content=b"the whole file")
    with hosted(answer) as base, suppress(FetchError):
        download(Remote("a.txt", f"{base}/a.txt"), tmp_path, impatient())
        assert (tmp_path / "a.txt").read_bytes() == b"the whole file"


def test_a_charset_that_is_none_is_read_as_utf8() -> None:
    with hosted(says("200 OK", "Content-Type: text/html; charset=rot13", content="é".encode())) as base:
        assert impatient().get_text(f"{base}/a") == "é"


def test_words_of_a_host_command_no_terminal() -> None:
    answer = says("404 \x1b[2J\x9b31mgone", content=b"<title>\x1b]0;x\x07</title>")
    with hosted(answer) as base, pytest.raises(FetchError) as caught:
        impatient().get_text(f"{base}/a")
    assert not set(str(caught.value)) & {chr(code) for code in (*range(10), *range(11, 32), *range(127, 160))}
    for name in ("a\x1b[2J.zip", "a\x9b.zip", "a\x7f"):
        with pytest.raises(FetchError, match="cannot be used"):
            Remote(name, "http://h/a")
