"""EchoNet-Dynamic: 10,030 apical videos; the left ventricle traced on two frames of each, in one table of chords."""

import datetime
from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Literal, NamedTuple

from us43d import masks
from us43d.contract import (
    Citation,
    Expect,
    Licence,
    PaperProfile,
    Polygon,
    RawFile,
    RawTree,
    Recipe,
    Route,
    Sample,
    Split,
    lazy,
)  # fmt: skip
from us43d.rawtree import Row

Points = tuple[tuple[float, float], ...]
SPLITS: dict[str, Split] = {"TRAIN": "train", "VAL": "val", "TEST": "test"}


class Tracing(NamedTuple):
    """flat: x, y, x, y, …, as the whole table is in memory at once."""

    frame: int
    flat: "array[float]"

    @property
    def points(self) -> Points:
        return tuple(zip(self.flat[::2], self.flat[1::2], strict=True))

    @property
    def area(self) -> float:
        """In square pixels (shoelace formula)."""
        points = self.points
        shifted = (*points[1:], *points[:1])
        return abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(points, shifted, strict=True))) / 2


def traced(rows: Iterable[Row], whole: Callable[[float], int]) -> "array[float]":
    """The contour of one frame in whole pixels. The first row is the long axis, the others are chords from the apex down:
    one side runs along their first ends, the other back along their second. Rows keep the table's order."""
    chords = [[whole(row.number(name)) for name in ("X1", "Y1", "X2", "Y2")] for row in rows][1:]
    there = [value for x, y, _, _ in chords for value in (x, y)]
    back = [value for _, _, x, y in reversed(chords) for value in (x, y)]
    return array("d", there + back)


def read(raw: RawTree, rule: Literal["inside", "touch"] = "inside") -> Iterator[Sample]:
    """rule: how contours are filled; coordinates are rounded for "inside" (the owners' code), cut off for "touch"."""
    whole: Callable[[float], int] = round if rule == "inside" else int
    tree = raw.at("Videos")
    listed = tree.index("FileList.csv", "FileName", ("EF", "NumberOfFrames", "Split"))
    rows = tree.rows("VolumeTracings.csv", ("FileName", "X1", "Y1", "X2", "Y2", "Frame"))
    tracings: dict[str, list[Tracing]] = {}
    for (name, frame), group in groupby(rows, lambda row: (row["FileName"].removesuffix(".avi"), row.whole("Frame"))):
        tracings.setdefault(name, []).append(Tracing(frame, traced(group, whole)))
    for key in tree.glob("Videos/*.avi"):
        name, path = Path(key).stem, tree.path(key)
        row, found = listed[name], sorted(tracings.pop(name, ()))
        largest = max((tracing.area for tracing in found), default=0.0)
        for tracing in found or [Tracing(0, array("d"))]:
            drop = None if len(tracing.points) > 2 else "no usable tracing is published for this video"
            if tracing.frame >= row.whole("NumberOfFrames"):
                drop = "the traced frame is beyond the video's last"
            phase = "end-diastole" if tracing.area == largest else "end-systole"
            yield Sample(
                key=f"{key}#{tracing.frame:04}",
                image=lazy(masks.video_frame, path, tracing.frame),
                masks={} if drop else {"left_ventricle": Polygon(tracing.points, rule)},
                group=name,
                split=SPLITS.get(row["Split"].upper()),
                frame=tracing.frame,
                tags={"ef": row.number("EF")} if drop else {"ef": row.number("EF"), "phase": phase},
                drop=drop,
            )


def read_cut_off(raw: RawTree) -> Iterator[Sample]:
    return read(raw, "touch")


RECIPE = Recipe(
    name="EchoNet-Dynamic",
    slug="echonet_dynamic",
    row="EchoNet-Dynamic",
    aliases=("EchoNet",),
    title="EchoNet-Dynamic: a large new cardiac motion video data resource for medical machine learning",
    organ="heart",
    application="left ventricle segmentation in apical four-chamber videos, and ejection fraction",
    media="video",
    homepage="https://echonet.github.io/dynamic/",
    doi="10.71718/yqp5-y078",
    citations=(
        Citation(
            title="Video-based AI for beat-to-beat assessment of cardiac function",
            venue="Nature 580: 252-256",
            year=2020,
            doi="10.1038/s41586-020-2145-8",
            bibtex="""@article{ouyang2020video,
  title={Video-based AI for beat-to-beat assessment of cardiac function},
  author={Ouyang, David and He, Bryan and Ghorbani, Amirata and Yuan, Neal and Ebinger, Joseph and Langlotz, Curt P. and Heidenreich, Paul A. and Harrington, Robert A. and Liang, David H. and Ashley, Euan A. and Zou, James Y.},
  journal={Nature},
  volume={580},
  pages={252--256},
  year={2020},
  doi={10.1038/s41586-020-2145-8}
}""",
        ),
    ),
    licence=Licence(
        id="CUSTOM",
        name="Stanford University School of Medicine EchoNet-Dynamic Dataset Research Use Agreement",
        url="https://echonet.github.io/dynamic/index.html#access",
        evidence="The agreement on the project page: research use; no passing on, not even of the link; no changes or derivative works, re-identification or clinical use. The MIT licence of the repository is for the code.",
        commercial=False,
        redistribute=False,
        derivatives=False,
    ),
    access="agreement",
    access_checked=datetime.date(2026, 11, 1),
    access_note="Redivis account with an institutional address, join the Stanford AIMI organisation, apply and sign the agreement, then download with your own credentials. Copies on Kaggle or Hugging Face under an Apache licence contradict the agreement and are not offered.",
    routes=(
        Route(
            kind="stanford_aimi",
            record="stanford/66s1-2hsmzj5rn",
            url="https://stanford.redivis.com/datasets/66s1-2hsmzj5rn",
            files=(RawFile(name="EchoNet-Dynamic.zip"),),
            note="About 7 GB. The older portal stanfordaimi.azurewebsites.net is superseded.",
        ),
    ),
    labels={"left_ventricle": "left_ventricle"},
    group_kind="patient",
    group_rule="The file name: one video per patient.",
    official_split="Column Split of FileList.csv: 7,465 train, 1,288 validation, 1,277 test videos.",
    expect=Expect(annotated=20048, masks=20048, groups=10030),
    paper=PaperProfile(
        note="Coordinates are cut off to whole pixels instead of rounded, and the outline itself is painted. The official split is not used.",
        read=read_cut_off,
    ),
    known_issues=(
        "Six of the 10,030 videos have no usable tracing; they are listed as dropped.",
        "File names end in .avi in VolumeTracings.csv and not in FileList.csv.",
        "The two traced frames come smallest area first with exceptions; the phase is told by the area.",
        "In some videos the two sides of the contour cross; the even-odd rule fills them.",
        "Not seen here: the videos themselves. That the apex is at the top and that there are usually 20 chords is from memory.",
    ),
    sources=(
        "github echonet/dynamic docs/index.html, README.md, echonet/datasets/echo.py, echonet/utils/__init__.py, issue 25",
        "github CAMMA-public/UltraSam datasets/datasets/EchoNet-Dynamic.py",
        "github zhuqh19/UltraSAM3 datasets/Cardiac/Scripts/convert_echonet_dynamic_to_coco.py",
    ),
    confidence="High for agreement, reading rule, split counts, columns and access. Computed: 20,048 masks as twice 10,024 traced videos. Unknown: digests.",
    read=read,
)
