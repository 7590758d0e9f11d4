"""What shows one thing in several sources stays in one split of a corpus; what was searched for is said."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from us43d import registry
from us43d.splits import duplicate_links, known_duplicates
from us43d.splits.assign import Member, assign
from us43d.splits.decide import decide
from us43d.splits.duplicate_links import Frame, Link, across, picture_digest


def row(key: str, split: str | None, group: str = "", pixels: str = "") -> dict[str, Any]:
    return {"key": key, "group": group or key, "split": split, "pixel_hash": pixels or f"pixels of {key}"}


def rule(source: str, group: str = "", to: str = "", groups: Mapping[str, str] | None = None) -> dict[str, Any]:
    return {"source": source, "group": group, "to": to, "groups": groups}


def test_sources_without_anything_in_common() -> None:
    found = across({"a": [row("1", "train"), row("1b", "test", "1")], "b": [row("1", "test", pixels="other")]}, [])
    assert found == ({"a": ["1"]}, [])  # a group in two splits of one source is excluded, but not shared


@pytest.mark.parametrize(
    ("one", "other", "excluded"),
    [
        ("train", "test", {"a": ["x"]}),
        ("test", "train", {"b": ["y"]}),
        ("val", "test", {"a": ["x"]}),
        ("train", "val", {"a": ["x"]}),
        ("train", "train", {}),
        ("excluded", "train", {}),
    ],
)
def test_equal_images_unite_their_groups(one: str, other: str, excluded: dict[str, list[str]]) -> None:
    builds = {"a": [row("x", one, pixels="p"), row("z", "train")], "b": [row("y", other, pixels="p")]}
    assert across(builds, []) == (excluded, [(("a", "x"), ("b", "y"))])


def test_rows_without_a_split_say_nothing() -> None:
    builds = {"a": [row("x", None, pixels="p"), row("z", "train")], "b": [row("y", "test", pixels="p")]}
    assert across(builds, []) == ({}, [])


def test_links_hold_for_the_images_that_were_compared() -> None:
    builds = {"a": [row("x", "train", "g", "p")], "b": [row("y", "test", "h", "q")]}
    shared = ({"a": ["x"]}, [(("a", "g"), ("b", "h"))])
    x, y = Frame("a", "x", "p"), Frame("b", "y", "q")
    assert across(builds, [Link(x, y)]) == shared
    assert across(builds, [Link(y, x)]) == shared
    for link in (Link(x, y._replace(picture="older")), Link(x._replace(picture="older"), y)):
        assert across(builds, [link]) == ({}, [])
    assert across(builds, [Link(x, y._replace(key="gone"))]) == ({}, [])
    assert across({"a": builds["a"]}, [Link(x, y)]) == ({}, [])


def test_copies_are_united_with_their_originals() -> None:
    copies = [row("HC/1.png", "train"), row("HC/2.png", "train"), row("AC/1.png", "train"), row("HC/3.png", None)]
    originals = [row("training_set/1.png", "test"), row("training_set/3.png", "test"), row("training_set/4.png", None)]
    found = across({"fast_u_net": copies, "hc18": originals}, [])
    assert found == ({"fast_u_net": ["HC/1.png"]}, [(("fast_u_net", "HC/1.png"), ("hc18", "training_set/1.png"))])
    assert across({"fast_u_net": copies}, []) == ({}, [])


def test_rules_name_the_groups_that_are_the_same() -> None:
    builds = {
        "a": [row("1", "train", "case1"), row("2", "train", "case2"), row("3", "train", "other3")],
        "b": [row("one", "test", "p1"), row("two", "val", "p22")],
    }
    by_rule = {"a": [rule("b", r"case(\d)", r"p\1")]}
    assert across(builds, [], by_rule) == ({"a": ["1"]}, [(("a", "case1"), ("b", "p1"))])
    by_table = {"a": [rule("b", groups={"case2": "p22", "case1": "gone", "missing": "p1"})]}
    assert across(builds, [], by_table) == ({"a": ["2"]}, [(("a", "case2"), ("b", "p22"))])
    assert across(builds, [], {"a": [rule("b")]}) == ({}, [])
    assert across(builds, [], {"a": [rule("not built", r"case(\d)", r"p\1")]}) == ({}, [])


def test_shared_groups_are_sorted_and_several_sources_make_one_set() -> None:
    builds = {slug: [row("y", "train", pixels="q"), row("x", "train", pixels="p")] for slug in "cab"}
    found = across(builds, [])
    assert found == ({}, [tuple((slug, key) for slug in "abc") for key in "xy"])


def test_links_within_a_source_hold_for_its_images_now() -> None:
    a, b, other = Frame("s", "a", "1"), Frame("s", "b", "2"), Frame("t", "b", "2")
    links = [Link(a, b), Link(a, other), Link(other, other)]
    assert duplicate_links.within(links, "s", {"a": "1", "b": "2"}) == [Link(a, b)]
    for pictures in ({"a": "1", "b": "9"}, {"a": "9", "b": "2"}, {"a": "1"}, {"a": "1", "b": None}):
        assert duplicate_links.within(links, "s", pictures) == []


def test_whether_near_duplicates_were_searched(tmp_path: Path) -> None:
    assert duplicate_links.searched(tmp_path, "busi", ["1"]) == "list"
    assert duplicate_links.searched(tmp_path, "tn3k", ["1"]) == "no"
    duplicate_links.write(tmp_path, [], {"tn3k": picture_digest(["1", "2"])})
    assert duplicate_links.searched(tmp_path, "tn3k", ["2", "1", "2"]) == "audit"
    assert duplicate_links.searched(tmp_path, "tn3k", ["1"]) == "other images"
    assert picture_digest(["2", "1", "2"]) == hashlib.sha256(b"1\n2").hexdigest()  # as in files of earlier versions


def test_splits_are_decided_with_known_and_verified_duplicates() -> None:
    """mup has a list of its own copies; camus a known pair of patients; a link holds for the images it names."""
    (pair,) = known_duplicates.known("camus")
    members = [Member(f"patient{n:04}/2CH.mha", f"patient{n:04}", None, f"{n}") for n in range(1, 80)]
    one, other = (Frame("camus", members[n].key, members[n].pixel_hash or "") for n in (4, 60))
    stale = Link(one, Frame("camus", members[61].key, "of an earlier revision"))
    recipe = registry.recipe("camus")
    found = decide(members, recipe, "us43d", links=[Link(one, other), stale], listed=False)
    assert (found.known, found.links) == (1, [Link(one, other)])
    links = [pair, (one.key, other.key)]
    assert found.assignment == assign(members, source="camus", profile="us43d", links=links)
    assert len({found.assignment.group[f"{name}/2CH.mha"] for name in pair}) == 1
    listed = decide(members, recipe, "us43d").assignment
    assert listed.rule == "as pinned, or as the originals of copies"
