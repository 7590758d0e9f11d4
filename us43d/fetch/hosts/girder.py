"""Girder (CAMUS, ASUS): /api/v1/file/<id> describes a file; folders and collections are zipped on the fly.

Where a route names no file, its folder is listed: /folder and /item in pages, /item/<id>/files.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from us43d.contract import Route
from us43d.errors import FetchError
from us43d.fetch.hosts.common import by_facts, from_facts, matched
from us43d.fetch.http import Remote, Web

__all__ = ["resolve"]

_PAGE = 50
_FILE = re.compile(r"(?P<api>https?://\S+/api/v1)/file/(?P<id>[0-9a-f]{24})/download")


def resolve(route: Route, web: Web) -> list[Remote]:
    """List the files of a collection, folder or item.

    record: collection/<id>, folder/<id> or item/<id>. url: a page of the server, with /#… behind its root."""
    if route.files:
        return [_described(from_facts(file), web) for file in route.files]
    match = re.search(r"(collection|folder|item)/([0-9a-f]{24})", f"{route.record} {route.url}")
    if match is None or route.url is None:
        raise FetchError(f"{route.record or route.url} is not on a Girder server.")
    api = f"{re.split(r'/?#', route.url)[0].rstrip('/')}/api/v1"
    kind, top = match.groups()
    listed = _item(api, top, "", web) if kind == "item" else _below(api, kind, top, "", web)
    return matched(route, listed, f"Girder {kind} {top}")


def _described(remote: Remote, web: Web) -> Remote:
    """Return a single file with the size its server states; a zip made on the fly as it is."""
    match = _FILE.fullmatch(remote.url)
    if match is None or remote.size is not None:
        return remote
    entry = web.get_json(f"{match['api']}/file/{match['id']}")
    return replace(remote, size=entry.get("size"))


def _pages(url: str, web: Web, **params: object) -> Iterator[dict[str, Any]]:
    for offset in range(0, 10_000_000, _PAGE):
        entries = web.get_json(url, params={**params, "limit": _PAGE, "offset": offset})
        yield from entries
        if len(entries) < _PAGE:
            return


def _below(api: str, kind: str, id: str, folder: str, web: Web) -> Iterator[Remote]:
    for entry in _pages(f"{api}/folder", web, parentType=kind, parentId=id):
        yield from _below(api, "folder", entry["_id"], f"{folder}{entry['name']}/", web)
    if kind == "folder":
        for entry in _pages(f"{api}/item", web, folderId=id):
            yield from _item(api, entry["_id"], folder, web)


def _item(api: str, id: str, folder: str, web: Web) -> Iterator[Remote]:
    for file in _pages(f"{api}/item/{id}/files", web):
        yield by_facts(f"{folder}{file['name']}", f"{api}/file/{file['_id']}/download", size=file.get("size"))
