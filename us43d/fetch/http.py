"""HTTP for fetching: one polite, patient session that never turns TLS verification off.

Own User-Agent, Retry-After honoured, a limit of streams per host, proxies from the environment (HTTPS_PROXY, NO_PROXY),
extra certificate authorities from REQUESTS_CA_BUNDLE. A lab with a caching proxy or a mirror of an API points a host
elsewhere with US43D_HOSTS="zenodo.org=https://cache.example.org/zenodo,…".
"""

import datetime
import email.utils
import html
import json
import os
import re
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from importlib import metadata
from types import MappingProxyType
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from urllib3.exceptions import HTTPError

from us43d import __version__
from us43d.contract import RawFile
from us43d.errors import ConfigError, FetchError
from us43d.fetch.deadline import Adapter, within
from us43d.rawtree import CONTROL

__all__ = ["HttpError", "Remote", "Web", "escaped", "number", "page_title"]

#: A page or an API answer longer than this is not what was asked for.
_LONGEST_TEXT = 64 << 20
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: No part of a file's path may be one of these; the last ones are what fetch keeps beside the files.
_UNFIT = frozenset({"", ".", "..", ".parts", ".lock", "receipt.json", "raw.sha256"})
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class Remote:
    """One file to download, with all that is known of it.

    name: path below downloads/<Name>/, with `/`. url: where a GET gives its bytes. size: bytes. headers: sent with the
    request (authorization goes to that host only). generated: made by the server on the fly, so that its bytes differ
    from one download to the next. into, unpack: as in `RawFile`.
    """

    name: str
    url: str
    size: int | None = None
    md5: str | None = None
    sha256: str | None = None
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    generated: bool = False
    unpack: bool = True
    into: str = ""

    def __post_init__(self) -> None:
        """Raises FetchError for a name that would leave the folder, or is one of fetch's own: hosts are not trusted."""
        for path in (self.name, self.into or "-"):
            if "\\" in path or escaped(path) != path or any(segment in _UNFIT for segment in path.split("/")):
                raise FetchError(f"A host gives a file the name {path!r}, which cannot be used.")

    @classmethod
    def of(cls, file: RawFile, url: str | None = None) -> "Remote":
        """Return a file as the recipe describes it; without an address, the url is empty."""
        remote = cls(file.name, url or file.url or "", file.size, file.md5, file.sha256)
        return replace(remote, generated=file.generated, unpack=file.unpack, into=file.into)


class HttpError(FetchError):
    """A host answered with an error. status: its code, 0 where no answer came. page: the begin of what it said."""

    status = 0
    page = ""


def escaped(text: str) -> str:
    """Return text of a host without characters that a terminal takes for commands (C0, DEL and C1)."""
    return CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def number(text: str | None) -> int | None:
    """Return a count of bytes in a header; None for an invalid one."""
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,18}", text.strip()) else None


def page_title(text: str) -> str:
    """Return the title of an HTML page, "" where it has none."""
    match = re.search(r"<title[^>]*>(.*?)</title", text, re.IGNORECASE | re.DOTALL)
    return escaped(" ".join(html.unescape(match[1]).split()))[:100] if match else ""


