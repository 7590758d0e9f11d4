"""Which images a command means, as one catalogue."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from us43d.errors import BuildError, UsageError
from us43d.harmonize.built import Build
from us43d.harmonize.corpus import Corpus
from us43d.harmonize.merge import merge
from us43d.masks import rle
from us43d.splits import duplicate_links
from us43d.view.catalogue import Catalogue

__all__ = ["Other", "catalogue", "compared", "findings", "indexed", "predictions"]


def indexed(builds: Sequence[Path], home: Path) -> Corpus:
    """Return a corpus of builds in <home>/cache/view, made when they are first opened together.

    Raises BuildError, StorageError.
    """
    digest = hashlib.sha256(duplicate_links.digest(duplicate_links.read(home)).encode())
    for build in sorted(builds):
        digest.update(f"\0{build.relative_to(home).as_posix()}\0".encode() + Build(build).digest.encode())
    folder = home / "cache" / "view" / f"index-{digest.hexdigest()[:24]}"
    if (folder / "corpus.json").is_file():
        return Corpus.open(folder, home)
    return merge(builds, home, folder.name, folder=folder)


def findings(home: Path) -> dict[str, Any] | None:
    """Return what the last audit of a home reported, or None.

    Raises:
        BuildError: If the file of the audit is damaged.
    """
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
    by_image: dict[int, dict[str, Any]] = {}
    weights = facts["weights"][0]
    first: tuple[str, str] | None = None
    for row in rows.to_pylist():
        if row["weights"] != weights or row["clicks"] != 0:
            continue
        first = first or (row["protocol"], row["prompt"])
        if (row["protocol"], row["prompt"]) == first:
            by_image[int(row["annotation"])] = {
                "dice": float(row["dice"]), "score": float(row["score"]), "prompt": row["prompt"], "weights": weights,
                "rle": bytes(row["rle"]).decode("ascii"),
            }  # fmt: skip
    return by_image


class Other(NamedTuple):
    """An image in another build. state: how it differs. dice: that of the structure that differs most.

    masks: the other build's, as structure and rle; empty where they are the same or of another size.
    """

    state: str
    dice: float = 1.0
    masks: Sequence[Mapping[str, str]] = ()


def compared(corpus: Corpus, other: Corpus) -> dict[int, Other]:
    """Id of an image of `corpus` → what another build or release has for the same source and key."""
    slugs, others = ([str(source["slug"]) for source in side.sources] for side in (corpus, other))
    place = {(others[other.images["source"][n]], other.key(n)): n for n in range(len(other))}
    results = {}
    for row in range(len(corpus)):
        opposite = place.get((slugs[corpus.images["source"][row]], corpus.key(row)))
        results[int(corpus.images["id"][row])] = (
            ONLY_HERE if opposite is None else _difference(corpus, row, other, opposite)
        )
    return results


#: How an image compares with another build.
SAME, ONLY_HERE = Other("same masks"), Other("not in the other build")
_DIFFER = "masks differ"


def _difference(corpus: Corpus, row: int, other: Corpus, opposite: int) -> Other:
    """Compare the masks of a row of `corpus` with those of a row of `other`."""
    sizes = [
        (int(side.images["height"][place]), int(side.images["width"][place]))
        for side, place in ((corpus, row), (other, opposite))
    ]
    if sizes[0] != sizes[1]:
        return Other("another size", 0.0)
    mine, theirs = _masks(corpus, row), _masks(other, opposite)
    if sorted(mine) == sorted(theirs):
        return SAME
    height, width = sizes[0]
    unions = [
        {name: _union([text for structure, text in masks if structure == name], height, width) for name, _ in masks}
        for masks in (mine, theirs)
    ]
    empty = np.zeros((height, width), bool)
    dice = [
        _dice(unions[0].get(name, empty), unions[1].get(name, empty)) for name in unions[0].keys() | unions[1].keys()
    ]
    return Other(_DIFFER, min(dice), [{"structure": name, "rle": text.decode("ascii")} for name, text in theirs])


def _masks(corpus: Corpus, row: int) -> list[tuple[str, bytes]]:
    """Return (structure, compressed run lengths) of an image's annotations."""
    names = {entry["id"]: str(entry["name"]) for entry in corpus.categories}
    return [(names[int(corpus.annotations["category"][n])], corpus.rle(n)) for n in corpus.of(row)]


def _union(texts: Sequence[bytes], height: int, width: int) -> NDArray[np.bool_]:
    return np.asarray(np.logical_or.reduce([rle.decode(text, height, width) for text in texts]), bool)


def _dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return 2 * float((one & other).sum()) / float(one.sum() + other.sum())


def catalogue(
    corpus: Corpus,
    home: Path,
    predicted: Mapping[int, Mapping[str, Any]] | None = None,
    against: Mapping[int, Other] | None = None,
    merge: str = "",
) -> Catalogue:
    """Return the catalogue of a corpus with the last audit's findings and comparisons with predictions or a build.

    merge: the command that merges the corpus again; empty for builds that were opened together.
    """
    if against is not None:
        dice = {
            number: other.dice for number, other in against.items() if other.state not in (SAME.state, ONLY_HERE.state)
        }
        states = {number: other.state for number, other in against.items()}
        return Catalogue(corpus, findings(home), dice, states, merge)
    worst: dict[int, float] = {}
    if predicted:
        for record in corpus.annotations:
            if (prediction := predicted.get(int(record["id"]))) is not None:
                image = int(corpus.images["id"][record["image"]])
                worst[image] = min(worst.get(image, 1.0), float(prediction["dice"]))
    return Catalogue(corpus, findings(home), worst, merge=merge)
