"""Brachial plexus: videos of three machines, a mask of the nerves per frame, in six videos one of the needle, too."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from us43d import masks
from us43d.contract import Lazy, RawTree, Sample, lazy
from us43d.errors import MissingRawFile
from us43d.facts import source
from us43d.rawtable import Row, agreed

#: Folder of a mask → its label. The published conversion knows the second folder, too.
LABELS = {"ac_masks": "nerve_plexus", "P_021_09_masks": "nerve_plexus", "needle_masks": "needle"}
#: Devices with a table; a table of eSaote's, if it exists, has an unknown form.
DESCRIBED = ("Butterfly", "Sonosite")
MASK = re.compile(rf"data/([^/]+)/(?:.*/)?({'|'.join(LABELS)})/(?:.*/)?([^/]+)_(\d+)\.jpg")


def read(raw: RawTree, threshold: int = 127) -> Iterator[Sample]:
    """threshold: pixels of the JPEG masks above it are inside."""
    tree = raw.at("data")
    outlines: dict[tuple[str, str], dict[int, dict[str, list[Lazy]]]] = {}
    for key in tree.glob("data/**/*.jpg"):
        if match := MASK.fullmatch(key):
            device, folder, video, frame = match.groups()
            by_label = outlines.setdefault((device, video), {}).setdefault(int(frame), {})
            mask = lazy(masks.above, lazy(masks.grey, tree.path(key)), threshold)
            by_label.setdefault(LABELS[folder], []).append(mask)
    tables = {device: table(tree, f"data/{device}/subjects_data.csv") for device in DESCRIBED}
    for key in tree.glob("data/{Butterfly,Sonosite,eSaote}/videos/*.mp4"):
        with tree.reading(key):
            device, video = key.split("/")[1], Path(key).stem
            frames, path = outlines.get((device, video), {}), tree.path(key)
            listed, contradicted = tables.get(device, ({}, set()))
            if device in tables and video not in listed and video not in contradicted:
                raise MissingRawFile(
                    f"data/{device}/subjects_data.csv in {raw.root} has no row with vid_name {video!r}."
                )
            row = listed.get(video)
            length = max(
                masks.video_length(path), row.whole("frame_cnt") if row else 0, *(frame + 1 for frame in frames)
            )
            for frame in range(length):
                yield Sample(
                    key=f"{key}#{frame:04}",
                    image=lazy(masks.video_frame, path, frame),
                    masks=frames.get(frame, {}),
                    group=f"{device}/{video}",
                    frame=frame,
                    tags={"device": device, "nerve": row["nerve"]} if row else {"device": device},
                    drop=None if frame in frames else "no mask is published for this frame",
                    remarks=("nerve unknown: rows of the table contradict each other",)
                    if video in contradicted
                    else (),
                )


def table(tree: RawTree, key: str) -> tuple[dict[str, Row], set[str]]:
    """Return (video → its row, videos whose rows contradict each other); nothing for a cut without the device's videos."""
    if not tree.glob(f"{key.rpartition('/')[0]}/videos/*"):
        return {}, set()
    rows = tree.rows(key, ("vid_name", "nerve", "frame_cnt"))
    different = {(row["vid_name"].removesuffix(".mp4"), row["nerve"], row["frame_cnt"]): row for row in rows}
    return agreed((video, row) for (video, *_), row in different.items())


RECIPE = source(__name__, read, paper=partial(read, threshold=99))
