"""Shared by the tasks without prompts: order of draws, augmentation, labels of images, weights on disk."""

import json
import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor, nn
from torch.nn.utils import parametrize

from us43d import atomic
from us43d.errors import TrainError, Us43dError, WeightsError, listed
from us43d.harmonize.corpus import SPECK, Corpus
from us43d.model import lora, weights
from us43d.model.geometry import fitted
from us43d.model.network import Features, ModelConfig, UltraSam
from us43d.train.config import InstanceHead, Network, Task, TrainConfig, faults
from us43d.train.data import OfCorpus

__all__ = [
    "Draws", "ImageTask", "Laps", "TaskRecord", "annotated", "augmented", "backbone", "canvas", "chosen", "encode",
    "features", "fit", "held_out", "labels", "mean_masks", "merged", "nothing_to_draw", "read", "save",
    "starting",
]  # fmt: skip

D = TypeVar("D")


class TaskRecord(BaseModel):
    """What config.json says of a task: its name, the network, and what it predicts.

    Attributes:
        classes: Names of the classes or structures, in the order of the network's outputs.
        categories: (taxonomy id, name) of the structures of `instances`, in the order of `classes`.
    """

    model_config = ConfigDict(frozen=True)
    name: Task
    model: ModelConfig
    network: Network = "encoder"
    pool: Literal["mean", "levels"] = "mean"
    context: float = Field(default=0.0, ge=0, le=10)
    target: str = "diagnosis"
    classes: list[str] = []
    categories: list[tuple[int, str]] = []
    head: InstanceHead = InstanceHead()

    @model_validator(mode="after")
    def _complete(self) -> "TaskRecord":
        if self.name not in ("promptable", "box-unet") and len(set(self.classes)) < max(len(self.classes), 1):
            raise ValueError(f"the classes {self.classes} are empty or repeated")
        if self.name == "instances" and [name for _, name in self.categories] != self.classes:
            raise ValueError(f"the categories {self.categories} are not the classes {self.classes}")
        return self


Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
#: Tags with a diagnosis, the most reliable first.
_DIAGNOSES = ("pathology", "diagnosis", "label")


# ------------------------------------------------------------------------------------------------------- what there is


def chosen(corpus: Corpus, config: TrainConfig, splits: Sequence[str]) -> NDArray[np.int64]:
    """Select the rows of `images` in the given splits and the configuration's sources. Raises UnknownName."""
    return np.flatnonzero(corpus.selected(splits, config.sources))


def annotated(corpus: Corpus, images: NDArray[np.int64]) -> tuple[NDArray[np.int64], dict[int, str]]:
    """Select the annotations on images, without specks.

    Args:
        corpus: The corpus.
        images: Rows of `images`.

    Returns:
        Rows of `annotations`, and the categories that occur: id → name, by id.

    Raises:
        TrainError: The images have no annotation other than specks.
    """
    used = np.zeros(len(corpus), bool)
    used[images] = True
    annotations = np.flatnonzero(used[corpus.annotations["image"]] & (corpus.annotations["flags"] & SPECK == 0))
    if not len(annotations):
        raise nothing_to_draw(corpus, "no annotation")
    named = {category["id"]: category["name"] for category in corpus.categories}
    ids = np.unique(corpus.annotations["category"][annotations]).tolist()
    return annotations, {number: named[number] for number in ids}


def labels(corpus: Corpus, images: NDArray[np.int64], target: str) -> dict[int, str]:
    """Read the labels of images.

    Args:
        corpus: The corpus.
        images: Rows of `images`.
        target: "diagnosis" for that of an image's annotations if they agree, else of its tags; any other name is that
            of a tag, such as "view".

    Returns:
        Row → label in lower case, for images with a label.
    """
    tags = corpus.tags(images)
    names = corpus.facts["diagnoses"]
    result: dict[int, str] = {}
    for row in images.tolist():
        values: list[Any] = [tags[row].get(target)]
        if target == "diagnosis":
            diagnoses = {names[n] for n in corpus.annotations["diagnosis"][list(corpus.of(row))]} - {""}
            values = [*(diagnoses if len(diagnoses) == 1 else ()), *(tags[row].get(name) for name in _DIAGNOSES)]
        known = [str(value).strip().lower() for value in values if value not in (None, "")]
        if known:
            result[row] = known[0]
    return result


