"""OneDrive shares of private accounts, by the API that serves them without a login.

Microsoft moves these accounts to another service, whose API wants a login; a moved share is a matter for a browser.
"""

import base64
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

from us43d.contract import Route
from us43d.errors import FetchError
from us43d.fetch.hosts.common import by_facts, matched, refused
from us43d.fetch.http import HttpError, Remote, Web

__all__ = ["resolve"]

_API = "https://api.onedrive.com/v1.0"


def resolve(route: Route, web: Web) -> list[Remote]:
    """List the files of a share.

    url: the sharing link; one with id and authkey in it names a drive's item, any other a share."""
    if route.url is None:
        raise FetchError(f"Missing sharing link of OneDrive {route.record}.")
    query = parse_qs(urlsplit(route.url).query)
    item = query.get("id", [route.record or ""])[0]
    if "authkey" in query and "!" in item:
        address, key = f"{_API}/drives/{item.split('!')[0]}/items/{item}", {"authkey": query["authkey"][0]}
    else:
        encoded = base64.urlsafe_b64encode(route.url.encode()).decode().rstrip("=")
        address, key = f"{_API}/shares/u!{encoded}/driveItem", {}
    try:
        remotes = list(_below(web.get_json(address, params=key), address, key, "", web))
    except HttpError as error:
        if error.status not in (401, 403, 404, 308):
            raise
        raise refused(
            route,
            f"OneDrive does not give this share to a script ({error.what.rstrip('.')}).",
            "If it asks for one, log in with any Microsoft account.",
            "Press Download.",
        ) from error
    if len(remotes) == 1 and len(route.files) == 1:
        remotes = [Remote(route.files[0].name, remotes[0].url, size=remotes[0].size, sha256=remotes[0].sha256)]
    return matched(route, remotes, f"OneDrive share {route.record or route.url}")


def _below(item: dict[str, Any], address: str, key: dict[str, str], path: str, web: Web) -> Iterator[Remote]:
    if "folder" not in item:
        hashes = item.get("file", {}).get("hashes", {})
        url = item.get("@content.downloadUrl") or item["@microsoft.graph.downloadUrl"]
        sha256 = hashes.get("sha256Hash", "").lower() or None
        yield by_facts(f"{path}{item['name']}", url, size=item.get("size"), sha256=sha256)
        return
    page = web.get_json(f"{address}/children", params=key)
    while True:
        for child in page["value"]:
            below = f"{path}{child['name']}/" if "folder" in child else path
            inside = re.sub(r"/(items|shares)/.*", f"/items/{child['id']}", address)
            yield from _below(child, inside, key, below, web)
        if "@odata.nextLink" not in page:
            return
        page = web.get_json(page["@odata.nextLink"])
