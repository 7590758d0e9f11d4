"""Clinical measurements of predicted masks, compared with reference masks and with the sources' own tables.

One row per quantity, annotation (or video) and weights. Only masks before the first corrective click are measured.
Lengths and areas need the pixel spacing; an ejection fraction is a ratio and needs none if pixels are square.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from us43d.evaluate import measure
from us43d.evaluate.agreement import Agreement, agreement, plot
from us43d.harmonize.corpus import Corpus
from us43d.masks import rle

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["QUANTITIES", "agreements", "ejection_fractions", "measurements", "plots", "sizes", "table"]

Mask = NDArray[np.bool_]

#: Quantity → (description, unit, tag of the sources' tables with the reference value, if any).
QUANTITIES: dict[str, tuple[str, str, str | None]] = {
    "area": ("area", "mm²", None),
    "longest": ("longest diameter", "mm", None),
    "across": ("diameter perpendicular to the longest", "mm", None),
    "hc": ("head circumference", "mm", "hc_mm"),
    "bpd": ("biparietal diameter, outer to outer", "mm", None),
    "imt": ("intima-media thickness", "mm", None),
    "ef_area_length": ("ejection fraction, area-length, one view", "%", "ef"),
    "ef_discs": ("ejection fraction, Simpson, one view", "%", "ef"),
    "ef_biplane": ("ejection fraction, Simpson, biplane", "%", "ef"),
}
_COLUMNS = [
    "quantity", "protocol", "prompt", "weights", "source", "structure", "group", "item", "measured", "truth", "table",
]  # fmt: skip


def sizes(structure: str, mask: Mask, spacing: tuple[float, float]) -> dict[str, float]:
    """Measure the quantities that apply to a structure.

    Args:
        structure: Name in the taxonomy.
        mask: (h, w) bool.
        spacing: (x, y) mm per pixel.

    Returns:
        Quantity → value in its unit.
    """
    longest, across = measure.diameters(mask, spacing)
    values = {"area": measure.area(mask, spacing), "longest": longest, "across": across}
    if structure == "fetal_head":
        head = measure.head(mask, spacing)
        values |= {"hc": head.hc, "bpd": head.bpd}
    if structure == "carotid_intima_media":
        values["imt"] = measure.thickness(mask, spacing)
    return values


def measurements(rows: "pd.DataFrame", corpus: Corpus) -> "pd.DataFrame":
    """Measure the masks of an evaluation's rows.

    Returns:
        One row per quantity, item and weights: measured, truth (of the reference mask) and table (the value published
        with the source; NaN without one). item: the annotation's id, or the video.
    """
    import pandas as pd

    first = rows[rows["clicks"] == 0]
    order = np.argsort(corpus.annotations["id"])
    places = order[np.searchsorted(corpus.annotations["id"], first["annotation"], sorter=order)]
    tags = corpus.tags(np.unique(corpus.annotations["image"][places]))
    truths: dict[int, dict[str, float]] = {}
    records: list[tuple[Any, ...]] = []
    hearts: list[dict[str, Any]] = []
    for place, row in zip(places.tolist(), first.to_dict("records"), strict=True):
        image = int(corpus.annotations["image"][place])
        entry, spacing = corpus.images[image], tuple(float(v) for v in corpus.images["spacing"][image])
        known = bool(np.isfinite(spacing).all())
        heart = row["structure"] == "left_ventricle" and tags[image].get("phase") in _PHASES
        if not (known or heart):
            continue
        mask = rle.decode(row["rle"], int(entry["height"]), int(entry["width"]))
        way = tuple(row[name] for name in _COLUMNS[1:7])
        if known:
            if place not in truths:
                truths[place] = sizes(row["structure"], corpus.mask(place), (spacing[0], spacing[1]))
            values = sizes(row["structure"], mask, (spacing[0], spacing[1]))
            for name, value in values.items():
                tag = QUANTITIES[name][2]
                published = tags[image].get(tag) if tag else None
                item = str(row["annotation"])
                records.append((name, *way, item, value, truths[place][name], _number(published)))
        if heart:
            hearts.append({"way": way, "video": corpus.key(image).partition("#")[0], "tags": tags[image], "mask": mask,
                           "truth": corpus.mask(place), "spacing": spacing if known else (1.0, 1.0)})  # fmt: skip
    records += [(quantity, *way, item, *values) for way, frames in _by_way(hearts).items()
              for quantity, item, *values in ejection_fractions(frames)]  # fmt: skip
    return pd.DataFrame(records, columns=_COLUMNS)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


# ---------------------------------------------------------------------------------------------------- ejection fraction

_PHASES = ("end-diastole", "end-systole")
#: Phase → frame of one video.
Phases: TypeAlias = dict[str, dict[str, Any]]
_ONE_VIEW: tuple[tuple[str, Callable[[measure.Chambers], float]], ...] = (
    ("ef_area_length", measure.volume_area_length), ("ef_discs", measure.volume_discs),
)  # fmt: skip


def _by_way(hearts: list[dict[str, Any]]) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    ways: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for heart in hearts:
        ways.setdefault(heart["way"], []).append(heart)
    return ways


def ejection_fractions(frames: list[dict[str, Any]]) -> Iterator[tuple[str, str, float, float, float]]:
    """Pair end-diastolic and end-systolic frames of each video.

    Args:
        frames: Each with video, mask, truth (h, w), spacing, and tags (phase; view and ef where known). Of several
            masks of one frame the largest reference counts.

    Yields:
        (quantity, video, measured, truth, table) in percent; by the biplane rule if a folder has a two-chamber and a
        four-chamber video. A video without one of the phases is skipped.
    """
    videos: dict[str, dict[str, dict[str, Any]]] = {}
    for frame in frames:
        phases = videos.setdefault(frame["video"], {})
        before = phases.get(frame["tags"]["phase"])
        if before is None or frame["truth"].sum() > before["truth"].sum():
            phases[frame["tags"]["phase"]] = frame
    whole = {video: phases for video, phases in videos.items() if len(phases) == 2}
    views: dict[str, dict[str, str]] = {}
    for video, phases in sorted(whole.items()):
        published = _number(phases[_PHASES[0]]["tags"].get("ef"))
        for quantity, volume in _ONE_VIEW:
            yield quantity, video, _one_view(phases, "mask", volume), _one_view(phases, "truth", volume), published
        view = str(phases[_PHASES[0]]["tags"].get("view", ""))
        views.setdefault(video.rpartition("/")[0], {})[view] = video
    for folder, of in sorted(views.items()):
        if {"2CH", "4CH"} <= of.keys():
            two, four = whole[of["2CH"]], whole[of["4CH"]]
            published = _number(four[_PHASES[0]]["tags"].get("ef"))
            yield "ef_biplane", folder, _two_views(two, four, "mask"), _two_views(two, four, "truth"), published


def _one_view(phases: Phases, which: str, volume: Callable[[measure.Chambers], float]) -> float:
    """Compute the ejection fraction from the masks named `which`; NaN if one is empty."""
    views = [measure.chamber(phases[phase][which], phases[phase]["spacing"]) for phase in _PHASES]
    return _fraction([volume(view) if view else np.nan for view in views])


def _two_views(two: Phases, four: Phases, which: str) -> float:
    """Compute the ejection fraction by the biplane rule; NaN if a mask is empty."""
    volumes = []
    for phase in _PHASES:
        a, b = (measure.chamber(view[phase][which], view[phase]["spacing"]) for view in (two, four))
        volumes.append(measure.volume_biplane(a, b) if a and b else np.nan)
    return _fraction(volumes)


def _fraction(volumes: list[float]) -> float:
    """Compute the ejection fraction; NaN if a volume is unknown."""
    return measure.ejection_fraction(*volumes) if np.isfinite(volumes).all() else float("nan")


# ------------------------------------------------------------------------------------------------------------- summary


def agreements(measured: "pd.DataFrame", seed: int = 0) -> list[dict[str, Any]]:
    """Compute the agreement of every quantity by source, structure, prompt and weights.

    Args:
        measured: Result of `measurements`.
        seed: Of the bootstrap.

    Returns:
        Entries with the reference "mask" (reference masks) or "table" (the source's table).
    """
    entries = []
    keys = ["quantity", "source", "structure", "protocol", "prompt", "weights"]
    for key, subset in measured.groupby(keys, observed=True, sort=True):
        groups = np.unique(subset["group"].astype(str), return_inverse=True)[1]
        for reference, column in (("mask", "truth"), ("table", "table")):
            values = subset[column].to_numpy(float)
            if np.isfinite(values).any():
                compared = agreement(subset["measured"].to_numpy(float), values, groups, seed=seed)
                entries.append(dict(zip(keys, key, strict=True)) | {"reference": reference, "agreement": compared})
    return sorted(entries, key=lambda entry: list(QUANTITIES).index(entry["quantity"]))


def table(entries: list[dict[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    """Make a table (headings, rows) of the result of `agreements`."""
    heads = [
        "quantity", "source", "structure", "protocol", "prompt", "weights", "reference", "n", "not measurable", "bias",
        "limits of agreement", "mean |difference|", "mean |difference| %",
    ]  # fmt: skip
    return heads, [
        [*_labels(entry), *_numbers(entry["agreement"], QUANTITIES[entry["quantity"]][1])] for entry in entries
    ]


def _labels(entry: Mapping[str, Any]) -> list[str]:
    names = ("source", "structure", "protocol", "prompt", "weights", "reference")
    return [QUANTITIES[entry["quantity"]][0], *(str(entry[name]).replace("_", " ") for name in names)]


def _numbers(result: Agreement, unit: str) -> list[Any]:
    def span(low: float, high: float) -> str | None:
        return f"{low:+.2f} to {high:+.2f} {unit}" if np.isfinite(low) and np.isfinite(high) else None

    bias = f"{result.bias.mean:+.2f} {unit}" if result.n else None
    if result.n and np.isfinite(result.bias.low):
        bias = f"{bias} ({result.bias.low:+.2f} to {result.bias.high:+.2f})"
    percent = f"{result.percent:.2f} %" if unit != "%" and np.isfinite(result.percent) else None
    absolute = f"{result.absolute:.2f} {unit}" if result.n else None
    return [result.n, result.missing, bias, span(result.low, result.high), absolute, percent]


def plots(measured: "pd.DataFrame", weights: str) -> Iterator[tuple[str, str]]:
    """Draw Bland-Altman plots of the clinical quantities of one set of weights.

    Args:
        measured: Result of `measurements`.
        weights: Name of the weights.

    Yields:
        (heading, SVG), against the source's table if there is one, else against the reference masks.
    """
    own = measured[measured["weights"] == weights]
    for (quantity, source, protocol, prompt), subset in own.groupby(
        ["quantity", "source", "protocol", "prompt"], observed=True
    ):
        against = "table" if subset["table"].notna().any() else "truth"
        if subset[against].notna().sum() < 3 or quantity in ("area", "across"):
            continue
        what, unit, _ = QUANTITIES[str(quantity)]
        words = "the source's table" if against == "table" else "reference masks"
        heading = f"{what}, {source}, {prompt} prompt ({protocol}): {weights} against {words}"
        yield heading, plot(subset["measured"].to_numpy(float), subset[against].to_numpy(float), unit)
