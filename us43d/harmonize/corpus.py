"""A corpus: builds made one, in arrays that training maps into memory (docs/format.md).

Reading needs numpy and json alone. Writing streams the builds' COCO shards one at a time.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from us43d.errors import BuildError, listed
from us43d.masks import rle

__all__ = ["ANNOTATION", "IMAGE", "SPECK", "SPLITS", "Corpus", "merge"]

SPLITS = ("train", "val", "test", "excluded")
SPECK = 1

IMAGE = np.dtype(
    [
        ("id", "<i8"), ("source", "<u2"), ("split", "u1"), ("height", "<i4"), ("width", "<i4"), ("group", "<u4"),
        ("first", "<i8"), ("count", "<i4"), ("file_at", "<i8"), ("file_len", "<u2"), ("key_at", "<i8"),
        ("key_len", "<u2"), ("group_at", "<i8"), ("group_len", "<u2"), ("spacing", "<f4", (2,)),
    ]
)  # fmt: skip
ANNOTATION = np.dtype(
    [
        ("id", "<i8"), ("image", "<u4"), ("category", "<u2"), ("flags", "u1"), ("area", "<i8"), ("bbox", "<i4", (4,)),
        ("rle_at", "<i8"), ("rle_len", "<u4"), ("diagnosis", "<u2"),
    ]
)  # fmt: skip


class Corpus:
    """An opened corpus. images, annotations: structured arrays mapped into memory."""

    def __init__(self, path: Path, home: Path) -> None:
        self.path, self.home = path, home
        try:
            self.facts: dict[str, Any] = json.loads((path / "corpus.json").read_text("utf-8"))
            self.images: NDArray[Any] = np.load(path / "images.npy", mmap_mode="r", allow_pickle=False)
            self.annotations: NDArray[Any] = np.load(path / "annotations.npy", mmap_mode="r", allow_pickle=False)
            self._strings = _mapped(path / "strings.bin")
            self._rle = _mapped(path / "rle.bin")
        except (OSError, ValueError) as error:
            raise BuildError(f"{path} is no readable corpus: {error}.", next="us43d build --all") from error
        if self.images.dtype != IMAGE or self.annotations.dtype != ANNOTATION:
            raise BuildError(f"{path} was written by another version of us43d.", next="us43d build --all")

    @classmethod
    def open(cls, path: Path, home: Path | None = None) -> "Corpus":
        """Open corpora/<release>. home: US43D_HOME, by default the folder two above. Raises BuildError."""
        path = Path(path).absolute()
        return cls(path, home or path.parent.parent)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def sources(self) -> list[dict[str, Any]]:
        """One entry per build: name, slug, version, digest, path (relative to the home), organ, licence."""
        return list(self.facts["sources"])

    @property
    def categories(self) -> list[dict[str, Any]]:
        """COCO's categories: id, name, supercategory (the organ)."""
        return list(self.facts["categories"])

    @property
    def digest(self) -> str:
        return str(self.facts["digest"])

    def split(self, name: str) -> NDArray[np.int64]:
        """Rows of `images` in a split. Raises ValueError for a name that is none."""
        return np.flatnonzero(self.images["split"] == SPLITS.index(name))

    def file(self, image: int) -> Path:
        """The image file of a row of `images`."""
        row = self.images[image]
        build = str(self.facts["sources"][row["source"]]["path"])
        return self.home / build / self._text(row["file_at"], row["file_len"])

    def key(self, image: int) -> str:
        row = self.images[image]
        return self._text(row["key_at"], row["key_len"])

    def group(self, image: int) -> str:
        row = self.images[image]
        return self._text(row["group_at"], row["group_len"])

    def of(self, image: int) -> range:
        """Rows of `annotations` that belong to a row of `images`."""
        row = self.images[image]
        return range(int(row["first"]), int(row["first"]) + int(row["count"]))

    def rle(self, annotation: int) -> bytes:
        """Compressed RLE of a row of `annotations`."""
        row = self.annotations[annotation]
        return self._rle[row["rle_at"] : row["rle_at"] + row["rle_len"]].tobytes()

    def mask(self, annotation: int) -> NDArray[np.bool_]:
        """(height, width) bool."""
        image = self.images[self.annotations[annotation]["image"]]
        return rle.decode(self.rle(annotation), int(image["height"]), int(image["width"]))

    def _text(self, at: int, length: int) -> str:
        return self._strings[at : at + length].tobytes().decode("utf-8")


def _mapped(path: Path) -> NDArray[np.uint8]:
    return np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)


