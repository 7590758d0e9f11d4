"""HMC-QU: echocardiograms of suspected infarction; the wall of the left ventricle over one cycle. Beyond US-43d."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.errors import MissingFolder, UnreadableFile
from us43d.facts import source
from us43d.rawtree import Row

TRUTH = "predicted"  # the variable's name; it holds the ground truth
MARK = "ü"  # in the tables: a mask is published for this clip


class Cycle(NamedTuple):
    """first, last: columns of the frames of the cycle, from 1. marked: whether a mask is published."""

    row: Row
    first: str
    last: str
    marked: bool


def read(raw: RawTree) -> Iterator[Sample]:
    try:
        tree, clips = raw.at("HMC-QU", "HMC-QU Echos"), "**/*.avi"
    except MissingFolder:
        tree, clips = raw, "**/A[24]C/*.avi"  # below another top folder; tables and masks lie beside that
        if not raw.glob(clips):
            raise
    cycles = dict(_cycles(tree))
    truths = {_plain(key.rpartition("/")[2][len("Mask_") :]): key for key in tree.glob("**/Mask_*.mat")}
    for file in tree.glob(clips):
        key = re.sub(r"^(.*/)?(?=A[24]C/)", "HMC-QU/", file)  # as published
        with tree.reading(key):
            path, clip = tree.path(file), _plain(file.rpartition("/")[2])
            facts: dict[str, Any] = {"group": re.split(r"[_ ]", Path(key).stem, maxsplit=1)[0]}
            facts["tags"] = {"view": "A2C" if re.search("2CH|A2C", key, re.IGNORECASE) else "A4C"}
            cycle = cycles.get(clip)
            if clip not in truths:
                if cycle and cycle.marked:
                    tree.path(f"Mask_{Path(key).stem}.mat")  # missing, and the error names it
                yield Sample(key=f"{key}#0000", image=path, drop="no mask is published for this video", **facts)
                continue
            if cycle is None:
                raise UnreadableFile(f"No table in {raw.root} gives the frames of the cycle of {key}.")
            truth, length = tree.path(truths[clip]), masks.video_length(path)
            tree.use(truth)
            shape = masks.mat_array(truth, TRUTH).shape
            if len(shape) != 3:
                raise UnreadableFile(f"{truth} has the shape {shape}, not that of a sequence of masks.")
            first, drop = cycle.row.whole(cycle.first), None
            if shape[0] != (frames := cycle.row.whole(cycle.last) - first + 1):
                drop = f"the table gives a cycle of {frames} frames, the masks {shape[0]}"
            for n in range(shape[0]):
                frame = first - 1 + n
                beyond = not 0 <= frame < length
                yield Sample(
                    key=f"{key}#{frame:04}",
                    image=path if beyond else lazy(masks.video_frame, path, frame),
                    masks={"left_ventricular_wall": lazy(wall, truth, n)},
                    frame=frame,
                    fit="nearest",
                    drop="the annotated frame is beyond the video's last" if beyond else drop,
                    **facts,
                )


def wall(path: Path, frame: int) -> Any:
    """Return the wall in one frame of the cycle, in the size of the masks."""
    return masks.nonzero(masks.mat_array(path, TRUTH)[frame])


def _plain(name: str) -> str:
    """Return a clip's name as tables, videos and masks have it in common: without ending, blanks and case."""
    return re.sub(r"\.(avi|mat)$|\s", "", name, flags=re.IGNORECASE).casefold()


def _cycles(raw: RawTree) -> Iterator[tuple[str, Cycle]]:
    """Yield (clip, cycle) of every table that gives frames; columns are named differently in each release."""
    for key in (*raw.glob("**/*.xlsx"), *raw.glob("**/*.csv")):
        for row in raw.sheet(key, ()) if key.lower().endswith(".xlsx") else raw.rows(key, ()):
            first, last = _column(row, "reference", "frame"), _column(row, "end", "cycle")
            if not first or not last or not row[first]:
                continue
            mark = _column(row, "ground", "truth")
            marked = bool(mark) and row[mark].casefold() == MARK
            yield _plain(next(iter(row.values()))), Cycle(row, first, last, marked)


def _column(row: Row, *words: str) -> str:
    """Return the column whose heading has all these words; "" if none has."""
    return next((name for name in row if all(word in name.casefold() for word in words)), "")


RECIPE = source(__name__, read)
