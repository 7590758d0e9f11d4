"""A corpus: builds made one, in arrays that training maps into memory (docs/format.md). `merge` makes it.

Reading needs numpy and json alone.
"""

import hashlib
import json
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from us43d.errors import BuildError, RawDataError, TrainError
from us43d.harmonize.remote import Remote, fetched_index, is_url
from us43d.masks import rle
from us43d.pictures.levels import eight_bits
from us43d.spelling import choose

__all__ = ["ANNOTATION", "IMAGE", "OWN", "SLICES", "SPECK", "SPLITS", "TAGS", "Corpus", "is_speck"]

#: Slug of a user's own COCO file, where a corpus has that of a source.
OWN = "own"
#: Tags of a user's own images, by id; those of the sources are in the manifests of their builds.
TAGS = "tags.json"
_MANIFEST = "manifest.parquet"

#: Distance to the next slice in mm by row of `images`, NaN where it is not of a volume; there if any is known.
SLICES = "slices.npy"

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


def is_speck(area: int, height: int, width: int) -> bool:
    """Return whether a component is a speck: smaller than 16 pixels and than 1/10,000 of its image."""
    return area < 16 and area * 10_000 < height * width


class Corpus:
    """An opened corpus. images, annotations: structured arrays mapped into memory. remote: its home, if in a bucket."""

    def __init__(self, path: Path, home: Path) -> None:
        self.path, self.home = path, home
        self.remote = Remote.of(path)
        try:
            self.facts: dict[str, Any] = json.loads((path / "corpus.json").read_text("utf-8"))
            self.images: NDArray[Any] = np.load(path / "images.npy", mmap_mode="r", allow_pickle=False)
            self.annotations: NDArray[Any] = np.load(path / "annotations.npy", mmap_mode="r", allow_pickle=False)
            slices = path / SLICES
            self._slices = np.load(slices, mmap_mode="r", allow_pickle=False) if slices.is_file() else None
            self._strings = _mapped(path / "strings.bin")
            self._rle = _mapped(path / "rle.bin")
        except (OSError, ValueError, EOFError) as error:
            raise BuildError(f"{path} is not a readable corpus: {error}.", next="us43d build --all") from error
        described = self._slices is None or self._slices.shape == self.images.shape
        if self.images.dtype != IMAGE or self.annotations.dtype != ANNOTATION or not described:
            raise BuildError(f"{path} was written by another version of us43d.", next="us43d build --all")

    @classmethod
    def open(cls, path: str | Path, home: Path | None = None) -> "Corpus":
        """Open corpora/<release>, a folder or a URL of fsspec, whose files are read through a cache (`remote`).

        home: US43D_HOME, by default the folder two above. Raises BuildError, and StorageError for a URL.
        """
        path = fetched_index(str(path)) if is_url(path) else Path(path).absolute()
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

    def select(self, names: Sequence[str] = ()) -> list[int]:
        """Find sources by name, slug or alias, in any spelling.

        Args:
            names: Names; all sources if empty.

        Returns:
            Indices into `sources`, ascending.

        Raises:
            UnknownName: If the corpus lacks one of them.
        """
        spellings = [(source["name"], source["slug"], *source.get("aliases", ())) for source in self.sources]
        return choose(names, spellings, "source", next="us43d stats --all")

    def selected(self, splits: Sequence[str], names: Sequence[str] = ()) -> NDArray[np.bool_]:
        """Mark the images of splits and sources: (N,) bool over `images`. Raises UnknownName as `select` does."""
        inside = np.isin(self.images["split"], [SPLITS.index(split) for split in splits])
        return inside & np.isin(self.images["source"], self.select(names))

    def split(self, name: str) -> NDArray[np.int64]:
        """Return the rows of `images` in a split. Raises ValueError for an unknown split."""
        return np.flatnonzero(self.images["split"] == SPLITS.index(name))

    def sample(self, rows: Iterable[int], most: int | None, seed: int = 0) -> list[int]:
        """Select at most `most` rows of `images` by their ids, all for None; in ascending order."""
        chosen = list(rows)
        if most is not None and most < len(chosen):
            ids = self.images["id"]
            chosen.sort(key=lambda row: hashlib.sha256(f"{seed}\0{ids[row]}".encode()).digest())
        return sorted(chosen[:most])

    def file(self, image: int) -> Path:
        """Return the image file of a row of `images`."""
        row = self.images[image]
        build = str(self.facts["sources"][row["source"]]["path"])
        name = self._text(row["file_at"], row["file_len"])
        return self.remote.file(f"{build}/{name}") if self.remote else self.home / build / name

    def manifest(self, source: int) -> Path | None:
        """Return the manifest of the build of a source, by its index; None if it is not beside the corpus."""
        name = f"{self.facts['sources'][source]['path']}/{_MANIFEST}"
        if self.remote:
            return self.remote.find(name)
        path = self.home / name
        return path if path.is_file() else None

    def origin(self, image: int) -> str:
        """Return where the image file of a row of `images` is published from: its path, or its URL in a bucket."""
        path = self.file(image)
        return self.remote.origin(path) if self.remote else str(path)

    def slice_mm(self, image: int) -> float | None:
        """The distance in mm from the image of a row to the next slice of its volume; None where it is unknown."""
        distance = np.nan if self._slices is None else float(self._slices[image])
        return None if np.isnan(distance) else distance

    def key(self, image: int) -> str:
        row = self.images[image]
        return self._text(row["key_at"], row["key_len"])

    def group(self, image: int) -> str:
        row = self.images[image]
        return self._text(row["group_at"], row["group_len"])

    def of(self, image: int) -> range:
        """Return rows of `annotations` that belong to a row of `images`."""
        row = self.images[image]
        return range(int(row["first"]), int(row["first"]) + int(row["count"]))

    def rle(self, annotation: int) -> bytes:
        """Return the compressed RLE of a row of `annotations`."""
        row = self.annotations[annotation]
        return self._rle[row["rle_at"] : row["rle_at"] + row["rle_len"]].tobytes()

    def mask(self, annotation: int) -> NDArray[np.bool_]:
        """Decode the mask of a row of `annotations`.

        Returns:
            (height, width) bool, C-contiguous.

        Raises:
            TrainError: If the RLE cannot be decoded.
        """
        import cv2

        image = int(self.annotations["image"][annotation])
        row = self.images[image]
        try:
            columns = rle.decode(self.rle(annotation), int(row["height"]), int(row["width"])).T  # column-major
            return cv2.transpose(columns.view(np.uint8)).view(bool)
        except ValueError as error:
            raise TrainError(
                f"A mask of image {self.key(image)!r} in {self.path} cannot be decoded: {error}.",
                next=f"rm -r {shlex.quote(str(self.path))}   (then the same command)"
                if self._own(image)
                else "us43d corpus --all",
            ) from error

    def picture(self, image: int) -> NDArray[np.uint8]:
        """Read an image as `stored` does, in uint8: 16 bits are spread over 8 by their range."""
        return eight_bits(self.stored(image))

    def stored(self, image: int) -> NDArray[Any]:
        """Read the image of a row of `images`.

        Returns:
            (height, width) grey or (height, width, 3) RGB, uint8 or uint16.

        Raises:
            TrainError: If the file cannot be read, or has another size than the corpus says.
        """
        from us43d.masks import read

        row = self.images[image]
        source = self.sources[row["source"]]
        where = f"Image {self.key(image)!r} of {source['name']}"
        again = "the same again   (with the image as it was)" if self._own(image) else f"us43d check {source['name']}"
        try:
            pixels = read.image(self.file(image))
        except RawDataError as error:
            raise TrainError(f"{where}: {error.what}", next=again) from error
        if pixels.shape[:2] != (row["height"], row["width"]):
            raise TrainError(
                f"{where} has {pixels.shape[1]} × {pixels.shape[0]} pixels, not {row['width']} × {row['height']}: "
                f"{self.file(image)}.",
                next=again,
            )
        return pixels

    def tags(self, images: NDArray[np.integer[Any]]) -> dict[int, dict[str, Any]]:
        """Read what the sources tell of images: view, phase, device, diagnosis, … as the recipes name it.

        Args:
            images: Rows of `images`.

        Returns:
            Row → tags; empty where the source's manifest is not there, as for a user's own COCO file.

        Raises:
            BuildError: If a manifest cannot be read.
        """
        by_row: dict[int, dict[str, Any]] = {int(row): {} for row in images}
        of = self.images["source"][images]
        for number in np.unique(of):
            wanted = {int(self.images["id"][row]): int(row) for row in images[of == number]}
            own = self.facts["sources"][number]["slug"] == OWN
            file = self.path / TAGS if own else self.manifest(int(number))
            if file is None or not file.is_file():
                continue
            for key, tags in _tags(file):
                if key in wanted:
                    by_row[wanted[key]] = tags
        return by_row

    def _own(self, image: int) -> bool:
        """Return whether the image comes from a user's own COCO file."""
        return bool(self.sources[self.images["source"][image]]["slug"] == OWN)

    def _text(self, at: int, length: int) -> str:
        return self._strings[at : at + length].tobytes().decode("utf-8")


def _mapped(path: Path) -> NDArray[np.uint8]:
    return np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)


def _tags(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (id of an image, its tags). Raises BuildError."""
    try:
        if file.suffix == ".json":
            yield from ((int(key), dict(tags)) for key, tags in json.loads(file.read_text("utf-8")).items())
            return
        from pyarrow import ArrowException, parquet

        try:
            table = parquet.read_table(file, columns=["id", "tags"])
        except ArrowException as error:
            raise ValueError(str(error)) from error
        for key, text in zip(table["id"].to_pylist(), table["tags"].to_pylist(), strict=True):
            yield key, json.loads(text) if text else {}
    except (OSError, ValueError) as error:
        raise BuildError(f"{file} is not readable: {error}.", next="us43d build --all") from error
