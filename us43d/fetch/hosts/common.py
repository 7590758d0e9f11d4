"""What the hosts' modules share: laying the facts of a route over what its host lists, and steps for a person."""

import posixpath
import re
from collections.abc import Iterable
from dataclasses import replace
from urllib.parse import urlsplit

from us43d.contract import RawFile, Route
from us43d.errors import FetchError, LoginError, ManualFileError, VerifyError, listed
from us43d.fetch import store
from us43d.fetch.http import Remote

__all__ = ["by_facts", "from_facts", "is_archive", "matched", "refused", "steps", "unnamed"]

_ARCHIVE = re.compile(r"\.(zip|z\d\d|change2zip|rar|r\d\d|7z|tar|tgz|tbz2?|txz|tar\.(gz|bz2|xz|lzma|zst))(\.\d{3})?")


def is_archive(name: str) -> bool:
    return re.search(_ARCHIVE.pattern + r"\Z", name.lower()) is not None


def by_facts(name: str, url: str, **known: object) -> Remote:
    """Return a file that a host lists and no recipe names.

    Raises FetchError for a name that leads out of the folder, or that fetching keeps for itself.
    """
    parts = name.split("/")
    if name.startswith("/") or {"", ".", ".."} & set(parts) or re.search(r"[\\\x00-\x1f]", name) or store.is_ours(name):
        raise FetchError(f"{url} is called {name!r} by its host, which is not a valid file name.")
    if urlsplit(url).scheme not in ("http", "https"):
        raise FetchError(f"{name} is at {url!r} by its host, which is not a valid web address.")
    return replace(unnamed(name, url), **known)  # type: ignore[arg-type]


def unnamed(name: str, url: str = "") -> Remote:
    """Return a file that no recipe names: an archive is unpacked where it lies, all else is placed."""
    archive = is_archive(name)
    return Remote(name, url, unpack=archive, into=posixpath.dirname(name) if archive else "")


def from_facts(file: RawFile, url: str | None = None) -> Remote:
    """Return a file as the recipe describes it."""
    address = url or file.url
    if address is None:
        raise FetchError(f"No address is known for {file.name}.")
    return Remote.of(file, address)


def matched(route: Route, hosted: Iterable[Remote], where: str) -> list[Remote]:
    """Return the files the route names, with what the host says of each; all the host has where it names none.

    Raises FetchError for a file the host does not have, VerifyError where it has another version than the facts.
    """
    by_name: dict[str, Remote] = {}
    for remote in hosted:
        if by_name.setdefault(remote.name, remote) is not remote:
            raise FetchError(f"{where} has two files called {remote.name}.")
    if not by_name:
        raise FetchError(f"{where} lists no file.", next=f"open {route.url} in a browser" if route.url else "")
    if not route.files:
        return [by_name[name] for name in sorted(by_name)]
    remotes = []
    for file in route.files:
        match = by_name.get(file.name) or by_name.get(posixpath.basename(urlsplit(file.url or "").path))
        if match is None:
            match = next(
                (candidate for name, candidate in by_name.items() if posixpath.basename(name) == file.name), None
            )
        if match is None:
            raise FetchError(f"{where} holds no {file.name}; it has {listed(sorted(by_name), 8)}.")
        facts = ((file.md5, match.md5, "md5"), (file.sha256, match.sha256, "sha256"), (file.size, match.size, "size"))
        for fact, now, what in facts:
            if fact is not None and now is not None and fact != now and not file.generated:
                raise VerifyError(
                    f"{where} now has another {file.name}: its {what} is {now}, where {fact} is known.",
                    next=f"look at {route.url or where} for what has changed",
                )
        known = {"size": match.size or file.size, "md5": match.md5 or file.md5, "sha256": match.sha256 or file.sha256}
        remotes.append(replace(from_facts(file, match.url), headers=match.headers, **known))  # type: ignore[arg-type]
    return remotes


def steps(what: str, *acts: str, login: bool = False) -> ManualFileError:
    """Return an error with numbered steps for a person."""
    numbered = [f"  {n}. {act}" for n, act in enumerate(filter(None, acts), start=1)]
    kind = LoginError if login else ManualFileError
    return kind("\n".join([what, *numbered]), next="the same command   (when that is done)")


def refused(route: Route, what: str, *acts: str) -> ManualFileError:
    """Return the steps for a host that does not serve scripts."""
    names = listed(f"{file.name} (from {file.url})" if file.url else file.name for file in route.files) or "the files"
    put = f"Put {names}, packed or unpacked, into the downloads folder of this source."
    return steps(what, f"Open {route.url or route.record} in a browser.", *acts, route.note, put)
