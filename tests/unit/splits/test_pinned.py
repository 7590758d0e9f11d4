"""Pinned splits: written by the rule, read back, followed by copies, compared with builds, computed again."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from us43d.contract import Split
from us43d.errors import SplitError
from us43d.splits import known_duplicates, pinned
from us43d.splits.assign import Member, assign
from us43d.splits.review import WRONG

HEADS = [f"{n:03}_HC.png" for n in range(20)]
COPIED = HEADS[2:]
PATIENTS: dict[int, Split | None] = {1: "test", 2: "val", 3: "train", 4: "train", 33: "test", 68: "train"}  # 33 is 68
#: A source with groups and an official test set, copies of another source and their originals, and patients.
LISTS = {
    "us_nerve": [Member(f"{p}_{n}.tif", f"{p}", "test" if p == 3 else None) for p in range(8) for n in range(2)],
    "hc18": [Member(f"training_set/{name}", f"training_set/{name}") for name in HEADS],
    "fast_u_net": [Member(key, key) for key in ("AC/1.png", *(f"HC/{name}" for name in COPIED))],
    "camus": [Member(f"patient{n:04}", f"patient{n:04}", split) for n, split in PATIENTS.items()],
}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The pinned splits of LISTS by the rule, in place of those of us43d."""
    sources = {}
    for slug, assigned in pinned._assigned(LISTS).items():
        data = pinned._file(LISTS[slug], assigned)
        (tmp_path / f"{slug}.csv").write_bytes(data)
        sources[slug] = pinned._facts(LISTS[slug], assigned, data)
    (tmp_path / "index.json").write_text(json.dumps({"sources": sources}))
    monkeypatch.setattr(pinned, "_read", lambda name: (tmp_path / name).read_bytes())
    for function in (cached := (pinned.index, pinned.rows, pinned.split)):
        function.cache_clear()
    yield tmp_path
    for function in cached:
        function.cache_clear()


def members(slug: str) -> list[Member]:
    return [row.member for row in pinned.rows(slug)]


def test_a_file_is_this(files: Path) -> None:
    assert (files / "camus.csv").read_bytes().decode() == (
        "key,group,official,us43d,paper\npatient0001,,test,test,train\npatient0002,,val,val,train\n"
        "patient0003,,train,train,train\npatient0004,,train,train,val\npatient0033,,test,test,train\n"
        "patient0068,,train,excluded,train\n"
    )
    assert (files / "us_nerve.csv").read_text("utf-8").splitlines()[7] == "3_0.tif,3,test,test,train"
    index = json.loads((files / "index.json").read_text("utf-8"))
    assert list(index["sources"]) == pinned.slugs() == ["camus", "fast_u_net", "hc18", "us_nerve"]
    nerve = index["sources"]["us_nerve"]
    assert (nerve["rows"], nerve["groups"]) == (16, 8)
    assert {profile: sum(counts.values()) for profile, counts in nerve["counts"].items()} == {"us43d": 16, "paper": 16}
    assert nerve["counts"]["us43d"]["test"] == 2
    assert list(nerve["rules"]) == ["us43d", "paper"]
    assert nerve["rules"]["us43d"].startswith("official test set kept; ")


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


def test_copies_of_near_duplicates_follow_the_rule_together() -> None:
    links = known_duplicates.known("hc18")
    originals = [f"training_set/{n:03}_HC.png" for n in range(1, 60)] + [key for group in links for key in group]
    own = [Member(key.replace("training_set/", "HC/"), "") for key in dict.fromkeys(originals)]
    found = pinned.decided("fast_u_net", "us43d", own, listed=False)
    kept = [Member(key, "") for key in dict.fromkeys(originals)]
    expected = assign(kept, source="hc18", profile="us43d", links=links)
    assert found == {key.replace("training_set/", "HC/"): split for key, split in expected.split.items()}
    assert expected.split != assign(kept, source="hc18", profile="us43d").split


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
    edited = (files / "camus.csv").read_bytes().replace(b"0003,,train,train,train", b"0003,,train,val,train")
    (files / "camus.csv").write_bytes(edited)
    pinned.index()["sources"]["camus"]["sha256"] = hashlib.sha256(edited).hexdigest()
    pinned.rows.cache_clear()
    assert pinned.reproduce()[:2] == [
        "camus: the rule gives other splits than the manifest, for {'us43d': 1, 'paper': 0} images by profile",
        "camus: index.json has another sha256 than the rule gives",
    ]
