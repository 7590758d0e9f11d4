"""The link check against the fakes: what it asks, how it judges, its report, and the dates it writes."""

import datetime
import importlib
import json
import shutil
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

from us43d import registry
from us43d.contract import RawFile, Recipe, Route
from us43d.errors import RecipeError
from us43d.fetch.http import Web
from us43d.fetch.links import Link, check, links_of, passed, report, stamp

ROOT = Path(__file__).resolve().parents[4]
PAGE = "https://data.example.org/page"


def recipe(*routes: Route, **facts: Any) -> Recipe:
    busi = registry.find("BUSI")
    licence = busi.licence.model_copy(update={"url": None})
    plain = {"homepage": PAGE, "doi": None, "citations": (busi.citations[0].model_copy(update={"doi": None}),)}
    return busi.model_copy(update={**plain, "licence": licence, "routes": routes, **facts})


@dataclass
class Served:
    """How the fake host serves a file. head: the status of HEAD."""

    data: bytes = b"PK" * 4000
    kind: str = "application/zip"
    head: int = 200
    get: int = 200


def serve(hosts: Any, fakes: ModuleType, files: dict[str, Served]) -> None:
    def handler(asked: Any) -> Any:
        if asked.path == "page":
            return fakes.page("Welcome")
        if (found := files.get(asked.path)) is None:
            return None
        status = found.head if asked.method == "HEAD" else found.get
        return fakes.Answer(found.data, status, {"Content-Type": found.kind})

    hosts.at("data.example.org", handler)


def one(name: str, **facts: Any) -> Route:
    return Route(kind="http", url=PAGE, files=(RawFile(name=name, url=f"https://data.example.org/{name}", **facts),))


def test_every_address_of_every_recipe_is_named() -> None:
    for each in registry.recipes():
        found = list(links_of(each))
        urls = {link.url for link in found}
        assert each.homepage in urls
        assert {file.url for route in each.routes for file in route.files if file.url} <= urls
        pages = [link.url for link in found if link.what != "listing"]
        assert len(set(pages)) == len(pages)


@pytest.mark.parametrize(
    ("served", "facts", "state", "said"),
    [
        (Served(), {}, "ok", ""),
        (Served(), {"size": 8000}, "ok", ""),
        (Served(), {"size": 7999}, "changed", "8,000 bytes, where 7,999 are known"),
        (Served(), {"size": 7999, "generated": True}, "ok", ""),
        (Served(head=405), {"size": 8000}, "ok", ""),
        (Served(head=403, get=403), {}, "refuses", "answers 403"),
        (Served(head=404), {}, "ok", ""),
        (Served(head=410, get=410), {}, "gone", "answers 410"),
        (Served(head=500, get=500), {}, "failed", "HTTP 500"),
        (
            Served(b"<html><head><title>Log in</title></head></html>", "text/html"),
            {},
            "changed",
            "a page titled 'Log in' where a file was",
        ),
    ],
)
def test_judgement(
    served: Served, facts: Any, state: str, said: str, hosts: Any, fakes: ModuleType, web: Callable[[], Web]
) -> None:
    serve(hosts, fakes, {"a.zip": served})
    home, file = check([recipe(one("a.zip", **facts))], web(), delay=0)
    assert (home.what, home.state) == ("homepage", "ok")
    assert (file.what, file.state) == ("file", state)
    assert said in file.said
    assert file.state == "changed" or file.bytes in (None, 8000)


def test_only_a_little_is_fetched(hosts: Any, fakes: ModuleType, web: Callable[[], Web]) -> None:
    serve(hosts, fakes, {"a.zip": Served(head=405)})
    check([recipe(one("a.zip"))], web(), delay=0)
    asked = [each for each in hosts.asked("data.example.org") if each.path == "a.zip"]
    assert [(each.method, each.headers.get("range")) for each in asked] == [("HEAD", None), ("GET", "bytes=0-1023")]
    assert all(each.headers["user-agent"].startswith("us43d/") for each in asked)


def test_one_host_is_asked_slowly(hosts: Any, fakes: ModuleType, web: Callable[[], Web]) -> None:
    serve(hosts, fakes, {f"{n}.zip": Served() for n in range(4)})
    moved: list[tuple[int, int | None]] = []
    start = time.monotonic()
    check(
        [recipe(*(one(f"{n}.zip") for n in range(4)))],
        web(),
        delay=0.05,
        moved=lambda done, total: moved.append((done, total)),
    )
    assert time.monotonic() - start >= 4 * 0.05
    assert moved == [(n, 5) for n in range(1, 6)]


def test_listings_are_compared_with_the_facts(hosts: Any, fakes: ModuleType, web: Callable[[], Web]) -> None:
    serve(hosts, fakes, {})
    fakes.zenodo(hosts, "1111111", {"a.zip": b"PK-data"})
    fakes.kaggle(hosts, {}, public=False)
    zenodo = Route(kind="zenodo", record="1111111", url=PAGE, files=(RawFile(name="a.zip"),))
    other = zenodo.model_copy(update={"files": (RawFile(name="a.zip", md5="0" * 32),)})
    missing = zenodo.model_copy(update={"files": (RawFile(name="b.zip"),)})
    kaggle = Route(kind="kaggle", record="owner/slug", url=PAGE)
    found = check([recipe(zenodo, other, missing, kaggle)], web(), delay=0)
    listings = [link for link in found if link.what == "listing"]
    assert [link.state for link in listings] == ["ok", "changed", "failed", "login"]
    assert listings[0].bytes == 7
    assert "holds no b.zip" in listings[2].said


