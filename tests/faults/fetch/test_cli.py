"""The verbs fetch, verify, open and clean, as a user types them."""

import errno
import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from us43d import registry
from us43d.contract import Recipe
from us43d.fetch import clean, ledger, store
from us43d.fetch import fetch as fetching
from us43d.paths import Home

Run = Callable[..., Result]


@pytest.fixture
def run(home: Home, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("US43D_HOME", str(home.root))
    monkeypatch.setenv("COLUMNS", "200")
    app = importlib.import_module("us43d.cli.app").app

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(app, list(arguments))
        assert "Traceback" not in result.output
        return result

    return run


@pytest.fixture
def busi(server: Any, loopback: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> bytes:
    """BUSI with an archive of its specimen, served in the place of its host and of nobody else's."""
    import io
    import zipfile

    import numpy as np

    root = tmp_path / "busi"
    root.mkdir()
    registry.specimen("busi")(root, np.random.default_rng(0))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for path, file in store.walk(root):
            made.write(file, path)
    server.files["/Dataset_BUSI.zip"] = loopback.Served(buffer.getvalue())
    recipe = registry.recipe("busi")
    (file,) = recipe.routes[0].files
    plain = file.model_copy(update={"size": None, "md5": None, "sha256": None})
    route = recipe.routes[0].model_copy(update={"files": (plain,)})
    altered = recipe.model_copy(update={"routes": (route,)})
    monkeypatch.setattr(
        registry, "find", lambda name, home: altered if name.lower() == "busi" else registry.recipe(name)
    )
    monkeypatch.setenv("US43D_HOSTS", f"scholar.cu.edu.eg={server.base}")
    return buffer.getvalue()


def test_a_damaged_specimen_is_made_again_not_downloaded(run: Run, home: Home) -> None:
    assert run("fetch", "STU-Hospital", "--specimen").exit_code == 0
    image = next(home.raw("STU-Hospital").rglob("*.png"))
    image.chmod(0o644)
    image.write_bytes(b"")
    damaged = run("verify", "STU-Hospital")
    assert damaged.exit_code == 1
    assert "Next: us43d fetch STU-Hospital --specimen --force" in damaged.stderr


def test_a_licence_not_accepted_repeats_where_files_come_from(run: Run, tmp_path: Path) -> None:
    mine = tmp_path / "my files"
    mine.mkdir()
    for names in (["BUSI"], ["BUSI", "CAMUS"]):
        refused = run("fetch", *names, "--from", str(mine), "--force")
        accept = "BUSI" if len(names) == 1 else "all"
        assert refused.exit_code != 0
        assert (
            f"Next: us43d fetch {' '.join(names)} --from '{mine}' --force --accept-licence {accept} " in refused.stderr
        )


def test_fetch_verify_clean(run: Run, busi: bytes, server: Any, home: Home) -> None:
    refused = run("fetch", "busi")
    assert refused.exit_code == 4
    assert "No licence stated (UNSTATED)" in refused.stderr
    assert "--accept-licence BUSI" in refused.stderr
    assert server.log == []
    done = run("fetch", "busi", "--accept-licence", "BUSI")
    assert done.exit_code == 0
    assert "digest recorded at this first use" in done.stdout
    assert run("fetch", "BUSI").stdout.count("already there") == 1
    assert run("verify", "busi").exit_code == 0
    (home.downloads("BUSI") / "Dataset_BUSI.zip").write_bytes(b"")
    wrong = run("verify", "busi")
    assert wrong.exit_code == 1
    assert "changed  downloads/BUSI/Dataset_BUSI.zip" in wrong.stderr
    assert "us43d fetch BUSI --force" in wrong.stderr
    shown = run("clean", "busi")
    assert "would be" in shown.stderr
    assert (home.downloads("BUSI") / "Dataset_BUSI.zip").exists()
    assert run("clean", "busi", "--yes").exit_code == 0
    assert not (home.downloads("BUSI") / "Dataset_BUSI.zip").exists()
    assert "removed" in run("verify", "busi").stdout


def test_clean_in_the_home_of_another_user(run: Run, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """One unreadable source stopped it for all; a file that may not be removed was named without its folder."""
    assert run("fetch", "busi", "hc18", "--specimen").exit_code == 0
    look, here = clean.look, fetching.here

    def denied(home: Home, recipe: Recipe) -> Any:
        raise PermissionError(errno.EACCES, "", str(home.downloads(recipe.name)))

    monkeypatch.setattr(clean, "look", lambda home, recipe: (denied if recipe.slug == "hc18" else look)(home, recipe))
    monkeypatch.setattr(
        fetching, "here", lambda home, recipe: (denied if recipe.slug == "hc18" else here)(home, recipe)
    )
    shown = run("clean")
    assert shown.exit_code == 0
    assert "HC18 is passed over: " in shown.stderr
    assert str(home.raw("BUSI")) in shown.stdout
    assert run("clean", "hc18").exit_code == 1
    assert run("fetch", "--all", "--dry-run").exit_code == 0

    def refused(folder: Path) -> None:
        raise PermissionError(errno.EACCES, "", "a.png")

    monkeypatch.setattr(store, "remove_tree", refused)
    wrong = run("clean", "--raw", "--yes")
    assert wrong.exit_code == 1
    assert f"{home.raw('BUSI')} cannot be removed: permission is denied." in wrong.stderr


def test_json_is_alone_on_stdout(run: Run, busi: bytes) -> None:
    result = run("fetch", "busi", "--accept-licence", "all", "--json")
    (answer,) = json.loads(result.stdout)
    assert (answer["name"], answer["state"]) == ("BUSI", "done")
    assert answer["result"]["receipt"]["files"]["Dataset_BUSI.zip"]["bytes"] == len(busi)
    refused = run("fetch", "HC18".lower(), "--json")
    assert json.loads(refused.stdout)["error"]["kind"] == "LicenceError"


@pytest.mark.parametrize(
    ("reply", "code"), [("y\n", 0), ("n\n", 4), ("\n", 4), ("", 4)], ids=["yes", "no", "enter", "end"]
)
def test_prompt_on_a_terminal(
    run: Run, busi: bytes, home: Home, monkeypatch: pytest.MonkeyPatch, reply: str, code: int
) -> None:
    output = importlib.import_module("us43d.cli.output")
    monkeypatch.setattr(output.Session, "asks", True)
    app = importlib.import_module("us43d.cli.app").app
    result = CliRunner().invoke(app, ["fetch", "busi"], input=reply)
    assert result.exit_code == code
    assert "Accept the licence?" in result.stderr
    assert (ledger.accepted(home, registry.recipe("busi")) is not None) == (code == 0)


def test_several_go_on_past_failures(run: Run, busi: bytes, home: Home) -> None:
    """One table at the end, and exit code 3."""
    result = run("fetch", "busi", "bus_dataset_b", "--accept-licence", "all", "--json")
    assert result.exit_code == 3
    states = {each["name"]: each["state"] for each in json.loads(result.stdout)}
    assert states == {"BUSI": "done", "BUS-Dataset-B": "needs agreement"}
    assert "1 of 2 sources failed" in result.stderr
    again = run("fetch", "busi", "bus_dataset_b")
    assert again.exit_code == 3
    assert "already there" in again.stdout


def test_commercial_refuses_before_anything(run: Run, home: Home, server: Any) -> None:
    result = run("fetch", "BUSI", "CAMUS", "--commercial", "--accept-licence", "all")
    assert result.exit_code == 4
    assert "BUSI" in result.stderr
    assert "CAMUS" in result.stderr
    assert not home.root.exists()


def test_dry_run_changes_nothing(run: Run, home: Home, server: Any) -> None:
    result = run("fetch", "--all", "--dry-run", "--json")
    assert result.exit_code == 0
    plan = json.loads(result.stdout)
    assert len(plan["sources"]) == len(registry.slugs())
    assert {"name", "access", "licence", "accepted", "way", "files", "bytes", "here"} <= set(plan["sources"][0])
    assert plan["free"] > 0
    assert not home.root.exists()


@pytest.mark.parametrize(
    ("free", "names", "fits", "says"),
    [
        (10**12, ("BUS-BRA",), True, "To download: 133.9 MB. Free: 1,000.0 GB"),
        (10**8, ("BUS-BRA",), False, "need at least 267.8 MB, more than is free"),
        (10**12, ("BUS-BRA", "TRUSTED"), True, "To download: ≈ 15.0 GB. Free: 1,000.0 GB"),
        (10**12, ("CSD",), None, "To download: size unknown for CSD. Free"),
        (10**12, ("CSD", "BUS-BRA"), None, "To download: at least 133.9 MB, size unknown for 1 of 2 sources."),
        (10**8, ("CSD", "BUS-BRA"), False, "need at least 267.8 MB, more than is free"),
    ],
)
def test_dry_run_compares_a_lower_bound_with_the_disk(
    run: Run,
    home: Home,
    monkeypatch: pytest.MonkeyPatch,
    free: int,
    names: tuple[str, ...],
    fits: bool | None,
    says: str,
) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free))
    result = run("fetch", *names, "--dry-run", "--json")
    assert json.loads(result.stdout)["fits"] is fits
    assert says in result.stderr
    assert ("size unknown" in run("fetch", *names, "--dry-run").stdout) == ("CSD" in names)


def test_specimen_needs_no_licence(run: Run, home: Home) -> None:
    result = run("fetch", "stu-hospital", "--specimen")
    assert result.exit_code == 0
    assert "no real data" in result.stdout
    assert not home.licence_ledger.exists()
    assert run("verify", "--all").exit_code == 0
    both = run("fetch", "stu-hospital", "--specimen", "--from", "x")
    assert both.exit_code == 2


def test_unknown_name(run: Run) -> None:
    result = run("fetch", "BUSII")
    assert result.exit_code == 2
    assert "Did you mean BUSI" in result.stderr


def test_open(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or False)
    result = run("open", "BUSI")
    assert result.exit_code == 0
    assert result.stdout.strip() == registry.recipe("busi").homepage == opened[0]
    assert "No browser" in result.stderr
