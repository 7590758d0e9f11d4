"""Every route of every recipe is one that its host's module understands, shown against the fakes."""

import re
from collections.abc import Callable
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest

from us43d import registry
from us43d.contract import Recipe, Route
from us43d.errors import ManualFileError
from us43d.fetch.hosts import by_hand, resolve
from us43d.fetch.http import Web

ROUTES = [(recipe, number) for recipe in registry.recipes() for number in range(len(recipe.routes))]


def play(route: Route, hosts: Any, fakes: ModuleType) -> None:
    """Set up the host of a route so that it has what the route names, of the sizes and digests the facts give."""
    files = {file.name: f"bytes of {file.name}".encode() for file in route.files} or {"all of it.zip": b"PK"}
    facts = {
        file.name: {
            key: value
            for key, value in (("size", file.size), ("md5", file.md5), ("sha256", file.sha256))
            if value is not None
        }
        for file in route.files
    }
    record, url = route.record or "", route.url or ""
    match route.kind:
        case "zenodo":
            fakes.zenodo(hosts, record, files, facts=facts)
        case "mendeley":
            fakes.mendeley(hosts, *record.split("/"), files, facts=facts)
        case "kaggle":
            slug = record.split("/")[1].split("@")[0]
            whole = f"datasets/download/{record.split('@')[0]}"
            fakes.kaggle(hosts, {whole: b"PK", **{f"{whole}/{name}": b"" for name in files if name != f"{slug}.zip"}})
        case "kaggle_competition":
            fakes.kaggle(hosts, {f"competitions/data/download-all/{record}": b"PK"})
        case "github":
            repo, _, commit = record.partition("@")
            raw = f"https://raw.githubusercontent.com/{repo}/{commit}/"
            inside = {(file.url or "").removeprefix(raw): b"x" * (file.size or 5000) for file in route.files}
            fakes.github(hosts, repo, commit or "0" * 40, inside)
        case "gdrive" if "/folders/" in url:
            fakes.gdrive_folder(hosts, record, files)
        case "gdrive":
            fakes.gdrive(hosts, record, b"PK", state="large")
        case "onedrive":
            fakes.onedrive(hosts, record, files)
        case "figshare":
            told = {name: {{"md5": "computed_md5"}.get(key, key): value for key, value in known.items()}
                    for name, known in facts.items()}  # fmt: skip
            fakes.figshare(hosts, record, files, facts=told)
        case "girder":
            parts = urlsplit(route.files[0].url or url)
            prefix = parts.path.partition("api/v1")[0].strip("/")

            def describe(asked: Any) -> Any:
                return fakes.as_json({"size": 1}) if re.search(r"/file/[0-9a-f]{24}$", asked.path) else None

            hosts.at(parts.hostname, describe)
            fakes.girder(hosts, parts.hostname, f"{prefix}/" if prefix else "", record.split("/")[-1], {})
        case "osf":
            project, _, folder = record.partition("/")
            elsewhere = {file.name for file in route.files if file.url}
            inside = {f"folder/{name}": data for name, data in files.items() if name not in elsewhere}
            fakes.osf(hosts, project, inside or {"folder/mask.nii.gz": b"x"}, known={"folder": folder})
        case "dataverse":
            fakes.dataverse(hosts, urlsplit(url).hostname, record.removeprefix("doi:"), files)


@pytest.mark.parametrize(("recipe", "number"), ROUTES, ids=[f"{r.name}-{r.routes[n].kind}-{n}" for r, n in ROUTES])
def test_route(
    recipe: Recipe,
    number: int,
    hosts: Any,
    fakes: ModuleType,
    web: Callable[[], Web],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    route = recipe.routes[number]
    play(route, hosts, fakes)
    if route.kind in by_hand.KINDS:
        with pytest.raises(ManualFileError, match=r"\n  1\. Open \S+ in a browser"):
            resolve(route, web())
        return
    if route.kind == "kaggle_competition":
        monkeypatch.setenv("KAGGLE_API_TOKEN", "good")
    remotes = resolve(route, web())
    assert remotes
    if route.files:
        asked = remotes[-len(route.files) :]  # an OSF folder is listed before files of another host
        assert len(asked) == len(remotes) or route.kind == "osf"
        assert [remote.name for remote in asked] == [file.name for file in route.files]
        for remote, file in zip(asked, route.files, strict=True):
            assert (remote.into, remote.unpack, remote.generated) == (file.into, file.unpack, file.generated)
            assert file.sha256 in (None, remote.sha256)
            assert file.md5 in (None, remote.md5)
    assert all(urlsplit(remote.url).scheme in {"http", "https"} for remote in remotes)
    assert len({remote.name for remote in remotes}) == len(remotes)
