"""MouseBrainTumor: 1,856 frames of 38 recordings of mice with glioma; soft masks of five readers. Animals."""

import re
from collections.abc import Iterator
from typing import Any

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.errors import MaskMismatch
from us43d.facts import source

FRAME = re.compile(r"(\d+)_?img\.png$")


def read(raw: RawTree) -> Iterator[Sample]:
    mask_keys = dict[str, list[str]]()
    for key in raw.glob("**/Masks/*_mask.png"):  # <image>_mask.png or <image>_<reader>_mask.png
        stem = re.sub(r"(img)(_[^/]*)?_mask\.png$", r"\1", key)
        mask_keys.setdefault(stem.replace("/Masks/", "/Images/"), []).append(key)
    for key in raw.glob("**/Images/*.png"):
        recording, _, name = key.split("/")[-3:]
        stem, number = key.removesuffix(".png"), FRAME.search(name)
        files = mask_keys.get(stem, [f"{stem.replace('/Images/', '/Masks/')}_mask.png"])
        soft = [lazy(masks.grey, raw.path(file)) for file in files]
        yield Sample(
            key=f"{recording}/{name}",
            image=raw.path(key),
            masks={"brain_tumor": lazy(majority, *soft)},
            group=recording,
            frame=int(number[1]) if number else None,
        )


def majority(*soft: Any) -> Any:
    """Return the pixels whose mean over soft masks is above half: most readers marked tumour."""
    if len({mask.shape for mask in soft}) > 1:
        raise MaskMismatch(f"Masks of one frame have several sizes: {sorted({mask.shape for mask in soft})}.")
    return masks.above(sum(mask.astype("float32") for mask in soft) / len(soft), 127)


RECIPE = source(__name__, read)
