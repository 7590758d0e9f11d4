"""CCA (MI-SegNet): 2,307 cross-sections of carotid arteries, and the authors' test set 3. Beyond US-43d."""

from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, Split, lazy
from us43d.facts import source

PARTS: dict[str, Split] = {"Training": "train", "ValS": "val", "TS3": "test"}


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("Training/img")
    for folder, split in PARTS.items():
        for key in tree.glob(f"{folder}/img/*.png"):
            name = key.rpartition("/")[2]  # imgXXXX.png, or Image_X.png in TS3
            prefix, label = ("Image", "Label") if name.lower().startswith("image") else ("img", "label")
            truth = tree.path(f"{folder}/label/{label}{name[len(prefix) :]}")
            yield Sample(
                key=key,
                image=tree.path(key),
                # Not `binary`: whether 1 or 255 marks the artery, and whether edges are grey, is not published.
                masks={"carotid_artery": lazy(masks.not_black, truth)},
                group=folder,
                split=split,
                tags={"part": folder},
            )


RECIPE = source(__name__, read)
