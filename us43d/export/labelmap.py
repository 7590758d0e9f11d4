"""Label maps: one value per pixel. A combination of structures that overlap somewhere gets a value of its own.

`Labelled` is what formats of label maps and folds share (nnU-Net, MONAI).
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from us43d.errors import UsageError
from us43d.export.folds import folds
from us43d.export.run import Block, Finish, Format, png
from us43d.export.selection import Item, Selection
from us43d.export.storage import RECORDS, Store

__all__ = ["LabelMap", "Labelled", "label_map"]

_FILE = f"{RECORDS}/combinations.json"


class LabelMap(NamedTuple):
    """combinations: index 0 is the background (); combinations[v] are the category indices at pixels of value v.

    pixels: of each combination, in the images that show several structures.
    """

    combinations: tuple[tuple[int, ...], ...]
    pixels: tuple[int, ...]

    @property
    def overlapping(self) -> bool:
        return any(len(combination) > 1 for combination in self.combinations)

    def values(self, category: int) -> list[int]:
        """Return the pixel values that a category covers."""
        return [value for value, combination in enumerate(self.combinations) if category in combination]

    def painted(self, categories: int) -> dict[int, int]:
        """Return category → value to paint it with, in the order of painting: the largest structure first.

        The value is the commonest combination of the structure with those painted before it, so that a structure
        inside another does not take its pixels away.
        """
        values: dict[int, int] = {}
        size = {c: sum(self.pixels[value] for value in self.values(c)) for c in range(categories)}
        for category in sorted(size, key=lambda c: (-size[c], c)):
            known = {*values, category}
            fitting = [value for value in self.values(category) if known.issuperset(self.combinations[value])]
            values[category] = max(fitting, key=lambda value: (self.pixels[value], -value))
        return values

    def encode(self, item: Item) -> NDArray[np.uint8]:
        """Return the label map (height, width) of an image."""
        value_of = {combination: value for value, combination in enumerate(self.combinations)}
        labels = np.zeros((item.height, item.width), np.uint8)
        for combination, where in _regions(item):
            labels[where] = value_of[combination]
        return labels


class Labelled(Format):
    """A format of label maps, whose training and validation cases are divided into folds."""

    labels: LabelMap

    def prepare(self, selection: Selection, store: Store) -> None:
        self.labels = label_map(selection, store)

    def label(self, block: Block, item: Item, name: str) -> None:
        """Write the label map of an image."""
        block.write(name, png(self.labels.encode(item)))
        block.count_merged(item)

    def case(self, block: Block, item: Item, case: Any) -> None:
        """Note a case, a JSON value, of the split and unit of an image."""
        stream = "tested" if item.split == "test" else "cases"
        block.line(stream, (case, item.split, block.selection.unit(item)))

    def cases(self, finish: Finish) -> Iterator[tuple[Any, int]]:
        """Yield (case, fold) of training, then of validation cases."""
        fold_of = folds((split, unit) for _, split, unit in finish.lines("cases"))
        yield from ((case, fold_of[unit]) for case, _, unit in finish.lines("cases"))


def label_map(selection: Selection, store: Store) -> LabelMap:
    """Find which structures overlap, in one pass over the masks; the result is kept for resuming.

    Raises:
        UsageError: If there are more than 255 combinations.
    """
    kept = store.read(_FILE)
    if kept is None:
        seen: Counter[tuple[int, ...]] = Counter()
        for split, rows in selection.rows.items():
            for item in selection.items(split, 0, len(rows)):
                if len({shape.category for shape in item.shapes}) > 1:
                    for combination, where in _regions(item):
                        seen[combination] += int(np.count_nonzero(where))
        kept = json.dumps(sorted(seen.items(), key=lambda entry: (len(entry[0]), entry[0]))).encode()
        store.write(_FILE, kept)
    pixels = {(): 0} | {(category.position,): 0 for category in selection.categories}
    pixels |= {tuple(combination): number for combination, number in json.loads(kept)}
    combinations = tuple(pixels)
    if len(combinations) > 256:
        raise UsageError(
            f"{len(combinations) - 1} combinations of structures overlap; a label map holds 255.",
            next="us43d export --help   (fewer --structures, or another --source)",
        )
    return LabelMap(combinations, tuple(pixels.values()))


def _regions(item: Item) -> Iterable[tuple[tuple[int, ...], NDArray[np.bool_]]]:
    """Yield (combination of categories, pixels (h, w) bool with exactly this combination)."""
    present = sorted({shape.category for shape in item.shapes})
    if len(present) == 1:
        yield (present[0],), item.union(present[0])
        return
    if not present:
        return
    kind = np.min_scalar_type((1 << len(present)) - 1)  # a bit for each category
    code = np.zeros((item.height, item.width), kind)
    for bit, category in enumerate(present):
        code |= item.union(category).astype(kind) << kind.type(bit)
    for value in np.unique(code).tolist():
        if value:
            yield tuple(c for bit, c in enumerate(present) if value >> bit & 1), code == value
