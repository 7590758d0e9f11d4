"""From a corpus to batches. What is drawn at a place of the sequence depends on (corpus, config, place) alone.

So neither the number of loader processes nor of training processes nor an interruption changes what is seen, and the
whole state of the sampler is one number.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from us43d.errors import TrainError, UnknownName, Us43dError, listed
from us43d.harmonize.corpus import SPLITS, Corpus
from us43d.machine import processors
from us43d.model import prompts
from us43d.model.network import LOWER_RIGHT, PADDING, POSITIVE, UPPER_LEFT
from us43d.model.predictor import MEAN, STD, fitted
from us43d.train.config import TrainConfig

__all__ = [
    "Batch", "CorpusDataset", "Draw", "Draws", "Order", "batches", "collate", "eligible", "normalise",
]  # fmt: skip

#: Kinds of chance, so that the order and the look of a draw are independent of each other.
_ORDER, _LOOK = 0, 1


class Draw(NamedTuple):
    """One image as drawn once. K instances, P = K × repeats prompts, S the network's input, M its low resolution.

    image: (S, S, 3) uint8 RGB, zero outside of `inner` (2,) = (rows, columns). targets: (K, M, M) uint8, the share of
    each low-resolution pixel that is covered, 255 for all. points, labels: (P, 2, 2), (P, 2) as `UltraSam.decode` takes
    them. target_of: (P,), the instance of each prompt.
    """

    image: Tensor
    inner: Tensor
    targets: Tensor
    points: Tensor
    labels: Tensor
    target_of: Tensor


class Batch(NamedTuple):
    """Draws put together. images: (B, S, S, 3). inner: (B, 2). image_of, target_of: (P,), of each prompt."""

    images: Tensor
    inner: Tensor
    targets: Tensor
    points: Tensor
    labels: Tensor
    image_of: Tensor
    target_of: Tensor

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(each.to(device, non_blocking=True) for each in self))


def normalise(images: Tensor, inner: Tensor) -> Tensor:
    """(B, S, S, 3) uint8 and (B, 2) (rows, columns) → (B, 3, S, S) float32, what `predict.normalised` gives."""
    side = images.shape[1]
    mean, std = _statistics(images.device)
    at = torch.arange(side, device=images.device)
    inside = (at < inner[:, :1])[:, :, None] & (at < inner[:, 1:])[:, None, :]
    return (((images - mean) / std) * inside[..., None]).permute(0, 3, 1, 2).contiguous()


@functools.cache
def _statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    """MEAN and STD on a device. Kept there: every copy from ordinary memory would make the host wait for a GPU."""
    return torch.tensor(MEAN, device=device), torch.tensor(STD, device=device)


# ------------------------------------------------------------------------------------------------------ what there is


def eligible(corpus: Corpus, config: TrainConfig, splits: Sequence[str]) -> NDArray[np.int64]:
    """Rows of `annotations` that may be drawn: of the splits and sources asked for, and large enough.

    Raises UnknownName for a source the corpus does not have, TrainError if nothing is left.
    """
    names = [source["name"] for source in corpus.sources]
    if unknown := [name for name in config.sources if name not in names]:
        raise UnknownName(f"The corpus has no source {listed(map(repr, unknown))}; it has {listed(names, 60)}.")
    of = corpus.annotations["image"]
    images = corpus.images
    kept = np.isin(images["split"], [SPLITS.index(split) for split in splits])
    if config.sources:
        kept &= np.isin(images["source"], [n for n, name in enumerate(names) if name in config.sources])
    pixels = images["height"].astype(np.int64) * images["width"]
    area = corpus.annotations["area"]
    found = np.flatnonzero(kept[of] & (area >= config.min_area) & (area >= config.min_share * pixels[of]))
    if len(found) == 0:
        which = f" of {listed(config.sources)}" if config.sources else ""
        raise TrainError(
            f"The corpus {corpus.path.name} has no annotation{which} in {listed(splits)} with min_area "
            f"{config.min_area} and min_share {config.min_share:g}.",
            next="us43d corpus --all",
        )
    return found


# -------------------------------------------------------------------------------------------------------------- order


class Order:
    """Which image is drawn at each place of an endless sequence.

    The images are in classes (one alone, or the sources, organs or structures), all drawn equally often; within a class
    every image comes once before any comes again.
    """

    def __init__(self, corpus: Corpus, config: TrainConfig, annotations: NDArray[np.int64]) -> None:
        """annotations: rows that may be drawn."""
        self.seed = config.seed
        of = corpus.annotations["image"][annotations].astype(np.int64)
        images = np.unique(of)
        self.names, self.classes = self._classes(corpus, config, annotations, of, images)
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
            return ids.tolist(), [np.unique(of[category == each]) for each in ids]
        field = "name" if config.balance == "source" else "organ"
        value = np.array([source[field] for source in corpus.sources])[corpus.images["source"][images]]
        names = np.unique(value)
        return names.tolist(), [images[value == each] for each in names]

    def __call__(self, place: int) -> tuple[Any, int]:
        """(class, row of `images`) at a place."""
        cycle, at = divmod(place, len(self.classes))
        number = int(self._chance(0, cycle).permutation(len(self.classes))[at]) if at or len(self.classes) > 1 else 0
        lap, at = divmod(cycle, self._length(number))
        return self.names[number], int(self._lap(number, lap)[at])

    def _length(self, number: int) -> int:
        """Draws of one lap; whole chunks where those are kept together."""
        count = len(self.classes[number])
        return count - count % self.chunk if self.chunk and count >= self.chunk else count

    def _lap(self, number: int, lap: int) -> NDArray[np.int64]:
        if self._laps.get(number, (-1, None))[0] != lap:
            rows = self._chance(1 + number, lap).permutation(self.classes[number])
            self._laps[number] = lap, self._alike(rows) if self.chunk else rows
        return self._laps[number][1]

    def _alike(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows put in chunks of wide images and of others, each as soon as it is full; the rest at the end."""
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


