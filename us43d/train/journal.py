"""Log of a run: log.jsonl with one record per line, and the same numbers for TensorBoard if it is installed.

The first record describes the run: config, corpus, licences, versions, device. Records of steps and validations follow.
A resumed run appends to the same log; records after the checkpoint it resumes from are removed.
"""

import contextlib
import hashlib
import json
import platform
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

import us43d
from us43d import atomic
from us43d.errors import ConfigError, Us43dError, listed
from us43d.harmonize.corpus import OWN, Corpus
from us43d.harmonize.pixels import canonical, pixel_hash
from us43d.licences import refuse_uncommercial, terms, terms_of
from us43d.model import weights
from us43d.model.published import PUBLISHED, identify
from us43d.train.config import TrainConfig
from us43d.train.precision import computed
from us43d.train.team import Team

__all__ = [
    "NOTHING", "UNKNOWN", "Journal", "Record", "began", "group_hash", "image_hash", "by_licence", "origin", "read",
    "seen",
]  # fmt: skip

Record: TypeAlias = dict[str, Any]

#: `seen` of weights trained on no source of us43d, and of weights with unknown training data.
NOTHING: Record = {"sources": {}, "groups": [], "images": [], "complete": True}
UNKNOWN: Record = {"sources": {}, "groups": [], "images": [], "complete": False}


class Journal:
    """Write the log in the leading process; in other processes do nothing.

    Args:
        folder: Folder of the run.
        team: Processes of the run.
        report: Called with every record.
    """

    def __init__(self, folder: Path, team: Team, report: Callable[[Record], None] | None) -> None:
        self.folder, self.team, self.report = folder, team, report
        self.file = folder / "log.jsonl"
        self.records: list[Record] = []
        self._board: Any = None

    def open(self, first: Record) -> None:
        """Start the log with `first`, or append it after the records up to its step. Raises StorageError."""
        if not self.team.leads:
            return
        with atomic.storage_errors(self.folder, "Nothing was changed on disk."):
            self.folder.mkdir(parents=True, exist_ok=True)
            kept = (
                [record for record in read(self.file) if record["step"] <= first["step"]] if self.file.exists() else []
            )
            kept = kept if first["step"] else []
            atomic.write_bytes(self.file, "".join(f"{json.dumps(record)}\n" for record in kept).encode())
        self.records = kept
        with contextlib.suppress(ImportError):
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=first["step"] + 1)
        self.write(first)

    def write(self, record: Record) -> None:
        """Append a record. Raises StorageError."""
        if not self.team.leads:
            return
        with atomic.storage_errors(self.file, "The run's checkpoints are intact."), self.file.open("a") as file:
            file.write(f"{json.dumps(record)}\n")
        self.records.append(record)
        if self._board is not None and record["kind"] in ("step", "validation"):
            for name, value in record.items():
                if isinstance(value, int | float) and name != "step":
                    self._board.add_scalar(f"{record['kind']}/{name}", value, record["step"])
            self._board.flush()
        if self.report:
            self.report(record)

    @property
    def draws(self) -> bool:
        """Whether `show` has an effect: in the leading process, if TensorBoard is installed."""
        return self._board is not None

    def show(self, step: int, images: Sequence[NDArray[np.uint8]]) -> None:
        """Add images (h, w, 3) RGB to TensorBoard."""
        if self._board is not None:
            for n, image in enumerate(images):
                self._board.add_image(f"validation/{n}", image, step, dataformats="HWC")
            self._board.flush()

    def of(self, kind: str) -> list[Record]:
        return [record for record in self.records if record["kind"] == kind]

    def close(self) -> None:
        if self._board is not None:
            self._board.close()


def read(log: Path) -> Iterator[Record]:
    """Yield the records of a log; a truncated last line is skipped."""
    for line in log.read_text("utf-8").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            yield json.loads(line)


def began(
    config: TrainConfig, corpus: Corpus, team: Team, step: int, counts: Record, init: Record | None = None
) -> Record:
    """Make the record that describes a run.

    Args:
        config: Configuration of the run.
        corpus: The corpus.
        team: Processes of the run.
        step: Steps done; above 0 for a resumed run.
        counts: Numbers of images and instances in training and validation.
        init: `origin` of the initial weights; None for random weights.
    """
    return {
        "kind": "resumed" if step else "run",
        "step": step,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": json.loads(config.model_dump_json()),
        "corpus": {
            "release": corpus.facts["release"],
            "digest": corpus.digest,
            "images": corpus.facts["images"],
            "sources": {source["name"]: source["digest"] for source in corpus.sources},
        },
        "drawn": counts,
        "init": init,
        "licences": by_licence(corpus, config.sources, config.commercial),
        "versions": {
            "us43d": us43d.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "opencv": cv2.__version__,
            "cuda": torch.version.cuda,
        },
        "device": torch.cuda.get_device_name(team.device) if team.on_gpu else f"{platform.machine()} CPU",
        "processes": team.world,
        "threads": torch.get_num_threads(),
        "precision": computed(team.device, config.precision),
    }


def refuse_external(corpus: Corpus, sources: Sequence[str], allowed: bool) -> None:
    """Refuse sources of the external tier, which are reserved for comparing models, unless allowed.

    Args:
        corpus: The corpus.
        sources: Names; all sources of the corpus if empty.
        allowed: Whether to train on them.

    Raises:
        ConfigError: A source belongs to the external tier and `allowed` is False.
    """
    used = [corpus.sources[index] for index in corpus.select(sources)]
    external = [source["name"] for source in used if source.get("external_tier")]
    if external and not allowed:
        raise ConfigError(
            f"{listed(external)} of the external tier: reserved for comparing models, not for training.",
            next="us43d train --allow-external   or   us43d corpus --all   (which excludes them)",
        )


