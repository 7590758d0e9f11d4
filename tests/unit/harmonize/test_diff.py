"""What changed between two builds, each change in its words and with its keys."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from us43d.errors import UsageError
from us43d.harmonize import shards
from us43d.harmonize.diff import Change, Diff, diff
from us43d.harmonize.records import Record

COUNTS = {
    "images": 4, "annotations": 6, "groups": 4, "train": 2, "val": 1, "test": 1, "dropped": 1,
    "annotations of breast_lesion": 6,
}  # fmt: skip


@pytest.fixture
def changed(small: Callable, tmp_path: Path) -> Callable[..., Diff]:
    """A function (alter, **facts) that returns what changed between a build and that with altered records."""
    old = small(tmp_path / "old")

    def compare(alter: Callable[[dict[str, Record]], object] | None = None, **facts: Any) -> Diff:
        new = small(tmp_path / "new", alter, **facts)
        found = diff(old, new)
        back = diff(new, old)
        assert (back.old, back.new) == (found.new, found.old)
        assert {name: pair[::-1] for name, pair in back.counts.items()} == found.counts
        assert not (found.same and found.changes)
        return found

    return compare


def test_the_same(changed: Callable) -> None:
    found = changed()
    assert (found.name, found.changes, found.same) == ("STU-Hospital", (), True)
    assert found.counts == {name: (number, number) for name, number in COUNTS.items()}


def test_other_digests_are_not_the_same(changed: Callable) -> None:
    found = changed(title="other")
    assert (found.changes, found.same) == ((), False)
    assert found.old != found.new


def test_builds_of_different_sources(small: Callable, tmp_path: Path) -> None:
    one, other = small(tmp_path / "one"), small(tmp_path / "other", slug="busi")
    with pytest.raises(UsageError, match=rf"^{one} is a build of STU-Hospital, {other} one of BUSI\."):
        diff(one, other)


def pixels(records: dict[str, Record]) -> None:
    records["a"].image.pixel_hash = records["a"].image.sha256 = records["b"].image.sha256 = "0"


def drops(records: dict[str, Record]) -> None:
    records["e"].drop = "doubtful"
    records["a"].drop, records["a"].split, records["a"].image, records["a"].annotations = "blurred", None, None, ()


def places(records: dict[str, Record]) -> None:
    records["a"].split, records["b"].split, records["c"].official = "val", "excluded", "train"
    records["d"].group, records["d"].tags = "patient a", {"age": 5}


def masks(records: dict[str, Record]) -> None:
    first, second = records["a"].annotations
    records["a"].annotations = (first, second.model_copy(update={"counts": "01"}))
    records["c"].annotations = records["c"].annotations[:1]
    records["b"].annotations = (first,)
    records["d"].annotations = tuple(
        each.model_copy(update={"label": label}) for each, label in zip(records["d"].annotations, "xy", strict=True)
    )


@pytest.mark.parametrize(
    ("alter", "changes", "counts"),
    [
        (lambda records: records.pop("e"), [("images", "gone", "e")], {"dropped": (1, 0)}),
        (pixels, [("images", "other pixels", "a"), ("images", "same pixels, other file", "b")], {}),
        (
            drops,
            [("images", "dropped for another reason: doubtful", "e"), ("images", "dropped: blurred", "a")],
            {"images": (4, 3), "annotations": (6, 4), "groups": (4, 3), "train": (2, 1), "dropped": (1, 2),
             "annotations of breast_lesion": (6, 4)},
        ),
        (
            places,
            [
                ("images", "other tags", "d"), ("splits", "official: None → train", "c"),
                ("splits", "train → excluded", "b"), ("splits", "train → val", "a"), ("groups", "other group", "d"),
            ],
            {"groups": (4, 3), "train": (2, 0), "val": (1, 2), "excluded": (0, 1)},
        ),
    ],
)  # fmt: skip
def test_images(changed: Callable, alter: Any, changes: list, counts: dict) -> None:
    found = changed(alter)
    assert found.changes == tuple(Change(kind, what, (key,)) for kind, what, key in changes)
    assert {name: pair for name, pair in found.counts.items() if pair[0] != pair[1]} == counts
    assert not found.same


def test_what_is_there_anew(small: Callable, tmp_path: Path) -> None:
    old = small(tmp_path / "old", lambda records: [records.pop(key) for key in "ab"])
    new = small(tmp_path / "new")
    found = diff(old, new)
    assert found.changes == (Change("images", "new", ("a", "b")),)
    assert found.counts["train"] == (0, 2)
    assert list(found.counts) == [name for name in COUNTS if name != "train"] + ["train"]


def test_a_sample_that_is_dropped_no_more(small: Callable, tmp_path: Path) -> None:
    old, new = small(tmp_path / "old", drops), small(tmp_path / "new")
    assert diff(old, new).changes == (
        Change("images", "dropped for another reason: blurred", ("e",)),
        Change("images", "no longer dropped: blurred", ("a",)),
    )


def test_annotations(small: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = {"breast_lesion": 1, "x": 1, "y": 2}
    write = shards.Shards

    def with_labels(output: Path, sizes: Any, recipe: Any, category: Any, *more: Any) -> Any:
        return write(output, sizes, recipe, labels, *more)

    monkeypatch.setattr(shards, "Shards", with_labels)
    old, new = small(tmp_path / "old"), small(tmp_path / "new", masks)
    found = diff(old, new)
    assert found.changes == (
        Change("annotations", "fewer", ("c",)),
        Change("annotations", "more", ("b",)),
        Change("annotations", "other masks", ("a",)),
        Change("annotations", "same masks, other labels", ("d",)),
    )
    assert found.counts["annotations"] == (6, 6)
    assert [name for name in found.counts if name.startswith("annotations of")] == [
        "annotations of breast_lesion", "annotations of x", "annotations of y",
    ]  # fmt: skip
    assert found.counts["annotations of breast_lesion"] == (6, 4)


def test_labels_and_facts(small: Callable, tmp_path: Path) -> None:
    facts = {"fixes": [], "licence": {"name": "CC BY 4.0", "key": "a"}, "partial": False, "revision": 1}
    facts["official_split"] = "by patient"
    old = small(tmp_path / "old", labels={"a": 1, "b": 1, "c": 2, "e": 1}, profile="us43d", **facts)
    facts |= {
        "fixes": [1],
        "licence": {"name": "CC BY 4.0", "key": "b"},
        "partial": True,
        "revision": 2,
        "official_split": None,
    }
    new = small(tmp_path / "new", labels={"a": 2, "b": 1, "d": 10_000, "e": 2}, profile="paper", **facts)
    names = {
        entry["id"]: entry["name"]
        for entry in json.loads(next((old / "annotations").glob("*")).read_text())["categories"]
    }
    one, two = names[1], names[2]
    assert diff(old, new).changes == (
        Change("labels", f"{one} → {two}", ("a", "e")),
        Change("labels", f"gone ({two})", ("c",)),
        Change("labels", "new (10000)", ("d",)),
        Change("facts", "1 → 2", ("revision",)),
        Change("facts", "False → True", ("partial",)),
        Change("facts", "changed", ("fixes", "licence", "official_split")),
        Change("facts", "us43d → paper", ("profile",)),
    )


@pytest.mark.parametrize("fact", ["version", "taxonomy", "specimen", "group", "official_split", "twins"])
def test_facts_that_say_how_a_build_was_made(small: Callable, tmp_path: Path, fact: str) -> None:
    old, new = small(tmp_path / "old", **{fact: None}), small(tmp_path / "new", **{fact: [1]})
    assert diff(old, new).changes == (Change("facts", "changed", (fact,)),)
