"""Classification of whole images (`classify`), or of the object in a box prompt (`classify-prompt`).

classify: a linear head on the average of the encoder's embedding, focal loss, as in UltraSam's paper; with the network
"unet", of the deepest features of a U-Net. classify-prompt:
the mask decoder's transformer processes the image with the prompt's tokens and a class token; a linear head reads the
class token, and with the pool "levels" also the encoder's features within the box and over the image.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from us43d.errors import UsageError
from us43d.evaluate.classification import scored
from us43d.harmonize.corpus import SPECK, Corpus
from us43d.model import prompts
from us43d.model.network import LOWER_RIGHT, UPPER_LEFT, Features, ModelConfig, UltraSam
from us43d.train.config import TrainConfig
from us43d.train.data import normalise
from us43d.train.journal import Record
from us43d.train.precision import autocast
from us43d.train.tasks import images, unet
from us43d.train.tasks.unet import UNetEncoder

__all__ = ["Classifier", "Classify", "Item", "chances", "classify", "items", "load"]

#: Focusing of the focal loss (Lin et al. 2017).
GAMMA = 2.0


class Item(NamedTuple):
    """A labelled image or annotation.

    Attributes:
        image: Row of `images`.
        annotation: Row of `annotations` for a box prompt; -1 for the whole image.
        label: Name of the class.
    """

    image: int
    annotation: int
    label: str


class Drawn(NamedTuple):
    """A draw or a batch of B. images: (B, S, S, 3) uint8. inner: (B, 2). corners: (B, 2, 2), of the box prompt in
    pixels of the input. labels: (B,)."""

    images: Tensor
    inner: Tensor
    corners: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> "Drawn":
        return Drawn(*(tensor.to(device, non_blocking=True) for tensor in self))


class Classifier(nn.Module):
    """Network that classifies images or prompted objects.

    Args:
        base: Model whose encoder (and decoder) is used; the encoder of a U-Net knows no prompts.
        classes: Names of the K classes.
        prompted: Classify the object of a box prompt.
        pool: See `TrainConfig`.
        context: See `TrainConfig`.
    """

    def __init__(
        self,
        base: UltraSam | UNetEncoder,
        classes: Sequence[str],
        prompted: bool,
        pool: Literal["mean", "levels"] = "mean",
        context: float = 0.0,
    ) -> None:
        super().__init__()
        self.config, self.classes, self.prompted, self.pool = base.config, tuple(classes), prompted, pool
        self.context = context
        if isinstance(base, UNetEncoder):
            self.image_encoder: nn.Module = base
            self.head = nn.Linear(base.width * (2 if pool == "levels" else 1), len(classes))
            return
        dim = base.config.prompt_dim
        self.image_encoder = base.image_encoder
        # Mean and maximum of every level; Features.fine has a quarter and an eighth of the channels.
        levels = 2 * (dim + dim // 4 + dim // 8 if base.config.encoder == "conv" else dim)
        width = dim if pool == "mean" else dim + 2 * levels if prompted else levels
        self.head = nn.Linear(width, len(classes))
        if prompted:
            self.prompt_encoder = base.prompt_encoder
            self.transformer = base.mask_decoder.transformer
            self.class_token = nn.Embedding(1, dim)

    def forward(self, batch: Drawn) -> Tensor:
        """Compute logits (B, K)."""
        features = images.features(self.image_encoder, normalise(batch.images, batch.inner))
        origin = torch.zeros_like(batch.inner, dtype=torch.float32)
        if not self.prompted:
            return self.head(self._pooled(features, origin, batch.inner))
        embedding = features.embedding
        kinds = torch.tensor([UPPER_LEFT, LOWER_RIGHT], device=embedding.device).expand(len(embedding), 2)
        shown = self.prompt_encoder.sparse(batch.corners, kinds).to(embedding.dtype)
        own = self.class_token.weight[None].expand(len(embedding), -1, -1).to(embedding.dtype)
        code = self.prompt_encoder.grid().to(embedding.dtype)
        tokens, _ = self.transformer(embedding.flatten(2).transpose(1, 2), code, torch.cat([own, shown], 1), None)
        if self.pool == "mean":
            return self.head(tokens[:, 0])
        whole = self._pooled(features, origin, batch.inner)
        first, last = (batch.corners - 0.5).flip(2).unbind(1)
        return self.head(torch.cat([tokens[:, 0], whole, self._pooled(features, first, last)], 1))

    def _pooled(self, features: Features, first: Tensor, last: Tensor) -> Tensor:
        """Average features over the cells that a region reaches; with "levels", of all levels, and their maximum.

        Args:
            features: Of B images.
            first: (B, 2) row and column, in pixels of the input, at which the regions begin.
            last: (B, 2) at which they end.
        """
        pooled = []
        for level in (features.embedding,) if self.pool == "mean" else (features.embedding, *features.fine):
            side = level.shape[-1]
            begin = (first * side / self.config.image_size).floor().clamp(0, side - 1)
            end = torch.maximum((last * side / self.config.image_size).ceil().clamp(max=side), begin + 1)
            at = torch.arange(side, device=level.device)
            rows, columns = ((at >= begin[:, n, None]) & (at < end[:, n, None]) for n in (0, 1))
            inside = (rows[:, :, None] & columns[:, None, :])[:, None]
            pooled.append((level * inside).sum((2, 3)) / inside.sum((2, 3)))
            if self.pool == "levels":
                pooled.append(level.masked_fill(~inside, -torch.inf).amax((2, 3)))
        return torch.cat(pooled, 1)


class _Objective(nn.Module):
    """Multi-class focal loss (Lin et al. 2017): −w (1 − p)^γ log p of the true class."""

    def __init__(self, model: Classifier, weights: Tensor, config: TrainConfig) -> None:
        super().__init__()
        self.model, self.config = model, config
        self.weights: Tensor
        self.register_buffer("weights", weights)

    def forward(self, batch: Drawn) -> tuple[Tensor, Tensor]:
        device = batch.images.device
        with autocast(device, self.config.precision):
            logits = self.model(batch)
        log = F.log_softmax(logits.float(), 1).gather(1, batch.labels[:, None])[:, 0]
        loss = (-self.weights.to(device)[batch.labels] * (1 - log.exp()) ** GAMMA * log).sum()
        right = (logits.argmax(1) == batch.labels).sum()
        return loss, torch.stack([loss.detach(), right.float()])


def items(corpus: Corpus, rows: NDArray[np.int64], config: TrainConfig) -> list[Item]:
    """List labelled images or annotations.

    Args:
        corpus: The corpus.
        rows: Rows of `images`.
        config: Task and target. The target "structure" is an annotation's category; "diagnosis" is that of the
            annotation, else of its image.
    """
    if config.task == "classify":
        return [Item(row, -1, label) for row, label in images.labels(corpus, rows, config.target).items()]
    names = {category["id"]: category["name"] for category in corpus.categories}
    own = corpus.facts["diagnoses"]
    whole = {} if config.target == "structure" else images.labels(corpus, rows, config.target)
    labelled = []
    for row in rows.tolist():
        for place in corpus.of(row):
            annotation = corpus.annotations[place]
            if annotation["flags"] & SPECK:
                continue
            if config.target == "structure":
                label: str | None = names.get(int(annotation["category"]))
            else:
                diagnosis = own[annotation["diagnosis"]] if config.target == "diagnosis" else ""
                label = diagnosis or whole.get(row)
            if label:
                labelled.append(Item(row, int(place), label))
    return labelled


class _Draws(images.Draws[Drawn]):
    def __init__(self, corpus: Corpus, config: TrainConfig, entries: list[Item], classes: Sequence[str]) -> None:
        super().__init__(corpus, config, len(entries))
        self.items, self.classes = entries, tuple(classes)

    def drawn(self, item: int, rng: np.random.Generator) -> Drawn:
        return drawn(self.corpus, self.config, self.items[item], self.classes, rng)


def drawn(
    corpus: Corpus, config: TrainConfig, item: Item, classes: Sequence[str], rng: np.random.Generator | None
) -> Drawn:
    """Make a batch of one item: augmented with a jittered box if rng is given, else with the exact box."""
    pixels = corpus.picture(item.image)
    masks = [corpus.mask(item.annotation)] if item.annotation >= 0 else []
    if rng is not None:
        changed, moved = images.augmented(pixels, masks, config, rng)
        if all(mask.any() for mask in moved):
            pixels, masks = changed, moved
    box = None
    if masks:
        box = prompts.box_of(masks[0]) if rng is None else prompts.box(masks[0], rng, config.box_jitter)
    return _placed(pixels, box, config.model, config.context, tuple(classes).index(item.label))


def _placed(
    pixels: NDArray[np.uint8], box: NDArray[np.float64] | None, model: ModelConfig, context: float, label: int
) -> Drawn:
    """Make a batch of one image with a box (x0, y0, x1, y1) in its pixels; None for the whole image."""
    height, width = pixels.shape[:2]
    if box is None:
        box = np.array([0.0, 0.0, width, height])
    elif context:
        margin = context * np.array([box[2] - box[0], box[3] - box[1]])
        x0, y0 = np.floor(box[:2] - margin).clip(0, (width - 1, height - 1)).astype(int)
        x1, y1 = np.ceil(box[2:] + margin).clip((x0 + 1, y0 + 1), (width, height)).astype(int)
        pixels, box = np.ascontiguousarray(pixels[y0:y1, x0:x1]), box - np.array([x0, y0, x0, y0])
    shown, inner = images.canvas(pixels, model)
    scale = np.array([float(inner[1]) / pixels.shape[1], float(inner[0]) / pixels.shape[0]])
    corners = torch.from_numpy((box.reshape(2, 2) * scale + 0.5).astype(np.float32))
    return Drawn(shown[None], inner[None], corners[None], torch.tensor([label]))


@torch.inference_mode()
def chances(
    model: Classifier, corpus: Corpus, config: TrainConfig, wanted: Sequence[Item], device: torch.device
) -> NDArray[np.float64]:
    """Compute class probabilities (N, K) float64 of items."""
    probabilities = []
    for item in wanted:
        batch = drawn(corpus, config, item, (item.label,), None).to(device)
        probabilities.append(F.softmax(model(batch).float(), 1)[0].double().cpu().numpy())
    return np.array(probabilities, np.float64).reshape(-1, len(model.classes))


@torch.inference_mode()
def classify(
    model: Classifier, pixels: NDArray[np.uint8], box: Sequence[float] | None, device: str
) -> NDArray[np.float64]:
    """Classify an image.

    Args:
        model: The network, in evaluation mode.
        pixels: (h, w) grey or (h, w, 3) RGB uint8.
        box: (x0, y0, x1, y1) in pixels of the image; None for the whole image.
        device: Device of the model.

    Returns:
        (K,) float64 probabilities.

    Raises:
        UsageError: The box is empty or outside the image.
    """
    height, width = pixels.shape[:2]
    if box is not None and not (box[0] < min(box[2], width) and box[1] < min(box[3], height) and min(box[2:]) > 0):
        raise UsageError(f"The box {tuple(box)} is empty or outside the image of {width} × {height} pixels.")
    corners = None if box is None else np.array(box, np.float64)
    batch = _placed(pixels, corners, model.config, model.context, 0).to(torch.device(device))
    return F.softmax(model(batch).float(), 1)[0].double().cpu().numpy()


class Classify(images.ImageTask):
    """The tasks `classify` and `classify-prompt`; see `Task`."""

    parts = ("loss", "accuracy")

    def __init__(self, config: TrainConfig, corpus: Corpus) -> None:
        super().__init__(config, corpus)
        rows = images.chosen(corpus, config, config.splits)
        self.items = items(corpus, rows, config)
        counts = Counter(item.label for item in self.items)
        self.classes = sorted(counts)
        if len(self.classes) < 2:
            raise images.nothing_to_draw(
                corpus, f"{len(self.classes)} classes of the target {config.target!r} in {len(self.items)} items"
            )
        self.weights = torch.ones(len(self.classes))
        if config.class_weights:
            frequencies = torch.tensor([float(counts[name]) for name in self.classes])
            self.weights = frequencies.sum() / (len(frequencies) * frequencies)
        self.images = np.unique([item.image for item in self.items]).astype(np.int64)
        annotated = [n for row in self.images.tolist() for n in corpus.of(row)]
        self.annotations = np.array(annotated, np.int64)
        self.draws = _Draws(corpus, config, self.items, self.classes)
        kept = np.array(images.held_out(corpus, config), np.int64)
        self.held_out = [item for item in items(corpus, kept, config) if item.label in self.classes]

    def initial(self, init: Path | None) -> Classifier:
        begin = unet.initial if self.config.network == "unet" else images.backbone
        base: UltraSam | UNetEncoder = begin(self.config, init)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            prompted = self.config.task == "classify-prompt"
            return Classifier(base, self.classes, prompted, self.config.pool, self.config.context)

    def objective(self, model: Classifier) -> nn.Module:
        return _Objective(model, self.weights, self.config)

    def validate(self, model: Classifier, wanted: Sequence[Item], device: torch.device) -> NDArray[np.float64]:
        truth = np.array([self.classes.index(item.label) for item in wanted], np.float64).reshape(-1, 1)
        groups = np.array([self.corpus.images["group"][item.image] for item in wanted], np.float64).reshape(-1, 1)
        return np.hstack([groups, truth, chances(model, self.corpus, self.config, wanted, device)])

    def summary(self, table: NDArray[np.float64]) -> Record:
        values = scored(table[:, 1].astype(np.int64), table[:, 2:])._asdict()
        counts = {"instances": len(table), "groups": len(np.unique(table[:, 0]))}
        return {name: None if np.isnan(value) else round(value, 5) for name, value in values.items()} | counts

    def score(self, summary: Record) -> float | None:
        """Return macro F1."""
        return summary["f1"]

    def shown(self, model: Classifier, wanted: Sequence[Item], device: torch.device) -> list[NDArray[np.uint8]]:
        return []  # classes have no outlines to draw

    def save(self, model: Classifier, place: Path, meta: Mapping[str, Any]) -> None:
        config = self.config
        record = images.TaskRecord(
            name=config.task, model=config.model, network=config.network, pool=config.pool, target=config.target,
            context=config.context, classes=self.classes,
        )  # fmt: skip
        images.save(model, place, record, meta)

    def quality(self, validation: Mapping[str, Any]) -> str:
        return (
            f"Classes: {', '.join(self.classes)}. On {validation['instances']:,} items of {validation['groups']:,} "
            f"groups of the validation split at step {validation['step']:,}: macro F1 {validation['f1']:.3f}, accuracy "
            f"{validation['accuracy']:.3f}; always the most frequent class {validation['majority']:.3f}."
        )


def load(place: Path) -> tuple[Classifier, images.TaskRecord]:
    """Load (model in evaluation mode, its record). Raises WeightsError."""
    record, state = images.read(place, "classify", "classify-prompt")
    base = UNetEncoder(record.model) if record.network == "unet" else UltraSam(record.model)
    model = Classifier(base, record.classes, record.name == "classify-prompt", record.pool, record.context)
    images.fit(model, state, place)
    return model.eval(), record
