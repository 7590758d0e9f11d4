"""The server behind `us43d view` and `us43d label`: pages, JSON and images, on this machine only."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import resources
from typing import Any, NamedTuple

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from us43d import __version__
from us43d.errors import Us43dError, UsageError
from us43d.view import safety
from us43d.view.pages import render

__all__ = ["Running", "Site", "application", "body", "serve", "window"]

#: Files of page/ that a browser may ask for, with their types; nothing else is read from there.
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
_PORT = 5043
#: Ports that browsers refuse to open: https://fetch.spec.whatwg.org/#port-blocking
_BLOCKED = frozenset((
    1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109, 110,
    111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532,
    540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061,
    6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
))  # fmt: skip
#: Beyond the values of images.
_FAR = 1e15


class Site(NamedTuple):
    """routes: what a page of the site answers. home: path of the first page. close: called when the server ends."""

    routes: Sequence[BaseRoute]
    home: str
    close: Callable[[], None] = lambda: None


class Running(NamedTuple):
    """A server in a thread. url: with the token. stop: ends it and waits."""

    url: str
    port: int
    stop: Callable[[], None]
    ended: threading.Event


def application(site: Site, hosts: Sequence[str], secret: str) -> ASGIApp:
    """Return the ASGI application of a site, guarded."""
    routes = [
        *site.routes,
        Route("/static/{name}", _static),
        Route("/api/alive", _alive),
        Route("/favicon.ico", _icon),
    ]
    handlers: Mapping[Any, Any] = {HTTPException: _refused, Us43dError: _failed}
    return safety.Guard(Starlette(routes=routes, exception_handlers=handlers), hosts, secret)


def serve(site: Site, *, host: str = "127.0.0.1", port: int | None = None) -> Running:
    """Start a server in a thread; it listens when this returns.

    port: 5043 if None, or any free one where that is taken. Raises UsageError if a port that was asked for is taken,
    or browsers refuse it; the site is closed then.
    """
    try:
        listener = _listen(host, port)
    except UsageError:
        site.close()
        raise
    number = int(listener.getsockname()[1])
    names = {"127.0.0.1", "localhost", "[::1]"} if host in ("127.0.0.1", "localhost", "::1") else {host}
    if host == "0.0.0.0":
        names = {"127.0.0.1", "localhost", socket.gethostname(), socket.getfqdn(), *_addresses()}
    secret = safety.token()
    app = application(site, [f"{name}:{number}" for name in names], secret)
    # No logging configuration: uvicorn's own would close all handlers of the process, and absl's closes its stream.
    config = uvicorn.Config(app, log_config=None, log_level="critical", access_log=False, lifespan="off", ws="none",
                            server_header=False, timeout_graceful_shutdown=2)  # fmt: skip
    server = uvicorn.Server(config)

    # A join that Ctrl-C interrupts marks a running thread as stopped (Python 3.11): only an event tells its end.
    ended = threading.Event()

    def run() -> None:
        try:
            asyncio.run(server.serve(sockets=[listener]))
        finally:
            try:
                site.close()
            finally:
                ended.set()

    # In a thread of its own uvicorn leaves the signals to the command line.
    thread = threading.Thread(target=run, name="us43d-view", daemon=True)
    thread.start()

    def stop() -> None:
        server.should_exit = True
        ended.wait(5)
        server.force_exit = True  # a request that still runs is given up: its thread must not outlive the interpreter
        ended.wait()  # the site closes in that thread: labels are written and the model's thread ends

    shown = "127.0.0.1" if host in ("127.0.0.1", "localhost", "::1") else host
    if host == "0.0.0.0":
        shown = next((address for address in _addresses() if not address.startswith("127.")), socket.gethostname())
    return Running(f"http://{shown}:{number}{site.home}?token={secret}", number, stop, ended)


def _listen(host: str, port: int | None) -> socket.socket:
    if port in _BLOCKED:
        raise UsageError(f"Browsers refuse to open port {port}.", next=f"the same with --port {_PORT}")
    for number in (port,) if port is not None else (_PORT, 0):
        # With its protocol named, asyncio turns Nagle's algorithm off; else an answer in two parts waits for 40 ms.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, number))
        except OSError as error:
            listener.close()
            reason = error.strerror
        else:
            listener.listen(128)
            return listener
    if port is not None and (free := _free(host)):
        raise UsageError(
            f"Port {port} of {host} cannot be used: {reason}.",
            next=f"the same with --port {free}   (free at the moment)",
        )
    raise UsageError(f"The address {host} cannot be used: {reason}.", next="the same with --host 127.0.0.1")


def _free(host: str) -> int:
    """Return a free port of an address, or 0 if it has none or is not of this machine."""
    with suppress(OSError), socket.create_server((host, 0)) as listener:
        return int(listener.getsockname()[1])
    return 0


def _addresses() -> list[str]:
    """Return the addresses of this machine: those of its name, often 127.0.1.1 alone, and that of its default route."""
    addresses: list[str] = []
    with suppress(OSError):  # a name that no server knows
        addresses += [str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)]
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # of the range for documentation; sends nothing, but chooses a route
        addresses.append(str(probe.getsockname()[0]))
    return addresses


# -------------------------------------------------------------------------------------------------------------- routes


def _static(request: Request) -> Response:
    name = request.path_params["name"]
    kind = _TYPES.get(name[name.rfind(".") :])
    folder = resources.files("us43d.view").joinpath("page")
    if kind is None or name not in {file.name for file in folder.iterdir()}:
        raise HTTPException(404, "No such file.")
    return Response(folder.joinpath(name).read_bytes(), media_type=kind, headers={"cache-control": "no-cache"})


def _alive(request: Request) -> Response:
    return JSONResponse({"us43d": __version__})


def _icon(request: Request) -> Response:
    return Response(resources.files("us43d.view").joinpath("page", "icon.svg").read_bytes(), media_type="image/svg+xml")


def _wants_page(request: Request) -> bool:
    return "/api/" not in request.url.path and not request.url.path.startswith("/static/")


def _refused(request: Request, error: HTTPException) -> Response:
    if _wants_page(request):
        return HTMLResponse(render("message.html", heading=str(error.detail), lines=[]), error.status_code)
    return JSONResponse({"error": str(error.detail)}, error.status_code)


def _failed(request: Request, error: Us43dError) -> Response:
    """Turn a known failure into a message on the page, never a traceback."""
    status = 400 if isinstance(error, UsageError) else 500
    if _wants_page(request):
        lines = [error.disk, f"Next: {error.next}" if error.next else ""]
        return HTMLResponse(render("message.html", heading=error.what, lines=[line for line in lines if line]), status)
    return JSONResponse({"error": error.what, "disk": error.disk, "next": error.next}, status)


def body(data: bytes) -> dict[str, Any]:
    """Return the JSON object of a request.

    Raises:
        HTTPException: If the body is not a JSON object.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "The request is not JSON.") from error
    if not isinstance(content, dict):
        raise HTTPException(400, "The request is not a JSON object.")
    return content


def window(request: Request) -> tuple[float, float] | None:
    """Return `low` and `high` of an address, the values shown black and white, or None without them.

    Raises:
        HTTPException: If they are not two numbers.
    """
    texts = [request.query_params.get(name) for name in ("low", "high")]
    if texts == [None, None]:
        return None
    try:
        low, high = (float(text or "") for text in texts)
    except ValueError as error:
        raise HTTPException(400, "Invalid window. Use numbers for low and high.") from error
    if not abs(low) < _FAR or not abs(high) < _FAR:
        raise HTTPException(400, f"Invalid window. Use numbers below {_FAR:g}.")
    return low, high
