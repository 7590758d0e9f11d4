"""Evaluate one prompt per clip over time: Dice on every annotated frame after the first, and ejection fraction.

A clip consists of the images of a source from one file (keys "file#frame"). The only prompt is the exact box of a
structure's mask on the first annotated frame; the structure is followed through the other annotated frames in order.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from us43d.errors import UsageError
from us43d.evaluate.agreement import agreement
from us43d.evaluate.metrics import bootstrap, overlap
from us43d.evaluate.readouts import QUANTITIES, ejection_fractions
from us43d.harmonize.corpus import SPECK, Corpus
from us43d.model import prompts
from us43d.model.predictor import Predictor
from us43d.model.propagate import Tracker

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["clips", "over_time", "tables"]


def clips(corpus: Corpus, split: str, sources: Sequence[str] = ()) -> dict[tuple[str, str, int], list[tuple[int, int]]]:
    """List the clips of a split that have at least two annotated frames.

    Args:
        corpus: The corpus.
        split: "train", "val" or "test".
        sources: Names; all sources of the corpus if empty.

    Returns:
        (source, file, category) → (row of `images`, row of `annotations`) by frame. If a frame has several annotations
        of a structure, the largest is used.
    """
    names = [source["name"] for source in corpus.sources]
    by_clip: dict[tuple[str, str, int], dict[int, tuple[int, int]]] = {}
    for image in np.flatnonzero(corpus.selected([split], sources)).tolist():
        name = names[corpus.images["source"][image]]
        file, mark, frame = corpus.key(image).rpartition("#")
        if not mark or not frame.isdigit():
            continue
        for place in corpus.of(image):
            annotation = corpus.annotations[place]
            if annotation["flags"] & SPECK:
                continue
            frames = by_clip.setdefault((name, file, int(annotation["category"])), {})
            before = frames.get(int(frame))
            if before is None or annotation["area"] > corpus.annotations["area"][before[1]]:
                frames[int(frame)] = image, int(place)
    return {key: [frames[n] for n in sorted(frames)] for key, frames in sorted(by_clip.items()) if len(frames) > 1}


def over_time(
    predictor: Predictor,
    corpus: Corpus,
    *,
    split: str = "test",
    sources: Sequence[str] = (),
    progress: Callable[[int, int | None], None] | None = None,
) -> tuple["pd.DataFrame", "pd.DataFrame"]:
    """Follow the structures of every clip of a split from one box on its first annotated frame.

    Args:
        predictor: Segments the frames.
        corpus: The corpus.
        split: "train", "val" or "test".
        sources: Names; all sources of the corpus if empty.
        progress: Called with (clips done, clips).

    Returns:
        One row per annotated frame: source, clip, structure, group, step (number of the annotated frame, 0 for the
        prompted one), dice, still (Dice of the first frame's mask, not moved), lost. One row per ejection fraction:
        quantity, clip, measured, truth, table in percent.

    Raises:
        UsageError: No clip has two annotated frames.
    """
    import pandas as pd

    categories = {category["id"]: category["name"] for category in corpus.categories}
    wanted = clips(corpus, split, sources)
    if not wanted:
        raise UsageError(
            f"No clip of the split {split!r} has two annotated frames.", next="the same with --split train"
        )
    tags = corpus.tags(
        np.unique([image for clip_frames in wanted.values() for image, _ in clip_frames]).astype(np.int64)
    )
    rows: list[dict[str, Any]] = []
    hearts: list[dict[str, Any]] = []
    for done, ((source, clip, category), frames) in enumerate(wanted.items(), 1):
        tracker: Tracker | None = None
        first = None
        for step, (image, place) in enumerate(frames):
            truth, pixels, lost = corpus.mask(place), corpus.picture(image), False
            if first is None:
                predictor.set_image(pixels)
                first = predictor.predict(box=prompts.box_of(truth).tolist())
                mask = first.mask
                tracker = Tracker(predictor, first, pixels) if mask.any() else None
            elif tracker is None:
                mask, lost = np.zeros_like(truth), True
            else:
                tracked = tracker.follow(pixels)
                mask, lost = tracked.mask, tracked.lost
            row = {"source": source, "clip": clip, "structure": categories[category], "group": corpus.group(image),
                   "step": step, "dice": overlap(truth, mask)[0], "still": overlap(truth, first.mask)[0],
                   "lost": lost}  # fmt: skip
            rows.append(row)
            if categories[category] == "left_ventricle" and "phase" in tags[image]:
                spacing = tuple(float(value) for value in corpus.images["spacing"][image])
                known = bool(np.isfinite(spacing).all())
                hearts.append({"video": clip, "tags": tags[image], "mask": mask, "truth": truth,
                               "spacing": spacing if known else (1.0, 1.0)})  # fmt: skip
        if progress is not None:
            progress(done, len(wanted))
    phases = [heart for heart in hearts if heart["tags"]["phase"] in ("end-diastole", "end-systole")]
    fractions = pd.DataFrame(ejection_fractions(phases), columns=["quantity", "clip", "measured", "truth", "table"])
    return pd.DataFrame(rows), fractions


def tables(rows: "pd.DataFrame", fractions: "pd.DataFrame") -> list[tuple[str, list[str], list[list[Any]]]]:
    """Summarize the result of `over_time` as (heading, column heads, rows), with 95 % intervals over groups."""
    later = rows[rows["step"] > 0]
    cells: list[list[Any]] = []
    for (source, structure), subset in later.groupby(["source", "structure"]):
        groups = np.unique(subset["group"].astype(str), return_inverse=True)[1]
        shown = [bootstrap(subset[name].to_numpy(float), groups) for name in ("dice", "still")]
        cells.append([source, structure, subset["clip"].nunique(), len(subset),
                      *(f"{one.mean:.3f} ({one.low:.3f}–{one.high:.3f})" for one in shown),
                      int(subset["lost"].sum())])  # fmt: skip
    heads = ["source", "structure", "clips", "frames", "Dice", "Dice of the first mask kept unmoved", "lost"]
    sections = [("Dice after the first frame", heads, cells)]
    lines: list[list[Any]] = []
    for quantity, subset in fractions.groupby("quantity"):
        for reference in ("truth", "table"):
            values = subset[reference].to_numpy(float)
            if np.isfinite(values).any():
                one = agreement(subset["measured"].to_numpy(float), values, np.arange(len(subset)))
                words = "reference masks" if reference == "truth" else "the source's table"
                lines.append([QUANTITIES[str(quantity)][0], words, one.n, one.missing, f"{one.bias.mean:+.1f} %",
                              f"{one.low:+.1f} to {one.high:+.1f} %", f"{one.absolute:.1f} %"])  # fmt: skip
    if lines:
        heads = ["quantity", "reference", "n", "not measurable", "bias", "limits of agreement", "mean |difference|"]
        sections.append(("Ejection fraction", heads, lines))
    return sections
