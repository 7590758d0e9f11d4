"""Zenodo: GET /api/records/<id> lists the files of a record with size and md5.

The present service (InvenioRDM) names a file by `key` and its bytes by `links.self`, with /content at the end.
"""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from us43d.contract import Route
from us43d.errors import FetchError
from us43d.fetch.hosts.common import by_facts, from_facts, matched, refused
from us43d.fetch.http import HttpError, Remote, Web

__all__ = ["resolve"]

_API = "https://zenodo.org/api/records"


def resolve(route: Route, web: Web) -> list[Remote]:
    number = re.search(r"\d{4,}", route.record or route.url or "")
    if number is None:
        raise FetchError(f"{route.record or route.url} is not a Zenodo record.")
    try:
        record = web.get_json(f"{_API}/{number[0]}")
    except HttpError:
        # Its front has outages that its store does not share; what the recipe knows is then all there is.
        if route.files and all(file.url for file in route.files):
            return [from_facts(file) for file in route.files]
        raise
    access = record.get("access", {}).get("files") or record.get("metadata", {}).get("access_right", "open")
    if access not in ("open", "public") and not record.get("files"):
        raise refused(
            route, f"The files of Zenodo record {number[0]} are {access}.", "Log in and ask its owners for access."
        )
    return matched(route, _files(record, number[0], web), f"Zenodo record {number[0]}")


def _files(record: dict[str, Any], number: str, web: Web) -> Iterator[Remote]:
    entries = record.get("files")
    page: Any = None
    if isinstance(entries, dict) or not entries:  # the form of InvenioRDM itself keeps them apart
        page = web.get_json(f"{_API}/{number}/files")
        entries = page.get("entries", [])
    while True:
        for entry in entries:
            name = entry.get("key") or entry["filename"]
            kind, _, digest = entry.get("checksum", "").rpartition(":")
            links = entry.get("links", {})
            url = links.get("content") or links.get("self") or links.get("download")
            yield by_facts(
                name,
                url or f"https://zenodo.org/records/{number}/files/{quote(name)}?download=1",
                size=entry.get("size") or entry.get("filesize") or None,
                md5=digest if digest and kind in ("", "md5") else None,
            )
        following = (page or {}).get("links", {}).get("next")
        if not following:
            return
        page = web.get_json(following)
        entries = page.get("entries", [])
