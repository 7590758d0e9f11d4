"""Opening a build: what is damaged, foreign or of another version gives one message that names the file."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from us43d import registry
from us43d.errors import BuildError, CheckError
from us43d.harmonize.build import build
from us43d.harmonize.built import DATASET, Build
from us43d.harmonize.check import check
from us43d.paths import Home


@pytest.fixture
def made(built: Callable, tmp_path: Path) -> Path:
    _, (path,) = built(tmp_path, "stu_hospital", receipt={"kind": "specimen"})
    return path


def test_all_of_a_build_is_reached(made: Path) -> None:
    opened = Build(made)
    assert (opened.name, opened.slug) == ("STU-Hospital", "stu_hospital")
    assert opened.provenance["receipt"] == {"kind": "specimen"}
    images = [image["id"] for shard in opened.shards() for image in shard.read()["images"]]
    assert sorted(images) == sorted(row["id"] for row in opened.rows if row["split"])
    assert {shard.split for shard in opened.shards("test")} == {"test"}
    assert opened.columns(["key"]) == [{"key": row["key"]} for row in opened.rows]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is not readable"),
        (b"[1]", "not a JSON object"),
        (b"\xff\xfe", "is not readable"),
        (b"[" * 100_000, "is not readable"),
        (b'{"name": "X", "slug": 7}', "lacks slug, digest"),
        (b'{"name": "X", "slug": "x", "digest": "", "schema": 99}', "has schema 99; this version of us43d reads"),
    ],
)
def test_a_folder_that_cannot_be_used_is_named(made: Path, content: bytes, why: str) -> None:
    (made / DATASET).write_bytes(content)
    with pytest.raises(BuildError, match=why) as caught:
        Build(made)
    assert str(made) in str(caught.value)
    assert caught.value.next == ("us43d build X" if b"99" in content else "us43d build --all")
    with pytest.raises(CheckError, match=why):
        check(made)


def test_a_damaged_shard_is_named(made: Path) -> None:
    shard = next(Build(made).shards())
    shard.path.write_bytes(shard.path.read_bytes()[:100])
    with pytest.raises(BuildError, match=shard.path.name) as caught:
        shard.read()
    assert caught.value.next == "us43d check STU-Hospital"
    assert any(problem.kind == "unreadable" and shard.path.name in problem.where for problem in check(made))


def test_a_provenance_that_is_damaged(made: Path) -> None:
    (made / "provenance.json").write_text("")
    with pytest.raises(BuildError, match=r"provenance\.json is not readable") as caught:
        _ = Build(made).provenance
    assert caught.value.next == "us43d build STU-Hospital"


def test_a_build_of_another_schema_is_made_again(made: Path, tmp_path: Path) -> None:
    facts = json.loads((made / DATASET).read_text())
    (made / DATASET).write_text(json.dumps(facts | {"schema": 99}))
    home = Home(tmp_path / "home")
    again = build(registry.recipe("stu_hospital"), tmp_path / "stu_hospital", home, receipt={"kind": "specimen"})
    assert not again.reused
    assert Build(again.path).facts == facts
