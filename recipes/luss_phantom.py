"""LUSS_phantom: frames of a lung training phantom; label maps with ribs, pleural line and artefacts, same file name."""

from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, Split, lazy
from us43d.facts import source

VALUES = {"rib": 1, "pleural_line": 2, "a_line": 3, "b_line": 4, "b_line_confluence": 5}


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("train/images", "test/images")
    parts: tuple[Split, ...] = ("test", "train")
    for folder in parts:
        for key in tree.glob(f"{folder}/images/*.png"):
            name = key.rpartition("/")[2]
            yield Sample(
                key=key,
                image=tree.path(key),
                masks=masks.by_value(lazy(masks.label_image, tree.path(f"{folder}/masks/{name}")), VALUES),
                group=name.removesuffix(".png").rpartition("-F")[0],
                split=folder,
            )


RECIPE = source(__name__, read)
