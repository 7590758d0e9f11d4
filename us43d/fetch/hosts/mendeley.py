"""Mendeley Data: its public API lists files with size and sha256; its zip of a whole record is made on the fly.

    /public-api/datasets/<id>/files?folder_id=<id or root>&version=<n>
    /public-api/datasets/<id>/folders/<n>                                   id, name, parent_id of every folder

Both are known to refuse scripts for hours or for good, by 403 and by pages in place of an answer; then a browser helps.
"""

import re
from collections.abc import Iterator
from typing import Any

from us43d.contract import Route
from us43d.errors import FetchError
from us43d.fetch.hosts.common import by_facts, from_facts, matched, refused
from us43d.fetch.http import HttpError, Remote, Web

__all__ = ["resolve"]

_API = "https://data.mendeley.com/public-api/datasets"
#: Files that an answer holds at most.
_PAGE = 1000
_HEADERS = {"Accept": "application/vnd.mendeley-public-dataset.1+json"}


def resolve(route: Route, web: Web) -> list[Remote]:
    """List the files of a record.

    record: <id>/<version>. A file called <id>-<version>.zip is the whole record as one archive.
    """
    match = re.search(r"\b([0-9a-z]{10})[/.](\d+)", route.record or "") or re.search(
        r"datasets/(\w{10})/(\d+)", route.url or ""
    )
    if match is None:
        raise FetchError(f"{route.record or route.url} is not a record of Mendeley Data.")
    record, version = match.groups()
    whole = [file for file in route.files if file.name == f"{record}-{version}.zip"]
    try:
        if whole and len(whole) == len(route.files):
            address = whole[0].url or f"https://data.mendeley.com/public-api/zip/{record}/download/{version}"
            try:
                with web.open(address):
                    return [from_facts(whole[0], address)]
            except HttpError:  # the files one by one are the same, and have digests
                return matched(
                    route.model_copy(update={"files": ()}), _listed(record, version, web), f"Mendeley Data {record}"
                )
        return matched(route, _listed(record, version, web), f"Mendeley Data {record}, version {version},")
    except HttpError as error:
        if error.status in (404, 410):
            raise
        if route.files and not whole and all(file.url for file in route.files):
            return [from_facts(file) for file in route.files]
        if not error.status:  # no response
            raise
        raise _browser(route, str(error.what)) from error
    except FetchError as error:
        if "does not answer in JSON" in error.what:
            raise _browser(route, error.what) from error
        raise


def _browser(route: Route, why: str) -> Exception:
    return refused(
        route,
        f"Mendeley Data refuses this script ({why.rstrip('.')}); a browser is let through.",
        "Wait until the page has loaded, and press Download all (or the arrow beside each file).",
    )


def _listed(id: str, version: str, web: Web) -> Iterator[Remote]:
    folders = {child["id"]: child for child in web.get_json(f"{_API}/{id}/folders/{version}", headers=_HEADERS)}

    def path(folder: str) -> str:
        parts: list[str] = []
        while folder in folders and len(parts) < 50:
            parts.insert(0, f"{folders[folder]['name']}/")
            folder = folders[folder].get("parent_id") or ""
        return "".join(parts)

    for folder in ("root", *folders):
        for entry in _entries(id, version, folder, web):
            details = entry["content_details"]
            yield by_facts(
                f"{path(folder)}{entry['filename']}",
                details["download_url"],
                size=details.get("size") or entry.get("size"),
                sha256=details.get("sha256_hash") or None,
            )


def _entries(id: str, version: str, folder: str, web: Web) -> Iterator[dict[str, Any]]:
    """The files of one folder, page after page: the API gives the first thousand and does not say that there are more.

    Raises FetchError where a full page cannot be turned, as files would be missing without a word.
    """
    seen: set[str] = set()
    while True:
        params = {"folder_id": folder, "version": version} | ({"offset": len(seen)} if seen else {})
        page = web.get_json(f"{_API}/{id}/files", params=params, headers=_HEADERS)
        fresh = [entry for entry in page if _address(entry) not in seen]
        seen.update(map(_address, fresh))
        yield from fresh
        if len(page) < _PAGE:
            return
        if not fresh:
            raise FetchError(
                f"Mendeley Data {id}, version {version}, lists only the first {len(seen):,} files of a folder.",
                next=f"open https://data.mendeley.com/datasets/{id}/{version} in a browser, and press Download all",
            )


def _address(entry: dict[str, Any]) -> str:
    return str(entry["content_details"]["download_url"])
