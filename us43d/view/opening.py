"""Which images a command means, as one catalogue."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from us43d.errors import BuildError, UsageError
from us43d.harmonize.corpus import Corpus
from us43d.harmonize.merge import merge
from us43d.splits import duplicate_links
from us43d.view.catalogue import Catalogue

__all__ = ["catalogue", "findings", "indexed", "predictions"]


def indexed(builds: Sequence[Path], home: Path) -> Corpus:
    """A corpus of builds in <home>/cache/view, made when they are first opened together.

    Raises BuildError, StorageError.
    """
    digest = hashlib.sha256(duplicate_links.digest(duplicate_links.read(home)).encode())
    for build in sorted(builds):
        digest.update(f"\0{build.relative_to(home).as_posix()}\0".encode() + (build / "dataset.json").read_bytes())
    folder = home / "cache" / "view" / f"index-{digest.hexdigest()[:24]}"
    if (folder / "corpus.json").is_file():
        return Corpus.open(folder, home)
    return merge(builds, home, folder.name, folder=folder)


def findings(home: Path) -> dict[str, Any] | None:
    """What the last audit of a home reported; None without one. Raises BuildError if its file was spoilt."""
    file = home / "audit" / "audit.json"
    try:
        return dict(json.loads(file.read_text("utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise BuildError(f"{file} cannot be read: {error}.", next="us43d audit --all") from error


def predictions(folder: Path) -> dict[int, dict[str, Any]]:
    """Annotation id → dice, score, prompt and rle of an evaluation's first weights and prompt, without clicks.

    Raises UsageError for a folder that holds no evaluation.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = folder / "instances.parquet"
    try:
        columns = ["annotation", "weights", "protocol", "prompt", "clicks", "dice", "score", "rle"]
        rows = pq.read_table(file, columns=columns)
        facts = json.loads((folder / "metrics.json").read_text("utf-8"))["facts"]
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise UsageError(
            f"{folder} is not a folder that us43d eval wrote: {error}.", next="us43d eval --help"
        ) from error
    held: dict[int, dict[str, Any]] = {}
    weights = facts["weights"][0]
    first: tuple[str, str] | None = None
    for row in rows.to_pylist():
        if row["weights"] != weights or row["clicks"] != 0:
            continue
        first = first or (row["protocol"], row["prompt"])
        if (row["protocol"], row["prompt"]) == first:
            held[int(row["annotation"])] = {
                "dice": float(row["dice"]), "score": float(row["score"]), "prompt": row["prompt"], "weights": weights,
                "rle": bytes(row["rle"]).decode("ascii"),
            }  # fmt: skip
    return held


def catalogue(corpus: Corpus, home: Path, predicted: Mapping[int, Mapping[str, Any]] | None = None) -> Catalogue:
    """The catalogue of a corpus with what the last audit reported."""
    worst: dict[int, float] = {}
    if predicted:
        for record in corpus.annotations:
            if (prediction := predicted.get(int(record["id"]))) is not None:
                image = int(corpus.images["id"][record["image"]])
                worst[image] = min(worst.get(image, 1.0), float(prediction["dice"]))
    return Catalogue(corpus, findings(home), worst)
