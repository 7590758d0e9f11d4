"""Evaluate the weights of a task on a split of a corpus: numbers, tables and a page."""

import html
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from us43d import atomic, report
from us43d.errors import UsageError, listed
from us43d.evaluate import classification, detection
from us43d.evaluate.metrics import bootstrap, overlap
from us43d.evaluate.results import plain
from us43d.harmonize.corpus import SPLITS, Corpus, is_speck
from us43d.masks import rle
from us43d.train.config import TrainConfig
from us43d.train.tasks import classify, images

if TYPE_CHECKING:
    from us43d.train.tasks.instances import Detection

__all__ = ["TaskEvaluation", "evaluate"]

Progress = Callable[[int, int | None], None]
Rows = list[list[Any]]


class TaskEvaluation(NamedTuple):
    """Result of an evaluation.

    Attributes:
        facts: Task, weights, data and exclusions.
        tables: (heading, column heads, rows).
        plots: (heading, SVG).
        numbers: Further content of metrics.json.
    """

    facts: dict[str, Any]
    tables: list[tuple[str, list[str], Rows]]
    plots: list[tuple[str, str]]
    numbers: dict[str, Any]

    def described(self) -> str:
        """Describe data, exclusions and intervals in sentences."""
        facts = self.facts
        excluded = "; ".join(f"{number:,} {why}" for why, number in facts["excluded"].items() if number)
        return (
            f"Task {facts['task']} on the split {facts['split']} of {listed(facts['sources'], 60)}: {facts['items']:,} "
            f"items of {facts['groups']:,} groups. Excluded: {excluded or 'nothing'}. Intervals are 95 %, by the "
            "bootstrap over groups."
        )

    def write(self, folder: Path) -> Path:
        """Write metrics.json, table.md and page.html. Raises StorageError."""
        note = f"<p>{html.escape(self.described())}</p>"
        sections = [("", note), *((head, report.table(heads, rows)) for head, heads, rows in self.tables), *self.plots]
        markdown = [f"# {self.facts['task']}\n", f"{self.described()}\n"]
        for head, heads, rows in self.tables:
            markdown += [f"## {head}\n", report.markdown(heads, rows)]
        files = {
            "metrics.json": json.dumps({"facts": self.facts, **self.numbers}, indent=1, ensure_ascii=False),
            "table.md": "\n".join(markdown),
            "page.html": report.page(f"Evaluation of {self.facts['weights']}", sections, self.facts["task"]),
        }
        return atomic.write_results(folder, files, "Files of the evaluation that are there are complete.")


