"""Instance segmentation without prompts: Mask2Former (Cheng et al. 2022) on the promptable model's image encoder.

Pixel decoder, transformer decoder and loss are those of transformers. A conv encoder gives its own features of strides
4 to 32; for a ViT a simple feature pyramid (Li et al. 2022, "ViTDet") makes them of its embedding.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from us43d import report
from us43d.coco.segmentation import encode
from us43d.errors import UsageError
from us43d.evaluate.detection import average_precision, reference
from us43d.harmonize.corpus import SPECK, Corpus
from us43d.model.conv import ConvEncoder
from us43d.model.layers import LayerNorm2d
from us43d.model.network import UltraSam
from us43d.train.config import InstanceHead, TrainConfig
from us43d.train.data import normalise
from us43d.train.journal import Record
from us43d.train.precision import autocast
from us43d.train.tasks import images

__all__ = ["LIKELY", "Detection", "InstanceNetwork", "Instances", "detect", "load", "results"]

#: Detections of an image that COCO's average precision counts.
MOST = 100
#: Score from which on a detection is shown.
LIKELY = 0.5


class Drawn(NamedTuple):
    """A draw or a batch of B. images: (B, S, S, 3) uint8. inner: (B, 2). masks: (N, S, S) bool, of all instances.
    classes: (N,), from 0. counts: (B,), instances of each image."""

    images: Tensor
    inner: Tensor
    masks: Tensor
    classes: Tensor
    counts: Tensor

    def to(self, device: torch.device) -> "Drawn":
        return Drawn(*(tensor.to(device, non_blocking=True) for tensor in self))


class Detection(NamedTuple):
    """category: of the taxonomy. score: probability of the class times the mean probability of the mask's pixels."""

    category: int
    score: float
    mask: NDArray[np.bool_]


class Predicted(NamedTuple):
    """Of Q queries, after every layer: logits of the classes (B, Q, K + 1), no object last, and masks (B, Q, M, M)."""

    classes: tuple[Tensor, ...]
    masks: tuple[Tensor, ...]


# ------------------------------------------------------------------------------------------------------------- network


