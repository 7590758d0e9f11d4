"""Results of an evaluation: means with intervals, COCO's average precision, paired differences, pages."""

import html
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from us43d import atomic, report
from us43d.errors import UsageError, listed
from us43d.evaluate import readouts
from us43d.evaluate.agreement import Agreement
from us43d.evaluate.detection import average_precision
from us43d.evaluate.metrics import NSD_MM, NSD_PIXELS, ROUNDS, Interval, bootstrap
from us43d.harmonize.corpus import Corpus
from us43d.masks import rle

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BASELINE", "METRICS", "WAY", "Evaluation", "compare", "compared", "plain"]

#: The baseline in every table: the ellipse inscribed in the box prompt, which uses no image.
BASELINE = "ellipse"
#: Columns that identify how a mask was predicted.
WAY = ["protocol", "prompt", "clicks", "weights"]
METRICS = ("score", "dice", "iou", "hd95", "nsd", "hd95_mm", "nsd_mm", "clicks_to_90")
_LEVELS = ("source", "organ", "structure", "diagnosis")
_COMPARED = ("dice", "iou", "hd95", "nsd", "clicks_to_90")
#: Note above the table of measurements.
MEASURED = (
    "Measured minus reference; masks before the first click. Bias with its 95 % interval by the bootstrap over groups; "
    "limits of agreement are bias ± 1.96 SD (Bland, Altman 1986). Reference: the same measurement of the reference "
    "mask, or the value in the source's table. Formulas and their known biases: docs/evaluation.md."
)
#: Number of cases drawn of each kind.
_CASES = 4


