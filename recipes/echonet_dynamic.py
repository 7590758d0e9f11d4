"""EchoNet-Dynamic: 10,030 apical videos; the left ventricle traced on two frames of each, in one table of chords."""

from array import array
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Literal, NamedTuple

from us43d import masks
from us43d.contract import Polygon, RawTree, Sample, Split, lazy
from us43d.errors import UnreadableFile
from us43d.facts import source
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
    """Return the contour of one frame in whole pixels.

    The first row is the long axis, the others are chords from the apex down:
    one side runs along their first ends, the other back along their second. Rows keep the table's order."""
    chords = [[whole(row.number(name)) for name in ("X1", "Y1", "X2", "Y2")] for row in rows][1:]
    coordinates = [value for x, y, _, _ in chords for value in (x, y)]
    back = [value for _, _, x, y in reversed(chords) for value in (x, y)]
    return array("d", coordinates + back)


def read(raw: RawTree, rule: Literal["inside", "touch"] = "inside") -> Iterator[Sample]:
    """rule: how contours are filled; coordinates are rounded for "inside" (the owners' code), cut off for "touch"."""
    whole: Callable[[float], int] = round if rule == "inside" else int
    tree = raw.at("Videos")
    listed = tree.index("FileList.csv", "FileName", ("EF", "ESV", "EDV", "FPS", "NumberOfFrames", "Split"))
    rows = tree.rows("VolumeTracings.csv", ("FileName", "X1", "Y1", "X2", "Y2", "Frame"))
    tracings: dict[str, list[Tracing]] = {}
    for (name, frame), group in groupby(rows, lambda row: (row["FileName"].removesuffix(".avi"), row.whole("Frame"))):
        tracings.setdefault(name, []).append(Tracing(frame, traced(group, whole)))
    for key in tree.glob("Videos/*.avi"):
        with tree.reading(key):
            name, path = Path(key).stem, tree.path(key)
            row, traced_frames = listed[name], sorted(tracings.pop(name, ()))
            if (subset := row["Split"].upper()) not in SPLITS:
                raise UnreadableFile(f"{row.where}: Split is {row['Split']!r}; known splits: {', '.join(SPLITS)}.")
            measured = {tag.lower(): row.number(tag) for tag in ("EF", "ESV", "EDV", "FPS")}
            largest = max((tracing.area for tracing in traced_frames), default=0.0)
            for tracing in traced_frames or [Tracing(0, array("d"))]:
                drop = None if len(tracing.points) > 2 else "no usable tracing is published for this video"
                if tracing.frame >= row.whole("NumberOfFrames"):
                    drop = "the traced frame is beyond the video's last"
                phase = "end-diastole" if tracing.area == largest else "end-systole"
                yield Sample(
                    key=f"{key}#{tracing.frame:04}",
                    image=lazy(masks.video_frame, path, tracing.frame),
                    masks={} if drop else {"left_ventricle": Polygon(tracing.points, rule)},
                    group=name,
                    split=SPLITS[subset],
                    frame=tracing.frame,
                    tags=measured if drop else measured | {"phase": phase},
                    drop=drop,
                )


RECIPE = source(__name__, read, paper=partial(read, rule="touch"))
