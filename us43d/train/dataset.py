"""The images of a corpus as a torch Dataset."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch.utils.data import Dataset

from us43d.errors import UnknownName
from us43d.harmonize.corpus import SPLITS, Corpus

__all__ = ["CorpusDataset", "Reopened"]

T_co = TypeVar("T_co", covariant=True)


class Reopened(Dataset[T_co]):
    """Dataset of a corpus that a loader process opens again: a memory map would be copied completely into it."""

    corpus: Corpus

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"corpus": (self.corpus.path, self.corpus.home)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"corpus": Corpus.open(*state["corpus"])}


class CorpusDataset(Reopened[dict[str, Any]]):
    """The images of a corpus as a torch Dataset, for your own models.

    >>> dataset = CorpusDataset("~/.us43d/corpora/us43d", split="train")  # doctest: +SKIP

    An item is a dict with image (3, h, w) uint8 RGB; masks (K, h, w) bool; boxes (K, 4) float32, (x0, y0, x1, y1) in
    pixels with x1 and y1 excluded; labels (K,) int64, category ids as in `corpus.categories`; area (K,) int64 in
    pixels; and id, key, source, group and path. Images have their original size; an image without annotation has K = 0.

    Args:
        corpus: An opened corpus, or its folder.
        split: "train", "val" or "test"; None for all three.
        sources: Names; all sources of the corpus if empty.
        specks: Include annotations that the build flagged as specks.

    Raises:
        UnknownName: Unknown split or source.
    """

    def __init__(
        self, corpus: Corpus | str | Path, split: str | None = None, sources: Sequence[str] = (), specks: bool = False
    ) -> None:
        self.corpus = corpus if isinstance(corpus, Corpus) else Corpus.open(Path(corpus).expanduser())
        if split is not None and split not in SPLITS:
            raise UnknownName(f"Unknown split {split!r}: use one of {', '.join(SPLITS)}.")
        self.rows = np.flatnonzero(self.corpus.selected([split] if split else SPLITS[:3], sources))
        self.specks = specks

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        corpus, image = self.corpus, int(self.rows[index])
        row = corpus.images[image]
        shown = corpus.picture(image)
        colour = shown if shown.ndim == 3 else np.repeat(shown[:, :, None], 3, axis=2)
        own = [n for n in corpus.of(image) if self.specks or not corpus.annotations[n]["flags"]]
        annotations = corpus.annotations[own]
        masks = np.stack([corpus.mask(n) for n in own]) if own else np.zeros((0, *shown.shape[:2]), bool)
        boxes = annotations["bbox"].astype(np.float32)
        boxes[:, 2:] += boxes[:, :2]
        return {
            "image": torch.from_numpy(np.ascontiguousarray(colour.transpose(2, 0, 1))),
            "masks": torch.from_numpy(masks),
            "boxes": torch.from_numpy(boxes),
            "labels": torch.from_numpy(annotations["category"].astype(np.int64)),
            "area": torch.from_numpy(annotations["area"].astype(np.int64)),
            "id": int(row["id"]),
            "key": corpus.key(image),
            "source": str(corpus.sources[row["source"]]["name"]),
            "group": corpus.group(image),
            "path": str(corpus.file(image)),
        }
