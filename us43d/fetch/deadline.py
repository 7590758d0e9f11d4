"""A connection that ends when its answer's head takes too long, and blocks of a body that may not.

A timeout of a socket starts anew with every byte, so that a host that sends one now and then holds a reader for ever:
in the status line, in headers, in 1xx answers, in the lines between chunks. Here a clock beside it closes the socket.
"""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

__all__ = ["Adapter", "within"]


class Clock:
    """Closes a socket when nothing was noted for so many seconds. late: whether that happened."""

    def __init__(self, sock: Any, seconds: float) -> None:
        self.late = False
        self._sock, self._seconds = sock, seconds
        self._until = time.monotonic() + seconds
        self._done = threading.Event()
        threading.Thread(target=self._watch, daemon=True, name="deadline").start()

    def _watch(self) -> None:
        while (left := self._until - time.monotonic()) > 0:
            if self._done.wait(left):
                return
        self.late = True
        with suppress(OSError, AttributeError):  # closed already, or never opened
            self._sock.shutdown(socket.SHUT_RDWR)

    def note(self) -> None:
        """Restart the time, as data arrived."""
        self._until = time.monotonic() + self._seconds

    def stop(self) -> None:
        self._done.set()


@contextmanager
def _closing(sock: Any, seconds: float) -> Iterator[Clock]:
    clock = Clock(sock, seconds)
    try:
        yield clock
    finally:
        clock.stop()


class _Timed:
    """What both kinds of connection have: an answer's head must come within the timeout for reading."""

    sock: Any
    timeout: Any

    def getresponse(self) -> Any:
        sock = self.sock
        seconds = self.timeout if isinstance(self.timeout, int | float) else 60.0
        with _closing(sock, seconds) as clock:
            try:
                answer = super().getresponse()  # type: ignore[misc]
            except Exception as error:
                if clock.late:
                    raise TimeoutError("timed out") from error  # as the socket itself says it
                raise
        answer.us43d_socket = sock
        return answer


class _Connection(_Timed, HTTPConnection):
    pass


class _SecureConnection(_Timed, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class Adapter(HTTPAdapter):
    """requests' adapter over connections with a deadline, also through a proxy."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
        return manager


@contextmanager
def within(answer: requests.Response, seconds: float) -> Iterator[Clock]:
    """Close the connection of an answer if so long nothing is noted. Raises requests.Timeout then."""
    with _closing(getattr(answer.raw, "us43d_socket", None), seconds) as clock:
        try:
            yield clock
        except Exception as error:
            if clock.late:
                raise requests.Timeout(f"nothing came within {seconds:.0f} s") from error
            raise
        if clock.late:
            raise requests.Timeout(f"it did not end within {seconds:.0f} s")
