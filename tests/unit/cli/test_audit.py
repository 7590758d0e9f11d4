"""audit, diff and stats as a person types them."""

import importlib
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from us43d import registry
from us43d.errors import UsageError
from us43d.harmonize.build import build
from us43d.harmonize.diff import Diff, diff
from us43d.paths import Home

app = importlib.import_module("us43d.cli.app").app


class Said(NamedTuple):
    code: int
    out: str
    err: str


def us43d(home: Home, *words: str) -> Said:
    result = CliRunner().invoke(app, [*words, "--home", str(home.root)])
    return Said(result.exit_code, result.stdout, result.stderr)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """STU-Hospital and BUSI, fetched; STU's pictures 1 to 6 once more, half as large, as 31 to 36."""
    home = Home(tmp_path / "home")
    assert us43d(home, "fetch", "stu", "busi", "--specimen").code == 0
    folder = next(home.raw("STU-Hospital").rglob("Hospital"))
    folder.chmod(0o755)
    for n in range(1, 7):
        picture = cv2.imread(str(folder / f"Test_Image_{n}.png"), cv2.IMREAD_GRAYSCALE)
        small = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        assert cv2.imwrite(str(folder / f"Test_Image_{30 + n}.png"), small)
        assert cv2.imwrite(str(folder / f"mask_{30 + n}.png"), np.full((64, 64), 255, np.uint8))
    assert us43d(home, "build", "--all", "--jobs", "1").code == 0
    return home


