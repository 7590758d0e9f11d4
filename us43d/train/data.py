"""Draw batches from a corpus. A draw depends only on corpus, configuration and its place in the sequence.

Therefore neither the number of loader processes, nor the number of training processes, nor an interruption changes the
draws, and the state of the sampler is one number.
"""

import functools
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

from us43d.errors import Us43dError
from us43d.harmonize.corpus import Corpus
from us43d.machine import processors
from us43d.model import look, prompts
from us43d.model.config import MEAN, STD
from us43d.model.geometry import fitted
from us43d.model.network import LOWER_RIGHT, PADDING, POSITIVE, STRUCTURE, UPPER_LEFT
from us43d.train import mistakes
from us43d.train.augment import View, augmented, coloured, mosaic
from us43d.train.config import TrainConfig
from us43d.train.dataset import Reopened
from us43d.train.order import Order, absent_structures, eligible, without

__all__ = ["Batch", "Draw", "Draws", "OfCorpus", "batches", "collate", "normalise", "normalise_crops"]

D = TypeVar("D")

#: Stream of the random generator for augmentation and prompts; that of the order is another (us43d/train/order.py).
_LOOK = 1


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


def normalise(images: Tensor, inner: Tensor) -> Tensor:
    """Normalize images for the network, as `us43d.model.geometry.normalised`.

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
        self.absent = absent_structures(corpus) if config.structure_prompts else []

    def draw(self, place: int) -> Draw:
        """Make the draw at a place. Raises TrainError for an unusable image."""
        config = self.config
        rng = np.random.default_rng([config.seed, _LOOK, place])
        wanted, image = self.order(place)
        view = self._view(image, wanted, rng)
        if rng.random() < config.mosaic * min(1, 2 * place / len(self)):
            others = rng.choice(self.order.classes[int(rng.integers(len(self.order.classes)))], 3)
            parts = [view, *(self._view(int(other), None, rng) for other in others)]
            pixels, masks = mosaic([parts[n] for n in rng.permutation(4)], config.model.image_size)
            view = View(pixels, [masks[n] for n in rng.permutation(len(masks))[: config.instances]], {})
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

    def _view(self, image: int, wanted: Any, rng: np.random.Generator) -> View:
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
        return augmented(View(pixels, masks, structures), config, rng)

    def _prompt(
        self,
        pixels: NDArray[np.uint8],
        mask: NDArray[np.bool_],
        target: int,
        scale: NDArray[np.float64],
        rng: np.random.Generator,
    ) -> _Prompt:
        """Draw a box prompt or points for an instance, in the coordinates of `geometry.box_prompts`."""
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
        self, view: View, image: int, targets: list[NDArray[np.bool_]], rng: np.random.Generator
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
        self, view: View, targets: list[NDArray[np.bool_]], prompt_list: list[_Prompt], side: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
        """Make the crops of the second look, their targets, and the masks that clicks correct."""
        crops = np.zeros((len(prompt_list), side, side, 3), np.uint8)
        covered, wrong = np.zeros((2, len(prompt_list), side, side), np.uint8)
        if side:
            for n, prompt in enumerate(prompt_list):
                if prompt.present:
                    crops[n] = coloured(look.crop(view.pixels, prompt.window, side))
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


def _canvas(shown: NDArray[np.uint8], size: tuple[int, int], side: int) -> NDArray[np.uint8]:
    """Resize an image as `geometry.normalised`, into (side, side, 3) with zeros to the right and below."""
    small = cv2.resize(shown, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    out = np.zeros((side, side, 3), np.uint8)
    out[: size[0], : size[1]] = coloured(small)
    return out


def _shaken(box: NDArray[np.float64], jitter: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Imitate the box of a first mask: each side is moved at random, sometimes far outwards."""
    low, high = box.reshape(2, 2)
    sides = np.maximum(high - low, 1)
    moved = np.stack([low, high]) + rng.normal(0, jitter, (2, 2)) * sides
    if rng.random() < 0.15:
        moved += np.array([[-1.0], [1.0]]) * sides * rng.uniform(0, 0.5, (2, 2))
    return np.concatenate([moved.min(0), moved.max(0)])


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
