"""Figshare: API v2, /articles/<id>/versions/<n> for a version, /articles/<id>/files in pages for the newest."""

import re
from collections.abc import Iterator
from typing import Any

from us43d.contract import Route
from us43d.errors import FetchError
from us43d.fetch.hosts.common import by_facts, matched
from us43d.fetch.http import Remote, Web

__all__ = ["resolve"]

_API = "https://api.figshare.com/v2/articles"
_PAGE = 100


def resolve(route: Route, web: Web) -> list[Remote]:
    """List the files of an article.

    record: the article's number, or its DOI; a version is taken from the record or the address (….v2)."""
    text = f"{route.record or ''} {route.url or ''}"
    match = re.search(r"figshare\.(\d+)(?:\.v(\d+))?", text) or re.search(r"(\d{5,})(?:\.v(\d+))?", text)
    if match is None:
        raise FetchError(f"{route.record or route.url} is not a Figshare article.")
    article, version = match.groups()
    files = web.get_json(f"{_API}/{article}/versions/{version}").get("files", []) if version else _pages(article, web)
    remotes = [
        by_facts(
            file["name"],
            file["download_url"],
            size=file.get("size") or None,
            md5=file.get("computed_md5") or file.get("supplied_md5") or None,
        )
        for file in files
        if not file.get("is_link_only")
    ]
    return matched(route, remotes, f"Figshare article {article}")


def _pages(article: str, web: Web) -> Iterator[dict[str, Any]]:
    for page in range(1, 10_000):
        files = web.get_json(f"{_API}/{article}/files", params={"page": page, "page_size": _PAGE})
        yield from files
        if len(files) < _PAGE:
            return
