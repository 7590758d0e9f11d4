"""Who may talk to the server: a random token, the Host and Origin headers, and headers that bind the browser.

A page of another site can send requests to 127.0.0.1, and by DNS rebinding under a name of its own. Such a request has
a foreign Host or Origin, and never the token, which is set as a SameSite cookie when the printed address is opened.
"""

import secrets
from collections.abc import Iterable
from html import escape
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["CSP", "LARGEST_BODY", "Guard", "token"]

#: No inline script or style, no other host, no frame.
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": CSP, "x-content-type-options": "nosniff", "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin", "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY",
}  # fmt: skip
#: Bytes of a request; a mask of the largest image takes less.
LARGEST_BODY = 32 << 20


def token() -> str:
    """Return a new secret for one run of the server."""
    return secrets.token_urlsafe(24)


class Guard:
    """ASGI middleware. hosts: values of Host that are allowed, with port. secret: the token."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str], secret: str) -> None:
        self.app, self.hosts, self.secret = app, frozenset(hosts), secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # WebSockets are not used
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        answer = self._refusal(scope)
        await (answer or self.app)(scope, _bounded(receive), guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the response to a request that must not reach the application, or None."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if host not in self.hosts:
            return _plain(421, "This server answers under the address it printed only.")
        name = f"us43d-{host.rpartition(':')[2]}"  # browsers share cookies between ports
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        token = dict(query).get("token")
        if token is not None and scope["method"] == "GET":
            if not _same(token, self.secret):
                return _plain(403, "The token in this address is not valid. Open the address the terminal prints.")
            rest = urlencode([pair for pair in query if pair[0] != "token"])
            # One slash only: an address that begins with two would lead to another host.
            path = "/" + scope["path"].lstrip("/\\")
            answer = RedirectResponse(path + (f"?{rest}" if rest else ""), 303)
            answer.set_cookie(name, self.secret, httponly=True, samesite="strict", path="/")
            return answer
        if not _same(_cookies(headers).get(name, ""), self.secret):
            return _plain(403, "Open the address the terminal prints: it carries the token of this run.")
        if scope["method"] not in ("GET", "HEAD"):
            if headers.get("origin") != f"http://{host}":
                return _plain(403, "This request comes from another page.")
            if not headers.get("content-length", "").isdigit() or int(headers["content-length"]) > LARGEST_BODY:
                return _plain(413, "The request is larger than 32 MiB, or does not give its length.")
        return None


def _bounded(receive: Receive) -> Receive:
    """Stop a body that is longer than it may be."""
    size = 0

    async def next_message() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > LARGEST_BODY:
            return {"type": "http.disconnect"}
        return message

    return next_message


def _same(one: str, other: str) -> bool:
    return secrets.compare_digest(one.encode(), other.encode())


def _cookies(headers: Headers) -> dict[str, str]:
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(headers.get("cookie", "")).items()}
    except CookieError:
        return {}


def _plain(status: int, text: str) -> Response:
    return HTMLResponse(f"<!doctype html><title>us43d</title><p>{escape(text)}</p>", status)
