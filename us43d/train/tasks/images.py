"""What the tasks without prompts share: order, augmentation, labels of images, weights on disk."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

from us43d import atomic
from us43d.errors import TrainError, WeightsError
from us43d.harmonize.corpus import Corpus
from us43d.model import lora, weights
from us43d.model.network import Features, ModelConfig, UltraSam
from us43d.model.predictor import fitted
from us43d.train.config import TrainConfig

__all__ = [
    "Laps", "augmented", "backbone", "canvas", "chosen", "encode", "features", "first", "fit", "labels", "mean_masks",
    "merged", "nothing_to_draw", "place_of", "rates", "read", "save",
]  # fmt: skip

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
#: Tags that hold a diagnosis, the surer first.
_DIAGNOSES = ("pathology", "diagnosis", "label")


# ------------------------------------------------------------------------------------------------------- what there is


def chosen(corpus: Corpus, config: TrainConfig, splits: Sequence[str]) -> NDArray[np.int64]:
    """Rows of `images` in splits and sources of a configuration. Raises UnknownName."""
    return np.flatnonzero(corpus.selected(splits, config.sources))


def first(corpus: Corpus, rows: NDArray[np.int64], most: int) -> list[int]:
    """At most so many rows of `images`, chosen by their ids alone."""
    order = sorted(rows.tolist(), key=lambda n: hashlib.sha256(str(corpus.images["id"][n]).encode()).digest())
    return sorted(order[:most])


def labels(corpus: Corpus, images: NDArray[np.int64], target: str) -> dict[int, str]:
    """The label of every image that has one.

    Args:
        corpus: The corpus.
        images: Rows of `images`.
        target: "diagnosis" is that of an image's annotations where they agree, else of the tags; any other name is
            that of a tag, such as "view".

    Returns:
        Row → label in lower case.
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
    """Which of `count` items is drawn at a place: every one comes once before any comes again."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed
        self._lap: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, np.int64))

    def __call__(self, place: int) -> int:
        lap, at = divmod(place, self.count)
        if lap != self._lap[0]:
            self._lap = lap, np.random.default_rng([self.seed, 0, lap]).permutation(self.count)
        return int(self._lap[1][at])


# -------------------------------------------------------------------------------------------------------------- images


def augmented(
    pixels: Pixels, masks: list[Mask], config: TrainConfig, rng: np.random.Generator
) -> tuple[Pixels, list[Mask]]:
    """Scale, shift, flip and contrast of an image with its masks; all keep their sizes. Masks may become empty.

    Scaling and shifting together are large-scale jittering (Ghiasi et al. 2021), by a factor up to e^±zoom times one
    from the range `scale`.
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
    """((side, side, 3) uint8 RGB with zeros right and below, (2,) rows and columns of the image in it)."""
    side = model.image_size
    rows, columns = fitted((pixels.shape[0], pixels.shape[1]), side, model.stretch)
    small = cv2.resize(pixels, (columns, rows), interpolation=cv2.INTER_LINEAR)
    out = np.zeros((side, side, 3), np.uint8)
    out[:rows, :columns] = small if small.ndim == 3 else small[:, :, None]
    return torch.from_numpy(out), torch.tensor([rows, columns])


def place_of(seed: int, place: int) -> np.random.Generator:
    """The chance of a draw, which depends on seed and place alone."""
    return np.random.default_rng([seed, 1, place])


def mean_masks(count: int, shown: Iterable[tuple[int, Mask]], side: int = 64) -> NDArray[np.float32]:
    """Average masks by their number, the baseline that looks at no image.

    Args:
        count: K, how many numbers there are.
        shown: (number from 1, mask) of images that show it.
        side: S, of the averages.

    Returns:
        (K, S, S): how often each place is covered, scaled so that the most frequent place is 1.
    """
    sums = np.zeros((count, side, side), np.float32)
    for number, mask in shown:
        sums[number - 1] += cv2.resize(mask.astype(np.float32), (side, side))
    return sums / np.maximum(sums.max((1, 2), keepdims=True), 1e-6)


# ------------------------------------------------------------------------------------------------------------- weights


def backbone(config: TrainConfig, init: Path | None) -> UltraSam:
    """The promptable model whose parts a task uses: of weights on disk, or random.

    With `frozen` no weight of the image encoder is trained, with `lora` low-rank updates of it alone. Raises
    WeightsError if the weights do not fit the configuration.
    """
    model = UltraSam.random(config.model, config.seed)
    if init is not None:
        try:
            weights.fit(model, weights.adapted(weights.load(init), config.model.mlp_residual))
        except WeightsError as error:
            raise WeightsError(f"{init} does not fit the model of the configuration: {error.what}") from error
    if config.lora:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            lora.adapt(model, config.lora)
    elif config.frozen:
        model.image_encoder.requires_grad_(False)
    return model


def features(encoder: nn.Module, images: Tensor) -> Features:
    """Encode (B, 3, S, S) as an embedding, with the finer features of a conv encoder."""
    output = encoder(images)
    return Features(output) if isinstance(output, Tensor) else output


def encode(encoder: nn.Module, images: Tensor) -> Tensor:
    """Encode (B, 3, S, S) as an embedding (B, C, G, G)."""
    return features(encoder, images).embedding


def merged(model: nn.Module) -> dict[str, Tensor]:
    """The state of a model with low-rank updates merged into the weights they belong to."""
    state = {name: value for name, value in model.state_dict().items() if ".parametrizations." not in name}
    for name, module in model.named_modules():
        if parametrize.is_parametrized(module):
            state[f"{name}.weight"] = module.weight.detach()
    return state


def save(model: nn.Module, place: Path, task: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
    """Write model.safetensors and config.json. task: its name and what makes the model again. Raises StorageError."""
    from safetensors.torch import save as packed

    state = {name: value.detach().cpu().contiguous() for name, value in merged(model).items()}
    with atomic.storage_errors(place, "Weights that are there are complete."):
        place.mkdir(parents=True, exist_ok=True)
        atomic.write_bytes(place / weights.TENSORS, packed({name: value.clone() for name, value in state.items()}))
        text = json.dumps({"task": dict(task), "meta": dict(meta)}, indent=1)
        atomic.write_bytes(place / weights.CONFIG, text.encode())


def read(place: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(what `save` was told of the task, tensors). Raises WeightsError for a folder that holds no task's weights."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        content = json.loads((place / weights.CONFIG).read_text("utf-8"))
        task = dict(content["task"])
        ModelConfig.model_validate(task["model"])
        return task, load_file(place / weights.TENSORS)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise WeightsError(f"{place} does not hold weights of a task: {error!r}.", next="us43d weights show") from error


def fit(model: nn.Module, state: dict[str, Tensor], place: Path) -> None:
    """Load a state, all of it. Raises WeightsError if it does not fit."""
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(f"The tensors in {place} do not fit the model of its {weights.CONFIG}: {error}.") from error


def rates(model: nn.Module, config: TrainConfig) -> list[tuple[float, list[nn.Parameter]]]:
    """The parameters that are trained: those of `image_encoder` at `encoder_rate` times the rate of the others."""
    named = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    inside = [value for name, value in named if name.startswith("image_encoder.")]
    others = [value for name, value in named if not name.startswith("image_encoder.")]
    return [(factor, group) for factor, group in ((config.encoder_rate, inside), (1.0, others)) if group]


def nothing_to_draw(corpus: Corpus, what: str) -> TrainError:
    """The error where a task has nothing to draw. what: such as "fewer than two classes"."""
    return TrainError(f"The corpus {corpus.path.name} has {what} to train on.", next="us43d train --help")
