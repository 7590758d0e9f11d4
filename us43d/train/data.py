"""Draw batches from a corpus. A draw depends only on corpus, configuration and its place in the sequence.

Therefore neither the number of loader processes, nor the number of training processes, nor an interruption changes the
draws, and the state of the sampler is one number.
"""

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from us43d.errors import TrainError, Us43dError, listed
from us43d.harmonize.corpus import Corpus
from us43d.machine import processors
from us43d.model import look, prompts
from us43d.model.config import MEAN, STD
from us43d.model.network import LOWER_RIGHT, PADDING, POSITIVE, STRUCTURE, UPPER_LEFT
from us43d.model.predictor import fitted
from us43d.train import mistakes
from us43d.train.config import TrainConfig
from us43d.train.dataset import Reopened

__all__ = [
    "Batch", "Draw", "Draws", "OfCorpus", "Order", "batches", "collate", "eligible", "normalise",
    "normalise_crops", "without",
]  # fmt: skip

D = TypeVar("D")

#: Streams of the random generator: the order of draws and their augmentation are independent.
_ORDER, _LOOK = 0, 1


#: With a balance, a class of images is drawn this many times as often as the images without annotations.
_SHARE = 3


class Draw(NamedTuple):
    """One draw: an augmented image with targets and prompts.

    K targets, P prompts of N points, S the side of the network's input, M that of the low-resolution masks, s that of
    the second look (0 for a model without one).

    Attributes:
        image: (S, S, 3) uint8 RGB, zero outside of `inner`.
        inner: (2,), rows and columns of the image in it.
        targets: (K, M, M) uint8, covered fraction of each low-resolution pixel, 255 for all.
        points: (P, N, 2), (x, y) in pixels of the network's input.
        labels: (P, N), as in `UltraSam.decode`.
        target_of: (P,), the target of each prompt.
        present: (P,) bool, whether the named structure is in the image; true for other prompts.
        clicks: (P,) int, number of corrective clicks in the second pass.
        crops: (P, s, s, 3) uint8 RGB, crops of the second look.
        crop_targets: (P, s, s) uint8, their targets, 255 for covered pixels.
        windows: (P, 4), their windows (x0, y0, x1, y1) in fractions of the frame.
        mistaken: (P, s, s) uint8, the mask that clicks correct instead of the model's own, 255 for covered pixels; all
            0 where the model's own is corrected.
    """

    image: Tensor
    inner: Tensor
    targets: Tensor
    points: Tensor
    labels: Tensor
    target_of: Tensor
    present: Tensor
    clicks: Tensor
    crops: Tensor
    crop_targets: Tensor
    windows: Tensor
    mistaken: Tensor


class Batch(NamedTuple):
    """A batch of B draws.

    Attributes:
        images: (B, S, S, 3) uint8 RGB.
        inner: (B, 2), rows and columns of each image.
        targets: (K, M, M) uint8, of all draws.
        points: (P, N, 2), (x, y) in pixels of the network's input.
        labels: (P, N), as in `UltraSam.decode`.
        image_of: (P,), the image of each prompt.
        target_of: (P,), the target of each prompt.
        present: As in `Draw`.
        clicks: As in `Draw`.
        crops: As in `Draw`.
        crop_targets: As in `Draw`.
        windows: As in `Draw`.
        mistaken: As in `Draw`.
    """

    images: Tensor
    inner: Tensor
    targets: Tensor
    points: Tensor
    labels: Tensor
    image_of: Tensor
    target_of: Tensor
    present: Tensor
    clicks: Tensor
    crops: Tensor
    crop_targets: Tensor
    windows: Tensor
    mistaken: Tensor

    @classmethod
    def without_look(
        cls, images: Tensor, inner: Tensor, targets: Tensor, points: Tensor, labels: Tensor, of: Tensor
    ) -> "Batch":
        """Make a batch for a model without a second look, with one target for each prompt and no corrective clicks.

        Args:
            images: As in `Batch`, like the next four.
            inner: As above.
            targets: (P, M, M).
            points: As above.
            labels: As above.
            of: (P,), the image of each prompt.

        Returns:
            The batch.
        """
        count = len(labels)
        crops = torch.zeros((count, 0, 0), dtype=torch.uint8)
        return cls(
            images, inner, targets, points, labels, of, torch.arange(count), torch.ones(count, dtype=torch.bool),
            torch.zeros(count, dtype=torch.int64), crops[..., None].expand(-1, -1, -1, 3), crops,
            torch.zeros((count, 4)), crops,
        )  # fmt: skip

    def to(self, device: torch.device) -> "Batch":
        """Copy the tensors to a device."""
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self))


