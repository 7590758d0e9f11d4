"""Brachial plexus: needle masks belong to the frame of their number; frames without a mask are listed; full tables."""

from pathlib import Path

import numpy as np
import pytest

from us43d import registry
from us43d.contract import RawTree, Sample
from us43d.errors import RawDataError

TABLE = "data/Sonosite/subjects_data.csv"


@pytest.fixture
def top(tmp_path: Path) -> Path:
    registry.specimen("brachial_plexus")(tmp_path, np.random.default_rng(0))
    return next(tmp_path.iterdir())


def read(root: Path) -> dict[str, Sample]:
    return {sample.key: sample for sample in registry.recipe("brachial_plexus").read(RawTree(root))}


def test_needles_by_number(top: Path) -> None:
    found = read(top)
    labels = [set(found[f"data/Sonosite/videos/s071.mp4#{frame:04}"].masks) for frame in range(6)]
    assert ["needle" in each for each in labels] == [True, False, True, False, True, True]
    assert all("nerve_plexus" in each for each in labels)


@pytest.mark.parametrize("frame", [0, 3, 5])
def test_a_frame_without_a_mask_is_listed(top: Path, frame: int) -> None:
    before = read(top)
    (top / f"data/eSaote/ac_masks/1032/1032_{frame:03}.jpg").unlink()
    after = read(top)
    key = f"data/eSaote/videos/1032.mp4#{frame:04}"
    assert after.keys() == before.keys()
    assert (before[key].drop, after[key].drop) == (None, "no mask is published for this frame")


def test_the_other_folder_of_nerves(top: Path) -> None:
    (top / "data/eSaote/ac_masks/1033").rename(top / "data/eSaote/P_021_09_masks")
    assert read(top)["data/eSaote/videos/1033.mp4#0001"].masks.keys() == {"nerve_plexus"}


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("s071,", "s072,", "no row with vid_name 's071'"),
        (",6,", ",nan,", "frame_cnt is 'nan'"),
        ("nerve", "n", "nerve"),
    ],
)
def test_damaged_tables(top: Path, old: str, new: str, why: str) -> None:
    (top / TABLE).write_text((top / TABLE).read_text().replace(old, new))
    with pytest.raises(RawDataError, match=why):
        read(top)


def test_rows_that_contradict_each_other(top: Path) -> None:
    """The last row was taken."""
    before = read(top)
    lines = (top / TABLE).read_text().splitlines()
    row = next(line for line in lines if line.startswith("s071,"))
    (top / TABLE).write_text("\n".join([*lines, row]))
    assert read(top) == before
    (top / TABLE).write_text("\n".join([*lines, row.replace(",sc,", ",is,")]))
    after = read(top)
    assert after.keys() == before.keys()
    changed = [key for key, sample in after.items() if sample != before[key]]
    assert {key.partition("#")[0] for key in changed} == {"data/Sonosite/videos/s071.mp4"}
    assert all("nerve" not in after[key].tags for key in changed)
    assert all(after[key].remarks[0].startswith("nerve unknown: rows of the table contra") for key in changed)


def test_a_missing_table(top: Path) -> None:
    (top / TABLE).unlink()
    with pytest.raises(RawDataError, match=TABLE):
        read(top)


def test_a_cut_with_one_device(top: Path) -> None:
    for device in ("Butterfly", "eSaote"):
        (top / "data" / device).rename(top.parent / device)
    assert {sample.tags["device"] for sample in read(top).values()} == {"Sonosite"}
