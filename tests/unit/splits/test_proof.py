"""The proof that splits are disjoint finds what crosses them, and counts what it says."""

from typing import Any

from us43d.splits.proof import crosses, prove


def row(key: str, group: str, split: str | None, pixels: str = "", source: str = "s") -> dict[str, Any]:
    return {"key": key, "group": group, "split": split, "pixel_hash": pixels or key, "source": source}


def test_what_crosses() -> None:
    assert crosses(["train", "test"])
    assert crosses(["val", "train", "train"])
    assert not crosses(["test", "test"])
    assert not crosses(["train", None, "excluded"])
    assert not crosses([])


def test_sound_splits() -> None:
    proof = prove([row("a", "1", "train"), row("b", "1", "train"), row("c", "2", "test"), row("d", "3", "excluded"),
                   row("e", "2", None)])  # fmt: skip
    assert proof.sound
    assert proof.lines() == [
        "train: 2 images, 1 groups, 2 distinct", "test: 1 images, 1 groups, 1 distinct",
        "excluded: 1 images, 1 groups, 1 distinct", "disjoint: none of 2 groups lies in two splits",
        "disjoint: none of 3 distinct images lies in two splits",
    ]  # fmt: skip


def test_a_group_in_two_splits() -> None:
    proof = prove([row("a", "1", "train"), row("b", "1", "test"), row("c", "2", "val")])
    assert not proof.sound
    assert proof.shared_groups == {"s\0001": ("train", "test")}
    assert "NOT DISJOINT: of 3 groups, 1 lie in more than one split" in proof.lines()


def test_equal_groups_of_two_sources_are_two() -> None:
    assert prove([row("a", "1", "train"), row("b", "1", "test", source="t")]).sound


def test_rows_may_lack_source_and_key() -> None:
    rows = [{"group": "X1", "split": split, "pixel_hash": split} for split in ("train", "test")]
    assert prove(rows).shared_groups == {"X1": ("train", "test")}


def test_equal_pixels_in_two_splits_whatever_their_source() -> None:
    proof = prove([row("a", "1", "train", "p"), row("b", "2", "val", "p", "t")])
    assert not proof.sound
    assert proof.shared_pictures == {"p": ("train", "val")}
    assert "NOT DISJOINT: of 2 distinct images, 1 lie in more than one split" in proof.lines()


def test_near_duplicates_in_two_splits() -> None:
    rows = [row("a", "1", "train"), row("b", "2", "test"), row("c", "3", "excluded")]
    assert prove(rows, [("a", "c"), ("a", "not there")]).sound
    proof = prove(rows, [("a", "b", "c")])
    assert not proof.sound
    assert proof.shared_links == {("a", "b", "c"): ("train", "test")}
    assert "NOT DISJOINT: 1 sets of near-duplicates lie in more than one split" in proof.lines()