class Counter(HTMLParser):
    """Counts tags, and fails on one that is not closed."""

    void = frozenset({"meta", "img", "wbr", "line", "rect", "circle", "polyline"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: dict[str, int] = {}

    def handle_starttag(self, tag, attrs):
        self.seen[tag] = self.seen.get(tag, 0) + 1
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen[tag] = self.seen.get(tag, 0) + 1

    def handle_endtag(self, tag):
        if tag not in self.void:
            assert self.open.pop() == tag


def tags(page: Path) -> dict[str, int]:
    reader = Counter()
    text = page.read_text("utf-8")
    assert "<script" not in text
    assert "http" not in text.replace("http://www.w3.org", "")
    reader.feed(text)
    assert reader.open == []
    return reader.seen


def test_audit_build_audit_again(home: Home) -> None:
    before = us43d(home, "splits", "--json")
    searched = {source["name"]: source["near_duplicates"] for source in json.loads(before.out)["sources"]}
    assert searched == {"STU-Hospital": "no", "BUSI": "list"}
    assert "not searched" in before.err
    first = us43d(home, "audit", "--all", "--json")
    assert first.code == 0, first.err
    found = json.loads(first.out)
    assert len(found["near"]) == 6
    assert found["remaining_leaks"] > 0
    assert {each["mirrored"] for each in found["near"]} == {"none"}
    strict = us43d(home, "audit", "--all", "--strict")
    assert strict.code == 1
    assert "families of duplicates in several splits of a source" in strict.err
    assert "us43d build --all" in strict.err
    assert json.loads((home.root / "audit" / "audit.json").read_text())["remaining_leaks"] == found["remaining_leaks"]
    assert tags(home.root / "audit" / "index.html")["figure"] >= 12
    leaking = us43d(home, "splits")
    assert leaking.code == 1, "the audit's pairs cross the splits of the builds until they are built again"
    assert "near-duplicates" in leaking.err
    assert "us43d build STU-Hospital" in leaking.err
    built = us43d(home, "build", "--all", "--jobs", "1")
    assert built.code == 0, built.err
    sound = us43d(home, "splits", "--json")
    assert sound.code == 0, sound.err
    assert {source["near_duplicates"] for source in json.loads(sound.out)["sources"]} == {"audit"}
    assert "not searched" not in sound.err
    clean = us43d(home, "audit", "--all", "--strict")
    assert clean.code == 0, clean.err
    assert us43d(home, "check", "--all").code == 0


def test_audit_of_nothing_and_of_a_stranger(tmp_path: Path) -> None:
    assert us43d(Home(tmp_path), "audit", "--all").code == 2
    assert us43d(Home(tmp_path), "audit", "busy").code == 2
    assert us43d(Home(tmp_path), "audit", "busi").code == 1


def test_stats(home: Home) -> None:
    said = us43d(home, "stats", "--all", "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    stu, busi = found["sources"]["STU-Hospital"], found["sources"]["BUSI"]
    assert (stu["images"], stu["annotations"]) == (18, 18)
    assert sum(part["images"] for part in stu["splits"].values()) == 18
    assert stu["width"]["p50"] == 128
    assert stu["width"]["p5"] == 64
    assert found["total"]["images"] == stu["images"] + busi["images"] == 34
    lesion = found["structures"]["breast_lesion"]
    assert lesion["organ"] == "breast"
    assert lesion["annotations"] == stu["annotations"] + busi["annotations"]
    assert found["organs"]["breast"]["images"] == 34, "images without annotation count too"
    assert lesion["images"] == 34 - 3, "BUSI's normal pictures show none"
    assert lesion["area_share"]["p95"] == 1, "the six whole masks"
    # A row for each source, organ and structure, the sizes by structure, and those of images.
    assert Path(found["page"]).read_text("utf-8").count('role="img"') == 6
    shown = us43d(home, "stats", "busi")
    assert shown.code == 0
    assert "BUSI" in shown.out
    assert "STU" not in shown.out
    assert " of 1 source; plots" in shown.out


def changes(found: Diff) -> dict[tuple[str, str], int]:
    return {(each.kind, each.what): len(each.keys) for each in found.changes if each.kind != "facts"}


def test_diff_names_every_change(tmp_path: Path) -> None:
    recipe, raw = registry.recipe("busi"), tmp_path / "raw"
    raw.mkdir()
    registry.specimen("busi")(raw, np.random.default_rng(0))
    old = build(recipe, raw, Home(tmp_path / "old"), partial=True)
    assert diff(old.path, old.path).same
    folder = raw / "Dataset_BUSI_with_GT" / "benign"
    (folder / "benign (1).png").unlink()
    (folder / "benign (1)_mask.png").unlink()
    picture = cv2.imread(str(folder / "benign (3).png"))
    assert cv2.imwrite(str(folder / "benign (3).png"), 255 - picture)
    assert cv2.imwrite(str(folder / "benign (5).png"), cv2.imread(str(folder / "benign (5).png")),
                       [cv2.IMWRITE_PNG_COMPRESSION, 0])  # fmt: skip
    mask = cv2.imread(str(folder / "benign (6)_mask.png"), cv2.IMREAD_UNCHANGED)
    assert cv2.imwrite(str(folder / "benign (6)_mask.png"), mask[::-1].copy())
    new = build(recipe, raw, Home(tmp_path / "new"), partial=True)
    found = diff(old.path, new.path)
    said = changes(found)
    moved = {key: number for key, number in said.items() if key[0] == "splits"}
    assert {key: n for key, n in said.items() if key not in moved} == {
        ("images", "gone"): 1, ("images", "other pixels"): 1, ("images", "same pixels, other file"): 1,
        ("annotations", "other masks"): 1,
    }  # fmt: skip
    assert found.counts["images"] == (16, 15)
    assert found.counts["annotations of benign"][0] - found.counts["annotations of benign"][1] == 1
    gone = next(each for each in found.changes if each.what == "gone")
    assert gone.keys == ("Dataset_BUSI_with_GT/benign/benign (1).png",)


def test_diff_of_profiles_and_of_different_sources(home: Home) -> None:
    assert us43d(home, "build", "busi", "--profile", "paper").code == 0
    said = us43d(home, "diff", "busi/r1s1-us43d-specimen", "busi/r1s1-paper-specimen", "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    kinds = {(each["kind"], each["what"]): each["keys"] for each in found["changes"]}
    assert len(kinds["images", "dropped: no annotation (excluded by the paper profile)"]) == 3
    assert len(kinds["annotations", "same masks, other labels"]) == 13
    assert us43d(home, "diff", "busi/r1s1-us43d-specimen", "busi/r1s1-us43d-specimen").out.startswith("BUSI: nothing")
    with pytest.raises(UsageError, match="is a build of BUSI"):
        diff(home.build("BUSI", "r1s1-us43d-specimen"), home.build("STU-Hospital", "r1s1-us43d-specimen"))
    assert us43d(home, "diff", "busi/r9", "busi").code == 1
