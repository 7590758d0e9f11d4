"""Intrapartum video (IUGC 2024, DatasetV3): 774 videos; symphysis and fetal head on labelled frames. Beyond US-43d."""

import re
from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, Split, lazy
from us43d.errors import UnreadableFile
from us43d.facts import source

VALUES = {"pubic_symphysis": 1, "fetal_head": 2}
#: Split → pattern of its masks, and the parts of their names: video and frame; in test a table has the frame.
PARTS: dict[Split, tuple[str, str]] = {
    "train": ("seg/*/mask/*.png", r"(.+)_(\d+)_6\.png"),  # 6 is part of every name, and no frame
    "val": ("seg/*.png", r"(.+)_(\d+)\.png"),
    "test": ("seg/*.png", r"(.+)()\.png"),
}


def read(raw: RawTree) -> Iterator[Sample]:
    for split, (pattern, name) in PARTS.items():
        tree = raw.at(f"{split}/videos")
        listed = (
            tree.index(f"{split}/seg/seg_info.csv", "filename", ("labeled_frame_index",)) if split == "test" else {}
        )
        frame_of = {key.removesuffix(".avi"): row["labeled_frame_index"] for key, row in listed.items()}
        mask_keys = dict[str, dict[int, str]]()
        for key in tree.glob(f"{split}/{pattern}"):
            if match := re.fullmatch(name, key.rpartition("/")[2], re.IGNORECASE):
                frame = match[2] or frame_of.get(match[1], "").strip("[] ")
                if not frame.isdecimal():
                    raise UnreadableFile(f"seg_info.csv in {tree.root} names no single frame for {key}.")
                mask_keys.setdefault(match[1], {})[int(frame)] = key
        for key in tree.glob(f"{split}/videos/*.avi"):
            with tree.reading(key):
                video, path = key.rpartition("/")[2].removesuffix(".avi"), tree.path(key)
                frames = mask_keys.pop(video, {})
                if not frames:
                    drop = "no frame of this video is labelled"
                    yield Sample(key=f"{key}#0000", image=path, group=video, split=split, drop=drop)
                for frame, mask in sorted(frames.items()):
                    beyond = frame >= masks.video_length(path)
                    yield Sample(
                        key=f"{key}#{frame:04}",
                        image=path if beyond else lazy(masks.video_frame, path, frame),
                        masks=masks.by_value(lazy(masks.label_image, tree.path(mask)), VALUES),
                        group=video,
                        split=split,
                        frame=frame,
                        drop="the labelled frame is beyond the video's last" if beyond else None,
                    )


RECIPE = source(__name__, read)
