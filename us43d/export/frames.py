"""Frames of videos and slices of volumes: images whose keys are "<file>#<number>"."""

import hashlib
from collections.abc import Iterator
from itertools import groupby

from us43d.export.run import BLOCK, Block
from us43d.export.selection import Item, Selection

__all__ = ["cuts", "fault", "frame_of", "of_file", "video_name"]


def frame_of(key: str) -> tuple[str, int] | None:
    """Return (file, frame) of the key of a frame, "<file>#<frame>"; None for a still image."""
    file, mark, frame = key.rpartition("#")
    return (file, int(frame)) if mark and frame.isdecimal() else None


def video_name(slug: str, file: str) -> str:
    """Return the name of a video's folder: unique, and safe in any file system."""
    return f"{slug}_{hashlib.sha256(file.encode()).hexdigest()[:16]}"


def cuts(selection: Selection, split: str) -> list[int]:
    """Return where blocks begin so that no video or volume is divided, as `Format.cuts` does."""
    begins: list[int] = []
    before = None
    for place, row in enumerate(selection.rows[split].tolist()):
        file = int(selection.corpus.images[row]["source"]), _file(selection.corpus.key(row))
        if not begins or (place - begins[-1] >= BLOCK and file != before):
            begins.append(place)
        before = file
    return begins


def of_file(block: Block) -> Iterator[tuple[str, list[Item]]]:
    """Yield (name of the video or volume, its images by number) for a block; a still image is alone."""
    for (slug, file), images in groupby(block.items(), lambda item: (item.source["slug"], _file(item.key))):
        yield video_name(slug, file), sorted(images, key=lambda item: number(item.key))


def fault(items: list[Item]) -> str:
    """Return why images are not a volume with known voxel size and complete slices; "" if they are."""
    if any(item.slice_mm is None or item.spacing is None for item in items):
        return "not of a volume with known voxel size"
    first = number(items[0].key)
    if [number(item.key) for item in items] != list(range(first, first + len(items))):
        return "of a volume that lacks slices"
    if len({(item.height, item.width, item.spacing, item.slice_mm) for item in items}) > 1:
        return "of a volume whose slices differ in size"
    return ""


def number(key: str) -> int:
    """Return the number of a frame, 0 for a still image."""
    place = frame_of(key)
    return place[1] if place else 0


def _file(key: str) -> str:
    place = frame_of(key)
    return place[0] if place else key
