"""Pinned splits: made of lists, read back, followed by copies, compared with builds, computed again."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from us43d.errors import SplitError
from us43d.splits import pinned
from us43d.splits.assign import Member, assign
from us43d.splits.review import WRONG

HEAD = "key,group,official_split,annotated\n"
HEADS = [f"{n:03}_HC.png" for n in range(20)]
COPIED = HEADS[2:]
#: A source with groups and official splits, copies of another source and their originals, patients, repeated images.
LISTS = {
    "us_nerve": "".join(f"{p}_{n}.tif,{p},{'test' if p == 3 else ''},1\n" for p in range(8) for n in range(2)),
    "hc18": "".join(f"training_set/{name},,,1\n" for name in HEADS),
    "fast_u_net": "".join(f"HC/{name},HC/{name},,1\n" for name in COPIED) + "AC/1.png,,,1\n",
    "camus_patients": "patient0001,,test,1\npatient0002,,val,1\npatient0003,,train,1\npatient0004,,train,1\n",
    "kidneyus": "10_a_x.png,,,1\n9_a_x.png,,,1\n7_b.png,,,1\n",
}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The pinned splits of LISTS, in place of those of us43d."""
    lists = tmp_path / "lists"
    lists.mkdir()
    for name, rows in LISTS.items():
        (lists / f"{name}.csv").write_text(HEAD + rows, "utf-8")
    pinned.write(lists, tmp_path)
    monkeypatch.setattr(pinned, "_read", lambda name: (tmp_path / name).read_bytes())
    for function in (cached := (pinned.index, pinned.rows, pinned.split)):
        function.cache_clear()
    yield tmp_path
    for function in cached:
        function.cache_clear()


def members(slug: str) -> list[Member]:
    return [row.member for row in pinned.rows(slug)]


@pytest.mark.shared
def test_the_pinned_splits_are_those_of_the_complete_lists(shared: Path, tmp_path: Path) -> None:
    pinned.write(shared / "lists", tmp_path)
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(written) == sorted([*(f"{slug}.csv" for slug in pinned.slugs()), "index.json"])
    assert [name for name, data in written.items() if data != pinned._read(name)] == []


def test_a_file_is_this(files: Path) -> None:
    assert (files / "camus.csv").read_bytes().decode() == (
        "key,group,official,us43d,paper\npatient0001,,test,test,train\npatient0002,,val,val,train\n"
        "patient0003,,train,train,train\npatient0004,,train,train,val\n"
    )
    assert (files / "us_nerve.csv").read_text("utf-8").splitlines()[7] == "3_0.tif,3,test,test,train"
    index = json.loads((files / "index.json").read_text("utf-8"))
    assert list(index["sources"]) == pinned.slugs() == ["camus", "fast_u_net", "hc18", "kidneyus", "us_nerve"]
    assert index["seed"] == "us43d-1"
    nerve = index["sources"]["us_nerve"]
    assert (nerve["rows"], nerve["groups"]) == (16, 8)
    assert {profile: sum(counts.values()) for profile, counts in nerve["counts"].items()} == {"us43d": 16, "paper": 16}
    assert nerve["counts"]["us43d"]["test"] == 2
    assert list(nerve["rules"]) == ["us43d", "paper"]
    assert nerve["rules"]["us43d"].startswith("official test set kept; ")
    assert (files / "index.json").read_text("utf-8").startswith('{\n "seed"')


def test_copies_of_one_image_in_kidneyus_are_one_group(files: Path) -> None:
    assert {m.key: m.group for m in members("kidneyus")} == {"10_a_x.png": "9", "9_a_x.png": "9", "7_b.png": "7"}


def test_a_group_is_the_key_where_the_list_has_none(files: Path) -> None:
    assert members("hc18")[0] == Member("training_set/000_HC.png", "training_set/000_HC.png", None)
    assert members("us_nerve")[6] == Member("3_0.tif", "3", "test")
    assert pinned.rows("tn3k") == ()
    assert pinned.split("tn3k", "us43d") == {}


def test_an_edited_file_is_refused(files: Path) -> None:
    with (files / "hc18.csv").open("a") as file:
        file.write("\n")
    with pytest.raises(SplitError, match=r"manifests/splits/hc18\.csv is not the file") as caught:
        pinned.rows("hc18")
    assert caught.value.next == "us43d splits --reproduce"