class Web:
    """The session all fetching goes through; may be used from several threads.

    bases: host → base address that replaces it. jobs: streams at once in all. per_host: streams at once to one
    host. attempts: tries of one request. pause: seconds before the second try, doubled for each further one.
    patience: the longest that one request may spend waiting, in seconds. timeout: seconds to (connect, wait for bytes).
    """

    def __init__(
        self,
        *,
        bases: Mapping[str, str] | None = None,
        jobs: int = 8,
        per_host: int = 4,
        attempts: int = 5,
        pause: float = 1.0,
        patience: float = 300.0,
        timeout: tuple[float, float] = (15.0, 60.0),
    ) -> None:
        self.bases = dict(_bases_from_environment() if bases is None else bases)
        self.attempts, self.pause, self.patience, self.timeout = attempts, pause, patience, timeout
        self.stopped = threading.Event()
        self._all = threading.BoundedSemaphore(jobs)
        self._hosts: dict[str, threading.BoundedSemaphore] = defaultdict(lambda: threading.BoundedSemaphore(per_host))
        self._not_before: dict[str, float] = {}
        self._lock = threading.Lock()
        self._session = requests.Session()
        self._session.headers.update({"User-Agent": _agent(), "Accept": "*/*"})
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, Adapter(pool_connections=64, pool_maxsize=max(jobs, per_host)))

    def stop(self) -> None:
        """End what other threads are doing at their next block of bytes."""
        self.stopped.set()

    def get_json(
        self, url: str, *, params: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """Return the answer of an API. Raises FetchError if it is not JSON."""
        return _decoded(url, self.get_text(url, params=params, headers=headers))

    def post_json(self, url: str, body: Any, *, headers: Mapping[str, str] | None = None) -> Any:
        """Return the answer of an API to a JSON body."""
        return _decoded(url, self._text("POST", url, None, headers, body))

    def get_text(
        self, url: str, *, params: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> str:
        """Return a page as text. Raises FetchError."""
        return self._text("GET", url, params, headers, None)

    def _text(
        self, method: str, url: str, params: Mapping[str, Any] | None, headers: Mapping[str, str] | None, body: Any
    ) -> str:
        for attempt in range(1, self.attempts + 1):
            with self._opened(method, url, params, headers or {}, body) as answer:
                try:
                    with within(answer, self.patience):
                        data = b"".join(_up_to(_LONGEST_TEXT, answer, url))
                except (requests.RequestException, HTTPError, OSError) as error:
                    if attempt == self.attempts:
                        raise HttpError(f"{url} broke off: {_reason(error)}.") from error
                else:
                    return _as_text(data, answer.encoding)
            self.wait(self.pause * 2 ** (attempt - 1))
        raise AssertionError("unreachable")

    @contextmanager
    def open(
        self,
        url: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        start: int = 0,
    ) -> Iterator[requests.Response]:
        """Open a streamed GET with a successful status; uncompressed if the host supports that.

        start: first byte to ask for. The status may then be 206, 200 (the whole file) or 416 (nothing after `start`).
        Raises HttpError for a refusal, or when `attempts` and `patience` are used up.
        """
        sent = {"Accept-Encoding": "identity", **(headers or {})}
        if start:
            sent["Range"] = f"bytes={start}-"
        with self._opened("GET", url, params, sent, None) as answer:
            yield answer

    @contextmanager
    def head(self, url: str) -> Iterator[requests.Response]:
        """Request the headers of an address. Raises HttpError for a refusal."""
        with self._opened("HEAD", url, None, {"Accept-Encoding": "identity"}, None) as answer:
            yield answer

    def wait(self, seconds: float) -> None:
        """Sleep, unless or until the session is stopped. Raises FetchError then."""
        if self.stopped.wait(max(0.0, seconds)):
            raise FetchError("The download was stopped.", disk="The received bytes are kept.", next="the same command")

    # ------------------------------------------------------------------------------------------- one request, in detail

    @contextmanager
    def _opened(
        self, method: str, url: str, params: Mapping[str, Any] | None, headers: Mapping[str, str], body: Any
    ) -> Iterator[requests.Response]:
        """Open the response to a request, after redirects and retries; closed at the end."""
        waited = 0.0
        for attempt in range(1, self.attempts + 1):
            with ExitStack() as stack:
                answer, reason, page, delay = None, "", "", None
                try:
                    answer = self._followed(stack, method, url, params, headers, body)
                except (requests.Timeout, requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
                    if isinstance(error, requests.exceptions.SSLError | requests.exceptions.ProxyError):
                        raise _refused(url, error) from error
                    reason = _reason(error)
                    if "not known" in reason and attempt == 2:  # a name that does not exist will not come to exist
                        break
                except (requests.RequestException, HTTPError, ValueError) as error:  # and for invalid headers
                    raise _refused(url, error) from error
                if answer is not None:
                    if answer.status_code < 400 or (answer.status_code == 416 and "Range" in headers):
                        yield answer
                        return
                    reason, delay = f"HTTP {answer.status_code} {_words(answer)}".strip(), _asked_to_wait(answer)
                    page = _page(answer, self.timeout[1])
                    if answer.status_code not in _AGAIN:
                        raise _denied(url, answer, page)
                    if delay is not None:
                        self._rest(url, delay)
            pause = self.pause * 2 ** (attempt - 1) if delay is None else delay
            if waited + pause > self.patience:
                raise _http_error(
                    answer,
                    f"{urlsplit(url).hostname} asks to wait {_span(pause)} ({reason}: {url}).",
                    next=f"the same command   (in {_span(pause)})",
                    page=page,
                )
            if attempt < self.attempts:
                self.wait(pause)
                waited += pause
        what = f"{url} failed {attempt} times ({reason})."
        raise _http_error(answer, what, next="the same command   (later)", page=page)

    def _followed(
        self,
        stack: ExitStack,
        method: str,
        url: str,
        params: Mapping[str, Any] | None,
        headers: Mapping[str, str],
        body: Any,
    ) -> requests.Response:
        """Try once: return the first response other than a redirect. `stack` releases it and the per-host limit."""
        seen: list[str] = []
        sent = dict(headers)
        while True:
            self.wait(self._not_before.get(_host(url), 0.0) - time.monotonic())
            hop = stack.enter_context(ExitStack())
            hop.enter_context(self._turn(url))
            answer = self._session.request(
                method,
                self._at(url),
                params=params,
                headers=sent,
                json=body,
                stream=True,
                allow_redirects=False,
                timeout=self.timeout,
            )
            hop.callback(answer.close)
            if answer.status_code not in _REDIRECTS or "Location" not in answer.headers:
                return answer
            hop.close()
            seen.append(url)
            to = _address(url, answer.headers["Location"])
            if seen.count(to) > 2 or len(seen) > 20:  # once to itself is how some hosts set a cookie
                raise FetchError(f"{url} leads in a circle: it redirects to {to}.", next=f"open {url} in a browser")
            if urlsplit(to).scheme not in {"http", "https"}:
                raise FetchError(f"{url} redirects to {to}, which is not a valid web address.")
            if urlsplit(url).scheme == "https" and urlsplit(to).scheme == "http" and _host(to) not in _LOOPBACK:
                raise FetchError(
                    f"{url} redirects to {to}, an unencrypted address.",
                    next=f"open {url} in a browser",
                )
            if _host(to) != _host(url):
                sent = {name: value for name, value in sent.items() if name.lower() not in {"authorization", "cookie"}}
            if answer.status_code == 303 or (method == "POST" and answer.status_code in {301, 302}):
                method, body = "GET", None
            url, params = to, None

    def _at(self, url: str) -> str:
        """Return the address to ask instead of `url`."""
        parts = urlsplit(url)
        base = self.bases.get(parts.hostname or "") or self.bases.get(parts.netloc)
        if base is None:
            return url
        return base.rstrip("/") + parts.path + (f"?{parts.query}" if parts.query else "")

    @contextmanager
    def _turn(self, url: str) -> Iterator[None]:
        with self._lock:
            host = self._hosts[_host(url)]
        with host, self._all:
            yield

    def _rest(self, url: str, seconds: float) -> None:
        with self._lock:
            until = time.monotonic() + min(seconds, self.patience)
            self._not_before[_host(url)] = max(until, self._not_before.get(_host(url), 0.0))


def _address(url: str, location: str) -> str:
    """Return the target of a redirect. Raises FetchError for an invalid address."""
    try:
        to = urljoin(url, location)
        parts = urlsplit(to)
        _ = parts.port, parts.hostname  # both raise for invalid addresses
    except ValueError as error:
        raise FetchError(f"{url} redirects to the invalid address {escaped(location)[:200]!r}.") from error
    if escaped(to) != to or len(to) > 8192:
        raise FetchError(f"{url} redirects to the invalid address {escaped(location)[:200]!r}.")
    return to


def _words(answer: requests.Response) -> str:
    """Return the host's explanation of a status, escaped."""
    return escaped(answer.reason or "")[:100]


def _as_text(data: bytes, encoding: str | None) -> str:
    try:
        return data.decode(encoding or "utf-8", errors="replace")
    except (LookupError, ValueError):  # not the name of a text encoding
        return data.decode("utf-8", errors="replace")


def _agent() -> str:
    """Return us43d/<version>, with the project's address if the package has one."""
    try:
        urls = metadata.metadata("us43d").get_all("Project-URL") or []
    except metadata.PackageNotFoundError:
        urls = []
    about = [url.partition(",")[2].strip() for url in urls][:1] or ["toolkit for public ultrasound datasets"]
    return f"us43d/{__version__} ({about[0]})"


def _bases_from_environment() -> dict[str, str]:
    bases = {}
    for pair in filter(None, (item.strip() for item in os.environ.get("US43D_HOSTS", "").split(","))):
        host, equals, base = pair.partition("=")
        if not equals or urlsplit(base).scheme not in {"http", "https"}:
            raise ConfigError(f"US43D_HOSTS has {pair!r}, which is not host=https://….", next="unset US43D_HOSTS")
        bases[host.strip().lower()] = base.strip()
    return bases


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _up_to(limit: int, answer: requests.Response, url: str) -> Iterator[bytes]:
    for block in answer.iter_content(1 << 16):
        limit -= len(block)
        if limit < 0:
            raise FetchError(f"{url} answers with more than {_LONGEST_TEXT:,} bytes where a short text was expected.")
        yield block


def _decoded(url: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        title = page_title(text)
        seen = f"a page titled {title!r}" if title else f"{text[:60]!r}"
        raise FetchError(f"{url} does not answer in JSON but with {seen}.", next=f"open {url} in a browser") from error


def _asked_to_wait(answer: requests.Response) -> float | None:
    """Return the seconds a host asks to wait, by the host's clock, as the local one may be wrong."""
    headers = answer.headers
    value = headers.get("Retry-After")
    if value is None and answer.status_code == 429:
        value = next((headers[key] for key in ("RateLimit-Reset", "X-RateLimit-Reset") if key in headers), None)
    if value is None:
        return None
    now = _moment(headers.get("Date")) or time.time()
    if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", value.strip()):
        number = float(value)
        return max(0.0, number - now) if number > 1e9 else number  # GitHub and Zenodo name the moment, not the span
    then = _moment(value)
    return None if then is None else max(0.0, then - now)


def _moment(date: str | None) -> float | None:
    """Return the seconds since 1970 of an HTTP date."""
    try:
        return email.utils.parsedate_to_datetime(date).timestamp() if date else None
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return None


def _span(seconds: float) -> str:
    return str(datetime.timedelta(seconds=min(round(seconds), 10**9)))


def _reason(error: Exception) -> str:
    """Return the reason of a failed request, in a few words."""
    text = str(error)
    for pattern, words in (
        ("NameResolution|getaddrinfo|Name or service", "the host's name is not known; is there a network?"),
        ("Connection refused", "the host refuses the connection"),
        ("timed out|Timeout", "the host does not answer in time"),
        ("reset by peer|Connection aborted|RemoteDisconnected", "the host closed the connection"),
        ("unreachable", "the network is unreachable"),
        ("IncompleteRead|ended prematurely", "the connection ended early"),
    ):
        if re.search(pattern, text):
            return words
    return f"{type(error).__name__}: {escaped(text[:200])}"


def _refused(url: str, error: Exception) -> FetchError:
    host = _host(url)
    if isinstance(error, requests.exceptions.SSLError):
        match = re.search(r"certificate verify failed: ([^(\"']+)", str(error))
        why = match[1].strip() if match else str(error)[:200]
        return HttpError(
            f"The certificate of {host} is not valid ({why}), so nothing was downloaded from {url}.",
            next="check this machine's clock; for an authority of your own network, set REQUESTS_CA_BUNDLE to its file",
        )
    if isinstance(error, requests.exceptions.ProxyError):
        return HttpError(
            f"The proxy set in the environment does not let {url} through: {_reason(error)}.",
            next="check HTTPS_PROXY and NO_PROXY (us43d doctor)",
        )
    return HttpError(f"{url} cannot be asked for: {_reason(error)}.", next="us43d doctor")


_MEANING: Mapping[int, str] = {
    401: "it wants a login",
    403: "it refuses scripts, or wants a login",
    404: "the file no longer exists",
    410: "the file was removed",
    451: "it is withheld for legal reasons",
}


def _denied(url: str, answer: requests.Response, page: str) -> HttpError:
    meaning = _MEANING.get(answer.status_code, _words(answer) or "it refuses")
    what = f"{url} answers {answer.status_code}: {meaning}."
    return _http_error(answer, what, next=f"open {url} in a browser and see what it says", page=page)


def _http_error(answer: requests.Response | None, what: str, *, next: str, page: str = "") -> HttpError:
    error = HttpError(what, next=next)
    if answer is not None:
        error.status, error.page = answer.status_code, page
    return error


def _page(answer: requests.Response, seconds: float) -> str:
    """Return the begin of an answer's text; "" where the connection does not give it within so many seconds."""
    try:
        with within(answer, seconds):
            data: bytes = answer.raw.read(4096, decode_content=True)
    except (requests.RequestException, HTTPError, OSError, ValueError):
        return ""
    return data.decode("utf-8", errors="replace")
