"""Evaluate weights on a split of a corpus by the published protocol (`paper`) or that of us43d (`ours`).

paper: the exact box, or the mask's centroid (which may be outside of a concave mask), one refinement, the original
post-processing; COCO's class-agnostic mAP of boxes and masks.
ours: box, centre-point or random-point prompt, then corrective clicks, each in the largest error region at the pixel
farthest from its boundary; Dice, IoU, HD95 and NSD of every instance, means per source, organ, structure and diagnosis
and over sources (macro mean), with intervals by the bootstrap over groups.

Each image is encoded once per set of weights, and its prompts are decoded together. Memory holds one row of numbers and
one compressed mask per instance, prompt and number of clicks.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias
from typing import Protocol as Protocol_

import numpy as np
import torch
from numpy.typing import NDArray

import us43d
from us43d.errors import UsageError, counted, listed
from us43d.evaluate.metrics import NSD_MM, NSD_PIXELS, Scores, scores
from us43d.evaluate.results import BASELINE, METRICS, Evaluation, compare
from us43d.harmonize.corpus import SPECK, SPLITS, Corpus
from us43d.model import prompts as drawing
from us43d.model.geometry import box_prompts, point_prompts
from us43d.model.predictor import Encoded, Postprocess, Prediction, at_once

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BASELINE", "Evaluation", "Protocol", "Segmenter", "Start", "compare", "evaluate", "references"]

Protocol: TypeAlias = Literal["paper", "ours", "both"]
Start: TypeAlias = Literal["box", "centre", "random"]
Progress: TypeAlias = Callable[[int, int | None], None]
Mask: TypeAlias = NDArray[np.bool_]

#: Lowest Dice at which a mask counts as done.
DONE = 0.9
#: With `largest`, smallest area of an instance as a fraction of the largest one in its image.
LARGEST = 0.95
#: Largest number of an image's instances processed at once; bounds memory for images with very many.
AT_ONCE = 32

_NUMBERS = np.dtype(
    [
        ("annotation", "<i8"), ("weights", "u1"), ("way", "u1"), ("clicks", "u1"), ("x", "<f4"), ("y", "<f4"),
        ("score", "<f4"), ("dice", "<f4"), ("iou", "<f4"), ("hd95", "<f4"), ("nsd", "<f4"), ("hd95_mm", "<f4"),
        ("nsd_mm", "<f4"), ("clicks_to_90", "<f4"), ("rle_len", "<u4"),
    ]
)  # fmt: skip


class Segmenter(Protocol_):
    """Methods that an evaluation needs of a model; `Predictor` has them.

    Attributes:
        device: Device of the model.
    """

    device: str

    def encode(self, image: NDArray[Any]) -> Encoded: ...

    def segment(
        self,
        encoded: Encoded,
        points: torch.Tensor,
        labels: torch.Tensor,
        *,
        refine: int = 1,
        postprocess: Postprocess = "sharp",
        former: torch.Tensor | None = None,
    ) -> list[Prediction]: ...


class Way(NamedTuple):
    """A way of prompting.

    Attributes:
        protocol: "paper" or "ours".
        prompt: The first prompt.
        clicks: Numbers of corrective clicks that are reported, ascending.
        refine: As in `Predictor.predict`.
        postprocess: As in `Predictor.predict`.
    """

    protocol: Literal["paper", "ours"]
    prompt: Start
    clicks: tuple[int, ...]
    refine: int
    postprocess: Postprocess


class Instance(NamedTuple):
    """An instance to segment.

    Attributes:
        row: Row of the corpus' annotations.
        mask: (h, w) bool, the reference mask.
        box: (4,), exact box (x0, y0, x1, y1) in pixels.
        points: "centre" and "random" → (x, y) in pixels.
    """

    row: int
    mask: Mask
    box: NDArray[np.float64]
    points: dict[str, tuple[float, float]]


# ---------------------------------------------------------------------------------------------------------- evaluating


def evaluate(
    predictor: Segmenter | Mapping[str, Segmenter],
    corpus: Corpus,
    *,
    split: str = "test",
    sources: Sequence[str] = (),
    protocol: Protocol = "ours",
    prompts: Sequence[Start] = ("box", "centre", "random"),
    clicks: Sequence[int] = (0, 1, 3, 5, 7),
    refine: int = 1,
    largest: bool = False,
    limit: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> "Evaluation":
    """Evaluate one or several sets of weights on the instances of a split.

    Specks are excluded, as in training; the result has their number.

    Args:
        predictor: A model, or several by name.
        corpus: The corpus.
        split: "train", "val", "test" or "all".
        sources: Names; all sources of the corpus if empty.
        protocol: "paper", "ours" or "both".
        prompts: First prompts of the protocol `ours`.
        clicks: Numbers of corrective clicks of the protocol `ours`; they include 0.
        refine: Of the protocol `ours`, as in `Predictor.predict`.
        largest: Exclude instances smaller than 95 % of their image's largest, as in an earlier published MMOTU test
            list.
        limit: Largest number of images, chosen by their ids; None for all.
        seed: Of random points, `limit` and the bootstrap.
        progress: Called with (images done, images).

    Returns:
        Metrics of every instance, with summaries, tables and pages.

    Raises:
        UnknownName: A source is not in the corpus.
        UsageError: Invalid arguments, or no instance to evaluate.
        TrainError: An image or a mask cannot be read.
    """
    models = dict(predictor) if isinstance(predictor, Mapping) else {"model": predictor}
    if BASELINE in models or not models:
        raise UsageError(f"Weights need a name other than {BASELINE!r}, the name of the baseline.")
    ways = _ways(protocol, prompts, clicks, refine)
    chosen, facts = _chosen(corpus, split, sources, largest, limit, seed)
    # Two growing blocks of memory: single objects would fragment the memory of released images.
    numbers, rles = bytearray(), bytearray()

    def keep(results: Sequence[_Found], weights: int, way: int) -> None:
        numbers.extend(_numbers(results, weights, way).tobytes())
        for one in results:
            rles.extend(one.rle)

    for done, (image, rows) in enumerate(chosen, 1):
        pixels = corpus.picture(image)
        x, y = corpus.images["spacing"][image]
        for m, model in enumerate(models.values(), 1):
            encoded = model.encode(pixels)
            for instances in _batches(corpus, rows, seed):
                for n, way in enumerate(ways):
                    keep(_prompted(model, encoded, instances, way, (float(x), float(y))), m, n)
        for instances in _batches(corpus, rows, seed):
            for n, way in enumerate(ways):
                if way.prompt == "box":
                    keep([_guessed(instance, (float(x), float(y))) for instance in instances], 0, n)
        if progress is not None:
            progress(done, len(chosen))
    names = [BASELINE, *models]
    facts |= {
        "corpus": {"release": corpus.facts["release"], "digest": corpus.digest},
        "protocol": protocol, "prompts": list(prompts), "clicks": sorted(clicks), "refine": refine,
        "weights": names[1:], "largest": largest, "seed": seed, "done_at": DONE,
        "nsd_tolerance": {"pixels": NSD_PIXELS, "mm": NSD_MM}, "us43d": us43d.__version__,
    }  # fmt: skip
    return Evaluation(_frame(corpus, np.frombuffer(numbers, _NUMBERS), rles, names, ways), facts, corpus)


def references(corpus: Corpus, sources: Sequence[str]) -> "pd.DataFrame":
    """Make rows of an evaluation from the reference masks of all splits, with the weights "reference".

    Specks are excluded, as in evaluation.

    Args:
        corpus: The corpus.
        sources: Names; all sources of the corpus if empty.

    Returns:
        Rows as in `Evaluation.rows`.

    Raises:
        UnknownName: A source is not in the corpus.
        UsageError: The sources have no instance.
    """
    chosen, _ = _chosen(corpus, "all", sources, False, None, 0)
    places = [row for _, rows in chosen for row in rows]
    numbers = np.zeros(len(places), _NUMBERS)
    numbers["annotation"], numbers["dice"], numbers["iou"], numbers["score"] = places, 1, 1, 1
    texts = [corpus.rle(row) for row in places]
    numbers["rle_len"] = [len(text) for text in texts]
    return _frame(corpus, numbers, bytearray(b"".join(texts)), ["reference"], [Way("ours", "box", (0,), 0, "sharp")])


def _ways(protocol: Protocol, prompts: Sequence[Start], clicks: Sequence[int], refine: int) -> list[Way]:
    if unknown := set(prompts) - {"box", "centre", "random"}:
        raise UsageError(f"Unknown first prompt {listed(sorted(unknown))}: use box, centre or random.")
    if not prompts or not clicks or min(clicks) != 0:
        raise UsageError("An evaluation needs at least one first prompt, and numbers of clicks that include 0.")
    ways = []
    if protocol in ("paper", "both"):
        ways += [Way("paper", prompt, (0,), 1, "paper") for prompt in ("box", "centre")]
    if protocol in ("ours", "both"):
        steps = tuple(sorted(set(clicks)))
        ways += [Way("ours", prompt, steps, refine, "sharp") for prompt in dict.fromkeys(prompts)]
    return ways


def _chosen(
    corpus: Corpus, split: str, sources: Sequence[str], largest: bool, limit: int | None, seed: int
) -> tuple[list[tuple[int, list[int]]], dict[str, Any]]:
    """Select (row of images, rows of annotations) to evaluate, and count what is excluded."""
    if split not in (*SPLITS, "all"):
        raise UsageError(f"Unknown split {split!r}: use one of {', '.join(SPLITS)}, all.")
    names = [source["name"] for source in corpus.sources]
    wanted = corpus.select(sources)
    rows = corpus.split(split) if split != "all" else np.flatnonzero(corpus.images["split"] < SPLITS.index("excluded"))
    rows = rows[np.isin(corpus.images["source"][rows], wanted)]
    inside = [(int(row), list(corpus.of(int(row)))) for row in rows]
    with_some = [(image, annotations) for image, annotations in inside if annotations]
    kept, specks, smaller = [], 0, 0
    for image, annotations in with_some:
        large = [row for row in annotations if not corpus.annotations["flags"][row] & SPECK]
        specks += len(annotations) - len(large)
        if largest and large:
            area = corpus.annotations["area"][large]
            before, large = len(large), [r for r, a in zip(large, area, strict=True) if a >= LARGEST * area.max()]
            smaller += before - len(large)
        if large:
            kept.append((image, large))
    if not kept:
        excluded = f": {counted(specks, 'annotation is a speck', 'annotations are specks')}" if specks else ""
        raise UsageError(
            f"No instance to evaluate in the split {split!r} of {listed(names[n] for n in wanted)}{excluded}.",
            next="us43d eval --help" if split == "all" else "the same with --split all",
        )
    of = len(kept)
    within = set(corpus.sample((image for image, _ in kept), limit, seed))
    kept = [pair for pair in kept if pair[0] in within]
    return kept, {
        "split": split,
        "sources": [names[n] for n in wanted],
        "licences": {names[n]: corpus.sources[n]["licence"]["id"] for n in wanted},
        "images": len(kept),
        "images_in_reach": of,
        "instances": sum(len(annotations) for _, annotations in kept),
        "left_out": {
            "images_without_instance": len(inside) - of,
            "specks": specks,
            "below_95_percent_of_the_largest": smaller,
            "images_by_limit": of - len(kept),
        },
    }


def _instance(corpus: Corpus, row: int, seed: int) -> Instance:
    mask = corpus.mask(row)
    random = drawing.point(mask, drawing.fixed(str(corpus.annotations["id"][row]), seed))
    box = drawing.box_of(mask)
    x, y = int(box[0]), int(box[1])
    ys, xs = np.nonzero(mask[y : int(box[3]), x : int(box[2])])
    return Instance(row, mask, box, {"centre": (float(xs.mean()) + x, float(ys.mean()) + y), "random": random})


def _batches(corpus: Corpus, rows: list[int], seed: int) -> Iterator[list[Instance]]:
    image = corpus.images[corpus.annotations["image"][rows[0]]]
    step = at_once((int(image["height"]), int(image["width"])), AT_ONCE)
    for at in range(0, len(rows), step):
        yield [_instance(corpus, row, seed) for row in rows[at : at + step]]


@dataclass(frozen=True, slots=True)
class _Found:
    """A predicted mask after `clicks` corrective clicks. rle: the mask, only for 0 clicks; else empty."""

    row: int
    point: tuple[float, float]
    clicks: int
    score: float
    scores: Scores
    to_90: float
    rle: bytes


def _numbers(results: Sequence[_Found], weights: int, way: int) -> NDArray[Any]:
    rows = [
        (
            result.row,
            weights,
            way,
            result.clicks,
            *result.point,
            result.score,
            *result.scores,
            result.to_90,
            len(result.rle),
        )
        for result in results
    ]
    return np.array(rows, _NUMBERS)


def _guessed(instance: Instance, spacing: tuple[float, float]) -> _Found:
    mask = drawing.ellipse(instance.box, instance.mask.shape)
    nowhere = (np.nan, np.nan)
    return _Found(instance.row, nowhere, 0, 1.0, scores(instance.mask, mask, spacing), np.nan, _rle(mask))


def _prompted(
    predictor: Segmenter, encoded: Encoded, instances: Sequence[Instance], way: Way, spacing: tuple[float, float]
) -> list[_Found]:
    """Segment some instances of an image with first prompts, then with corrective clicks."""
    if way.prompt == "box":
        points, labels = box_prompts(torch.tensor(np.stack([i.box for i in instances])), encoded.scale)
    else:
        first = torch.tensor([i.points[way.prompt] for i in instances], dtype=torch.float64)
        points, labels = point_prompts(first, encoded.scale)
    points, labels = points.to(predictor.device), labels.to(predictor.device)
    predictions = predictor.segment(encoded, points, labels, refine=way.refine, postprocess=way.postprocess)
    rles = [_rle(prediction.mask) for prediction in predictions]
    trails = [
        [(prediction.score, scores(i.mask, prediction.mask, spacing))]
        for i, prediction in zip(instances, predictions, strict=True)
    ]
    active = list(range(len(instances)))
    for _ in range(way.clicks[-1]):
        clicks = {n: at for n in active if (at := drawing.click(instances[n].mask, predictions[n].mask)) is not None}
        if clicks:
            kept = torch.tensor([active.index(n) for n in clicks], device=points.device)
            added, _ = point_prompts(torch.tensor([(x, y) for x, y, _ in clicks.values()]).double(), encoded.scale)
            kinds = torch.tensor([[inside] for *_, inside in clicks.values()], device=labels.device)
            points, labels = (
                torch.cat([points[kept], added[:, :1].to(points.device)], 1),
                torch.cat([labels[kept], kinds], 1),
            )
            former = torch.from_numpy(np.stack([predictions[n].logits for n in clicks]))
            better = predictor.segment(encoded, points, labels, postprocess=way.postprocess, former=former)
            predictions = [*predictions]
            for n, prediction in zip(clicks, better, strict=True):
                predictions[n] = prediction
        active = list(clicks)  # a mask without error gets no further click
        for n, trail in enumerate(trails):
            again = n in clicks
            trail.append(
                (predictions[n].score, scores(instances[n].mask, predictions[n].mask, spacing)) if again else trail[-1]
            )
    return [
        _Found(
            instance.row, instance.points.get(way.prompt, (np.nan, np.nan)), number, *trail[number],
            _to_90(trail) if len(trail) > 1 else np.nan, rle if number == 0 else b"",
        )
        for instance, trail, rle in zip(instances, trails, rles, strict=True)
        for number in way.clicks
    ]  # fmt: skip


def _to_90(trail: Sequence[tuple[float, Scores]]) -> float:
    """Return the number of clicks until Dice reached DONE; one more than were made if it never did."""
    return float(next((n for n, (_, values) in enumerate(trail) if values.dice >= DONE), len(trail)))


def _rle(mask: Mask) -> bytes:
    from pycocotools import mask as coco

    return bytes(coco.encode(np.asfortranarray(mask.view(np.uint8)))["counts"])


def _frame(corpus: Corpus, table: NDArray[Any], rles: bytearray, names: list[str], ways: list[Way]) -> "pd.DataFrame":
    """Make one row per instance, weights, way of prompting and number of clicks. rles: concatenated, of all rows."""
    import pandas as pd

    annotations = corpus.annotations[table["annotation"]]
    images = corpus.images[annotations["image"]]
    sources = [source["name"] for source in corpus.sources]
    categories = {category["id"]: category for category in corpus.categories}

    def named(codes: NDArray[Any], name: Callable[[int], str]) -> Any:
        """Map codes to names, computing each name once."""
        values, at = np.unique(codes, return_inverse=True)
        return pd.Categorical(np.array([name(int(v)) for v in values], object)[at])

    def group(image: int) -> str:
        return f"{sources[corpus.images['source'][image]]}/{corpus.group(image)}"

    ends = table["rle_len"].cumsum(dtype=np.int64).tolist()
    numbers, first = np.unique(images["group"], return_index=True)
    of = dict(zip(numbers.tolist(), annotations["image"][first].tolist(), strict=True))
    return pd.DataFrame(
        {
            "annotation": annotations["id"],
            "image": images["id"],
            "source": named(images["source"], lambda n: sources[n]),
            "key": named(annotations["image"], corpus.key),
            "group": named(images["group"], lambda n: group(of[n])),
            "organ": named(annotations["category"], lambda n: categories[n]["supercategory"]),
            "structure": named(annotations["category"], lambda n: categories[n]["name"]),
            "diagnosis": named(annotations["diagnosis"], lambda n: corpus.facts["diagnoses"][n]),
            "area": annotations["area"],
            "protocol": named(table["way"], lambda n: ways[n].protocol),
            "prompt": named(table["way"], lambda n: ways[n].prompt),
            "weights": named(table["weights"], lambda n: names[n]),
            **{name: table[name] for name in ("clicks", "x", "y", *METRICS)},
            "rle": [bytes(rles[start:end]) for start, end in zip([0, *ends[:-1]], ends, strict=True)],
        }
    )