def merge(builds: Sequence[Path], home: Path, release: str) -> Corpus:
    """Make corpora/<release> of builds (folders below `home`), in the order of their slugs; replaces one of that name.

    Raises BuildError if a build is unreadable, two have one source, or ids collide.
    """
    final = home / "corpora" / release
    temporary = final.with_name(f".{release}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        _Writer(temporary, home).write(builds, release)
        if final.exists():
            shutil.rmtree(final)
        temporary.rename(final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Corpus.open(final, home)


class _Writer:
    def __init__(self, folder: Path, home: Path) -> None:
        self.folder, self.home = folder, home
        self.images: list[NDArray[Any]] = []
        self.annotations: list[NDArray[Any]] = []
        self.image_rows = self.annotation_rows = 0
        self.diagnoses: dict[str, int] = {"": 0}
        self.group_numbers: dict[tuple[int, str], int] = {}

    def write(self, builds: Sequence[Path], release: str) -> None:
        datasets = sorted(((self._dataset(path), path) for path in builds), key=lambda pair: pair[0]["slug"])
        slugs = [dataset["slug"] for dataset, _ in datasets]
        if twice := sorted({slug for slug in slugs if slugs.count(slug) > 1}):
            raise BuildError(f"A corpus takes one build of a source; several were given of {listed(twice)}.")
        if not datasets:
            raise BuildError("A corpus needs at least one build.", next="us43d build --all")
        categories: list[dict[str, Any]] = []
        with (self.folder / "strings.bin").open("wb") as strings, (self.folder / "rle.bin").open("wb") as runs:
            for number, (_, path) in enumerate(datasets):
                for shard in sorted((path / "annotations").glob("*.json")):
                    content = json.loads(shard.read_bytes())
                    categories = content["categories"]
                    split = SPLITS.index(shard.name.partition("-")[0])
                    self._shard(content, number, split, strings, runs)
        images, annotations = np.concatenate(self.images), np.concatenate(self.annotations)
        self._unique(images["id"], "image")
        self._unique(annotations["id"], "annotation")
        np.save(self.folder / "images.npy", images, allow_pickle=False)
        np.save(self.folder / "annotations.npy", annotations, allow_pickle=False)
        digest = hashlib.sha256()
        for name in ("images.npy", "annotations.npy", "strings.bin", "rle.bin"):
            with (self.folder / name).open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        counts = {name: int((images["split"] == n).sum()) for n, name in enumerate(SPLITS)}
        facts = {
            "release": release,
            "sources": [self._source(dataset, path) for dataset, path in datasets],
            "categories": categories,
            "diagnoses": list(self.diagnoses),
            "images": counts,
            "annotations": len(annotations),
            "groups": len(self.group_numbers),
            "digest": digest.hexdigest(),
        }
        text = json.dumps(facts, indent=1, sort_keys=True, ensure_ascii=False)
        (self.folder / "corpus.json").write_text(text, "utf-8")

    @staticmethod
    def _dataset(path: Path) -> dict[str, Any]:
        try:
            return dict(json.loads((path / "dataset.json").read_text("utf-8")))
        except (OSError, ValueError) as error:
            raise BuildError(f"{path} is no build: {error}.", next="us43d build --all") from error

    def _source(self, dataset: dict[str, Any], path: Path) -> dict[str, Any]:
        kept = (
            "name",
            "slug",
            "version",
            "digest",
            "organ",
            "licence",
            "citations",
            "profile",
            "partial",
            "specimen",
            "counts",
        )
        return {name: dataset[name] for name in kept} | {"path": path.relative_to(self.home).as_posix()}

    def _shard(self, content: dict[str, Any], source: int, split: int, strings: BinaryIO, runs: BinaryIO) -> None:
        images = np.zeros(len(content["images"]), IMAGE)
        annotations = np.zeros(len(content["annotations"]), ANNOTATION)
        rows = {}
        for n, image in enumerate(content["images"]):
            own, row = image["us43d"], images[n]
            rows[image["id"]] = n
            row["id"], row["source"], row["split"] = image["id"], source, split
            row["height"], row["width"] = image["height"], image["width"]
            row["group"] = self.group_numbers.setdefault((source, own["group"]), len(self.group_numbers))
            row["spacing"] = own["spacing_mm"] or (np.nan, np.nan)
            for name, text in (("file", image["file_name"]), ("key", own["key"]), ("group", own["group"])):
                data = text.encode()
                row[f"{name}_at"], row[f"{name}_len"] = strings.tell(), len(data)
                strings.write(data)
        for n, found in enumerate(content["annotations"]):
            row, place = annotations[n], rows[found["image_id"]]
            data = found["segmentation"]["counts"].encode()
            row["id"], row["image"], row["category"] = found["id"], self.image_rows + place, found["category_id"]
            row["area"], row["bbox"] = found["area"], found["bbox"]
            row["flags"] = SPECK if found["us43d"]["speck"] else 0
            diagnosis = found["us43d"]["diagnosis"] or ""
            row["diagnosis"] = self.diagnoses.setdefault(diagnosis, len(self.diagnoses))
            row["rle_at"], row["rle_len"] = runs.tell(), len(data)
            runs.write(data)
            if images[place]["count"] == 0:
                images[place]["first"] = self.annotation_rows + n
            images[place]["count"] += 1
        self.images.append(images)
        self.annotations.append(annotations)
        self.image_rows += len(images)
        self.annotation_rows += len(annotations)

    @staticmethod
    def _unique(ids: NDArray[np.int64], what: str) -> None:
        values, counts = np.unique(ids, return_counts=True)
        if (counts > 1).any():
            raise BuildError(
                f"Two {what}s of the corpus have the id {int(values[counts > 1][0])}; leave one source out."
            )