# -------------------------------------------------------------------------------------------------------------- draws


class Draws(Dataset[Draw | Us43dError]):
    """The endless sequence of draws. An image that cannot be used is given as its error, which a loader's process could
    not raise in a readable way."""

    def __init__(self, corpus: Corpus, config: TrainConfig, splits: Sequence[str] | None = None) -> None:
        """splits: those of the config if None. Raises UnknownName and TrainError as `eligible` does."""
        self.corpus, self.config = corpus, config
        self.annotations = eligible(corpus, config, splits or config.splits)
        self.order = Order(corpus, config, self.annotations)

    def __len__(self) -> int:
        return self.config.batch * self.config.steps

    def __getstate__(self) -> dict[str, Any]:
        # A memory map would be copied whole into a process that is started afresh.
        return self.__dict__ | {"corpus": (self.corpus.path, self.corpus.home)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"corpus": Corpus.open(*state["corpus"])}

    def __getitem__(self, place: int) -> Draw | Us43dError:
        try:
            return self.draw(place)
        except Us43dError as error:
            return error

    def draw(self, place: int) -> Draw:
        """The draw at a place. Raises TrainError for an image that cannot be used."""
        config = self.config
        rng = np.random.default_rng([config.seed, _LOOK, place])
        wanted, image = self.order(place)
        shown, masks = self._looked(image, wanted, rng)
        if rng.random() < config.mosaic * min(1, 2 * place / len(self)):
            others = rng.choice(self.order.classes[int(rng.integers(len(self.order.classes)))], 3)
            parts = [(shown, masks), *(self._looked(int(other), None, rng) for other in others)]
            shown, masks = _mosaic([parts[n] for n in rng.permutation(4)], config.model.image_size)
            masks = [masks[n] for n in rng.permutation(len(masks))[: config.instances]]
        size = fitted(shown.shape[:2], config.model.image_size)
        scale = np.array([size[1] / shown.shape[1], size[0] / shown.shape[0]])
        points, labels = zip(
            *(self._prompt(mask, scale, rng) for mask in masks for _ in range(config.repeats)), strict=True
        )
        return Draw(
            torch.from_numpy(_canvas(shown, size, config.model.image_size)),
            torch.tensor(size),
            torch.from_numpy(np.stack([self._target(mask, size) for mask in masks])),
            torch.from_numpy(np.stack(points).astype(np.float32)),
            torch.tensor(labels),
            torch.arange(len(masks)).repeat_interleave(config.repeats),
        )

    def _looked(
        self, image: int, wanted: Any, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], list[NDArray[np.bool_]]]:
        """The picture and at most so many of its instances, augmented."""
        config, corpus = self.config, self.corpus
        shown = corpus.picture(image)
        own = corpus.of(image)
        rows = self.annotations[slice(*np.searchsorted(self.annotations, (own.start, own.stop)))]
        rows = rng.permutation(rows)
        if config.balance == "structure":  # one of the structure the draw is for comes first
            rows = rows[np.argsort(corpus.annotations["category"][rows] != wanted, kind="stable")]
        rows = rows[: config.instances]
        masks = [corpus.mask(int(row)) for row in rows]
        if config.zoom:
            shown, masks = self._zoomed(shown, masks, rng)
        if rng.random() < config.flip:
            shown, masks = _flipped(shown), [_flipped(mask.view(np.uint8)).view(bool) for mask in masks]
        if config.contrast:
            gain, offset = math.exp(rng.normal(0, config.contrast)), 255 * rng.normal(0, config.contrast)
            table = np.clip(gain * np.arange(256) + offset, 0, 255).astype(np.uint8)
            shown = cv2.LUT(shown, table).astype(np.uint8, copy=False)
        return shown, masks

    def _zoomed(
        self, shown: NDArray[np.uint8], masks: list[NDArray[np.bool_]], rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], list[NDArray[np.bool_]]]:
        """A window of the picture, larger or smaller than it, with the first instance in view.

        An instance of which less than half, or less than min_area, is left is dropped; where none is left, the picture
        stays as it is.
        """
        factor = math.exp(rng.uniform(-self.config.zoom, self.config.zoom))
        x0, y0, x1, y1 = prompts.box_of(masks[0])
        height, width = shown.shape[:2]
        rows, columns = max(8, round(height / factor)), max(8, round(width / factor))
        top, left = _start(y0, y1, rows, height, rng), _start(x0, x1, columns, width, rng)
        cut = [_window(mask, top, left, rows, columns) for mask in masks]
        kept = [
            part
            for part, mask in zip(cut, masks, strict=True)
            if part.sum() >= max(self.config.min_area, mask.sum() / 2)
        ]
        return (_window(shown, top, left, rows, columns), kept) if kept else (shown, masks)

    def _prompt(
        self, mask: NDArray[np.bool_], scale: NDArray[np.float64], rng: np.random.Generator
    ) -> tuple[NDArray[np.float64], tuple[int, int]]:
        """Points (2, 2) of the network's input and their labels, as `predict.box_prompts` and `point_prompts` give."""
        if rng.random() < self.config.box_share:
            corners = prompts.box(mask, rng, self.config.box_jitter).reshape(2, 2)
            return corners * scale + 0.5, (UPPER_LEFT, LOWER_RIGHT)
        at = np.array(prompts.point(mask, rng))
        return np.stack([at * scale + 0.5, np.zeros(2)]), (POSITIVE, PADDING)

    def _target(self, mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.uint8]:
        """(M, M) uint8: how much of each low-resolution pixel the mask covers."""
        side, low = self.config.model.image_size, self.config.model.mask_size
        rows, columns = size
        how = cv2.INTER_AREA if rows < mask.shape[0] else cv2.INTER_LINEAR
        full = np.zeros((side, side), np.uint8)
        full[:rows, :columns] = cv2.resize(255 * mask.astype(np.uint8), (columns, rows), interpolation=how)
        small: NDArray[np.uint8] = cv2.resize(full, (low, low), interpolation=cv2.INTER_AREA).astype(np.uint8)
        return small