class _Prompt(NamedTuple):
    """A prompt: points (N, 2) in pixels of the network's input, labels (N,), target, window of the second look.

    mistaken: (h, w) bool, the mask that clicks correct; None for the model's own.
    """

    points: NDArray[np.float64]
    labels: tuple[int, ...]
    target: int
    present: bool
    clicks: int
    window: NDArray[np.float64]
    mistaken: NDArray[np.bool_] | None = None


class _View(NamedTuple):
    """An augmented image: pixels, masks of instances, and one mask per structure."""

    pixels: NDArray[np.uint8]
    masks: list[NDArray[np.bool_]]
    structures: dict[int, NDArray[np.bool_]]


def normalise(images: Tensor, inner: Tensor) -> Tensor:
    """Normalize images for the network, as `us43d.model.predictor.normalised`.

    Args:
        images: (B, S, S, 3) uint8 RGB.
        inner: (B, 2), rows and columns of each image; beyond them, the result is zero.

    Returns:
        (B, 3, S, S) float32.
    """
    side = images.shape[1]
    at = torch.arange(side, device=images.device)
    inside = (at < inner[:, :1])[:, :, None] & (at < inner[:, 1:])[:, None, :]
    return (_standard(images) * inside[..., None]).permute(0, 3, 1, 2).contiguous()


def normalise_crops(crops: Tensor) -> Tensor:
    """Normalize crops (P, s, s, 3) uint8 RGB to (P, 3, s, s) float32, by mean and standard deviation."""
    return _standard(crops).permute(0, 3, 1, 2)


def _standard(pixels: Tensor) -> Tensor:
    mean, std = _statistics(pixels.device)
    return (pixels - mean) / std


@functools.cache
def _statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    """Keep MEAN and STD on a device: copying them from pageable memory would make the host wait for a GPU."""
    return torch.tensor(MEAN, device=device), torch.tensor(STD, device=device)


# ------------------------------------------------------------------------------------------------------ what there is


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


def _absent(corpus: Corpus) -> list[list[int]]:
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


# -------------------------------------------------------------------------------------------------------------- order


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


# -------------------------------------------------------------------------------------------------------------- draws


class OfCorpus(Reopened[D | Us43dError], ABC):
    """Endless sequence of draws from a corpus.

    An unusable image is returned as its error, which a loader process cannot raise in a readable way.
    """

    def __init__(self, corpus: Corpus, config: TrainConfig) -> None:
        self.corpus, self.config = corpus, config

    def __len__(self) -> int:
        return self.config.batch * self.config.steps

    def __getitem__(self, place: int) -> D | Us43dError:
        try:
            return self.draw(place)
        except Us43dError as error:
            return error

    @abstractmethod
    def draw(self, place: int) -> D:
        """Make the draw at a place. Raises Us43dError for an unusable image."""