class Pyramid(nn.Module):
    """(B, C, G, G) → features of 4, 2, 1 and ½ times the resolution, from one map (Li et al. 2022, section 3)."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.scales = nn.ModuleList([
            nn.Sequential(nn.ConvTranspose2d(dim, dim, 2, 2), LayerNorm2d(dim, eps), nn.GELU(),
                          nn.ConvTranspose2d(dim, dim, 2, 2)),
            nn.ConvTranspose2d(dim, dim, 2, 2),
            nn.Identity(),
            nn.MaxPool2d(2, 2),
        ])  # fmt: skip
        self.outs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(dim, dim, 1, bias=False), LayerNorm2d(dim, eps),
                          nn.Conv2d(dim, dim, 3, padding=1, bias=False), LayerNorm2d(dim, eps))
            for _ in self.scales
        )  # fmt: skip

    def forward(self, x: Tensor) -> list[Tensor]:
        return [out(scale(x)) for scale, out in zip(self.scales, self.outs, strict=True)]


class InstanceNetwork(nn.Module):
    """(B, 3, S, S) normalised RGB → what the queries find."""

    def __init__(self, base: UltraSam, categories: Mapping[int, str], head: InstanceHead) -> None:
        super().__init__()
        mask2former, settings = _mask2former(head, len(categories))
        self.config, self.categories, self.head = base.config, dict(categories), head
        self.image_encoder = base.image_encoder
        dim = base.config.prompt_dim
        if isinstance(self.image_encoder, ConvEncoder):
            self.pyramid: Pyramid | None = None
            channels = list(base.config.widths[1:])
            for name in ("lateral", "top", "neck", "fine8", "fine4"):  # the promptable decoder's, not used here
                getattr(self.image_encoder, name).requires_grad_(False)
        else:
            self.pyramid = Pyramid(dim, base.config.encoder_eps)
            channels = [dim] * 4
        self.pixel_decoder = mask2former.Mask2FormerPixelDecoder(settings, feature_channels=channels)
        self.transformer = mask2former.Mask2FormerTransformerModule(settings.feature_size, settings)
        self.class_predictor = nn.Linear(settings.hidden_dim, len(categories) + 1)
        library = mask2former.Mask2FormerPreTrainedModel(settings)  # without layers; it knows how to initialise them
        for part in (self.pixel_decoder, self.transformer):
            part.apply(library._init_weights)

    def forward(self, pixels: Tensor) -> Predicted:
        if isinstance(self.image_encoder, ConvEncoder):
            levels = self.image_encoder.levels(pixels.contiguous(memory_format=torch.channels_last))
        else:
            assert self.pyramid is not None
            levels = self.pyramid(images.encode(self.image_encoder, pixels))
        features = self.pixel_decoder(levels)
        decoded = self.transformer(features.multi_scale_features, features.mask_features, output_hidden_states=True)
        classes = tuple(self.class_predictor(queries.transpose(0, 1)) for queries in decoded.intermediate_hidden_states)
        return Predicted(classes, tuple(decoded.masks_queries_logits))


def _mask2former(head: InstanceHead, classes: int) -> tuple[Any, Any]:
    """(transformers' module, its configuration). Raises UsageError where the package is missing."""
    try:
        from transformers import Mask2FormerConfig
        from transformers.models.mask2former import modeling_mask2former
    except ImportError as error:
        raise UsageError("The task instances needs the package transformers.", next="pip install 'us43d[tasks]'") from (
            error
        )
    settings = Mask2FormerConfig(
        feature_size=head.width, mask_feature_size=head.width, hidden_dim=head.width, num_queries=head.queries,
        encoder_layers=head.pixel_layers, decoder_layers=head.query_layers + 1, num_attention_heads=head.heads,
        encoder_feedforward_dim=head.feedforward // 2, dim_feedforward=head.feedforward, train_num_points=head.points,
    )  # fmt: skip
    settings.num_labels = classes
    return modeling_mask2former, settings


class _Objective(nn.Module):
    """Cross-entropy of the classes, cross-entropy and Dice of the masks at points, after every layer of the decoder.

    Queries and instances are matched one to one (Cheng et al. 2022). The loss is a mean over the images of the batch
    and the instances on them, and is returned times the number of images.
    """

    def __init__(self, model: InstanceNetwork, config: TrainConfig) -> None:
        super().__init__()
        self.model, self.config = model, config
        mask2former, settings = _mask2former(model.head, len(model.categories))
        self.weights = {"cross_entropy": settings.class_weight, "mask": settings.mask_weight,
                        "dice": settings.dice_weight}  # fmt: skip
        self.criterion = mask2former.Mask2FormerLoss(settings, {})

    def forward(self, batch: Drawn) -> tuple[Tensor, Tensor]:
        device = batch.images.device
        with autocast(device, self.config.precision):
            predicted: Predicted = self.model(normalise(batch.images, batch.inner))
        layers = [{"class_queries_logits": classes.float(), "masks_queries_logits": masks.float()}
                  for classes, masks in zip(*predicted, strict=True)]  # fmt: skip
        counts = batch.counts.tolist()
        losses = self.criterion(
            **layers[-1], mask_labels=list(batch.masks.float().split(counts)),
            class_labels=list(batch.classes.split(counts)), auxiliary_predictions=layers[:-1],
        )  # fmt: skip
        parts = [
            weight * torch.stack([value for key, value in losses.items() if key.startswith(f"loss_{name}")]).sum()
            for name, weight in self.weights.items()
        ]
        sums = torch.stack([torch.stack(parts).sum(), *parts]) * len(counts)
        return sums[0], sums.detach()


# ---------------------------------------------------------------------------------------------------------------- draws


def _instances(corpus: Corpus, image: int, numbers: Mapping[int, int]) -> list[tuple[int, int]]:
    """(row of `annotations`, number of the category) of the instances of an image; specks are excluded."""
    return [
        (place, numbers[int(corpus.annotations["category"][place])])
        for place in corpus.of(image)
        if not corpus.annotations["flags"][place] & SPECK and int(corpus.annotations["category"][place]) in numbers
    ]


class _Draws(images.Draws[Drawn]):
    def __init__(self, corpus: Corpus, config: TrainConfig, rows: NDArray[np.int64], numbers: dict[int, int]) -> None:
        super().__init__(corpus, config, len(rows))
        self.rows, self.numbers = rows, numbers

    def drawn(self, item: int, rng: np.random.Generator) -> Drawn:
        image = int(self.rows[item])
        shown = _instances(self.corpus, image, self.numbers)
        if len(shown) > self.config.head.queries:  # more than the network can find
            shown = [shown[n] for n in sorted(rng.permutation(len(shown))[: self.config.head.queries])]
        masks = [self.corpus.mask(place) for place, _ in shown]
        pixels, masks = images.augmented(self.corpus.picture(image), masks, self.config, rng)
        canvas, inner = images.canvas(pixels, self.config.model)
        rows, columns = (int(value) for value in inner)
        kept, classes = [], []
        for mask, (_, number) in zip(masks, shown, strict=True):
            small = np.zeros(canvas.shape[:2], bool)
            resized = cv2.resize(255 * mask.astype(np.uint8), (columns, rows), interpolation=cv2.INTER_AREA)
            small[:rows, :columns] = resized >= 128
            if small.any():  # what was moved out of the image is not there to be found
                kept.append(small)
                classes.append(number)
        stacked = np.stack(kept) if kept else np.zeros((0, *canvas.shape[:2]), bool)
        return Drawn(canvas[None], inner[None], torch.from_numpy(stacked), torch.tensor(classes, dtype=torch.long),
                     torch.tensor([len(kept)]))  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- predicting


@torch.inference_mode()
def detect(model: InstanceNetwork, pixels: NDArray[np.uint8], device: str, floor: float = 0.0) -> Iterator[Detection]:
    """Find the instances of an image (h, w) or (h, w, 3) uint8, the surest first, at most 100, with scores ≥ floor."""
    shown, inner = images.canvas(pixels, model.config)
    predicted = model(normalise(shown[None].to(device), inner[None].to(device)))
    chances = predicted.classes[-1][0].float().softmax(-1)[:, :-1]
    logits = F.interpolate(predicted.masks[-1].float(), shown.shape[:2], mode="bilinear", align_corners=False)
    logits = logits[0, :, : int(inner[0]), : int(inner[1])]
    inside = (logits > 0).flatten(1)
    sure = (logits.sigmoid().flatten(1) * inside).sum(1) / inside.sum(1).clamp(min=1)
    scores = (chances * sure[:, None]).flatten()
    ids = list(model.categories)
    for at in scores.argsort(descending=True, stable=True)[:MOST].tolist():
        query, number = divmod(at, len(ids))
        score = float(scores[at])
        if score < floor or not inside[query].any():
            continue
        full = F.interpolate(logits[query][None, None], pixels.shape[:2], mode="bilinear", align_corners=False)
        mask = (full[0, 0] > 0).cpu().numpy()
        if mask.any():
            yield Detection(ids[number], score, mask)


def results(image: int, detections: Iterator[Detection]) -> list[dict[str, Any]]:
    """Write detections as COCO's results. image: id."""
    written = []
    for detection in detections:
        x, y, width, height = cv2.boundingRect(detection.mask.view(np.uint8))
        written.append({
            "image_id": image, "category_id": detection.category, "score": detection.score,
            "bbox": [x, y, width, height],
            "segmentation": {"size": list(detection.mask.shape), "counts": encode(detection.mask).decode("ascii")},
        })  # fmt: skip
    return written


# ----------------------------------------------------------------------------------------------------------------- task


class Instances(images.ImageTask):
    """See `Task`. Validation: COCO's mean average precision, also of the mean mask, which looks at no image."""

    parts = ("loss", "cross_entropy", "mask", "dice")

    def __init__(self, config: TrainConfig, corpus: Corpus) -> None:
        super().__init__(config, corpus)
        self.images = images.chosen(corpus, config, config.splits)  # those without an instance teach what none is
        self.annotations, self.categories = images.annotated(corpus, self.images)
        self.numbers = {number: n for n, number in enumerate(self.categories)}
        self.draws = _Draws(corpus, config, self.images, self.numbers)
        self.held_out = images.held_out(corpus, config)

    def initial(self, init: Path | None) -> InstanceNetwork:
        base = images.backbone(self.config, init)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            return InstanceNetwork(base, self.categories, self.config.head)

    def objective(self, model: InstanceNetwork) -> nn.Module:
        return _Objective(model, self.config)

    def validate(self, model: InstanceNetwork, wanted: Sequence[int], device: torch.device) -> NDArray[Any]:
        """(N, 1): COCO's results."""
        entries = []
        for image in wanted:
            number = int(self.corpus.images["id"][image])
            entries += results(number, detect(model, self.corpus.picture(image), str(device)))
        table = np.empty((len(entries), 1), object)
        table[:, 0] = entries
        return table

    def summary(self, table: NDArray[Any]) -> Record:
        truth = self._truth
        groups = len(np.unique(self.corpus.images["group"][self.held_out]))
        record: Record = {"instances": len(truth["annotations"]), "images": len(self.held_out), "groups": groups}
        if not truth["annotations"]:
            return record
        precision = average_precision(truth, table[:, 0].tolist())
        for kind, names in (("segm", ("map", "ap50", "ap75")), ("bbox", ("map",))):
            record |= {f"{kind}_{name}": round(precision[kind][name], 5) for name in names}
        return record | {"mean_mask": round(self._mean_mask, 5)}

    def score(self, summary: Record) -> float | None:
        """The mean average precision of masks."""
        return summary.get("segm_map")

    def shown(self, model: InstanceNetwork, wanted: Sequence[int], device: torch.device) -> list[NDArray[np.uint8]]:
        drawings = []
        for image in wanted:
            pixels = self.corpus.picture(image)
            outlines = {
                "truth": [self.corpus.mask(place) for place, _ in _instances(self.corpus, image, self.numbers)],
                "found": [one.mask for one in detect(model, pixels, str(device), LIKELY)],
            }
            drawings.append(
                report.overlay(pixels, {name: np.stack(masks) for name, masks in outlines.items() if masks})
            )
        return drawings

    @cached_property
    def _truth(self) -> dict[str, Any]:
        return reference(self.corpus, self.held_out, self.categories)

    @cached_property
    def _mean_mask(self, most: int = 64) -> float:
        """The mean average precision of the mean mask of every category, found on every image."""
        corpus, ids = self.corpus, list(self.categories)
        rows = corpus.sample(self.images.tolist(), most)
        shown = ((number + 1, corpus.mask(place)) for row in rows for place, number in
                 _instances(corpus, row, self.numbers))  # fmt: skip
        means = images.mean_masks(len(ids), shown)
        share = np.bincount(corpus.annotations["category"][self.annotations], minlength=max(ids) + 1)
        entries = []
        for row in self.held_out:
            size = int(corpus.images["width"][row]), int(corpus.images["height"][row])
            masks = [cv2.resize(mean, size, interpolation=cv2.INTER_LINEAR) >= 0.5 for mean in means]
            guesses = (Detection(n, float(share[n] / share.sum()), mask) for n, mask in zip(ids, masks, strict=True)
                       if mask.any())  # fmt: skip
            entries += results(int(corpus.images["id"][row]), guesses)
        return float(average_precision(self._truth, entries)["segm"]["map"])

    def save(self, model: InstanceNetwork, place: Path, meta: Mapping[str, Any]) -> None:
        record = images.TaskRecord(
            name="instances", model=self.config.model, head=self.config.head,
            categories=list(self.categories.items()), classes=list(self.categories.values()),
        )  # fmt: skip
        images.save(model, place, record, meta)

    def quality(self, validation: Mapping[str, Any]) -> str:
        names = f"Structures: {', '.join(self.categories.values())}."
        if "segm_map" not in validation:
            return f"{names} No validation image shows one of them."
        return (
            f"{names} COCO mean average precision of masks on {validation['instances']:,} instances in "
            f"{validation['images']:,} images of {validation['groups']:,} groups of the validation split at step "
            f"{validation['step']:,}: {validation['segm_map']:.3f} (AP50 {validation['segm_ap50']:.3f}); of the mean "
            f"mask {validation['mean_mask']:.3f}."
        )


def load(place: Path) -> tuple[InstanceNetwork, images.TaskRecord]:
    """(the model in evaluation mode, its record). Raises WeightsError, UsageError."""
    record, state = images.read(place, "instances")
    model = InstanceNetwork(UltraSam(record.model), dict(record.categories), record.head)
    images.fit(model, state, place)
    return model.eval(), record
