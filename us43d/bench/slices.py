"""Where a model is weak: scores by what the manifests know of an image, and the instances it fails on."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from us43d.evaluate.metrics import bootstrap
from us43d.evaluate.results import plain
from us43d.harmonize.corpus import Corpus

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["failures", "slices"]

#: Tags of the manifests that make slices; the sources spell some differently.
TAGS: Mapping[str, tuple[str, ...]] = {
    "device": ("device", "scanner", "machine", "vendor"), "view": ("view",), "sex": ("sex",), "age": ("age",),
    "image quality": ("imagequality", "quality"), "burned-in annotations": ("marks",), "doppler": ("doppler",),
    "phase": ("phase",), "centre": ("centre",), "acquisition": ("acquisition",), "side": ("side",),
}  # fmt: skip
#: Upper ends of the classes of an object's share of its image.
SIZES = ((0.01, "below 1 %"), (0.05, "1 to 5 %"), (0.2, "5 to 20 %"), (np.inf, "20 % and more"))
AGES = ((40, "below 40"), (60, "40 to 59"), (np.inf, "60 and older"))


def slices(rows: "pd.DataFrame", corpus: Corpus, seed: int) -> list[dict[str, Any]]:
    """Dice of box prompts by slice.

    Args:
        rows: Of one model: one per instance.

    Returns:
        slice, value, instances, groups, dice as an interval. Size is the object's share of the image's area; other
        slices come from tags, and only sources that have them count.
    """
    order = np.argsort(corpus.annotations["id"])
    places = order[np.searchsorted(corpus.annotations["id"], rows["annotation"], sorter=order)]
    images = corpus.annotations["image"][places]
    tags = corpus.tags(np.unique(images))
    values: dict[str, list[str | None]] = {"size": [_size(corpus, int(place)) for place in places]}
    for name, spellings in TAGS.items():
        values[name] = [_value(name, tags[int(image)], spellings) for image in images]
    dice, groups = rows["dice"].to_numpy(float), rows["group"].cat.codes.to_numpy()
    entries = []
    ranges = [label for _, label in (*SIZES, *AGES)]  # in ascending order, which their names are not
    for name, of in values.items():
        column = np.array([value or "" for value in of])
        for value in sorted(set(column) - {""}, key=lambda one: (ranges.index(one) if one in ranges else -1, one)):
            inside = column == value
            entries.append(plain({
                "slice": name, "value": value, "instances": int(inside.sum()),
                "groups": len(np.unique(groups[inside])),
                "dice": bootstrap(dice[inside], groups[inside], seed=seed),
            }))  # fmt: skip
    return entries


def _size(corpus: Corpus, annotation: int) -> str:
    image = corpus.images[corpus.annotations["image"][annotation]]
    share = corpus.annotations["area"][annotation] / (int(image["height"]) * int(image["width"]))
    return next(label for limit, label in SIZES if share < limit)


def _value(name: str, tags: Mapping[str, Any], spellings: tuple[str, ...]) -> str | None:
    value = next((tags[spelling] for spelling in spellings if tags.get(spelling) not in (None, "")), None)
    if value is None:
        return None
    if name == "age":
        try:
            return next(label for limit, label in AGES if float(value) < limit)
        except ValueError:
            return None
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def failures(rows: "pd.DataFrame", below: float, most: int = 50) -> Iterator[dict[str, Any]]:
    """The instances whose Dice is below a limit, the worst first, at most `most` of them."""
    bad = rows[rows["dice"] < below].sort_values(["dice", "annotation"])
    for row in bad.head(most).to_dict("records"):
        yield {"annotation": int(row["annotation"]), "source": str(row["source"]), "key": str(row["key"]),
               "structure": str(row["structure"]), "dice": round(float(row["dice"]), 5)}  # fmt: skip
