"""`us43d.load("BUSI", split="train")`: a build as samples with image, masks and metadata."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, overload

import numpy as np
from numpy.typing import NDArray

from us43d import registry
from us43d.contract import Profile
from us43d.errors import BuildError, UnknownName, UsageError
from us43d.harmonize.built import Build
from us43d.harmonize.corpus import SPECK, SPLITS, Corpus
from us43d.harmonize.remote import is_url
from us43d.masks import read, rle
from us43d.paths import Home

if TYPE_CHECKING:
    import datasets
    import pandas
    import torch

__all__ = ["LoadedSample", "Samples", "latest", "load"]


@dataclass(frozen=True)
class LoadedSample:
    """One image of a build.

    path: its file. meta: what COCO holds of it (id, size; under "us43d" source, licence, key, group, split, tags).
    """

    path: Path
    meta: dict[str, Any]
    annotations: tuple[dict[str, Any], ...]
    names: dict[int, str]

    @cached_property
    def image(self) -> NDArray[Any]:
        """(h, w) grey or (h, w, 3) RGB; uint8 or uint16. Read when first asked for."""
        return read.image(self.path)

    @cached_property
    def masks(self) -> dict[str, list[NDArray[np.bool_]]]:
        """Structure → its masks, each (h, w) bool, one per annotation."""
        by_label: dict[str, list[NDArray[np.bool_]]] = {}
        for annotation in self.annotations:
            counts, (height, width) = annotation["segmentation"]["counts"], annotation["segmentation"]["size"]
            mask = rle.decode(counts.encode("ascii"), height, width)
            by_label.setdefault(self.names[annotation["category_id"]], []).append(mask)
        return by_label


class _Sliceable(Sequence[LoadedSample]):
    """A sequence whose slices are lists."""

    @abstractmethod
    def at(self, index: int) -> LoadedSample:
        """Return the sample at a place."""

    @overload
    def __getitem__(self, index: int) -> LoadedSample: ...
    @overload
    def __getitem__(self, index: slice) -> list[LoadedSample]: ...
    def __getitem__(self, index: int | slice) -> LoadedSample | list[LoadedSample]:
        return [self.at(n) for n in range(*index.indices(len(self)))] if isinstance(index, slice) else self.at(index)


class Samples(_Sliceable):
    """Samples of a build or a corpus, or of one split of it, by key."""

    def __init__(self, samples: Sequence[LoadedSample]) -> None:
        self._samples = samples

    @classmethod
    def of_build(cls, build: Path, split: str | None = None) -> "Samples":
        """Return the samples of a build's folder."""
        return cls(_of_build(build, split))

    def __len__(self) -> int:
        return len(self._samples)

    def at(self, index: int) -> LoadedSample:
        return self._samples[index]

    @property
    def structures(self) -> dict[int, str]:
        """Category id → structure, of the whole taxonomy."""
        return self._samples[0].names if len(self) else {}

    def to_pandas(self) -> "pandas.DataFrame":
        """Make a table with one row per annotation, and one for an image without any.

        Columns: image, path, source, licence, key, group, split, height, width, spacing_x, spacing_y (mm; NaN where
        unknown), annotation, structure, diagnosis, area (pixels), x, y, w, h (box in pixels), counts (compressed RLE).
        """
        import pandas

        return pandas.DataFrame([row for sample in self for row in _rows(sample)], columns=list(_COLUMNS))

    def to_torch(self) -> "torch.utils.data.Dataset[dict[str, Any]]":
        """Make a map-style dataset, as torchvision's detection models read it.

        An item: `image` (C, H, W) uint8, C 1 or 3, where 16 bits are spread over 8 by their range;
        `masks` (K, H, W) bool; `labels` (K,) int64, category ids of the taxonomy; `boxes` (K, 4) float32
        as x0, y0, x1, y1; `image_id`; `group`.
        """
        from us43d.tensors import TorchSamples

        return TorchSamples(self)

    def to_hf(self) -> "datasets.Dataset":
        """Make a Hugging Face dataset with the columns of `us43d export --to huggingface`, and `split`.

        Class labels number the whole taxonomy, those of an export the exported structures.
        """
        from us43d.tensors import hugging_face

        return hugging_face(self)


class _CorpusSamples(_Sliceable):
    """The images of a corpus, made into samples when asked for, so that a large corpus opens at once."""

    def __init__(self, corpus: Corpus, split: str | None) -> None:
        self.corpus = corpus
        self.rows = range(len(corpus)) if split is None else corpus.split(split)
        self.names = {int(category["id"]): str(category["name"]) for category in corpus.categories}

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, index: int) -> LoadedSample:
        corpus, row = self.corpus, int(self.rows[index])
        record = corpus.images[row]
        size = [int(record["height"]), int(record["width"])]
        spacing = [float(value) for value in record["spacing"]]
        source = corpus.sources[int(record["source"])]
        meta: dict[str, Any] = {
            "id": int(record["id"]), "file_name": corpus.file(row).name, "height": size[0], "width": size[1],
            "us43d": {
                "source": source["name"], "licence": source["licence"]["id"], "key": corpus.key(row),
                "group": corpus.group(row), "split": SPLITS[int(record["split"])],
                "spacing_mm": None if np.isnan(spacing).any() else spacing,
            },
        }  # fmt: skip
        annotations = tuple(self._annotation(number, meta["id"], size) for number in corpus.of(row))
        return LoadedSample(corpus.file(row), meta, annotations, self.names)

    def _annotation(self, number: int, image: int, size: list[int]) -> dict[str, Any]:
        record = self.corpus.annotations[number]
        return {
            "id": int(record["id"]), "image_id": image, "category_id": int(record["category"]),
            "segmentation": {"size": size, "counts": self.corpus.rle(number).decode("ascii")},
            "area": int(record["area"]), "bbox": [int(value) for value in record["bbox"]], "iscrowd": 0,
            "us43d": {
                "diagnosis": self.corpus.facts["diagnoses"][int(record["diagnosis"])] or None,
                "speck": bool(record["flags"] & SPECK),
            },
        }  # fmt: skip


