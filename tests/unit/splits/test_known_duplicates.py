"""The twins on file are those of the facts: exactly, by number and by name."""

import csv
import json
import re
from importlib import resources
from pathlib import Path

import pytest

from us43d import registry
from us43d.splits import known_duplicates, pinned
from us43d.splits.assign import Member, assign

FILES = {
    path.name.removesuffix(".json"): json.loads(path.read_text("utf-8"))
    for path in resources.files("us43d.manifests").joinpath("near_duplicates").iterdir()
    if path.name.endswith(".json")
}


@pytest.mark.parametrize(
    ("slug", "groups", "images"),
    [("busi", 151, 345), ("mmotu_2d", 91, 194), ("hc18", 3, 7), ("kidneyus", 10, 30), ("ubpd", 9, 18), ("camus", 1, 2)],
)
def test_number_of_groups_and_images(slug, groups, images):
    found = known_duplicates.known(slug)
    names = [name for group in found for name in group]
    assert (len(found), len(names)) == (groups, images)
    assert len(set(names)) == images, "a name lies in two groups"
    assert all(len(group) > 1 for group in found)


def test_every_file_belongs_to_a_source_and_says_how_it_is_known():
    assert sorted(FILES) == ["bus_uclm", "busi", "camus", "fast_u_net", "hc18", "kidneyus", "mmotu_2d", "mup", "ubpd"]
    assert all(len(content["evidence"]) > 50 for content in FILES.values())


def test_a_source_without_twins():
    assert known_duplicates.known("tn3k") == []
    assert known_duplicates.original("tn3k", "HC/1.png") is None
    assert known_duplicates.copied_from("tn3k") is None


def test_copies_of_another_source():
    assert known_duplicates.copied_from("fast_u_net") == "hc18"
    assert known_duplicates.original("fast_u_net", "HC/010_2HC.png") == "training_set/010_2HC.png"
    assert known_duplicates.copied_from("mup") == "microseg"
    assert known_duplicates.original("mup", "train/x.nii.gz#001") == "train/x.nii.gz#001"
    assert known_duplicates.original("fast_u_net", "AC/0001.png") is None


def test_busi_groups_unite():
    keys = [f"Dataset_BUSI_with_GT/{c}/{c} ({n}).png" for c, top in CLASSES.items() for n in range(1, top + 1)]
    found = assign([Member(k, "") for k in keys], source="busi", profile="us43d", links=known_duplicates.known("busi"))
    assert len(found.group) == 780
    assert len(set(found.group.values())) == 780 - 194  # 193 redundant, say the facts; malignant (113) was found later


CLASSES = {"benign": 437, "malignant": 210, "normal": 133}


def keys_of(shared: Path, slug: str) -> set[str]:
    name = {"camus": "camus_patients"}.get(slug, slug)
    with (shared / "lists" / f"{name}.csv").open(newline="") as file:
        keys = {row["key"] for row in csv.DictReader(file)}
    return keys | {Path(key).name.partition("_")[0] for key in keys} if slug == "bus_uclm" else keys  # and patients


@pytest.mark.shared
def test_twins_are_keys_of_the_sources(shared):
    for slug in filter(known_duplicates.known, FILES):
        assert {name for group in known_duplicates.known(slug) for name in group} <= keys_of(shared, slug)
    heads = {k for k in keys_of(shared, "fast_u_net") if known_duplicates.original("fast_u_net", k)}
    assert {known_duplicates.original("fast_u_net", k) for k in heads} == keys_of(shared, "hc18")
    assert len(heads) == 999


@pytest.mark.shared
def test_busi_is_what_the_facts_list(shared):
    text = (shared / "facts" / "busi.yaml").read_text("utf-8")
    listed = text.partition("one image of each:")[2].partition("- ")[0]
    letters = {c[0]: c for c in CLASSES}
    expected = {
        frozenset(
            f"Dataset_BUSI_with_GT/{letters[i]}/{letters[i]} ({n}).png" for i, n in re.findall(r"([bmn])(\d+)", g)
        )
        for g in listed.split(";")
    }
    later = frozenset(f"Dataset_BUSI_with_GT/malignant/malignant ({n}).png" for n in (11, 113))
    assert {frozenset(group) for group in known_duplicates.known("busi")} == expected | {later}


@pytest.mark.shared
def test_kidneyus_copies_are_all_files_with_one_tail(shared):
    tails: dict[str, list[str]] = {}
    for key in keys_of(shared, "kidneyus"):
        tails.setdefault(key.partition("_")[2], []).append(key)
    repeated = [sorted(group, key=lambda k: int(k.partition("_")[0])) for group in tails.values() if len(group) > 1]
    assert sorted(tuple(group) for group in repeated) == sorted(known_duplicates.known("kidneyus"))


@pytest.mark.shared
def test_pairs_of_ubpd_and_mmotu_are_those_the_facts_name(shared):
    text = (shared / "facts" / "ubpd.yaml").read_text("utf-8")
    sentence = re.search(r"Nine pairs of identical images inside patients: (.*?)\. No", text)[1]
    pairs = re.findall(r"(\d+)_(\d+)/(\d+)(?:_(\d+))?", sentence)
    expected = {(f"images/{p}_{a}.jpg", f"images/{p}_{b or q}.jpg") for p, a, q, b in pairs}
    assert set(known_duplicates.known("ubpd")) == expected
    text = (shared / "facts" / "mmotu_2d.yaml").read_text("utf-8")
    pairs = re.findall(r"\((\d+),(\d+)\)", text)
    assert len(pairs) == 8
    numbered = [{int(re.search(r"(\d+)\.JPG", k)[1]) for k in group} for group in known_duplicates.known("mmotu_2d")]
    assert all(any({int(a), int(b)} <= group for group in numbered) for a, b in pairs)
    readme = (shared / "real" / "README.md").read_text("utf-8")
    families = [
        {int(n) for n in f.split("-")} for f in re.findall(r"\b\d+(?:-\d+)+\b", readme.partition("near-twins")[2])
    ]
    assert all(any(family <= group for group in numbered) for family in families)


@pytest.mark.shared
@pytest.mark.parametrize("profile", ["us43d", "paper"])
def test_the_pinned_split_of_mmotu_has_none_of_the_known_pairs_in_two_splits(shared, profile):
    with (shared / "cases" / "23_audit_alignment" / "mmotu_pairs.csv").open(newline="") as file:
        pairs = [(row["a"], row["b"]) for row in csv.DictReader(file)]
    assert len(pairs) == 113
    split = pinned.split("mmotu_2d", profile)
    assert [pair for pair in pairs if len({split[key] for key in pair} - {"excluded"}) > 1] == []
    official = {row.member.key: row.member.official for row in pinned.rows("mmotu_2d")}
    leaked = [pair for pair in pairs if {official[key] for key in pair} == {"train", "test"}]
    tested = {key for pair in leaked for key in pair if official[key] == "test"}
    issue = registry.recipe("mmotu_2d").official_split
    assert f"{len(tested)} of the 469 test images" in issue, "the card says what the official split leaks"
    assert f"{len(leaked)} of 113 pairs" in issue
    assert all(split[key] == "test" for key, name in official.items() if name == "test")
    assert sum(part == "excluded" for part in split.values()) == 51