def test_a_source_passes_by_an_origin_not_by_a_mirror() -> None:
    route, mirror = one("a.zip"), one("b.zip").model_copy(update={"mirror": True})
    source = recipe(route, mirror)

    def found(first: str, second: str) -> list[Link]:
        return [Link(source.name, "file", "u", 0, first), Link(source.name, "file", "v", 1, second)]

    assert passed(source, found("ok", "gone"))
    assert passed(source, found("refuses", "gone"))
    assert not passed(source, found("gone", "ok"))
    assert not passed(source, [])


def facts_in(folder: Path, *slugs: str) -> None:
    for slug in slugs:
        shutil.copy(ROOT / "recipes" / "facts" / f"{slug}.toml", folder)


def test_dates_are_written_and_nothing_else_changes(tmp_path: Path) -> None:
    day = datetime.date(2031, 2, 3)
    every = list(registry.recipes())
    facts_in(tmp_path, *(each.slug for each in every))
    written = stamp(every, [], tmp_path, day)
    assert stamp(every, [], tmp_path, day) == []
    # MUP is the same archive as MicroSeg, and has its date.
    assert [path.stem for path in written] == [each.slug for each in every if each.slug != "mup"]
    for path in written:
        old, new = (ROOT / "recipes" / "facts" / path.name).read_text(), path.read_text()
        changed = [(a, b) for a, b in zip(old.splitlines(), new.splitlines(), strict=True) if a != b]
        assert [b for _, b in changed] == ["access_checked = 2031-02-03"], path.name


def test_sizes_are_written_into_the_facts_and_comments_stay(
    hosts: Any, fakes: ModuleType, web: Callable[[], Web], tmp_path: Path
) -> None:
    serve(hosts, fakes, {"a.zip": Served(), "made.zip": Served(), "known.zip": Served()})
    fakes.zenodo(hosts, "1111111", {"b.zip": b"PK-data", "c.zip": b"PK"})
    zenodo = Route(kind="zenodo", record="1111111", url=PAGE)
    routes = (
        one("a.zip"),
        one("made.zip", generated=True),
        one("known.zip", size=8000),
        zenodo.model_copy(update={"files": (RawFile(name="b.zip"),)}),
        zenodo,
    )
    source = recipe(*routes)
    text = "# a comment\naccess_checked = 2026-11-01  # another\n" + "".join(
        f"\n[[routes]] # route {number}\nkind = {route.kind!r}\n"
        + "".join(
            f"\n[[routes.files]]\nname = {file.name!r} # file\n"
            + (f"url = {file.url!r}\n" if file.url else "")
            + (f"size = {file.size}\n" if file.size else "")
            + ("generated = true\n" if file.generated else "")
            for file in route.files
        )
        for number, route in enumerate(routes)
    )
    (tmp_path / "busi.toml").write_text(text)
    found = check([source], web(), delay=0)
    assert stamp([source], found, tmp_path, datetime.date(2031, 2, 3)) == [tmp_path / "busi.toml"]
    new = (tmp_path / "busi.toml").read_text()
    content = tomllib.loads(new)
    assert content["access_checked"] == datetime.date(2031, 2, 3)
    sizes = {file["name"]: file.get("size") for route in content["routes"] for file in route.get("files", ())}
    assert sizes == {"a.zip": 8000, "made.zip": None, "known.zip": 8000, "b.zip": 7}
    assert content["published"]["bytes"] == {"value": 9, "source": "listing of zenodo:1111111, 2031-02-03"}
    comments = [line.partition("#")[2] for line in text.splitlines() if "#" in line]
    assert [line.partition("#")[2] for line in new.splitlines() if "#" in line] == comments
    assert stamp([source], found, tmp_path, datetime.date(2031, 2, 3)) == []


def test_a_damaged_file_stops_all_writing(tmp_path: Path) -> None:
    facts_in(tmp_path, "busi", "camus")
    (tmp_path / "camus.toml").write_text("nothing")
    before = (tmp_path / "busi.toml").read_bytes()
    with pytest.raises(RecipeError, match=r"camus\.toml is not valid TOML"):
        stamp([registry.find("BUSI"), registry.find("CAMUS")], [], tmp_path, datetime.date(2031, 2, 3))
    assert (tmp_path / "busi.toml").read_bytes() == before


def test_report_and_verb(
    hosts: Any, fakes: ModuleType, web: Callable[[], Web], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    serve(hosts, fakes, {"a.zip": Served()})
    good, bad = recipe(one("a.zip")), recipe(one("gone.zip"), name="Other", slug="other")
    told = report([good, bad], check([good, bad], web(), delay=0), datetime.date(2031, 2, 3))
    assert told["states"] == {"gone": 1, "ok": 3}
    assert [source["passed"] for source in told["sources"]] == [True, False]
    json.dumps(told)

    verb = importlib.import_module("us43d.cli.links")
    monkeypatch.setenv("US43D_HOSTS", ",".join(f"{host}={base}" for host, base in hosts.bases.items()))
    monkeypatch.setattr(verb.registry, "recipes", lambda: [good, bad])
    monkeypatch.setattr(verb, "_facts", lambda: tmp_path)
    shutil.copy(ROOT / "recipes" / "facts" / "busi.toml", tmp_path)
    result = CliRunner().invoke(
        importlib.import_module("us43d.cli.app").app, ["links", "--all", "--json", "--delay", "0", "--update"]
    )
    answer = json.loads(result.stdout)
    assert result.exit_code == 3
    assert "1 of 4 links are dead or changed" in result.stderr
    assert "us43d links Other" in result.stderr
    assert answer["updated"] == ["busi.toml"]
    today = datetime.datetime.now(datetime.UTC).date()
    assert f"access_checked = {today}" in (tmp_path / "busi.toml").read_text()


def test_make_has_the_check() -> None:
    assert "us43d links --all --json" in (ROOT / "Makefile").read_text()