class Evaluation:
    """Result of an evaluation.

    Attributes:
        rows: One row per instance, weights, way of prompting and number of clicks: the prompt's point, all metrics and,
            for the mask before the first click, its compressed RLE.
        facts: Corpus, weights and settings of the evaluation.
        corpus: The corpus; None for an evaluation read from a folder.
    """

    def __init__(self, rows: "pd.DataFrame", facts: Mapping[str, Any], corpus: Corpus | None = None) -> None:
        self.rows, self.facts, self.corpus = rows, dict(facts), corpus

    @classmethod
    def read(cls, folder: Path) -> "Evaluation":
        """Read an evaluation from the folder of `write`. Raises UsageError for other folders."""
        import pandas as pd

        try:
            facts = json.loads((folder / "metrics.json").read_text("utf-8"))["facts"]
            return cls(pd.read_parquet(folder / "instances.parquet"), facts)
        except (OSError, ValueError, KeyError) as error:
            raise UsageError(f"{folder} does not contain an evaluation: {error}.", next="us43d eval --help") from error

    @cached_property
    def summary(self) -> list[dict[str, Any]]:
        """Means and intervals of every metric over sources (level "macro") and by source, organ, structure, diagnosis.

        An entry has protocol, prompt, clicks, weights, level, name, instances, groups, and the metrics as Interval.
        """
        return _summary(self.rows, self.facts["seed"])

    @cached_property
    def coco(self) -> list[dict[str, Any]]:
        """COCO's class-agnostic average precision under the protocol `paper`, per source and pooled."""
        paper = self.rows[self.rows["protocol"] == "paper"]
        if paper.empty:
            return []
        if self.corpus is None:
            raise UsageError("Average precision needs the corpus the evaluation was made on.")
        entries = []
        for way, subset in _ways(paper):
            for source, source_rows in [("all", subset), *subset.groupby("source", observed=True)]:
                entries.append(
                    dict(zip(WAY, way, strict=True)) | {"source": str(source)} | _coco(source_rows, self.corpus)
                )
        return entries

    @cached_property
    def measurements(self) -> "pd.DataFrame":
        """Clinical measurements of the masks (`readouts.measurements`)."""
        if self.corpus is None:
            raise UsageError("Measurements need the corpus the evaluation was made on.")
        return readouts.measurements(self.rows, self.corpus)

    @cached_property
    def agreements(self) -> list[dict[str, Any]]:
        """Bias and limits of agreement of every measurement (`readouts.agreements`)."""
        return readouts.agreements(self.measurements, self.facts["seed"])

    def table(self, level: str = "macro") -> tuple[list[str], list[list[Any]]]:
        """Make a table (headings, rows) of means with 95 % intervals.

        Args:
            level: "macro" for all ways of prompting; "source", "organ", "structure" or "diagnosis" for first prompts
                only.
        """
        mm = any(entry["hd95_mm"].values for entry in self.summary)
        shown = ["dice", "iou", "hd95", "nsd", *(["hd95_mm", "nsd_mm"] if mm else []), "clicks_to_90"]
        heads = [
            *([] if level == "macro" else [level]), *WAY, "instances", "groups", "Dice", "IoU", "HD95 px",
            f"NSD {NSD_PIXELS:g} px", *(["HD95 mm", f"NSD {NSD_MM:g} mm"] if mm else []), "clicks to Dice 0.9",
        ]  # fmt: skip
        rows = [
            [
                *([] if level == "macro" else [entry["name"]]), *(entry[name] for name in WAY), entry["instances"],
                entry["groups"], *(_words(entry[name], name) for name in shown),
            ]
            for entry in self.summary
            if entry["level"] == level and (level == "macro" or entry["clicks"] == 0)
        ]  # fmt: skip
        return heads, rows if level == "macro" else sorted(rows, key=lambda row: row[0])

    def coco_table(self) -> tuple[list[str], list[list[Any]]]:
        """Make a table (headings, rows) of average precision."""
        heads = ["source", "prompt", "weights", "instances", "box mAP", "AP50", "AP75", "mask mAP", "AP50", "AP75"]
        return heads, [
            [e["source"], e["prompt"], e["weights"], e["instances"], *e["bbox"].values(), *e["segm"].values()]
            for e in self.coco
        ]

    def described(self) -> list[str]:
        """Describe data, exclusions and statistics in sentences."""
        facts, left = self.facts, self.facts["left_out"]
        of = f" of {facts['images_in_reach']:,} (limited)" if left["images_by_limit"] else ""
        small = left["below_95_percent_of_the_largest"]
        return [
            f"Split {facts['split']} of {listed(facts['sources'], 60)}: {facts['instances']:,} instances in "
            f"{facts['images']:,}{of} images. Excluded: {left['specks']:,} specks, as in training"
            + (f"; {small:,} instances below 95 % of their image's largest" if small else "")
            + f". {left['images_without_instance']:,} further images have no instance.",
            "Means over the sources of their means over instances, with 95 % intervals by the bootstrap over groups "
            f"({ROUNDS:,} rounds, seed {facts['seed']}). HD95 of an empty mask is the image's diagonal, its NSD 0. "
            f"Where Dice {facts['done_at']:g} is not reached, one click more than were made is counted.",
            "Licences of the data: " + ", ".join(map(" ".join, facts["licences"].items())) + ".",
        ]

    def markdown(self) -> str:
        """Return all tables in Markdown."""
        parts = ["# Evaluation\n", *(f"{line}\n" for line in self.described())]
        parts += ["## Over all sources\n", report.markdown(*self.table())]
        if self.coco:
            parts += ["## COCO average precision, class-agnostic\n", report.markdown(*self.coco_table())]
        if self.agreements:
            parts += ["## Measurements\n", f"{MEASURED}\n", report.markdown(*readouts.table(self.agreements))]
        for level in _LEVELS:
            heads, rows = self.table(level)
            if rows:
                parts += [f"## By {level}\n", report.markdown(heads, rows)]
        return "\n".join(parts)

    def page(self) -> str:
        """Return an HTML page with tables, plots, and drawings of the best, median and worst cases."""
        about = "".join(f"<p>{html.escape(line)}</p>" for line in self.described())
        sections = [("", about), ("Over all sources", report.table(*self.table()))]
        if self.coco:
            sections.append(("COCO average precision, class-agnostic", report.table(*self.coco_table())))
        sections += [(f"Dice by source, {what}", plot) for what, plot in self._forests()]
        if len(self.facts["clicks"]) > 1 and self.facts["protocol"] != "paper":
            sections.append(("Dice against corrective clicks", self._clicks()))
        sections += [(head, report.legend() + report.figures(cases)) for head, cases in self.cases()]
        if self.agreements:
            note = f"<p>{html.escape(MEASURED)}</p>"
            sections.append(("Measurements", note + report.table(*readouts.table(self.agreements))))
            sections += list(readouts.plots(self.measurements, self.facts["weights"][0]))
        for level in _LEVELS:
            heads, rows = self.table(level)
            if rows:
                sections.append((f"By {level}", report.table(heads, rows)))
        weights = ", ".join(self.facts["weights"])
        return report.page(f"Evaluation of {weights}", sections, f"corpus {self.facts['corpus']['digest'][:12]}")

    def cases(self, count: int = _CASES) -> Iterator[tuple[str, list[report.Figure]]]:
        """Draw the best, median and worst masks of the first weights for each first prompt.

        Args:
            count: Largest number of cases of each kind.

        Yields:
            (heading, figures).

        Raises:
            UsageError: The evaluation was read from a folder, without its corpus.
        """
        if self.corpus is None:
            raise UsageError("Cases cannot be drawn without the corpus the evaluation was made on.")
        own = self.rows[(self.rows["weights"] == self.facts["weights"][0]) & (self.rows["clicks"] == 0)]
        for (protocol, prompt), subset in own.groupby(["protocol", "prompt"], observed=True):
            ordered = subset.sort_values(["dice", "annotation"], ascending=[False, True])
            number = min(count, -(-len(ordered) // 3))
            middle = (len(ordered) - number) // 2
            for word, at in (("best", 0), ("median", middle), ("worst", len(ordered) - number)):
                some = ordered.iloc[at : at + number]
                cases = [self._drawn(case, self.corpus) for case in some.to_dict("records")]
                yield f"{prompt} prompt ({protocol}): {word}", cases

    def _drawn(self, case: Mapping[str, Any], corpus: Corpus) -> report.Figure:
        row = int(np.flatnonzero(corpus.annotations["id"] == case["annotation"])[0])
        image = int(corpus.annotations["image"][row])
        height, width = (int(corpus.images[name][image]) for name in ("height", "width"))
        x, y, wide, high = (int(v) for v in corpus.annotations["bbox"][row])
        box = (x, y, x + wide, y + high) if case["prompt"] == "box" else None
        points = [] if box else [(float(case["x"]), float(case["y"]), 1)]
        overlay = report.overlay(
            corpus.picture(image),
            {"truth": corpus.mask(row), "found": rle.decode(case["rle"], height, width)},
            box,
            points,
            crop=True,
        )
        caption = f"Dice {case['dice']:.3f}, predicted IoU {case['score']:.2f}: {case['source']}, {case['key']}"
        return report.Figure(report.picture(overlay, caption), f"{caption} ({case['structure'].replace('_', ' ')})")

    def _forests(self) -> Iterator[tuple[str, str]]:
        """Yield (heading, plot) of Dice by source for each protocol's first prompt."""
        seen: set[str] = set()
        for first in self.summary:
            if first["protocol"] in seen:
                continue
            seen.add(first["protocol"])
            rows: dict[str, list[tuple[str, float, float, float]]] = {}
            for entry in self.summary:
                same = all(entry[name] == first[name] for name in ("protocol", "prompt", "clicks"))
                if same and entry["level"] in ("macro", "source"):
                    label = "all sources" if entry["level"] == "macro" else entry["name"]
                    rows.setdefault(label, []).append((entry["weights"], *entry["dice"][:3]))
            heading = f"{first['prompt']} prompt ({first['protocol']})"
            yield heading, report.forest(list(rows.items()), "Dice, mean and 95 % interval")

    def _clicks(self) -> str:
        series: dict[str, list[tuple[float, float]]] = {}
        for entry in self.summary:
            if entry["protocol"] == "ours" and entry["level"] == "macro" and entry["weights"] != BASELINE:
                several = f", {entry['weights']}" if len(self.facts["weights"]) > 1 else ""
                series.setdefault(f"{entry['prompt']}{several}", []).append((entry["clicks"], entry["dice"].mean))
        curves = [report.Series(name, *zip(*at, strict=True)) for name, at in series.items()]
        return report.lines(curves, "corrective clicks after the first prompt", "Dice", span=0.1, top=1.0)

    def data(self) -> dict[str, Any]:
        """Return all numbers as in metrics.json; unknown values are None."""
        return {
            "facts": self.facts,
            "summary": [plain(e) for e in self.summary],
            "coco": [plain(e) for e in self.coco],
            "measurements": [plain(e) for e in self.agreements],
        }

    def write(self, folder: Path) -> Path:
        """Write metrics.json, instances.parquet, measurements.parquet, table.md and page.html.

        Args:
            folder: Destination.

        Returns:
            The folder.

        Raises:
            StorageError: A file cannot be written.
        """
        rows, sizes = io.BytesIO(), io.BytesIO()
        self.rows.to_parquet(rows, index=False)
        self.measurements.to_parquet(sizes, index=False)
        files: dict[str, bytes | str] = {
            "instances.parquet": rows.getvalue(),
            "measurements.parquet": sizes.getvalue(),
            "metrics.json": json.dumps(self.data(), indent=1, ensure_ascii=False),
            "table.md": self.markdown(),
            "page.html": self.page(),
        }
        return atomic.write_results(folder, files, "Files of the evaluation that are there are complete.")


def _ways(rows: "pd.DataFrame") -> list[tuple[tuple[str, str, int, str], "pd.DataFrame"]]:
    """List (protocol, prompt, clicks, weights) with their rows in the order of tables: the baseline comes last."""
    groups = [
        ((str(a), str(b), int(str(c)), str(d)), subset) for (a, b, c, d), subset in rows.groupby(WAY, observed=True)
    ]
    order = ("paper", "ours", "box", "centre", "random")
    return sorted(groups, key=lambda pair: (order.index(pair[0][0]), order.index(pair[0][1]), pair[0][2],
                                           pair[0][3] == BASELINE, pair[0][3]))  # fmt: skip


def _summary(rows: "pd.DataFrame", seed: int) -> list[dict[str, Any]]:
    return [
        dict(zip(WAY, way, strict=True)) | cell
        for way, subset in _ways(rows)
        for cell in _cells(subset, _LEVELS, METRICS, seed)
    ]


def _cells(rows: "pd.DataFrame", levels: Iterable[str], metrics: Iterable[str], seed: int) -> Iterator[dict[str, Any]]:
    """Yield the interval of each metric over all rows, then for each value of each level."""
    cells = [("macro", "all", rows)]
    cells += [(level, str(name), cell) for level in levels for name, cell in rows.groupby(level, observed=True)]
    for level, name, cell in cells:
        if not name:  # no diagnosis
            continue
        group, source = cell["group"].cat.codes.to_numpy(), cell["source"].cat.codes.to_numpy()
        strata = source if level == "macro" else None
        yield {"level": level, "name": name, "instances": len(cell), "groups": len(np.unique(group))} | {
            metric: bootstrap(cell[metric].to_numpy(), group, strata, seed=seed) for metric in metrics
        }


def _coco(rows: "pd.DataFrame", corpus: Corpus) -> dict[str, Any]:
    """Compute class-agnostic average precision of boxes and of masks (COCO's 0.50:0.95, 0.50, 0.75)."""
    order = np.argsort(corpus.annotations["id"])
    place = order[np.searchsorted(corpus.annotations["id"], rows["annotation"], sorter=order)]
    images, truth, detections = {}, [], []
    for n, (row, counts, score) in enumerate(zip(place, rows["rle"], rows["score"], strict=True), 1):
        annotation = corpus.annotations[row]
        image = corpus.images[annotation["image"]]
        size = [int(image["height"]), int(image["width"])]
        images[int(image["id"])] = {"id": int(image["id"]), "height": size[0], "width": size[1]}
        one = {"id": n, "image_id": int(image["id"]), "category_id": 1, "iscrowd": 0}
        truth.append(
            one | {"bbox": annotation["bbox"].tolist(), "area": int(annotation["area"]),
                   "segmentation": {"size": size, "counts": corpus.rle(row).decode("ascii")}}
        )  # fmt: skip
        detections.append(
            one | {"bbox": _box(counts, size), "score": float(score),
                   "segmentation": {"size": size, "counts": counts.decode("ascii")}}
        )  # fmt: skip
    whole = {"images": list(images.values()), "annotations": truth, "categories": [{"id": 1, "name": "structure"}]}
    precision = average_precision(whole, detections)
    kinds = {kind: {name: values[name] for name in ("map", "ap50", "ap75")} for kind, values in precision.items()}
    result: dict[str, Any] = {"instances": len(truth)} | kinds
    return result


def _box(counts: bytes, size: list[int]) -> list[float]:
    from pycocotools import mask as coco

    return [float(value) for value in coco.toBbox({"size": size, "counts": counts})]


def compare(a: Evaluation, b: Evaluation, first: str, second: str) -> list[dict[str, Any]]:
    """Compute paired differences, first minus second, over instances that both evaluated with equal prompts.

    Args:
        a: Evaluation of the first weights.
        b: Evaluation of the second weights.
        first: Name of the first weights in `a`.
        second: Name of the second weights in `b`.

    Returns:
        Entries with protocol, prompt, clicks, level ("macro" or "source"), name, instances, groups, and the mean
        difference of each metric as Interval.

    Raises:
        UsageError: No instance and prompt in common, or different seeds of random points.
    """
    keys = ["annotation", "protocol", "prompt", "clicks"]

    def of(evaluation: Evaluation, name: str) -> "pd.DataFrame":
        rows = evaluation.rows[evaluation.rows["weights"] == name]
        return rows.astype({"protocol": str, "prompt": str})

    one, two = of(a, first), of(b, second)
    pairs = one.merge(two[[*keys, *_COMPARED]], on=keys, suffixes=("", "_second"), validate="one_to_one")
    if a.facts["seed"] != b.facts["seed"] and (pairs["prompt"] == "random").any():
        raise UsageError(
            f"The evaluations have different random points (seeds {a.facts['seed']} and {b.facts['seed']}); their "
            "instances cannot be paired.",
            next="us43d eval with the same --seed for both",
        )
    if pairs.empty:
        raise UsageError(f"{first} and {second} have no instance and prompt in common.", next="us43d eval --help")
    for metric in _COMPARED:
        pairs[metric] -= pairs[f"{metric}_second"]
    return [
        dict(zip(keys[1:], way, strict=True)) | cell
        for way, subset in pairs.groupby(keys[1:], sort=False)
        for cell in _cells(subset, ["source"], _COMPARED, a.facts["seed"])
    ]


def compared(entries: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    """Make a table (headings, rows) of the result of `compare`."""
    heads = [
        "", "protocol", "prompt", "clicks", "instances", "groups", "Dice", "IoU", "HD95 px", "NSD", "clicks to 0.9",
    ]  # fmt: skip
    rows = [
        ["all sources" if e["level"] == "macro" else e["name"], e["protocol"], e["prompt"], e["clicks"],
         e["instances"], e["groups"], *(_words(e[metric], metric, signed=True) for metric in _COMPARED)]
        for e in entries
    ]  # fmt: skip
    return heads, rows


def _words(interval: Interval, metric: str, *, signed: bool = False) -> str | None:
    """Format an interval: 0.912 (0.890–0.931)."""
    if not interval.values:
        return None
    form = ".1f" if metric in ("hd95", "clicks_to_90") else ".2f" if metric == "hd95_mm" else ".3f"
    sign = "+" if signed else ""
    mean = f"{interval.mean:{sign}{form}}"
    if not np.isfinite(interval.low):
        return f"{mean} (one group)"
    dash = " to " if signed else "–"
    return f"{mean} ({interval.low:{sign}{form}}{dash}{interval.high:{sign}{form}})"


def plain(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Convert an entry for JSON: intervals become objects, unknown numbers None."""

    def known(value: Any) -> Any:
        if isinstance(value, Interval | Agreement):
            return {name: known(item) for name, item in value._asdict().items()}
        if isinstance(value, Mapping):
            return {name: known(item) for name, item in value.items()}
        if isinstance(value, np.generic):
            value = value.item()
        return None if isinstance(value, float) and not np.isfinite(value) else value

    return {name: known(value) for name, value in entry.items()}
