"""How EchoNet-Pediatric's tables count frames, and the tables that cannot be read."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from us43d import registry
from us43d.contract import RawTree, Sample
from us43d.errors import MissingRawFile, RawDataError, UnreadableFile

NAME = "CR1-CR2-000001.avi"
OUTLINE = [(10, 10), (30, 10), (20, 40)]


def tree(root: Path, frames: list[str], *, listing: str = f"{NAME},60,F,4,20,100,3") -> RawTree:
    """A video of 5 grey frames in either view; the apical one is traced on `frames`."""
    for view in ("A4C", "PSAX"):
        (root / view / "Videos").mkdir(parents=True)
        video = cv2.VideoWriter(str(root / view / "Videos" / NAME), cv2.VideoWriter.fourcc(*"MJPG"), 30, (112, 112))
        for t in range(5):
            video.write(np.full((112, 112, 3), 40 * t, np.uint8))
        video.release()
        rows = [f"{NAME},{x},{y},{t}" for t in frames for x, y in OUTLINE] if view == "A4C" else []
        (root / view / "FileList.csv").write_text(f"FileName,EF,Sex,Age,Weight,Height,Split\n{listing}\n")
        (root / view / "VolumeTracings.csv").write_text("\n".join(["FileName,X,Y,Frame", *rows]) + "\n")
    return RawTree(root)


def traced(raw: RawTree) -> list[Sample]:
    return [sample for sample in registry.recipe("echonet_pediatric").read(raw) if sample.key.startswith("A4C")]


@pytest.mark.parametrize(
    ("numbers", "frames", "drops"),
    [
        (["5", "1"], [4, 0], 0),  # no 0: the first frame is called 1
        (["5", "0"], [4, 0], 0),  # a 0: 5 is one beyond the last
        (["4", "0"], [4, 0], 0),
        (["9", "0"], [9, 0], 1),
    ],
)
def test_the_tables_decide_where_counting_starts(
    tmp_path: Path, numbers: list[str], frames: list[int], drops: int
) -> None:
    samples = traced(tree(tmp_path, numbers))
    assert [sample.key[-4:] for sample in samples] == [f"{int(n):04}" for n in numbers]
    assert [sample.frame for sample in samples] == frames
    assert sum(sample.drop is not None for sample in samples) == drops
    assert [sample.tags["phase"] for sample in samples] == ["end-systole", "end-diastole"]


@pytest.mark.parametrize("frame", ["INVALID", "1.5", ""])
def test_an_unknown_frame_names_its_line(tmp_path: Path, frame: str) -> None:
    with pytest.raises(UnreadableFile, match=r"VolumeTracings\.csv in .*, line 2"):
        traced(tree(tmp_path, [frame]))


def test_a_listed_video_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingRawFile, match=r"A4C/Videos/CR9-1-1\.avi is missing"):
        traced(tree(tmp_path, ["1"], listing="CR9-1-1.avi,60,F,4,20,100,3"))


def test_no_video(tmp_path: Path) -> None:
    raw = tree(tmp_path, ["1"])
    shutil.copy(tmp_path / "A4C/FileList.csv", tmp_path / "A4C/Videos" / NAME)
    with pytest.raises(RawDataError, match=f"{NAME} is not a video"):
        traced(raw)
