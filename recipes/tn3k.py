"""TN3K: thyroid nodules; JPEG images with JPEG masks of the same name, trainval and test numbered apart."""

import re
from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.errors import UnreadableFile
from us43d.facts import source

#: An image and its class, whatever separates them when a spreadsheet has saved the table again.
ROW = re.compile(r"""^\s*"?([^,;\t"]+\.jpg)"?\s*[,;\t]\s*"?([01])"?\s*$""", re.IGNORECASE | re.MULTILINE)


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("tn3k/test-image", "tn3k/trainval-image")
    fold = "tn3k/tn3k-trainval-fold0.json"
    validation = set(_validation(tree, fold)) if tree.has(fold) else set()
    unsplit = () if tree.has(fold) else (f"split into training and validation unknown: {fold} is missing",)
    labels = {subset: _labels(tree, subset) for subset in ("test", "trainval")}
    for key in tree.glob("tn3k/*-image/*.jpg"):
        subset, name = key.split("/")[1].removesuffix("-image"), key.rpartition("/")[2]
        number = name.removesuffix(".jpg")
        held_out = number.isdecimal() and int(number) in validation
        table = labels.get(subset, {})
        label, why = table.get(name), "has none for it" if table else "is missing"
        yield Sample(
            key=key,
            image=tree.path(key),
            masks={"thyroid_nodule": lazy(masks.binary, tree.path(f"tn3k/{subset}-mask/{name}"))},
            split="test" if subset == "test" else "val" if held_out else "train" if validation else None,
            tags={"diagnosis": ("benign", "malignant")[int(label)]} if label in {"0", "1"} else {},
            remarks=(
                *(() if label else (f"diagnosis unknown: label4{subset}.csv {why}",)),
                *(unsplit if subset != "test" else ()),
            ),
        )


def _validation(tree: RawTree, key: str) -> list[int]:
    try:
        return [int(number) for number in tree.json(key)["val"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UnreadableFile(f"{key} in {tree.root} is not a valid fold file: {error!r}.") from error


def _labels(tree: RawTree, subset: str) -> dict[str, str]:
    """Return the benign/malignant table of a part, which has no header; the GitHub copy lacks it."""
    key = f"tn3k/label4{subset}.csv"
    if not tree.has(key):
        return {}
    pairs = set(ROW.findall(tree.text(key)))
    rows = dict(pairs)
    if len(rows) < len(pairs):
        raise UnreadableFile(f"{key} in {tree.root} gives an image both classes.")
    if not rows:
        raise UnreadableFile(f"{key} in {tree.root} has no row of an image and 0 or 1.")
    return rows


RECIPE = source(__name__, read)
