"""Open Science Framework: API v2, /nodes/<id>/files/osfstorage/[<folder>/] lists one folder in pages.

Folders are listed one by one: the zip of a folder that OSF makes on the fly has no digest.
"""

import re
from collections.abc import Iterator
from typing import Any

from us43d.contract import Route
from us43d.errors import FetchError
from us43d.fetch.hosts.common import by_facts, from_facts, matched, refused
from us43d.fetch.http import HttpError, Remote, Web

__all__ = ["resolve"]

_API = "https://api.osf.io/v2/nodes"


def resolve(route: Route, web: Web) -> list[Remote]:
    """List the files of a public project, or of one of its folders.

    record: the project's five characters, and the id of a folder behind a slash where only that is wanted. Files with
    an address of their own lie on another host and are added to what OSF lists.
    """
    match = re.fullmatch(r"([a-z0-9]{5})(?:/([0-9a-f]{24}))?", route.record or "")
    if match is None:
        raise FetchError(f"{route.record or route.url} is not an OSF project.")
    project, folder = match.groups()
    try:
        listing = list(_folder(f"{_API}/{project}/files/osfstorage/", folder, "", web))
    except HttpError as error:
        if error.status in (401, 403):
            raise refused(route, f"The OSF project {project} is private.", "Log in and ask for access.") from error
        raise
    here = route.model_copy(update={"files": tuple(file for file in route.files if file.url is None)})
    elsewhere = [from_facts(file) for file in route.files if file.url is not None]
    return matched(here, listing, f"OSF {route.record}") + elsewhere


def _folder(base: str, folder: str | None, path: str, web: Web) -> Iterator[Remote]:
    for entry in _pages(f"{base}{folder}/" if folder else base, web):
        told = entry["attributes"]
        name = f"{path}{told['name']}"
        if told["kind"] == "folder":
            yield from _folder(base, entry["id"], f"{name}/", web)
        else:
            hashes = (told.get("extra") or {}).get("hashes") or {}
            yield by_facts(
                name,
                entry["links"]["download"],
                size=told.get("size"),
                md5=hashes.get("md5"),
                sha256=hashes.get("sha256"),
            )


def _pages(url: str, web: Web) -> Iterator[dict[str, Any]]:
    for page in range(1, 10_000):
        answer = web.get_json(url, params={"page": page})
        yield from answer["data"]
        if not answer["links"].get("next"):
            return