@pytest.mark.parametrize("profile", ["us43d", "paper"])
def test_copies_are_where_their_originals_are(files: Path, profile: Any) -> None:
    originals, copies = pinned.split("hc18", profile), pinned.split("fast_u_net", profile)
    assert {originals[f"training_set/{name}"] for name in COPIED} > {"train"}
    assert {name: copies[f"HC/{name}"] for name in COPIED} == {
        name: originals[f"training_set/{name}"] for name in COPIED
    }


def test_a_listed_source_is_as_listed(files: Path) -> None:
    assert pinned.decided("fast_u_net", "us43d", [], listed=True) == pinned.split("fast_u_net", "us43d")
    assert pinned.decided("tn3k", "us43d", [Member("a", "a")], listed=True) == {}


def test_copies_that_are_not_listed_follow_the_list_of_their_originals(files: Path) -> None:
    """Or, where lists do not apply, the rule of the source they are from; what is not a copy is free."""
    unknown = "HC/999_HC.png"
    own = [Member(f"HC/{name}", f"HC/{name}") for name in HEADS] + [Member("AC/1.png", "AC/1.png")]
    del pinned.index()["sources"]["fast_u_net"]
    theirs = pinned.split("hc18", "us43d")
    followed = pinned.decided("fast_u_net", "us43d", [*own, Member(unknown, unknown)], listed=True)
    assert followed == {f"HC/{name}": theirs[f"training_set/{name}"] for name in HEADS}
    by_rule = pinned.decided("fast_u_net", "us43d", own[::2], listed=False)
    expected = assign([Member(f"training_set/{n}", "") for n in HEADS[::2]], source="hc18", profile="us43d").split
    assert by_rule == {f"HC/{name}": expected[f"training_set/{name}"] for name in HEADS[::2]}
    assert pinned.decided("fast_u_net", "us43d", own[-1:], listed=True) == {}


def test_copies_in_one_group_follow_the_rule_together() -> None:
    """mup has the images of microseg under the same keys, several to a group, some of them with an official split."""
    own = [Member(f"train/{n}.nii.gz#{k}", f"{n}", "test" if n == 5 else None) for n in range(20) for k in range(3)]
    found = pinned.decided("mup", "us43d", own, listed=True)
    assert found == assign(own, source="microseg", profile="us43d").split
    assert found["train/5.nii.gz#0"] == "test"


def row(key: str, split: str | None, group: str = "", remarks: str = "") -> dict[str, Any]:
    return {"key": key, "split": split, "group": group or key, "remarks": remarks}


def test_a_build_is_compared_with_its_list(files: Path) -> None:
    decided = pinned.split("us_nerve", "us43d")
    key = {split: next(k for k, s in decided.items() if s == split) for split in ("train", "val", "test")}
    same = [row(k, split) for k, split in decided.items()]
    assert pinned.compare("us_nerve", "us43d", same) == []
    assert pinned.compare("us_nerve", "us43d", [row("no.tif", "train")]) == [
        "no.tif is not in the list the split was pinned for"
    ]
    assert pinned.compare("us_nerve", "us43d", [row(key["train"], "test")]) == [
        f"{key['train']} is in test, pinned in train"
    ]
    for split in ("train", "val"):  # a duplicate of it was found
        assert pinned.compare("us_nerve", "us43d", [row(key[split], "excluded")]) == []
    assert pinned.compare("us_nerve", "us43d", [row(key["test"], "excluded")]) == [
        f"{key['test']} is in excluded, pinned in test"
    ]
    assert pinned.compare("us_nerve", "us43d", [row(key["test"], "excluded", remarks=f"x; {WRONG}")]) == []
    assert len(pinned.compare("us_nerve", "us43d", [row(key["test"], "train", remarks=WRONG)])) == 1
    assert pinned.compare("us_nerve", "us43d", [row("no.tif", None), *same]) == []
    assert pinned.compare("tn3k", "us43d", [row("any", "train")]) == []


def test_patients_are_compared_where_only_these_are_known(files: Path) -> None:
    assert pinned.compare("camus", "us43d", [row("patient0001/2CH.mha", "test", "patient0001")]) == []
    assert len(pinned.compare("camus", "us43d", [row("patient0001/2CH.mha", "train", "patient0001")])) == 1


def test_what_differs_from_the_rule_is_named(files: Path) -> None:
    assert pinned.reproduce() == []
    pinned.index()["sources"]["hc18"]["rows"] = 21
    assert pinned.reproduce() == ["hc18: index.json has another rows than the rule gives"]
