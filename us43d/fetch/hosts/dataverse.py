"""Dataverse: GET /api/datasets/:persistentId lists the files of a dataset; /api/access/datafile/<id> gives one.

A table that the server converted is fetched as it was uploaded (format=original), which has no published digest.
"""

import posixpath
import re
from typing import Any
from urllib.parse import urlsplit

from us43d.contract import Route
from us43d.errors import FetchError
from us43d.fetch.hosts.common import by_facts, matched, refused
from us43d.fetch.http import Remote, Web

__all__ = ["resolve"]


def resolve(route: Route, web: Web) -> list[Remote]:
    """List the files of a dataset.

    record: the dataset's DOI ("doi:10.7910/DVN/…"); url: a page of the installation that holds it.
    """
    doi = re.search(r"(?:doi:)?(10\.\d+/\S+)", route.record or "")
    server = urlsplit(route.url or "")
    if doi is None or not server.netloc:
        raise FetchError(f"{route.record or route.url} is not a Dataverse dataset.")
    base = f"{server.scheme}://{server.netloc}"
    answer = web.get_json(f"{base}/api/datasets/:persistentId/", params={"persistentId": f"doi:{doi[1]}"})
    files = answer["data"]["latestVersion"]["files"]
    names = {file.name for file in route.files}
    if any(entry.get("restricted") and (not names or _name(entry) in names) for entry in files):
        raise refused(route, f"Files of {doi[1]} are restricted.", "Log in and ask for access to them.")
    return matched(
        route, [_remote(entry, base) for entry in files if not entry.get("restricted")], f"Dataverse {doi[1]}"
    )


def _name(entry: dict[str, Any]) -> str:
    data = entry["dataFile"]
    return posixpath.join(str(entry.get("directoryLabel", "")), str(data.get("originalFileName") or data["filename"]))


def _remote(entry: dict[str, Any], base: str) -> Remote:
    data = entry["dataFile"]
    url = f"{base}/api/access/datafile/{data['id']}"
    if data.get("originalFileFormat"):
        return by_facts(_name(entry), f"{url}?format=original", size=data.get("originalFileSize"))
    checksum = data.get("checksum", {})
    digests = {checksum.get("type"): checksum.get("value")}
    return by_facts(
        _name(entry),
        url,
        size=data.get("filesize"),
        md5=data.get("md5") or digests.get("MD5"),
        sha256=digests.get("SHA-256"),
    )
