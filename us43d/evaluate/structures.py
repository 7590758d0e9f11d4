"""Evaluate prompts by name: Dice of the masks, and AUROC of presence.

The reference of a structure in an image is the union of its annotations. Images without a structure count as negatives
if their source annotates it in other images.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from us43d.errors import UsageError
from us43d.evaluate.classification import auroc
from us43d.evaluate.metrics import bootstrap, overlap
from us43d.harmonize.corpus import SPLITS, Corpus
from us43d.model.predictor import Predictor

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["evaluate", "summary"]


def evaluate(
    predictor: Predictor,
    corpus: Corpus,
    *,
    split: str = "test",
    sources: Sequence[str] = (),
    limit: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int | None], None] | None = None,
) -> "pd.DataFrame":
    """Segment every structure the model knows by name, on every image of the sources that annotate it.

    Args:
        predictor: A model with structures.
        corpus: Its category ids are those of the taxonomy.
        split: "train", "val", "test" or "all".
        sources: Names; all sources of the corpus if empty.
        limit: Largest number of images, chosen by their ids; None for all.
        seed: Of `limit`.
        progress: Called with (images done, images).

    Returns:
        One row per image and structure: source, group, structure, present (bool), presence (probability), dice (NaN
        where the structure is absent).

    Raises:
        UsageError: The model does not support prompts by name, or its structures are not annotated.
    """
    import pandas as pd

    if not predictor.structures:
        raise UsageError("The model was not trained to find structures by name.", next="us43d weights show")
    names = [source["name"] for source in corpus.sources]
    splits = SPLITS[:3] if split == "all" else (split,)
    of = corpus.images["source"][corpus.annotations["image"]]
    known = [
        [key for key in np.unique(corpus.annotations["category"][of == n]).tolist() if key in predictor.structures]
        for n in range(len(names))
    ]
    chosen = [
        int(row) for row in np.flatnonzero(corpus.selected(splits, sources)) if known[corpus.images["source"][row]]
    ]
    if not chosen:
        raise UsageError(
            f"No image of the split {split!r} belongs to a source that annotates a structure the model knows.",
            next="the same with --split all",
        )
    chosen = corpus.sample(chosen, limit, seed)
    rows: list[dict[str, Any]] = []
    for done, image in enumerate(chosen, 1):
        predictor.set_image(corpus.picture(image))
        source = corpus.images["source"][image]
        for key in known[source]:
            own = [row for row in corpus.of(image) if corpus.annotations["category"][row] == key]
            prediction = predictor.predict(structure=key)
            dice = float("nan")
            if own:
                truth = np.logical_or.reduce([corpus.mask(row) for row in own])
                dice = overlap(truth, prediction.mask)[0]
            rows.append(
                {
                    "source": names[source], "group": corpus.group(image), "key": corpus.key(image),
                    "structure": predictor.structures[key], "present": bool(own), "presence": prediction.presence,
                    "dice": dice,
                }
            )  # fmt: skip
        if progress is not None:
            progress(done, len(chosen))
    return pd.DataFrame(rows)


def summary(table: "pd.DataFrame", seed: int = 0) -> list[dict[str, Any]]:
    """Summarize the result of `evaluate`.

    Args:
        table: Result of `evaluate`.
        seed: Of the bootstrap.

    Returns:
        One row per source and structure: numbers of images with and without it, mean Dice with its 95 % interval over
        groups, AUROC of presence.
    """
    rows = []
    for (source, structure), subset in table.groupby(["source", "structure"], sort=True):
        present = subset[subset["present"]]
        interval = bootstrap(present["dice"].to_numpy(), present["group"].to_numpy(), seed=seed)
        rows.append(
            {
                "source": source, "structure": structure, "present": len(present), "absent": len(subset) - len(present),
                "dice": interval.mean, "low": interval.low, "high": interval.high,
                "auroc": auroc(subset["present"].to_numpy(), subset["presence"].to_numpy()),
            }
        )  # fmt: skip
    return rows
