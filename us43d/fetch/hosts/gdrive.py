"""Google Drive without an account: the confirm page of large files, folders of any length, and pages that refuse.

A folder is read from /embeddedfolderview, which lists all of it; the usual page stops at 50 files.
"""

import html
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from urllib.parse import urlencode, urlsplit

from us43d.contract import Route
from us43d.errors import FetchError
from us43d.fetch.hosts.common import by_facts, from_facts, matched, refused
from us43d.fetch.http import HttpError, Remote, Web, page_title

__all__ = ["resolve"]

_FOLDER = "https://drive.google.com/embeddedfolderview"
#: Responds with the bytes themselves; the parameter accepts the missing virus scan.
_CONFIRMED = "https://drive.usercontent.google.com/download?id={}&export=download&confirm=t"
_ID = re.compile(r"[-\w]{25,}")
_EXPORTS = {"document": "docx", "spreadsheets": "xlsx", "presentation": "pptx"}


def resolve(route: Route, web: Web) -> list[Remote]:
    """List a file or the files of a folder. record: the id of a file, for a route of one file, or of a folder."""
    match = _ID.search(route.record or "") or _ID.search(route.url or "")
    if match is None:
        raise FetchError(f"{route.record or route.url} is not a file or folder of Google Drive.")
    if "/folders/" in (route.url or ""):
        return matched(route, _folder(match[0], "", web, set()), f"Google Drive folder {match[0]}")
    if len(route.files) != 1:
        raise FetchError(f"Google Drive file {match[0]} has not exactly one file name.")
    return [from_facts(route.files[0], _file(match[0], route, web))]


def _file(id: str, route: Route, web: Web) -> str:
    """Return the address of the bytes. Raises FetchError and ManualFileError for pages served in place of the file."""
    first = f"https://drive.google.com/uc?export=download&id={id}"
    try:
        with web.open(first) as answer:
            if "Content-Disposition" in answer.headers or "html" not in answer.headers.get("Content-Type", ""):
                return first
            page = b"".join(answer.iter_content(1 << 16)).decode("utf-8", "replace")
            address = answer.url
    except HttpError as error:
        if error.status in (0, 404):  # 0: no response
            raise
        raise _said(error.page, id, route) from error
    if form := re.search(r'<form[^>]*id="download-form"[^>]*action="([^"]+)"(.*?)</form>', page, re.DOTALL):
        fields = {
            name[1]: value[1]
            for tag in re.findall(r"<input[^>]*>", form[2])
            if (name := re.search(r'name="([^"]*)"', tag)) and (value := re.search(r'value="([^"]*)"', tag))
        }
        target = urlsplit(html.unescape(form[1]))
        return target._replace(query=urlencode({**fields, "confirm": fields.get("confirm", "t")})).geturl()
    if link := re.search(r'href="(/uc\?export=download[^"]+)', page):
        return f"https://drive.google.com{html.unescape(link[1])}"
    raise _said(page, id, route, address)


def _said(page: str, id: str, route: Route, address: str = "") -> FetchError | Exception:
    """Return the error for a page served in place of a file."""
    if "accounts.google.com" in address or "ServiceLogin" in page:
        return refused(
            route, f"Google Drive file {id} is not public (any more).", "Log in and ask its owner for access."
        )
    words = re.search(r'class="uc-error-subcaption">(.*?)</p>', page, re.DOTALL)
    told = re.sub(r"<[^>]+>", " ", words[1]).strip() if words else page_title(page) or "an empty page"
    if re.search(r"quota|too many users", page, re.IGNORECASE):
        return FetchError(
            f"Google Drive file {id} is over its download quota ({told[:120]}).",
            next=f"the same command   (in 24 hours; or, logged in, copy {route.url} to your Drive and download that)",
        )
    return FetchError(f"Google Drive responds for file {id}: {told[:200]}.", next=f"open {route.url} in a browser")


class _Links(HTMLParser):
    """(address, text) of every link of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: list[tuple[str, str]] = []
        self._href: str | None = None
        self._text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self._href, self._text = dict(attrs).get("href"), ""

    def handle_data(self, data: str) -> None:
        self._text += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "a" and self._href:
            self.links.append((self._href, self._text.strip()))
            self._href = None


def _folder(id: str, path: str, web: Web, seen: set[str]) -> Iterator[Remote]:
    """Yield all files below a folder."""
    if id in seen:
        return
    seen.add(id)
    page = web.get_text(_FOLDER, params={"id": id})
    if not page_title(page) or "ServiceLogin" in page:
        raise FetchError(
            f"Google Drive does not show folder {id}: it is not public (any more).",
            next=f"open https://drive.google.com/drive/folders/{id} in a browser",
        )
    for address, text in _Links(page).links:
        name = path + text.replace("/", "_")
        if file := re.match(r"https://drive\.google\.com/file/d/([-\w]{25,})", address):
            yield by_facts(name, _CONFIRMED.format(file[1]))
        elif folder := re.match(r"https://drive\.google\.com/(?:drive/)?(?:u/\d/)?folders/([-\w]{25,})", address):
            yield from _folder(folder[1], f"{name}/", web, seen)
        elif own := re.match(r"https://docs\.google\.com/(document|spreadsheets|presentation)/d/([-\w]{25,})", address):
            kind = _EXPORTS[own[1]]
            url = f"https://docs.google.com/{own[1]}/d/{own[2]}/export?format={kind}"
            yield by_facts(f"{name}.{kind}", url, generated=True)
