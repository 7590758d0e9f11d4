"""EchoNet-Dynamic: 10,030 apical videos; the left ventricle traced on two frames of each, in one table of chords."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

from us43d import masks
from us43d.contract import Polygon, RawTree, Sample, Split, lazy
from us43d.errors import UnreadableFile
from us43d.facts import source

Points = tuple[tuple[float, float], ...]
#: X1, Y1, X2, Y2.
Line = tuple[float, float, float, float]
SPLITS: dict[str, Split] = {"TRAIN": "train", "VAL": "val", "TEST": "test"}


class Tracing(NamedTuple):
    """flat: x, y, x, y, …, as the whole table is in memory at once. remarks: on the rows of the table."""

    frame: int
    flat: "array[float]"
    remarks: tuple[str, ...] = ()

    @property
    def points(self) -> Points:
        return tuple(zip(self.flat[::2], self.flat[1::2], strict=True))

    @property
    def area(self) -> float:
        """In square pixels (shoelace formula)."""
        points = self.points
        shifted = (*points[1:], *points[:1])
        return abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(points, shifted, strict=True))) / 2


def tracing(frame: int, lines: Sequence[Line], most: int, whole: Callable[[float], int]) -> Tracing:
    """Return the contour of one frame in whole pixels.

    The first row is the long axis, the others are chords from the apex down: one side runs along their first ends, the
    other back along their second. Rows keep the table's order, as the sides of some published tracings may cross; that
    the table was sorted is remarked. most: rows that most frames have.
    """
    (axis, *chords), remarks = lines, list[str]()
    if not in_order(axis, chords):
        remarks.append("chords do not follow one another along the long axis: the table may have been sorted")
    if len(lines) != most:
        remarks.append(f"the tracing has another number of rows than most: {len(lines)}, not {most}")
    first = [whole(value) for x, y, _, _ in chords for value in (x, y)]
    back = [whole(value) for _, _, x, y in reversed(chords) for value in (x, y)]
    return Tracing(frame, array("d", first + back), tuple(remarks))


def in_order(axis: Line, chords: Sequence[Line]) -> bool:
    """Return whether the middles of chords follow one another along an axis, by less than half a step back."""
    x0, y0, x1, y1 = axis
    places = [(a + c) * (x1 - x0) + (b + d) * (y1 - y0) for a, b, c, d in chords]
    step = (max(places, default=0) - min(places, default=0)) / max(1, len(places) - 1)
    down = all(before - step / 2 <= after for before, after in pairwise(places))
    up = all(before + step / 2 >= after for before, after in pairwise(places))
    return down or up


def read(raw: RawTree, rule: Literal["inside", "touch"] = "inside") -> Iterator[Sample]:
    """rule: how contours are filled; coordinates are rounded for "inside" (the owners' code), cut off for "touch"."""
    whole: Callable[[float], int] = round if rule == "inside" else int
    tree = raw.at("Videos")
    listed = tree.index("FileList.csv", "FileName", ("EF", "ESV", "EDV", "FPS", "NumberOfFrames", "Split"))
    rows = tree.rows("VolumeTracings.csv", ("FileName", "X1", "Y1", "X2", "Y2", "Frame"))
    traced: dict[str, dict[int, list[Line]]] = {}
    damaged: dict[str, UnreadableFile] = {}
    for row in rows:
        name = row["FileName"].removesuffix(".avi")
        try:
            line = row.number("X1"), row.number("Y1"), row.number("X2"), row.number("Y2")
            traced.setdefault(name, {}).setdefault(row.whole("Frame"), []).append(line)
        except UnreadableFile as error:
            damaged[name] = error
    lengths = Counter(len(lines) for frames in traced.values() for lines in frames.values())
    most = max(lengths, key=lambda length: (lengths[length], length), default=0)
    keys = tree.glob("Videos/*.avi")
    missing = set(listed)
    for key in keys:
        missing.discard(Path(key).stem)
    for key in sorted([*keys, *(f"Videos/{name}.avi" for name in missing)]):
        with tree.reading(key):
            name, path = Path(key).stem, tree.path(key)
            if name in damaged:
                raise damaged[name]
            frames = sorted(traced.pop(name, {}).items())
            row, tracings = listed[name], [tracing(frame, lines, most, whole) for frame, lines in frames]
            if (subset := row["Split"].upper()) not in SPLITS:
                raise UnreadableFile(f"{row.where}: Split is {row['Split']!r}; known splits: {', '.join(SPLITS)}.")
            measured = {tag.lower(): row.number(tag) for tag in ("EF", "ESV", "EDV", "FPS")}
            largest = max((contour.area for contour in tracings), default=0.0)
            for contour in tracings or [Tracing(0, array("d"))]:
                drop = None if len(contour.points) > 2 else "no usable tracing is published for this video"
                if contour.frame >= row.whole("NumberOfFrames"):
                    drop = "the traced frame is beyond the video's last"
                phase = "end-diastole" if contour.area == largest else "end-systole"
                yield Sample(
                    key=f"{key}#{contour.frame:04}",
                    image=lazy(masks.video_frame, path, contour.frame),
                    masks={} if drop else {"left_ventricle": Polygon(contour.points, rule)},
                    group=name,
                    split=SPLITS[subset],
                    frame=contour.frame,
                    tags=measured if drop else measured | {"phase": phase},
                    drop=drop,
                    remarks=contour.remarks,
                )


RECIPE = source(__name__, read, paper=partial(read, rule="touch"))
