"""EchoNet-Pediatric: apical and short-axis videos of children; the left ventricle outlined on up to two frames each."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Literal

from us43d import masks
from us43d.contract import Polygon, RawTree, Sample, Split, lazy
from us43d.facts import source

VIEWS = ("A4C", "PSAX")
MISSING = ("No Systolic", "No Diastolic")
FOLDS: dict[int, Split] = {0: "test", 1: "val"}
TAGS = ("Sex", "Age", "Weight", "Height")
#: Video → traced frame as the table numbers it, or the phase that is missing → outline, in the order of the table.
Outlines = dict[str, dict[int | str, tuple[tuple[float, float], ...]]]


def read(raw: RawTree, rule: Literal["inside", "touch"] = "inside") -> Iterator[Sample]:
    """rule: how outlines are filled: as scikit-image does (the owners' code), or with the outline painted."""
    tree = raw.at(*VIEWS)
    listed = {view: tree.index(f"{view}/FileList.csv", "FileName", ("EF", *TAGS, "Split")) for view in VIEWS}
    traced = {view: _outlines(tree, view) for view in VIEWS}
    numbers = {
        n
        for traced_frames in traced.values()
        for frames in traced_frames.values()
        for n in frames
        if not isinstance(n, str)
    }
    first = 0 if 0 in numbers else 1
    for view in VIEWS:
        folder = f"{view}/Videos/"
        other = listed[VIEWS[1 - VIEWS.index(view)]]
        inside = {key.removeprefix(folder) for key in tree.glob(f"{folder}*.avi")}
        shared = sorted((inside - set(listed[view])) & set(other))
        tree.use(*(tree.path(folder + name) for name in shared))  # the folder of both views, unpacked twice
        for name in sorted(inside.difference(shared) | set(listed[view]) | set(traced[view])):
            with tree.reading(folder + name):
                key, path, row = folder + name, tree.path(folder + name), listed[view].get(name)
                tree.use(path)
                group = name.partition("-")[0]
                if row is None:
                    yield Sample(key=f"{key}#0000", image=path, group=group, drop="the video is not in FileList.csv")
                    continue
                fold = row.whole("Split")
                facts: dict[str, Any] = {"group": group, "split": FOLDS.get(fold, "train")}
                tags: dict[str, Any] = {"view": view, "fold": fold}
                tags |= {"ef": row.number("EF")} if row["EF"] else {}
                tags |= {tag.lower(): row[tag] for tag in TAGS if row[tag]}
                frames = traced[view].get(name, {})
                traced_frames = {n: points for n, points in frames.items() if not isinstance(n, str)}
                if not traced_frames:
                    untraced = "no frame of this video is traced"
                    yield Sample(key=f"{key}#0000", image=path, tags=tags, drop=untraced, **facts)
                    continue
                length = masks.video_length(path)
                for n, points in traced_frames.items():
                    index, drop, remarks = n - first, None, [f"frames of the table count from {first}"]
                    if index == length:
                        index, remarks = length - 1, [*remarks, "frame one beyond the last: the last is taken"]
                    elif not 0 <= index < length:
                        drop = "the video has no frame of that number"
                    if len(points) < 3:
                        drop = "a tracing of fewer than three points"
                    yield Sample(
                        key=f"{key}#{n:04}",
                        image=lazy(masks.video_frame, path, index),
                        masks={"left_ventricle": Polygon(points, rule)},
                        frame=index,
                        tags={**tags, "phase": "end-systole" if next(iter(frames)) == n else "end-diastole"},
                        drop=drop,
                        remarks=tuple(remarks),
                        **facts,
                    )


def _outlines(tree: RawTree, view: str) -> Outlines:
    """Rows of one (video, frame) in the table's order are its outline; a missing phase is one row without points."""
    videos: dict[str, dict[int | str, list[tuple[float, float]]]] = {}
    for row in tree.rows(f"{view}/VolumeTracings.csv", ("FileName", "X", "Y", "Frame")):
        frames = videos.setdefault(row["FileName"], {})
        if row["Frame"] in MISSING:
            frames[row["Frame"]] = []
        else:
            frames.setdefault(row.whole("Frame"), []).append((row.number("X"), row.number("Y")))
    return {name: {n: tuple(points) for n, points in frames.items()} for name, frames in videos.items()}


RECIPE = source(__name__, read, paper=partial(read, rule="touch"))