class Draws(OfCorpus[Draw]):
    """Draws of images with prompts.

    Args:
        corpus: The corpus.
        config: Configuration of the run.
        splits: Splits to draw from; those of the configuration if None.

    Raises:
        UnknownName: A source is not in the corpus.
        TrainError: No annotation to draw.
    """

    def __init__(self, corpus: Corpus, config: TrainConfig, splits: Sequence[str] | None = None) -> None:
        super().__init__(corpus, config)
        self.annotations = eligible(corpus, config, splits or config.splits)
        self.empty = without(corpus, config, splits or config.splits) if config.structure_prompts else None
        self.order = Order(corpus, config, self.annotations, self.empty)
        self.absent = _absent(corpus) if config.structure_prompts else []

    def draw(self, place: int) -> Draw:
        """Make the draw at a place. Raises TrainError for an unusable image."""
        config = self.config
        rng = np.random.default_rng([config.seed, _LOOK, place])
        wanted, image = self.order(place)
        view = self._view(image, wanted, rng)
        if rng.random() < config.mosaic * min(1, 2 * place / len(self)):
            others = rng.choice(self.order.classes[int(rng.integers(len(self.order.classes)))], 3)
            parts = [view, *(self._view(int(other), None, rng) for other in others)]
            pixels, masks = _mosaic([parts[n] for n in rng.permutation(4)], config.model.image_size)
            view = _View(pixels, [masks[n] for n in rng.permutation(len(masks))[: config.instances]], {})
        size = fitted(view.pixels.shape[:2], config.model.image_size, config.model.stretch)
        scale = np.array([size[1] / view.pixels.shape[1], size[0] / view.pixels.shape[0]])
        targets = [*view.masks]
        prompt_list = [
            self._prompt(view.pixels, targets[n], n, scale, rng)
            for n in range(len(targets))
            for _ in range(config.repeats)
        ]
        for _ in range(config.structure_prompts):
            prompt_list += self._structure_prompt(view, image, targets, rng)
        width = max((len(prompt.labels) for prompt in prompt_list), default=2)
        points = np.zeros((len(prompt_list), width, 2), np.float32)
        labels = np.full((len(prompt_list), width), PADDING, np.int64)
        for n, prompt in enumerate(prompt_list):
            points[n, : len(prompt.labels)], labels[n, : len(prompt.labels)] = prompt.points, prompt.labels
        side = config.model.look_size if config.model.look else 0
        crops, crop_targets, wrong = self._crops(view, targets, prompt_list, side)
        low = config.model.mask_size
        return Draw(
            torch.from_numpy(_canvas(view.pixels, size, config.model.image_size)),
            torch.tensor(size),
            torch.from_numpy(np.stack([self._target(m, size) for m in targets]))
            if targets else torch.zeros((0, low, low), dtype=torch.uint8),
            torch.from_numpy(points),
            torch.from_numpy(labels),
            torch.tensor([prompt.target for prompt in prompt_list], dtype=torch.int64),
            torch.tensor([prompt.present for prompt in prompt_list], dtype=torch.bool),
            torch.tensor([prompt.clicks for prompt in prompt_list], dtype=torch.int64),
            torch.from_numpy(crops),
            torch.from_numpy(crop_targets),
            torch.from_numpy(np.array([prompt.window for prompt in prompt_list], np.float32).reshape(-1, 4)),
            torch.from_numpy(wrong),
        )  # fmt: skip

    def _view(self, image: int, wanted: Any, rng: np.random.Generator) -> _View:
        """Read and augment an image with at most `instances` of its instances."""
        config, corpus = self.config, self.corpus
        pixels = corpus.picture(image)
        own = corpus.of(image)
        rows = self.annotations[slice(*np.searchsorted(self.annotations, (own.start, own.stop)))]
        rows = rng.permutation(rows)
        if config.balance == "structure":  # an instance of the drawn structure comes first
            rows = rows[np.argsort(corpus.annotations["category"][rows] != wanted, kind="stable")]
        masks = [corpus.mask(int(row)) for row in rows[: config.instances]]
        structures: dict[int, NDArray[np.bool_]] = {}
        if config.structure_prompts:
            for row in own:  # any size: with a speck, the structure is not absent
                category = int(corpus.annotations["category"][row])
                mask = corpus.mask(row)
                structures[category] = structures[category] | mask if category in structures else mask
        view = _View(pixels, masks, structures)
        if config.turn:
            view = self._turned(view, rng)
        if config.zoom:
            view = self._zoomed(view, rng)
        pixels, masks, structures = view
        if rng.random() < config.flip:
            pixels, masks = _flipped(pixels), [_flipped(mask.view(np.uint8)).view(bool) for mask in masks]
            structures = {key: _flipped(mask.view(np.uint8)).view(bool) for key, mask in structures.items()}
        if config.contrast:
            gain, offset = math.exp(rng.normal(0, config.contrast)), 255 * rng.normal(0, config.contrast)
            gamma = math.exp(rng.normal(0, config.quality)) if config.quality else 1.0
            table = np.clip(gain * 255 * (np.arange(256) / 255) ** gamma + offset, 0, 255).astype(np.uint8)
            pixels = cv2.LUT(pixels, table).astype(np.uint8, copy=False)
        if config.quality:
            pixels = _degraded(pixels, config.quality, rng)
        return _View(pixels, masks, structures)

    def _turned(self, view: _View, rng: np.random.Generator) -> _View:
        """The image rotated about its centre, black where nothing was.

        Where less than half of an instance, or less than min_area, would be left, the image stays as it is.
        """
        height, width = view.pixels.shape[:2]
        matrix = cv2.getRotationMatrix2D(
            ((width - 1) / 2, (height - 1) / 2), rng.uniform(-self.config.turn, self.config.turn), 1.0
        )

        def turned(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
            return np.asarray(cv2.warpAffine(255 * mask.astype(np.uint8), matrix, (width, height)) >= 128)

        moved = [turned(mask) for mask in view.masks]
        if any(
            new.sum() < max(self.config.min_area, old.sum() / 2) for new, old in zip(moved, view.masks, strict=True)
        ):
            return view
        whole = np.asarray(cv2.warpAffine(view.pixels, matrix, (width, height)), np.uint8)
        return _View(whole, moved, {key: turned(mask) for key, mask in view.structures.items()})

    def _zoomed(self, view: _View, rng: np.random.Generator) -> _View:
        """Crop or extend the image to a window that shows the first instance.

        Instances of which less than half, or less than min_area, remains are excluded; if none remains, the image is
        not changed.
        """
        factor = math.exp(rng.uniform(-self.config.zoom, self.config.zoom))
        (height, width), masks = view.pixels.shape[:2], view.masks
        x0, y0, x1, y1 = prompts.box_of(masks[0]) if masks else (0, 0, width, height)
        rows, columns = max(8, round(height / factor)), max(8, round(width / factor))
        top, left = _start(y0, y1, rows, height, rng), _start(x0, x1, columns, width, rng)
        cut = [_window(mask, top, left, rows, columns) for mask in masks]
        kept = [
            crop
            for crop, mask in zip(cut, masks, strict=True)
            if crop.sum() >= max(self.config.min_area, mask.sum() / 2)
        ]
        if masks and not kept:
            return view
        seen = {key: _window(mask, top, left, rows, columns) for key, mask in view.structures.items()}
        return _View(_window(view.pixels, top, left, rows, columns), kept, seen)

    def _prompt(
        self,
        pixels: NDArray[np.uint8],
        mask: NDArray[np.bool_],
        target: int,
        scale: NDArray[np.float64],
        rng: np.random.Generator,
    ) -> _Prompt:
        """Draw a box prompt or points for an instance, in the coordinates of `predictor.box_prompts`."""
        config = self.config
        exact = prompts.box_of(mask)
        if rng.random() < config.box_share:
            box = prompts.jittered(exact, mask.shape, rng, config.box_jitter)
            points, labels = [*box.reshape(2, 2)], [UPPER_LEFT, LOWER_RIGHT]
            window = look.window(box, mask.shape)
        else:
            points, labels = [np.array(prompts.point(mask, rng))], [POSITIVE]
            window = look.window(_shaken(exact, config.look_jitter, rng), mask.shape)
        if rng.random() < config.extra_points:
            for _ in range(int(rng.integers(1, 3))):
                inside = bool(rng.random() < 0.5)
                at = prompts.point(mask, rng) if inside else prompts.outside(mask, rng)
                if at is not None:
                    points.append(np.array(at))
                    labels.append(int(inside))
        if UPPER_LEFT not in labels:
            points.append(np.zeros(2))
            labels.append(PADDING)
        clicks = int(rng.integers(1, config.clicks + 1)) if config.clicks and rng.random() < 0.5 else 0
        wrong = None
        if clicks and UPPER_LEFT not in labels and config.mistakes and rng.random() < config.mistakes:
            wrong = mistakes.mistaken(pixels, mask, rng)
            if rng.random() < 0.5:  # in prediction the window is that of the model's mask, right or wrong
                both = _shaken(prompts.box_of(mask | wrong), config.look_jitter, rng)
                window = look.window(both, mask.shape)
        return _Prompt(np.stack(points) * scale + 0.5, tuple(labels), target, True, clicks, window, wrong)

    def _structure_prompt(
        self, view: _View, image: int, targets: list[NDArray[np.bool_]], rng: np.random.Generator
    ) -> list[_Prompt]:
        """Draw a prompt by name, half of them of an absent structure; its mask is appended to the targets."""
        present = {key: mask for key, mask in view.structures.items() if mask.sum() >= self.config.min_area}
        absent = [key for key in self.absent[self.corpus.images["source"][image]] if key not in view.structures]
        if present and (not absent or rng.random() < 0.5):
            chosen = int(rng.choice(sorted(present)))
            mask = present[chosen]
            window = look.window(_shaken(prompts.box_of(mask), self.config.look_jitter, rng), mask.shape)
        elif absent:
            chosen = int(rng.choice(absent))
            mask = np.zeros(view.pixels.shape[:2], bool)
            window = np.array([0.0, 0.0, 1.0, 1.0])
        else:
            return []
        targets.append(mask)
        return [_Prompt(np.zeros((1, 2)), (STRUCTURE + chosen,), len(targets) - 1, chosen in present, 0, window)]

    def _crops(
        self, view: _View, targets: list[NDArray[np.bool_]], prompt_list: list[_Prompt], side: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
        """Make the crops of the second look, their targets, and the masks that clicks correct."""
        crops = np.zeros((len(prompt_list), side, side, 3), np.uint8)
        covered, wrong = np.zeros((2, len(prompt_list), side, side), np.uint8)
        if side:
            for n, prompt in enumerate(prompt_list):
                if prompt.present:
                    crops[n] = _coloured(look.crop(view.pixels, prompt.window, side))
                    covered[n] = look.crop(255 * targets[prompt.target].astype(np.uint8), prompt.window, side)
                    if prompt.mistaken is not None:
                        wrong[n] = look.crop(255 * prompt.mistaken.astype(np.uint8), prompt.window, side)
        return crops, covered, wrong

    def _target(self, mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.uint8]:
        """Compute the covered fraction of each low-resolution pixel, (M, M) uint8."""
        side, low = self.config.model.image_size, self.config.model.mask_size
        rows, columns = size
        how = cv2.INTER_AREA if rows < mask.shape[0] else cv2.INTER_LINEAR
        full = np.zeros((side, side), np.uint8)
        full[:rows, :columns] = cv2.resize(255 * mask.astype(np.uint8), (columns, rows), interpolation=how)
        small: NDArray[np.uint8] = cv2.resize(full, (low, low), interpolation=cv2.INTER_AREA).astype(np.uint8)
        return small


def _start(low: float, high: float, window: int, extent: int, rng: np.random.Generator) -> int:
    """Draw the start of a window along one axis: low..high is inside it, or it is inside low..high.

    The window reaches beyond the image no further than necessary.
    """
    least, most = sorted((0, extent - window))
    first, last = (min(max(at, least), most) for at in sorted((high - window, low)))
    return round(rng.uniform(first, last))


def _window(array: NDArray[Any], top: int, left: int, rows: int, columns: int) -> NDArray[Any]:
    """Crop an image; zeros beyond its border."""
    out = np.zeros((rows, columns, *array.shape[2:]), array.dtype)
    y0, x0 = max(top, 0), max(left, 0)
    inside = array[y0 : max(top + rows, 0), x0 : max(left + columns, 0)]
    out[y0 - top : y0 - top + inside.shape[0], x0 - left : x0 - left + inside.shape[1]] = inside
    return out


def _mosaic(parts: list[_View], side: int) -> tuple[NDArray[np.uint8], list[NDArray[np.bool_]]]:
    """Combine four images with their masks into one of side × side pixels; empty masks are excluded."""
    whole = np.zeros((side, side, 3), np.uint8)
    half, masks = side // 2, []
    for quarter, (shown, own, _) in enumerate(parts):
        rows, columns = fitted(shown.shape[:2], half)
        top, left = half * (quarter // 2), half * (quarter % 2)
        region = np.s_[top : top + rows, left : left + columns]
        whole[region] = _coloured(cv2.resize(shown, (columns, rows), interpolation=cv2.INTER_AREA))
        for mask in own:
            moved = np.zeros((side, side), bool)
            moved[region] = (
                cv2.resize(255 * mask.astype(np.uint8), (columns, rows), interpolation=cv2.INTER_AREA) >= 128
            )
            masks += [moved] if moved.any() else []
    return whole, masks


def _canvas(shown: NDArray[np.uint8], size: tuple[int, int], side: int) -> NDArray[np.uint8]:
    """Resize an image as `predictor.normalised`, into (side, side, 3) with zeros to the right and below."""
    small = cv2.resize(shown, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    out = np.zeros((side, side, 3), np.uint8)
    out[: size[0], : size[1]] = _coloured(small)
    return out


def _coloured(shown: NDArray[Any]) -> NDArray[Any]:
    return cv2.cvtColor(shown, cv2.COLOR_GRAY2RGB) if shown.ndim == 2 else shown


def _shaken(box: NDArray[np.float64], jitter: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Imitate the box of a first mask: each side is moved at random, sometimes far outwards."""
    low, high = box.reshape(2, 2)
    sides = np.maximum(high - low, 1)
    moved = np.stack([low, high]) + rng.normal(0, jitter, (2, 2)) * sides
    if rng.random() < 0.15:
        moved += np.array([[-1.0], [1.0]]) * sides * rng.uniform(0, 0.5, (2, 2))
    return np.concatenate([moved.min(0), moved.max(0)])


def _degraded(pixels: NDArray[np.uint8], chance: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Blur an image and add multiplicative noise of random grain, each with the given probability."""
    if rng.random() < chance:
        pixels = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.4, 1.6)).astype(np.uint8, copy=False)
    if rng.random() < chance:
        grain = int(rng.integers(1, 4))
        shape = tuple(-(-length // grain) for length in pixels.shape[:2])
        noise = 1 + rng.normal(0, rng.uniform(0.03, 0.2), shape).astype(np.float32)
        grown = cv2.resize(noise, pixels.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        pixels = np.clip(pixels * (grown if pixels.ndim == 2 else grown[..., None]), 0, 255).astype(np.uint8)
    return pixels


def _flipped(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return cv2.flip(array, 1).astype(np.uint8, copy=False)


# ------------------------------------------------------------------------------------------------------------ loading


def collate(draws: Sequence[Draw | Us43dError]) -> Batch | Us43dError:
    """Combine draws into a batch; return the first error if there is one."""
    good = []
    for draw in draws:
        if isinstance(draw, Us43dError):
            return draw
        good.append(draw)
    counts = [len(draw.labels) for draw in good]
    first = np.cumsum([0, *(len(draw.targets) for draw in good[:-1])])
    width = max(draw.labels.shape[1] for draw in good)
    return Batch(
        torch.stack([draw.image for draw in good]),
        torch.stack([draw.inner for draw in good]),
        torch.cat([draw.targets for draw in good]),
        torch.cat([F.pad(draw.points, (0, 0, 0, width - draw.points.shape[1])) for draw in good]),
        torch.cat([F.pad(draw.labels, (0, width - draw.labels.shape[1]), value=PADDING) for draw in good]),
        torch.arange(len(good)).repeat_interleave(torch.tensor(counts)),
        torch.cat([draw.target_of + int(start) for draw, start in zip(good, first, strict=True)]),
        *(torch.cat([getattr(draw, name) for draw in good]) for name in Draw._fields[6:]),
    )


def batches(
    draws: Any,
    first: int,
    rank: int,
    world: int,
    *,
    together: Callable[[Sequence[Any]], Any] = collate,
    pin: bool = False,
) -> Iterator[Any]:
    """Yield the micro-batches of one process, from a step to the end of the run.

    Complete micro-batches of a step are distributed over the processes in turn, so that a step has the same draws with
    more processes and less accumulation.

    Args:
        draws: `Draws`, or another endless sequence with a `config`.
        first: Step to start from.
        rank: Number of the process, from 0.
        world: Number of processes.
        together: Combines draws into a batch.
        pin: Use pinned memory, for a GPU.

    Yields:
        Batches.

    Raises:
        Us43dError: An image is unusable.
    """
    config = draws.config
    size = config.micro_batch
    places = [
        [*range(step * config.batch + at, step * config.batch + at + size)]
        for step in range(first, config.steps)
        for at in range(rank * size, config.batch, world * size)
    ]
    loader = DataLoader(
        draws,
        batch_sampler=places,
        collate_fn=together,
        num_workers=min(config.workers, processors()),  # more would compete for the processors
        pin_memory=pin,
        worker_init_fn=_quiet,
    )
    for batch in loader:
        if isinstance(batch, Us43dError):
            raise batch
        yield batch


def _quiet(worker: int) -> None:
    """Ignore signals to the process group; the training process handles them."""
    import signal

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
