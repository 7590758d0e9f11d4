"""Order of the images that a run draws, and which annotations it may draw."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from us43d.errors import TrainError, listed
from us43d.harmonize.corpus import Corpus
from us43d.train.config import TrainConfig

__all__ = ["Order", "absent_structures", "eligible", "without"]

#: Stream of the random generator for the order; that of augmentation is another (us43d/train/data.py).
_ORDER = 0

#: With a balance, a class of images is drawn this many times as often as the images without annotations.
_SHARE = 3


def eligible(corpus: Corpus, config: TrainConfig, splits: Sequence[str]) -> NDArray[np.int64]:
    """Select the annotations that may be drawn.

    Args:
        corpus: The corpus.
        config: Sources, `min_area` and `min_share`.
        splits: Splits to draw from.

    Returns:
        Rows of `annotations`.

    Raises:
        UnknownName: A source is not in the corpus.
        TrainError: No annotation remains.
    """
    of = corpus.annotations["image"]
    images = corpus.images
    kept = corpus.selected(splits, config.sources)
    pixels = images["height"].astype(np.int64) * images["width"]
    area = corpus.annotations["area"]
    rows = np.flatnonzero(kept[of] & (area >= config.min_area) & (area >= config.min_share * pixels[of]))
    if len(rows) == 0:
        which = f" of {listed(config.sources)}" if config.sources else ""
        raise TrainError(
            f"The corpus {corpus.path.name} has no annotation{which} in {listed(splits)} with min_area "
            f"{config.min_area} and min_share {config.min_share:g}.",
            next="us43d corpus --all",
        )
    return rows


def without(corpus: Corpus, config: TrainConfig, splits: Sequence[str]) -> NDArray[np.int64]:
    """Select the rows of `images` without annotation, in the given splits and the configuration's sources."""
    return np.flatnonzero(corpus.selected(splits, config.sources) & (corpus.images["count"] == 0))


def absent_structures(corpus: Corpus) -> list[list[int]]:
    """List, for each source, the structures that are absent from its images unless annotated.

    These are the structures that the source annotates, and those of organs that it does not show. Other structures of
    the same organ may be visible without being annotated.
    """
    sources = corpus.images["source"][corpus.annotations["image"]]
    organ = {category["id"]: category["supercategory"] for category in corpus.categories}
    every = np.unique(corpus.annotations["category"]).tolist()
    known = []
    for n in range(len(corpus.sources)):
        own = set(np.unique(corpus.annotations["category"][sources == n]).tolist())
        organs = {organ[category] for category in own}
        known.append([category for category in every if category in own or organ[category] not in organs])
    return known


class Order:
    """Order of the images in an endless sequence of draws.

    Images belong to classes (a single one, or the sources, organs or structures), which are drawn equally often. Within
    a class, every image is drawn once before any is repeated; with `size_repeats`, those of rare sizes several times.

    Args:
        corpus: The corpus.
        config: Seed, `balance`, `size_repeats`, and `by_aspect`.
        annotations: Rows that may be drawn.
        empty: Images without annotation that may be drawn; a class of their own unless all images are drawn equally
            often.
    """

    def __init__(
        self,
        corpus: Corpus,
        config: TrainConfig,
        annotations: NDArray[np.int64],
        empty: NDArray[np.int64] | None = None,
    ) -> None:
        self.seed = config.seed
        of = corpus.annotations["image"][annotations].astype(np.int64)
        images = np.unique(of)
        if empty is not None and config.balance == "image":
            images = np.union1d(images, empty)
        self.names, self.classes = self._classes(corpus, config, annotations, of, images)
        if config.size_repeats > 1:
            self.classes = [self._evened(corpus, rows, annotations, config.size_repeats) for rows in self.classes]
        #: Classes of one cycle, with repetitions; the first place of each class in it.
        self.turns = [*range(len(self.classes))]
        if empty is not None and len(empty) and config.balance != "image":
            self.turns = self.turns * _SHARE + [len(self.classes)]
            self.names, self.classes = [*self.names, None], [*self.classes, empty]
        self.chunk = config.micro_batch if config.by_aspect else 0
        self.wide = corpus.images["width"] > corpus.images["height"] if self.chunk else None
        self._laps: dict[int, tuple[int, NDArray[np.int64]]] = {}

    @staticmethod
    def _classes(
        corpus: Corpus,
        config: TrainConfig,
        annotations: NDArray[np.int64],
        of: NDArray[np.int64],
        images: NDArray[np.int64],
    ) -> tuple[list[Any], list[NDArray[np.int64]]]:
        if config.balance == "image":
            return [None], [images]
        if config.balance == "structure":
            category = corpus.annotations["category"][annotations]
            ids = np.unique(category)
            return ids.tolist(), [np.unique(of[category == key]) for key in ids]
        field = "name" if config.balance == "source" else "organ"
        value = np.array([source[field] for source in corpus.sources])[corpus.images["source"][images]]
        names = np.unique(value)
        return names.tolist(), [images[value == key] for key in names]

    @staticmethod
    def _evened(
        corpus: Corpus, images: NDArray[np.int64], annotations: NDArray[np.int64], most: int
    ) -> NDArray[np.int64]:
        """Repeat images (N,) whose largest instance has a size, in octaves of its image, that few others have."""
        of = corpus.annotations["image"][annotations]
        largest = np.zeros(len(corpus.images), np.int64)
        np.maximum.at(largest, of, corpus.annotations["area"][annotations])
        pixels = corpus.images["height"].astype(np.int64) * corpus.images["width"]
        octave = np.floor(np.log2(np.maximum(largest, 1) / pixels))[images]
        _, which, counts = np.unique(octave, return_inverse=True, return_counts=True)
        times = np.clip(np.rint(counts.max() / counts), 1, most).astype(np.int64)
        return np.asarray(np.repeat(images, times[which]), np.int64)

    def __call__(self, place: int) -> tuple[Any, int]:
        """Return (class, row of `images`) at a place."""
        cycle, at = divmod(place, len(self.turns))
        turns = self._chance(0, cycle).permutation(self.turns) if len(self.turns) > 1 else np.zeros(1, np.int64)
        number = int(turns[at])
        before = cycle * self.turns.count(number) + int((turns[:at] == number).sum())
        lap, at = divmod(before, self._length(number))
        return self.names[number], int(self._lap(number, lap)[at])

    def _length(self, number: int) -> int:
        """Return the number of draws of a lap; complete chunks only, if there are chunks."""
        count = len(self.classes[number])
        return count - count % self.chunk if self.chunk and count >= self.chunk else count

    def _lap(self, number: int, lap: int) -> NDArray[np.int64]:
        if self._laps.get(number, (-1, None))[0] != lap:
            rows = self._chance(1 + number, lap).permutation(self.classes[number])
            self._laps[number] = lap, self._alike(rows) if self.chunk else rows
        return self._laps[number][1]

    def _alike(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sort rows into chunks of wide and of other images, each placed when it is full; the rest follows."""
        assert self.wide is not None
        waiting: tuple[list[int], list[int]] = ([], [])
        out: list[int] = []
        for row in rows.tolist():
            same = waiting[int(self.wide[row])]
            same.append(row)
            if len(same) == self.chunk:
                out += same
                same.clear()
        return np.array(out + waiting[0] + waiting[1], np.int64)

    def _chance(self, *what: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, _ORDER, *what])
