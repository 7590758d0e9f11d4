"""GitHub: an archive of one commit, or single files of it; files kept in Git LFS are found behind their pointers.

Archives are made on the fly: their bytes may change, their content may not. A commit is asked for where none is named.
"""

import re
from dataclasses import replace
from typing import NamedTuple

from us43d.contract import Route
from us43d.errors import FetchError
from us43d.fetch.hosts.common import from_facts
from us43d.fetch.http import Remote, Web

__all__ = ["Pointer", "pointer", "resolve"]

_API = "https://api.github.com/repos"
_RAW = re.compile(r"https://raw\.githubusercontent\.com/(?P<repo>[^/]+/[^/]+)/(?P<commit>[^/]+)/(?P<path>.+)")
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:.*\n)*?oid sha256:(?P<oid>[0-9a-f]{64})\nsize (?P<size>\d+)\n"
)
#: A pointer is a text of about 130 bytes; the specification allows up to 1,024.
_LONGEST_POINTER = 1024


class Pointer(NamedTuple):
    """Content of a Git LFS pointer: digest and size of its file."""

    sha256: str
    size: int


def pointer(data: bytes) -> Pointer | None:
    """Return the content of a Git LFS pointer file; None for other bytes."""
    match = _POINTER.match(data) if len(data) <= _LONGEST_POINTER else None
    return Pointer(match["oid"].decode(), int(match["size"])) if match else None


def resolve(route: Route, web: Web) -> list[Remote]:
    """Return the archive of a commit, or single files.

    record: owner/repository@commit, or without a commit, for the newest one.
    """
    if route.files:
        return [_behind(from_facts(file), web) for file in route.files]
    match = re.match(r"(?P<repo>[\w.-]+/[\w.-]+?)(?:@(?P<commit>[0-9a-f]{7,40}))?\Z", route.record or "")
    if match is None:
        raise FetchError(f"{route.record or route.url} is not a GitHub repository.")
    commit = match["commit"] or web.get_json(f"{_API}/{match['repo']}/commits/HEAD")["sha"]
    name = f"{match['repo'].split('/')[1]}-{commit}.zip"
    return [Remote(name, f"https://codeload.github.com/{match['repo']}/zip/{commit}", generated=True)]


def _behind(remote: Remote, web: Web) -> Remote:
    """Return a single file, or what its pointer leads to."""
    place = _RAW.fullmatch(remote.url)
    if place is None or (remote.size or 0) > _LONGEST_POINTER:
        return remote
    with web.open(remote.url) as answer:
        length = answer.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > _LONGEST_POINTER:
            return replace(remote, size=int(length)) if length.isdigit() and remote.size is None else remote
        target = pointer(next(answer.iter_content(_LONGEST_POINTER + 1), b""))
    if target is None:
        return remote
    answer = web.post_json(
        f"https://github.com/{place['repo']}.git/info/lfs/objects/batch",
        {"operation": "download", "transfers": ["basic"], "objects": [{"oid": target.sha256, "size": target.size}]},
        headers={"Accept": "application/vnd.git-lfs+json"},
    )
    entry = answer["objects"][0]
    if "error" in entry:
        why = entry["error"].get("message", "no reason is given")
        raise FetchError(
            f"{remote.name} is kept in Git LFS, which refuses the download: {why}.",
            next=f"open https://github.com/{place['repo']} in a browser: the owner's LFS quota may be used up",
        )
    act = entry["actions"]["download"]
    return replace(remote, url=act["href"], headers=act.get("header", {}), size=target.size, sha256=target.sha256)
