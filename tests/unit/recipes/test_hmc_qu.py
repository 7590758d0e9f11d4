"""What the tables of HMC-QU decide: the cycle, and which clips have masks."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from us43d import registry
from us43d.contract import RawTree, Sample
from us43d.errors import MissingRawFile, UnreadableFile

CLIP = "ES0002_4CH_1"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """The older release: one table, four-chamber videos alone."""
    registry.specimen("hmc_qu")(tmp_path, np.random.default_rng(1))
    for path in [*tmp_path.rglob("*.xlsx"), *(tmp_path / "HMC-QU/A2C").iterdir()]:
        path.unlink()
    (tmp_path / "HMC-QU/A4C").rename(tmp_path / "HMC-QU Echos")
    return tmp_path


def table(raw: Path, *rows: str) -> None:
    clips = {"ES0001 _4CH_1": "2,6,ü", "ES0002_4CH_1": "2,9,ü", "ES0003_4CH_1": "2,6,ü", "ES0004_4CH_1": "2,6,"}
    clips |= dict(row.split(":") for row in rows)
    lines = ["Echo name,Reference Frame of the cycle,End of the cycle,Ground-truth masks"]
    (raw / "HMC_QU.csv").write_text("\n".join([*lines, *(f"{c},{v}" for c, v in clips.items() if v)]) + "\n")


def samples(raw: Path) -> dict[str, list[Sample]]:
    clips: dict[str, list[Sample]] = {}
    for sample in registry.recipe("hmc_qu").read(RawTree(raw)):
        clips.setdefault(sample.key.rpartition("/")[2].partition(".")[0], []).append(sample)
    return clips


def test_the_older_release(raw: Path) -> None:
    table(raw)
    clips = samples(raw)
    assert [s.frame for s in clips["ES0001 _4CH_1"]] == [1, 2, 3, 4, 5]
    assert clips["ES0001 _4CH_1"][0].group == "ES0001"
    assert [s.drop for s in clips["ES0004_4CH_1"]] == ["no mask is published for this video"]
    assert [s.drop for s in clips[CLIP]][-1] == "the annotated frame is beyond the video's last"


def test_a_cycle_of_another_length_is_dropped_with_both_numbers(raw: Path) -> None:
    table(raw, "ES0003_4CH_1:2,5,ü")
    assert {s.drop for s in samples(raw)["ES0003_4CH_1"]} == {"the table gives a cycle of 4 frames, the masks 5"}


def test_a_clip_without_a_cycle_is_an_error(raw: Path) -> None:
    table(raw, f"{CLIP}:")
    with pytest.raises(UnreadableFile, match=f"gives the frames of the cycle of .*{CLIP}"):
        samples(raw)


def test_a_mask_that_the_table_marks_and_is_missing_is_an_error(raw: Path) -> None:
    table(raw)
    next(raw.rglob(f"Mask_{CLIP}.mat")).unlink()
    with pytest.raises(MissingRawFile, match=rf"Mask_{CLIP}\.mat is missing"):
        samples(raw)


def test_masks_of_two_axes_are_an_error(raw: Path) -> None:
    table(raw)
    savemat(next(raw.rglob(f"Mask_{CLIP}.mat")), {"predicted": np.zeros((48, 60))})
    with pytest.raises(UnreadableFile, match=r"has the shape \(48, 60\), not that of a sequence of masks"):
        samples(raw)


def test_keys_do_not_depend_on_the_folder_above(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    registry.specimen("hmc_qu")(tmp_path / "raw", np.random.default_rng(1))

    def samples(folder: Path) -> list[object]:
        return [(sample.key, sample.drop, sample.tags) for sample in registry.recipe("hmc_qu").read(RawTree(folder))]

    before = samples(tmp_path / "raw")
    (tmp_path / "above/deep").mkdir(parents=True)
    (tmp_path / "raw").rename(tmp_path / "above/deep/raw")
    assert samples(tmp_path / "above") == before
    (tmp_path / "above/deep/raw/HMC-QU").rename(tmp_path / "above/deep/raw/mine")
    assert samples(tmp_path / "above") == before
    for folder in ("A4C", "A2C"):
        (tmp_path / f"above/deep/raw/mine/{folder}").rename(tmp_path / f"above/deep/raw/{folder}")
    assert samples(tmp_path / "above") == before