def _start(low: float, high: float, window: int, extent: int, rng: np.random.Generator) -> int:
    """Where a window begins along one axis so that low..high is in it, or it in low..high, and it leaves the picture
    no further than it must."""
    least, most = sorted((0, extent - window))
    first, last = (min(max(at, least), most) for at in sorted((high - window, low)))
    return round(rng.uniform(first, last))


def _window(array: NDArray[Any], top: int, left: int, rows: int, columns: int) -> NDArray[Any]:
    """A part of a picture, with zeros where it reaches beyond it."""
    out = np.zeros((rows, columns, *array.shape[2:]), array.dtype)
    y0, x0 = max(top, 0), max(left, 0)
    part = array[y0 : max(top + rows, 0), x0 : max(left + columns, 0)]
    out[y0 - top : y0 - top + part.shape[0], x0 - left : x0 - left + part.shape[1]] = part
    return out


def _mosaic(
    parts: list[tuple[NDArray[np.uint8], list[NDArray[np.bool_]]]], side: int
) -> tuple[NDArray[np.uint8], list[NDArray[np.bool_]]]:
    """Four pictures with their masks as one of side × side pixels, each in a quarter; masks that vanish are dropped."""
    whole = np.zeros((side, side, 3), np.uint8)
    half, masks = side // 2, []
    for quarter, (shown, own) in enumerate(parts):
        rows, columns = fitted(shown.shape[:2], half)
        top, left = half * (quarter // 2), half * (quarter % 2)
        part = np.s_[top : top + rows, left : left + columns]
        whole[part] = _coloured(cv2.resize(shown, (columns, rows), interpolation=cv2.INTER_AREA))
        for mask in own:
            moved = np.zeros((side, side), bool)
            moved[part] = cv2.resize(255 * mask.astype(np.uint8), (columns, rows), interpolation=cv2.INTER_AREA) >= 128
            masks += [moved] if moved.any() else []
    return whole, masks


def _canvas(shown: NDArray[np.uint8], size: tuple[int, int], side: int) -> NDArray[np.uint8]:
    """(side, side, 3): the picture resized as `predict.normalised` does, zeros right and below."""
    small = cv2.resize(shown, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    out = np.zeros((side, side, 3), np.uint8)
    out[: size[0], : size[1]] = _coloured(small)
    return out


def _coloured(shown: NDArray[Any]) -> NDArray[Any]:
    return cv2.cvtColor(shown, cv2.COLOR_GRAY2RGB) if shown.ndim == 2 else shown


def _flipped(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return cv2.flip(array, 1).astype(np.uint8, copy=False)


# ------------------------------------------------------------------------------------------------------------ loading


def collate(draws: Sequence[Draw | Us43dError]) -> Batch | Us43dError:
    """Draws → batch; the first error if there is one."""
    good = []
    for each in draws:
        if isinstance(each, Us43dError):
            return each
        good.append(each)
    counts = [len(each.labels) for each in good]
    first = np.cumsum([0, *(len(each.targets) for each in good[:-1])])
    return Batch(
        torch.stack([each.image for each in good]),
        torch.stack([each.inner for each in good]),
        torch.cat([each.targets for each in good]),
        torch.cat([each.points for each in good]),
        torch.cat([each.labels for each in good]),
        torch.arange(len(good)).repeat_interleave(torch.tensor(counts)),
        torch.cat([each.target_of + int(start) for each, start in zip(good, first, strict=True)]),
    )


def batches(draws: Draws, first: int, rank: int, world: int, *, pin: bool = False) -> Iterator[Batch]:
    """The micro-batches one process sees from step `first` on, to the end of the run.

    A step's draws go to the processes by whole micro-batches in turn, so that with more processes and less accumulation
    a step sees the same. Raises the error of an image that cannot be used.
    """
    config = draws.config
    part = config.micro_batch
    places = [
        [*range(step * config.batch + at, step * config.batch + at + part)]
        for step in range(first, config.steps)
        for at in range(rank * part, config.batch, world * part)
    ]
    loader = DataLoader(
        draws,
        batch_sampler=places,
        collate_fn=collate,
        num_workers=min(config.workers, processors()),  # more only get in each other's way
        pin_memory=pin,
        worker_init_fn=_quiet,
    )
    for batch in loader:
        if isinstance(batch, Us43dError):
            raise batch
        yield batch


def _quiet(worker: int) -> None:
    """A signal to the whole process group is the training process's affair."""
    import signal

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)


# ---------------------------------------------------------------------------------------------------------- for users


class CorpusDataset(Dataset[dict[str, Any]]):
    """The images of a corpus as a plain torch Dataset, for models of one's own.

    >>> dataset = CorpusDataset("~/.us43d/corpora/us43d", split="train")  # doctest: +SKIP

    An item has image (3, h, w) uint8 RGB, masks (K, h, w) bool, boxes (K, 4) float32 in corners, labels (K,) int64
    (category ids, see `corpus.categories`), area (K,) int64, and id, key, source, group and path. Images come in their
    own size; a picture without annotation has K = 0.
    """

    def __init__(
        self, corpus: Corpus | str | Path, split: str | None = None, sources: Sequence[str] = (), specks: bool = False
    ) -> None:
        """corpus: an opened one or its folder. split: train, val or test; the three if None. sources: names, all where
        empty. specks: keep the annotations the build flagged as specks."""
        self.corpus = corpus if isinstance(corpus, Corpus) else Corpus.open(Path(corpus).expanduser())
        names = [source["name"] for source in self.corpus.sources]
        if unknown := [name for name in sources if name not in names]:
            raise UnknownName(f"The corpus has no source {listed(map(repr, unknown))}; it has {listed(names, 60)}.")
        if split is not None and split not in SPLITS:
            raise UnknownName(f"{split!r} is no split: one of {', '.join(SPLITS)}.")
        images = self.corpus.images
        kept = images["split"] == SPLITS.index(split) if split else images["split"] < SPLITS.index("excluded")
        if sources:
            kept &= np.isin(images["source"], [names.index(name) for name in sources])
        self.rows = np.flatnonzero(kept)
        self.specks = specks

    def __len__(self) -> int:
        return len(self.rows)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"corpus": (self.corpus.path, self.corpus.home)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"corpus": Corpus.open(*state["corpus"])}

    def __getitem__(self, index: int) -> dict[str, Any]:
        corpus, image = self.corpus, int(self.rows[index])
        row = corpus.images[image]
        shown = corpus.picture(image)
        colour = shown if shown.ndim == 3 else np.repeat(shown[:, :, None], 3, axis=2)
        own = [n for n in corpus.of(image) if self.specks or not corpus.annotations[n]["flags"]]
        found = corpus.annotations[own]
        masks = np.stack([corpus.mask(n) for n in own]) if own else np.zeros((0, *shown.shape[:2]), bool)
        boxes = found["bbox"].astype(np.float32)
        boxes[:, 2:] += boxes[:, :2]
        return {
            "image": torch.from_numpy(np.ascontiguousarray(colour.transpose(2, 0, 1))),
            "masks": torch.from_numpy(masks),
            "boxes": torch.from_numpy(boxes),
            "labels": torch.from_numpy(found["category"].astype(np.int64)),
            "area": torch.from_numpy(found["area"].astype(np.int64)),
            "id": int(row["id"]),
            "key": corpus.key(image),
            "source": str(corpus.sources[row["source"]]["name"]),
            "group": corpus.group(image),
            "path": str(corpus.file(image)),
        }