class Laps:
    """Order of `count` items in an endless sequence: each is drawn once before any is repeated."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed
        self._lap: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, np.int64))

    def __call__(self, place: int) -> int:
        lap, at = divmod(place, self.count)
        if lap != self._lap[0]:
            self._lap = lap, np.random.default_rng([self.seed, 0, lap]).permutation(self.count)
        return int(self._lap[1][at])


class Draws(OfCorpus[D]):
    """Draws of the items of a task, each once before any is repeated."""

    def __init__(self, corpus: Corpus, config: TrainConfig, count: int) -> None:
        super().__init__(corpus, config)
        self.order = Laps(count, config.seed)

    def draw(self, place: int) -> D:
        return self.drawn(self.order(place), np.random.default_rng([self.config.seed, 1, place]))

    @abstractmethod
    def drawn(self, item: int, rng: np.random.Generator) -> D:
        """Make the draw of an item, by its number."""


class ImageTask:
    """What the tasks without prompts share; see `Task`. The first tensor of a batch has a row for each item."""

    def __init__(self, config: TrainConfig, corpus: Corpus) -> None:
        self.config, self.corpus = config, corpus

    def collate(self, draws: Sequence[D | Us43dError]) -> D | Us43dError:
        """Join draws, tuples of tensors, to a batch; the error of an unusable image instead of a batch with it."""
        good: list[Any] = []
        for draw in draws:
            if isinstance(draw, Us43dError):
                return draw
            good.append(draw)
        batch: D = type(good[0])(*(torch.cat(tensors) for tensors in zip(*good, strict=True)))
        return batch

    def count(self, batch: Sequence[Tensor]) -> int:
        return len(batch[0])

    def encoder(self, model: Any) -> nn.Module:
        encoder: nn.Module = model.image_encoder
        return encoder

    def rates(self, model: nn.Module) -> list[tuple[float, list[nn.Parameter]]]:
        """List trained parameters by rate: those of `image_encoder` at `encoder_rate` times the rate of the others."""
        named = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
        inside = [value for name, value in named if name.startswith("image_encoder.")]
        others = [value for name, value in named if not name.startswith("image_encoder.")]
        return [(factor, group) for factor, group in ((self.config.encoder_rate, inside), (1.0, others)) if group]


def held_out(corpus: Corpus, config: TrainConfig) -> list[int]:
    """Select the images to validate on: those of the split val, unless it is trained on."""
    rows = chosen(corpus, config, ("val",)) if "val" not in config.splits else np.zeros(0, np.int64)
    return corpus.sample(rows.tolist(), config.validation_images)


# -------------------------------------------------------------------------------------------------------------- images


def augmented(
    pixels: Pixels, masks: list[Mask], config: TrainConfig, rng: np.random.Generator
) -> tuple[Pixels, list[Mask]]:
    """Scale, shift, flip and change the contrast of an image with its masks. Masks may become empty.

    Scaling and shifting are large-scale jittering (Ghiasi et al. 2021), by a factor of up to e^±zoom times a factor
    from the range `scale`.

    Args:
        pixels: (h, w) or (h, w, 3) uint8.
        masks: (h, w) bool each.
        config: Strength of the augmentations.
        rng: Random generator.

    Returns:
        Image and masks of unchanged shapes.
    """
    height, width = pixels.shape[:2]
    if config.zoom or config.scale != (1.0, 1.0):
        factor = math.exp(rng.uniform(-config.zoom, config.zoom)) if config.zoom else 1.0
        factor *= rng.uniform(*config.scale) if config.scale != (1.0, 1.0) else 1.0
        shift = [rng.uniform(*sorted((0.0, side * (1 - factor)))) for side in (width, height)]
        turn = np.array([[factor, 0, shift[0]], [0, factor, shift[1]]])
        pixels = cv2.warpAffine(pixels, turn, (width, height), flags=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
        masks = [cv2.warpAffine(255 * mask.astype(np.uint8), turn, (width, height)) >= 128 for mask in masks]
    if rng.random() < config.flip:
        pixels = np.ascontiguousarray(pixels[:, ::-1])
        masks = [np.ascontiguousarray(mask[:, ::-1]) for mask in masks]
    if config.contrast:
        gain, offset = math.exp(rng.normal(0, config.contrast)), 255 * rng.normal(0, config.contrast)
        table = np.clip(gain * np.arange(256) + offset, 0, 255).astype(np.uint8)
        pixels = cv2.LUT(pixels, table).astype(np.uint8, copy=False)
    return pixels, masks


def canvas(pixels: Pixels, model: ModelConfig) -> tuple[Tensor, Tensor]:
    """Resize and pad an image for the network.

    Args:
        pixels: (h, w) or (h, w, 3) uint8.
        model: Architecture of the network.

    Returns:
        (S, S, 3) uint8 RGB with zeros to the right and below, and (2,), rows and columns of the image in it.
    """
    side = model.image_size
    rows, columns = fitted((pixels.shape[0], pixels.shape[1]), side, model.stretch)
    small = cv2.resize(pixels, (columns, rows), interpolation=cv2.INTER_LINEAR)
    out = np.zeros((side, side, 3), np.uint8)
    out[:rows, :columns] = small if small.ndim == 3 else small[:, :, None]
    return torch.from_numpy(out), torch.tensor([rows, columns])


def mean_masks(count: int, shown: Iterable[tuple[int, Mask]], side: int = 64) -> NDArray[np.float32]:
    """Average the masks of each structure, for a baseline that uses no image.

    Args:
        count: Number K of structures.
        shown: (number of the structure from 1, mask).
        side: Side S of the averages, in pixels.

    Returns:
        (K, S, S), how often each place is covered, scaled to a maximum of 1.
    """
    sums = np.zeros((count, side, side), np.float32)
    for number, mask in shown:
        sums[number - 1] += cv2.resize(mask.astype(np.float32), (side, side))
    return sums / np.maximum(sums.max((1, 2), keepdims=True), 1e-6)


# ------------------------------------------------------------------------------------------------------------- weights


def backbone(config: TrainConfig, init: Path | None) -> UltraSam:
    """Create the promptable model whose modules a task uses.

    With `frozen`, the image encoder is not trained; with `lora`, only its low-rank updates are.

    Args:
        config: Configuration of the run.
        init: Weights to load; None for random weights.

    Raises:
        WeightsError: The weights do not fit the configuration.
    """
    model = starting(config, init)
    if config.lora:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            lora.adapt(model, config.lora)
    elif config.frozen:
        model.image_encoder.requires_grad_(False)
    return model


def starting(config: TrainConfig, init: Path | None) -> UltraSam:
    """Create the promptable model with initial or random weights. Raises WeightsError if they do not fit."""
    model = UltraSam.random(config.model, config.seed)
    if init is not None:
        state = weights.starting(weights.load(init), model)
        try:
            weights.fit(model, state)
        except WeightsError as error:
            raise WeightsError(f"{init} does not fit the model of the configuration: {error.what}") from error
    return model


def features(encoder: nn.Module, images: Tensor) -> Features:
    """Encode (B, 3, S, S) as an embedding, with the finer features of a conv encoder."""
    output = encoder(images)
    return Features(output) if isinstance(output, Tensor) else output


def encode(encoder: nn.Module, images: Tensor) -> Tensor:
    """Encode (B, 3, S, S) as an embedding (B, C, G, G)."""
    return features(encoder, images).embedding


def merged(model: nn.Module) -> dict[str, Tensor]:
    """Return the state of a model, with low-rank updates merged into their weights."""
    state = {name: value for name, value in model.state_dict().items() if ".parametrizations." not in name}
    for name, module in model.named_modules():
        if parametrize.is_parametrized(module):
            state[f"{name}.weight"] = module.weight.detach()
    return state


def save(model: nn.Module, place: Path, record: TaskRecord, meta: Mapping[str, Any]) -> None:
    """Write model.safetensors and config.json. Raises StorageError."""
    from safetensors.torch import save as packed

    state = {name: value.detach().cpu().contiguous() for name, value in merged(model).items()}
    tensors = packed({name: value.clone() for name, value in state.items()})
    text = json.dumps({"task": record.model_dump(mode="json"), "meta": dict(meta)}, indent=1)
    files: dict[str, bytes | str] = {weights.TENSORS: tensors, weights.CONFIG: text}
    atomic.write_files(place, files, "Weights written before are complete.")


def read(place: Path, *names: str) -> tuple[TaskRecord, dict[str, Tensor]]:
    """Read (task record of `save`, tensors). names: tasks that are accepted; any if empty. Raises WeightsError."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        content = json.loads((place / weights.CONFIG).read_text("utf-8"))
        record = TaskRecord.model_validate(content["task"])
        state = load_file(place / weights.TENSORS)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        reason = listed(faults(error)) if isinstance(error, ValidationError) else repr(error)
        raise WeightsError(f"{place} does not hold weights of a task: {reason}.", next="us43d weights show") from error
    if names and record.name not in names:
        raise WeightsError(f"{place} holds weights of the task {record.name}, not of {listed(names)}.")
    return record, state


def fit(model: nn.Module, state: dict[str, Tensor], place: Path) -> None:
    """Load a state completely. Raises WeightsError if the tensors do not fit."""
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(f"The tensors in {place} do not fit the model of its {weights.CONFIG}: {error}.") from error


def nothing_to_draw(corpus: Corpus, what: str) -> TrainError:
    """Make the error for a task without items to draw. what: such as "fewer than two classes"."""
    return TrainError(f"The corpus {corpus.path.name} has {what} to train on.", next="us43d train --help")