def evaluate(
    place: Path,
    corpus: Corpus,
    *,
    split: str = "test",
    sources: Sequence[str] = (),
    limit: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> TaskEvaluation:
    """Evaluate the weights of a task.

    Args:
        place: Folder of the weights.
        corpus: The corpus.
        split: "train", "val", "test" or "all".
        sources: Names; all sources of the corpus if empty.
        limit: Largest number of images, chosen by their ids; None for all.
        seed: Of `limit` and the bootstrap.
        device: "cpu", "cuda", "cuda:N" or "mps".
        progress: Called with (items done, items).

    Raises:
        UnknownName: A source is not in the corpus.
        UsageError: No image of the split can be evaluated.
        WeightsError: The folder does not hold weights of a task.
    """
    record, _ = images.read(place)
    splits = SPLITS[:3] if split == "all" else (split,)
    config = TrainConfig(task=record.name, target=record.target, model=record.model, sources=tuple(sources),
                         context=record.context, precision="float32")  # fmt: skip
    rows = np.array(corpus.sample(images.chosen(corpus, config, splits).tolist(), limit, seed), np.int64)
    facts = {"task": config.task, "weights": place.parent.name if place.name == "weights" else place.name,
             "split": split, "sources": [corpus.sources[n]["name"] for n in corpus.select(sources)],
             "corpus": corpus.digest, "seed": seed, "excluded": {}}  # fmt: skip
    if config.task == "semantic":
        return _structures(place, corpus, rows, facts, device, progress)
    if config.task == "instances":
        return _instances(place, corpus, rows, facts, device, progress)
    return _classes(place, corpus, config, rows, facts, torch.device(device), progress)


def _nothing(facts: dict[str, Any], verb: str, what: str, names: Sequence[str]) -> UsageError:
    return UsageError(
        f"No image of the split {facts['split']!r} {verb} one of the {what} {listed(names)}.",
        next="the same with --split all",
    )


def _structures(
    place: Path, corpus: Corpus, rows: Any, facts: dict[str, Any], device: str, progress: Progress | None
) -> TaskEvaluation:
    """Compute Dice and IoU of each structure on images that show it, and count false detections on other images."""
    from us43d.train.tasks import instances, semantic

    model, record = semantic.load(place)
    model.to(device)
    ids = {category["name"]: category["id"] for category in corpus.categories}
    numbers = {ids[name]: n for n, name in enumerate(record.classes, 1) if name in ids}
    overlaps: list[tuple[int, int, float, float]] = []
    wrong = dict.fromkeys(record.classes, 0)
    detections: list[dict[str, Any]] = []
    for done, image in enumerate(rows.tolist(), 1):
        labels = semantic.truth(corpus, image, numbers)
        chances = semantic.chances(model, corpus.picture(image), device).cpu().numpy()
        predicted = chances.argmax(0).astype(np.uint8)
        pieces = _pieces(predicted, chances, {number: category for category, number in numbers.items()})
        detections += instances.results(int(corpus.images["id"][image]), pieces)
        for name, number in zip(record.classes, range(1, len(record.classes) + 1), strict=True):
            mask, guess = labels == number, predicted == number
            if mask.any():
                overlaps.append((int(corpus.images["group"][image]), number, *overlap(mask, guess)))
            else:
                wrong[name] += bool(guess.any())
        if progress is not None:
            progress(done, len(rows))
    if not overlaps:
        raise _nothing(facts, "shows", "structures", record.classes)
    table = np.array(overlaps)
    facts |= {"items": len(table), "groups": len(np.unique(table[:, 0])), "classes": record.classes,
              "images": len(rows), "network": record.network}  # fmt: skip
    cells: Rows = []
    entries = []
    for name, number in [("all structures, macro", 0), *((name, n) for n, name in enumerate(record.classes, 1))]:
        subset = table if number == 0 else table[table[:, 1] == number]
        strata = subset[:, 1] if number == 0 else None
        dice, iou = (bootstrap(subset[:, c], subset[:, 0], strata, seed=facts["seed"]) for c in (2, 3))
        entries.append(plain({"structure": name, "images": len(subset), "dice": dice, "iou": iou}))
        shown = [f"{v.mean:.3f} ({v.low:.3f}–{v.high:.3f})" if v.values else None for v in (dice, iou)]
        cells.append([name, len(subset), *shown, sum(wrong.values()) if number == 0 else wrong[name]])
    heads = ["structure", "masks", "Dice", "IoU", "found on images without it"]
    categories = {category: record.classes[number - 1] for category, number in numbers.items()}
    truth = detection.reference(corpus, rows.tolist(), categories)
    pieces_table, precision = _precision("COCO average precision, connected components as instances", truth, detections)
    numbers_ = {"structures": entries, "found_without": wrong, "average_precision": precision}
    return TaskEvaluation(facts, [("Overlap", heads, cells), pieces_table], [], numbers_)


def _pieces(labels: Any, chances: Any, categories: dict[int, int]) -> Iterator["Detection"]:
    """Yield the connected components of a label map as instances, without specks; score: their mean probability."""
    from us43d.masks.components import components
    from us43d.train.tasks.instances import Detection

    for number, category in categories.items():
        for piece in components(labels == number):
            if not is_speck(piece.area, *labels.shape):
                mask = rle.decode(piece.counts.encode(), *labels.shape)
                yield Detection(category, float(chances[number][mask].mean()), mask)


def _instances(
    place: Path, corpus: Corpus, rows: Any, facts: dict[str, Any], device: str, progress: Progress | None
) -> TaskEvaluation:
    """Compute COCO's average precision of each structure over all images."""
    from us43d.train.tasks import instances

    model, record = instances.load(place)
    model.to(device)
    here = {category["id"] for category in corpus.categories}
    categories = {number: name for number, name in model.categories.items() if number in here}
    truth = detection.reference(corpus, rows.tolist(), categories)
    if not truth["annotations"]:
        raise _nothing(facts, "shows", "structures", record.classes)
    results: list[dict[str, Any]] = []
    for done, image in enumerate(rows.tolist(), 1):
        detections = instances.detect(model, corpus.picture(image), device)
        results += instances.results(int(corpus.images["id"][image]), detections)
        if progress is not None:
            progress(done, len(rows))
    facts |= {"items": len(truth["annotations"]), "groups": len(np.unique(corpus.images["group"][rows])),
              "classes": record.classes, "images": len(rows)}  # fmt: skip
    results = [result for result in results if result["category_id"] in categories]
    table, precision = _precision("COCO average precision", truth, results)
    return TaskEvaluation(facts, [table], [], {"average_precision": precision})


def _precision(
    head: str, truth: dict[str, Any], results: list[dict[str, Any]]
) -> tuple[tuple[str, list[str], Rows], dict[str, Any]]:
    """Make (table, numbers) of detections, by structure and over all."""
    values = detection.average_precision(truth, results)
    named = {category["id"]: category["name"] for category in truth["categories"]}
    counts = Counter(annotation["category_id"] for annotation in truth["annotations"])
    entries, cells = [], []
    for number, name in [(None, "mean of the structures"), *named.items()]:
        by = {kind: scores if number is None else scores["categories"][number] for kind, scores in values.items()}
        kinds = {kind: {one: by[kind][one] for one in ("map", "ap50", "ap75")} for kind in ("segm", "bbox")}
        count = len(truth["annotations"]) if number is None else counts[number]
        entries.append(plain({"structure": name, "instances": count, **kinds}))
        shown = [*kinds["segm"].values(), kinds["bbox"]["map"]]
        cells.append([name, count, *(f"{value:.3f}" if np.isfinite(value) else None for value in shown)])
    heads = ["structure", "instances", "mask AP", "mask AP50", "mask AP75", "box AP"]
    return (head, heads, cells), {"images": len(truth["images"]), "detections": len(results), "structures": entries}


def _classes(
    place: Path,
    corpus: Corpus,
    config: TrainConfig,
    rows: Any,
    facts: dict[str, Any],
    device: torch.device,
    progress: Progress | None,
) -> TaskEvaluation:
    model, record = classify.load(place)
    model.to(device)
    every = classify.items(corpus, rows, config)
    wanted = [item for item in every if item.label in record.classes]
    if not wanted:
        raise _nothing(facts, "has", "classes", record.classes)
    named = {item.image for item in every}
    facts["excluded"] = {"images without a label": int(sum(int(row) not in named for row in rows)),
                         "items of classes unknown to the weights": len(every) - len(wanted)}  # fmt: skip
    probabilities = np.zeros((len(wanted), len(record.classes)))
    for n, item in enumerate(wanted):
        probabilities[n] = classify.chances(model, corpus, config, [item], device)[0]
        if progress is not None:
            progress(n + 1, len(wanted))
    truth = np.array([record.classes.index(item.label) for item in wanted])
    groups = np.array([corpus.images["group"][item.image] for item in wanted])
    facts |= {"items": len(wanted), "groups": len(np.unique(groups)), "classes": record.classes}
    scores = classification.with_intervals(truth, probabilities, groups, seed=facts["seed"])
    called = probabilities.argmax(1)
    counts = Counter(zip(truth.tolist(), called.tolist(), strict=True))
    classes = record.classes
    confusion = [[classes[a], *(counts[a, b] for b in range(len(classes)))] for a in range(len(classes))]
    calibration = classification.calibration(truth, probabilities)
    tables: list[tuple[str, list[str], Rows]] = [
        ("Scores", ["score", "value", "95 % interval"], [[_NAMES[name], one["mean"], _span(one)] for name, one in
                                                        scores.items()]),
        ("Confusion", ["true \\ predicted", *classes], confusion),
    ]  # fmt: skip
    numbers = {"scores": plain(scores), "confusion": confusion,
               "items": [{"image": int(corpus.images["id"][item.image]), "key": corpus.key(item.image),
                          "truth": item.label, "predicted": classes[b], "probability": round(float(row[b]), 5)}
                         for item, b, row in zip(wanted, called.tolist(), probabilities, strict=True)]}  # fmt: skip
    return TaskEvaluation(facts, tables, [("Reliability", classification.reliability(calibration))], numbers)


_NAMES = {
    "accuracy": "accuracy", "precision": "precision (macro)", "recall": "recall (macro)", "f1": "F1 (macro)",
    "auroc": "AUROC (macro, one against the rest)", "ece": "expected calibration error",
    "majority": "accuracy of always the most frequent class",
}  # fmt: skip


def _span(score: dict[str, float]) -> str:
    return f"{score['low']:.3f}–{score['high']:.3f}" if np.isfinite(score["low"]) else "one group"
