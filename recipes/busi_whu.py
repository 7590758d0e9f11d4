"""BUSI-WHU: 927 breast images, one tumour mask each; three trees are in circulation. Beyond US-43d."""

import posixpath
import re
from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, Split, lazy
from us43d.errors import MissingRawFile
from us43d.facts import source

#: Folder of the images → folder of the masks and ending of their names.
TREES = {
    "img/ori": ("gt/ori", "_anno.bmp"),  # version 1: {train,valid,test}/img/ori
    "img": ("gt", "_anno.bmp"),  # flat
    "images": ("masks", ".png"),  # {train,valid,test}/images
}
SPLITS: dict[str, Split] = {"train": "train", "valid": "val", "test": "test"}


def read(raw: RawTree) -> Iterator[Sample]:
    folder = next((name for name in TREES if raw.glob(f"**/{name}/*.*")), None)
    if folder is None:
        raise MissingRawFile(f"No folder in {raw.root} is called {' or '.join(TREES)}.")
    masks_folder, ending = TREES[folder]
    tables = [key for key in raw.glob("**/*.*") if re.search(r"\.(xlsx|csv)$", key, re.IGNORECASE)]
    remarks = tuple(f"patients are not read from {key.rpartition('/')[2]}: its columns are not known" for key in tables)
    images = raw.glob(f"**/{folder}/*{posixpath.splitext(ending)[1]}")
    # In a tree with an official split, images in other folders stay unread, and the build reports them.
    for key in [key for key in images if _subset(key, folder) in SPLITS] or images:
        top, _, name = key.rpartition(f"{folder}/")
        stem = name.rpartition(".")[0]
        subset = _subset(key, folder)
        split = SPLITS.get(subset)
        yield Sample(
            key=f"{subset}/{name}" if split else name,
            image=raw.path(key),
            masks={"tumour": lazy(masks.above, lazy(masks.grey, raw.path(f"{top}{masks_folder}/{stem}{ending}")), 127)},
            split=split,
            remarks=remarks,
        )


def _subset(key: str, folder: str) -> str:
    """Return the name of the folder that holds the folder of images."""
    return key.rpartition(f"/{folder}/")[0].rpartition("/")[2]


RECIPE = source(__name__, read)
