"""Kaggle: data sets and competitions as one archive each, or single files, by its HTTP API.

    /api/v1/datasets/download/<owner>/<slug>[/<file>]             many need no login
    /api/v1/competitions/data/download-all/<name>                 members who accepted the rules
    /api/v1/competitions/data/download/<name>/<file>

Credentials are those of Kaggle's own client: a token in KAGGLE_API_TOKEN or ~/.kaggle/access_token, or name and key in
KAGGLE_USERNAME and KAGGLE_KEY or kaggle.json. They are sent to www.kaggle.com alone.
"""

import base64
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from us43d.contract import RawFile, Route
from us43d.errors import FetchError
from us43d.fetch.hosts.common import from_facts, steps
from us43d.fetch.http import HttpError, Remote, Web

__all__ = ["competition", "credentials", "dataset"]

_SITE = "https://www.kaggle.com"
_API = f"{_SITE}/api/v1"


def dataset(route: Route, web: Web) -> list[Remote]:
    """List the files of a dataset. record: owner/slug, or owner/slug@version."""
    match = re.search(r"\b([\w-]+/[\w-]+?)(?:@(\d+))?\Z", route.record or "")
    if match is None:
        raise FetchError(f"{route.record or route.url} is not a dataset of Kaggle.")
    whole = f"{_API}/datasets/download/{match[1]}"
    version = f"?datasetVersionNumber={match[2]}" if match[2] else ""
    slug = match[1].split("/")[1]
    return _remotes(route, f"{slug}.zip", whole, f"{whole}/{{}}", version, f"{_SITE}/datasets/{match[1]}", web)


def competition(route: Route, web: Web) -> list[Remote]:
    """List the files of a competition. record: the competition's name in its address."""
    match = re.search(r"([\w-]+)\Z", route.record or "")
    if match is None:
        raise FetchError(f"{route.record or route.url} is not a competition of Kaggle.")
    name = match[1]
    whole, single = f"{_API}/competitions/data/download-all/{name}", f"{_API}/competitions/data/download/{name}/{{}}"
    return _remotes(route, f"{name}.zip", whole, single, "", f"{_SITE}/competitions/{name}", web)


def _remotes(route: Route, archive: str, whole: str, single: str, query: str, page: str, web: Web) -> list[Remote]:
    """A file called like the archive of all, or the only zip, is that archive; others are asked for one by one."""
    headers = credentials()
    files = route.files or (RawFile(name=archive),)
    remotes = []
    for file in files:
        all_of_it = file.name == archive or (len(files) == 1 and file.name.endswith(".zip"))
        url = file.url or (whole if all_of_it else single.format(quote(file.name))) + query
        remotes.append(replace(from_facts(file, url), headers=headers))
    try:
        with web.open(remotes[0].url, headers=headers):
            return remotes
    except HttpError as error:
        if error.status == 403 and re.search(r"rules", error.page, re.IGNORECASE):
            raise steps(
                f"Kaggle wants the rules of {page.rsplit('/', 1)[1]} accepted first.",
                "Log in at https://www.kaggle.com with the account the credentials are of.",
                f"Open {page}/rules and accept them; old competitions ask to press Late Submission first.",
                login=True,
            ) from error
        if error.status in (401, 403):
            what, first = f"Kaggle does not accept the credentials found for {page} (HTTP {error.status}).", ""
            if not headers:
                what = f"Kaggle gives {page} to its members only, and no credentials were found."
                first = "Make a free account at https://www.kaggle.com, or log in."
            raise steps(
                what,
                first,
                "Open https://www.kaggle.com/settings, section API, and make a new token.",
                "Put it where it says there (~/.kaggle/access_token or ~/.kaggle/kaggle.json).",
                f"Or download it at {page} in a browser and put it into the downloads folder of this source.",
                login=True,
            ) from error
        raise


def credentials() -> Mapping[str, str]:
    """Return the header that says who asks; none where Kaggle's client has not been set up."""
    folder = Path.home() / ".kaggle"
    token = os.environ.get("KAGGLE_API_TOKEN", "")
    if token and Path(token).is_file():
        token = Path(token).read_text().strip()
    for name in ("access_token", "access_token.txt"):
        if not token and (folder / name).is_file():
            token = (folder / name).read_text().strip()
    if token:
        return {"Authorization": f"Bearer {token}"}
    who = {"username": os.environ.get("KAGGLE_USERNAME", ""), "key": os.environ.get("KAGGLE_KEY", "")}
    for path in _files():
        if not all(who.values()) and path.is_file():
            try:
                content = json.loads(path.read_text())
            except ValueError:
                raise FetchError(
                    f"{path} is not valid JSON.", next="make a new token at https://www.kaggle.com/settings"
                ) from None
            who = {"username": str(content.get("username", "")), "key": str(content.get("key", ""))}
    if not all(who.values()):
        return {}
    coded = base64.b64encode(f"{who['username']}:{who['key']}".encode()).decode()
    return {"Authorization": f"Basic {coded}"}


def _files() -> Iterator[Path]:
    """Yield the paths at which Kaggle's client looks for kaggle.json."""
    if folder := os.environ.get("KAGGLE_CONFIG_DIR"):
        yield Path(folder) / "kaggle.json"
        return
    yield Path.home() / ".kaggle" / "kaggle.json"
    yield Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config")) / "kaggle" / "kaggle.json"