def _of_build(build: Path, split: str | None) -> list[LoadedSample]:
    """Return the samples of a build, from its COCO shards."""
    samples: list[LoadedSample] = []
    licence = Build(build).facts["licence"]["id"]
    for shard in Build(build).shards(split):
        content = shard.read()
        names = {category["id"]: category["name"] for category in content["categories"]}
        by_image: dict[int, list[dict[str, Any]]] = {}
        for annotation in content["annotations"]:
            by_image.setdefault(annotation["image_id"], []).append(annotation)
        for image in content["images"]:
            image["us43d"] |= {"split": shard.split, "licence": licence}
            samples.append(LoadedSample(build / image["file_name"], image, tuple(by_image.get(image["id"], ())), names))
    return samples


_COLUMNS = (
    "image", "path", "source", "licence", "key", "group", "split", "height", "width", "spacing_x", "spacing_y",
    "annotation", "structure", "diagnosis", "area", "x", "y", "w", "h", "counts",
)  # fmt: skip


def _rows(sample: LoadedSample) -> list[tuple[Any, ...]]:
    meta, own = sample.meta, sample.meta["us43d"]
    spacing = own["spacing_mm"] or (np.nan, np.nan)
    head = (
        meta["id"], str(sample.path), own["source"], own["licence"], own["key"], own["group"], own["split"],
        meta["height"], meta["width"], *spacing,
    )  # fmt: skip
    if not sample.annotations:
        return [(*head, *[None] * (len(_COLUMNS) - len(head)))]
    return [
        (
            *head, annotation["id"], sample.names[annotation["category_id"]], annotation["us43d"]["diagnosis"],
            annotation["area"], *annotation["bbox"], annotation["segmentation"]["counts"],
        )
        for annotation in sample.annotations
    ]  # fmt: skip


def latest(home: Home, name: str, profile: Profile | None = None) -> Path | None:
    """The newest finished build of a source: whole before partial before specimen, the us43d profile before others.

    A build without skipped items comes before one with them. Raises StorageError for a folder that may not be read.
    """

    def rank(path: Path) -> tuple[bool | tuple[int, ...], ...]:
        words = path.name.split("-")
        revision = tuple(int(number) for number in words[0][1:].split("s") if number.isdigit())
        lesser = ("specimen", "partial", "skipping", "unfixed")
        return "us43d" in words, *(word not in words for word in lesser), revision

    builds = (path for path in home.finished(name) if fnmatch(path.name, f"r*s*-{profile or ''}*"))
    return max(builds, key=rank, default=None)


def load(name: str, split: str | None = None, *, home: str | Path | None = None, version: str | None = None) -> Samples:
    """Load the samples of a source that was built, or of a corpus.

    Args:
        name: Any spelling of a source, the release of a corpus, or the URL of one (s3://…/corpora/<release>), whose
            images come through a local cache (`us43d.harmonize.remote`).
        split: train, val, test or excluded; all if None.
        home: US43D_HOME; the default home if None.
        version: Name of the build's folder; the newest full build if None.

    Returns:
        The samples, by key.

    Raises:
        UnknownName: If no source or corpus has this name.
        UsageError: If `split` is invalid.
        BuildError: If the source, or a corpus of a default name, was not built.
    """
    if split is not None and split not in SPLITS:
        raise UsageError(f"Unknown split {split!r}. Use one of {', '.join(SPLITS)}.")
    place = Home.find(home)
    if is_url(name):
        return Samples(_CorpusSamples(Corpus.open(name), split))
    if version is None and (place.corpus(name) / "corpus.json").is_file():
        return Samples(_CorpusSamples(Corpus.open(place.corpus(name), place.root), split))
    try:
        recipe = registry.find(name, place)
    except UnknownName as error:
        if name in get_args(Profile):  # what a corpus is called by default; a source with a similar name is not meant
            raise BuildError(f"The corpus {name!r} is not built in {place.root}.", next="us43d build --all") from error
        raise
    build = place.build(recipe.name, version) if version else latest(place, recipe.name)
    if build is None or not (build / "dataset.json").is_file():
        which = f" as {version}" if version else ""
        raise BuildError(f"{recipe.name} is not built{which} in {place.root}.", next=f"us43d build {recipe.name}")
    return Samples.of_build(build, split)