def by_licence(corpus: Corpus, sources: Sequence[str], commercial: bool) -> Record:
    """List the sources by licence, and determine whether commercial use is permitted.

    Args:
        corpus: The corpus.
        sources: Names; all sources of the corpus if empty.
        commercial: Refuse sources whose licence forbids commercial use or does not settle it; that of a user's own data
            is not known.

    Returns:
        by_licence: title → sources. commercial: True, False, or None if not settled for a source. forbidden, unknown:
        sources.

    Raises:
        LicenceError: With `commercial`, a source does not permit commercial use.
    """
    used = [corpus.sources[index] for index in corpus.select(sources)]
    by_licence: dict[str, list[str]] = {}
    for source in used:
        by_licence.setdefault(source["licence"]["title"], []).append(source["name"])
    answers = {source["name"]: source["licence"]["commercial"] for source in used}
    if commercial:
        refuse_uncommercial({s["name"]: terms_of(s["licence"]) for s in used}, "us43d corpus {} --release commercial")
    forbidden, unknown = ([name for name, a in answers.items() if a is answer] for answer in (False, None))
    verdict = False if forbidden else None if unknown else True
    return {"by_licence": by_licence, "commercial": verdict, "forbidden": forbidden, "unknown": unknown}


def group_hash(source: str, group: str) -> str:
    """Hash a training group for the record in the weights, without its name: 64 bits of a digest."""
    return hashlib.sha256(f"{source}\0{group}".encode()).hexdigest()[:16]


def image_hash(pixels: NDArray[np.uint8]) -> str:
    """Hash the pixels of a user's own image for the record in the weights: 64 bits of a digest.

    Unlike pixels, names of groups are short and could be guessed from their digests.
    """
    return pixel_hash(canonical(pixels))[:16]


def seen(corpus: Corpus, images: NDArray[np.int64], annotations: NDArray[np.int64], before: Record | None) -> Record:
    """Record the training data of weights, so that a benchmark can detect its test groups in them.

    Args:
        corpus: The corpus trained on.
        images: Rows of `images` used for training.
        annotations: Rows of `annotations` used for training.
        before: `seen` of the initial weights; None for random weights.

    Returns:
        sources: name → structures. groups: `group_hash` of every group of a public source. images: `image_hash` of
        every readable image of a user's own data, whose groups are not recorded; all are read. complete: whether
        sources and groups are known, including those of the initial weights.
    """
    names = [source["name"] for source in corpus.sources]
    public = np.array([source["slug"] != OWN for source in corpus.sources])
    categories = {category["id"]: category["name"] for category in corpus.categories}
    source_of = corpus.images["source"][images]
    sources: dict[str, set[str]] = {
        name: set(structures) for name, structures in (before or {}).get("sources", {}).items()
    }
    for number in np.unique(source_of):
        sources.setdefault(names[number], set())
    kinds = np.stack([corpus.images["source"][corpus.annotations["image"][annotations]],
                      corpus.annotations["category"][annotations]], 1)  # fmt: skip
    for number, category in np.unique(kinds, axis=0):
        sources[names[number]].add(categories[int(category)])
    _, first = np.unique(corpus.images["group"][images], return_index=True)
    groups = {group_hash(names[source_of[n]], corpus.group(int(images[n]))) for n in first if public[source_of[n]]}
    own = set(_own_images(corpus, images[~public[source_of]]))
    return {
        "sources": {name: sorted(structures) for name, structures in sorted(sources.items())},
        "groups": sorted(groups | set((before or {}).get("groups", ()))),
        "images": sorted(own | set((before or {}).get("images", ()))),
        "complete": bool(public.all()) and (before is None or before["complete"]),
    }


def _own_images(corpus: Corpus, rows: NDArray[np.int64]) -> Iterator[str]:
    """Yield the hash of every image that can be read; the others stop the run when they are drawn."""
    for row in rows.tolist():
        try:
            pixels = corpus.picture(row)
        except Us43dError:
            continue
        yield image_hash(pixels)


def origin(init: Path) -> Record:
    """Describe the origin of weights.

    Weights of a run have a record; public weights are identified by their digest, or by the receipt of `us43d weights
    get` or `us43d weights import`.

    Args:
        init: File or folder of weights.

    Returns:
        name, sha256 of the tensors' file, licence, commercial (whether commercial use is permitted), and `seen`.
        Unknown values are None.
    """
    file = init / weights.TENSORS if init.is_dir() else init
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    meta = json.loads((init / weights.CONFIG).read_text("utf-8")).get("meta") if init.is_dir() else None
    if meta and "licences" in meta:
        data, before = meta["licences"], meta.get("init")
        answers = {data["commercial"], before["commercial"] if before else True}
        commercial = False if False in answers else None if None in answers else True
        titles = [*data["by_licence"], *([before["licence"] or "unknown"] if before else [])]
        known = {"name": meta["run"], "sha256": digest, "licence": listed(titles, 60), "commercial": commercial}
        return known | {"seen": meta.get("seen", UNKNOWN), "structures": meta.get("structures", {})}
    public = PUBLISHED.get(meta.get("public", "")) if meta else identify(file, digest)
    return {
        "name": init.stem,
        "sha256": digest,
        "licence": public.licence if public else None,
        "commercial": terms(public.licence).commercial if public else None,
        "seen": NOTHING if public and public.natural else UNKNOWN,
    }
