"""Which images and masks of a corpus an export takes, and how it reads them: one image at a time, in a fixed order."""

import hashlib
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from us43d.coco.segmentation import encode
from us43d.errors import TrainError, UsageError, command, listed
from us43d.harmonize import shards
from us43d.harmonize.corpus import SPECK, SPLITS, Corpus
from us43d.licences import refuse_uncommercial, terms_of
from us43d.pictures.levels import eight_bits
from us43d.spelling import choose

__all__ = ["EXPORTED", "Category", "Item", "Options", "Selection", "Shape"]

#: Splits that may be exported. Excluded images (near-duplicates of test or validation images) never are.
EXPORTED = ("train", "val", "test")

#: The one category of a class-agnostic export.
STRUCTURE = "structure"


@dataclass(frozen=True, slots=True)
class Options:
    """What to export.

    Attributes:
        splits: Splits to export.
        sources, structures, organs: Names to keep; all if empty.
        size: Resize images to this long side, in pixels; None keeps every image as it is.
        class_agnostic: Give every mask the one category "structure".
        commercial: Refuse sources that are not known to allow commercial use.
        link: Hard-link image files instead of copying them, where the disk allows it.
        keep_ids: Keep the corpus's ids of images, annotations and categories instead of numbering from 1 (COCO).
        number: Number of the nnU-Net dataset.
        notes: Sentences that belong into the README, such as what a build alone does not exclude.
    """

    splits: tuple[str, ...] = EXPORTED
    sources: tuple[str, ...] = ()
    structures: tuple[str, ...] = ()
    organs: tuple[str, ...] = ()
    size: int | None = None
    class_agnostic: bool = False
    commercial: bool = False
    link: bool = False
    keep_ids: bool = False
    number: int = 43
    notes: tuple[str, ...] = field(default=())


class Category(NamedTuple):
    """A structure as exported. position: from 0. id: of the taxonomy (0 when class-agnostic). organ: supercategory."""

    position: int
    id: int
    name: str
    organ: str


class Shape(NamedTuple):
    """One annotation as exported.

    id: of the corpus. number: from 1 over the export. category: an index into `Selection.categories`. counts:
    compressed RLE. area: pixels. bbox: (x, y, width, height) in pixels. speck: flagged as a speck. diagnosis: "" if
    the source states none.
    """

    id: int
    number: int
    category: int
    counts: bytes
    area: int
    bbox: tuple[int, int, int, int]
    speck: bool
    diagnosis: str


class Item:
    """One image as exported.

    Attributes:
        row: Row of `corpus.images`.
        number: From 1 over the export.
        name: Unique name of the image without file ending: the source's slug and the image's id.
        split, key, group: As in the corpus.
        source: Entry of `corpus.sources`.
        height, width: In pixels, as exported.
        spacing: (x, y) mm per pixel as exported, or None. slice_mm: distance to the next slice of a volume, or None.
        shapes: Its annotations.
        lost: Annotations that vanished when the image was resized.
    """

    def __init__(self, selection: "Selection", row: int, number: int, first: int) -> None:
        corpus, record = selection.corpus, selection.corpus.images[row]
        self.selection, self.row, self.number = selection, row, number
        self.id = int(record["id"])
        self.split = SPLITS[int(record["split"])]
        self.source = selection.sources[int(record["source"])]
        self.name = f"{self.source['slug']}_{self.id}"
        self.key, self.group = corpus.key(row), corpus.group(row)
        self.published = (int(record["height"]), int(record["width"]))
        self.height, self.width = fitted(self.published, selection.options.size)
        x, y = (float(value) for value in record["spacing"])
        scale = self.published[1] / self.width, self.published[0] / self.height
        self.spacing = None if np.isnan(x) or np.isnan(y) else (x * scale[0], y * scale[1])
        self.slice_mm = corpus.slice_mm(row)
        self.lost = 0
        self.shapes = list(self._shapes(first))

    @property
    def resized(self) -> bool:
        return (self.height, self.width) != self.published

    def _shapes(self, first: int) -> Iterator[Shape]:
        selection, corpus = self.selection, self.selection.corpus
        for row in corpus.of(self.row):
            record = corpus.annotations[row]
            category = int(selection.index_of[record["category"]])
            if category < 0:
                continue
            number, first = first, first + 1
            counts, area, bbox = corpus.rle(row), int(record["area"]), tuple(int(v) for v in record["bbox"])
            if self.resized:
                mask = resized_mask(corpus.mask(row), self.height, self.width)
                if not mask.any():
                    self.lost += 1
                    continue
                counts, area, bbox = encode(mask), int(mask.sum()), box_of(mask)
            yield Shape(
                int(record["id"]), number, category, counts, area, (bbox[0], bbox[1], bbox[2], bbox[3]),
                bool(record["flags"] & SPECK), selection.diagnoses[int(record["diagnosis"])],
            )  # fmt: skip

    def mask(self, shape: Shape) -> NDArray[np.bool_]:
        """Decode an annotation: (height, width) bool, C-contiguous."""
        from us43d.masks import rle

        columns = rle.decode(shape.counts, self.height, self.width).T
        return cv2.transpose(columns.view(np.uint8)).view(bool)

    def union(self, category: int) -> NDArray[np.bool_]:
        """Everything annotated with a category: (height, width) bool."""
        mask = np.zeros((self.height, self.width), bool)
        for shape in self.shapes:
            if shape.category == category:
                mask |= self.mask(shape)
        return mask

    def picture(self) -> NDArray[np.uint8]:
        """Read the image as `stored` does, in uint8: 16 bits are spread over 8 by their range."""
        return eight_bits(self.stored())

    def stored(self) -> NDArray[Any]:
        """Read the image: (height, width) or (height, width, 3) RGB, uint8 or uint16, at the size that is exported."""
        pixels = self.selection.corpus.stored(self.row)
        if self.resized:
            how = cv2.INTER_AREA if self.height < self.published[0] else cv2.INTER_LINEAR
            pixels = cv2.resize(pixels, (self.width, self.height), interpolation=how)
        return pixels

    @cached_property
    def deep(self) -> bool:
        """Whether the image has 16 bits, of which `picture` keeps 8."""
        with self.path.open("rb") as file:
            return file.read(25)[24:] == b"\x10" and self.path.suffix == ".png"  # the depth in the header of PNG

    @cached_property
    def path(self) -> Path:
        """Return the image's file in the build."""
        return self.selection.corpus.file(self.row)

    @cached_property
    def sha256(self) -> str:
        """Return the digest of the image's file; TrainError if it is missing or not the file that was built."""
        try:
            with self.path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            fault = "is missing"
        else:
            if self.selection.built(self.row) in (digest, None):
                return digest
            fault = "is not the file that was built"
        name, corpus = self.source["name"], self.selection.corpus
        raise TrainError(
            f"Image {self.key!r} of {name}: {corpus.origin(self.row)} {fault}.",
            next=f"{shlex.join(['rm', str(self.path)])}   (then the same command fetches the image again)"
            if corpus.remote
            else command("check", name),
        )

    @property
    def compared(self) -> bool:
        """Whether the build's manifest, with which the file is compared, lies beside the corpus."""
        return self.selection.built(self.row) is not None

    @property
    def suffix(self) -> str:
        """Ending of the exported image file: as published, ".png" if it was resized."""
        return ".png" if self.resized else self.path.suffix.lower()

    @property
    def file(self) -> str:
        """Name of the exported image file."""
        return self.name + self.suffix


class Selection:
    """The images and annotations of a corpus that options keep, in a fixed order.

    Attributes:
        categories: Structures that are exported, in the order of the taxonomy.
        rows: Split → rows of `corpus.images`, ascending; a split without images, which readers refuse, is absent.
        skipped: Reason → images that are not exported.
        sources: All entries of `corpus.sources`.
        annotates: Index of a source → indices of the categories it annotates anywhere in the corpus.

    Raises:
        UnknownName, UsageError: For names the corpus does not have, or if nothing is left.
        LicenceError: If `commercial` and a source is not known to allow commercial use.
    """

    def __init__(self, corpus: Corpus, options: Options) -> None:
        self.corpus, self.options, self.sources = corpus, options, corpus.sources
        self._built: dict[int, tuple[NDArray[np.int64], NDArray[np.void]]] = {}
        self.diagnoses = list(corpus.facts["diagnoses"])
        source_of = np.asarray(corpus.images["source"])
        category_of = np.asarray(corpus.annotations["category"])
        wanted = corpus.select(options.sources)
        kept = self._categories(options, category_of)
        annotation_source = source_of[corpus.annotations["image"]]
        pairs = {(int(s), int(c)) for s, c in np.unique(np.stack([annotation_source, category_of], 1), axis=0)}
        relevant = {s for s, c in pairs if c in kept} if options.structures or options.organs else set(wanted)
        used = {c for s, c in pairs if s in wanted and c in kept}
        self._number(corpus, options, used)
        self.annotates = {
            s: frozenset(int(self.index_of[c]) for t, c in pairs if t == s and c in used)
            for s in range(len(self.sources))
        }
        self._rows(source_of, wanted, relevant)
        present = {int(s) for rows in self.rows.values() for s in np.unique(source_of[rows])}
        self.exported_sources = [self.sources[s] for s in sorted(present)]
        if not present or not self.categories:
            raise UsageError(
                f"Nothing of corpus {corpus.path.name} matches the options (splits {listed(options.splits)}).",
                next="us43d export --help",
            )
        if options.commercial:
            names = {s["name"]: terms_of(s["licence"]) for s in self.exported_sources}
            refuse_uncommercial(names, "us43d licences --all --commercial")

    def _categories(self, options: Options, category_of: NDArray[Any]) -> set[int]:
        """Return ids of the taxonomy that the options keep."""
        entries = {int(c["id"]): c for c in self.corpus.categories}
        present = [entries[int(n)] for n in np.unique(category_of)]
        names = choose(options.structures, [(c["name"],) for c in present], "structure", next="us43d stats --all")
        organs = sorted({c["supercategory"] for c in present})
        kept_organs = {
            organs[n] for n in choose(options.organs, [(name,) for name in organs], "organ", next="us43d stats --all")
        }
        return {int(c["id"]) for n, c in enumerate(present) if n in names and c["supercategory"] in kept_organs}

    def _number(self, corpus: Corpus, options: Options, used: set[int]) -> None:
        """Set `categories` and `index_of` (id of the taxonomy → index, −1 where it is not exported)."""
        entries = {int(c["id"]): c for c in corpus.categories}
        self.index_of = np.full(max(entries, default=0) + 1, -1, np.int64)
        if options.class_agnostic:
            self.categories = [Category(0, 0, STRUCTURE, "")] if used else []
            self.index_of[sorted(used)] = 0
            return
        order = sorted(used)
        self.categories = [
            Category(n, key, entries[key]["name"], entries[key]["supercategory"]) for n, key in enumerate(order)
        ]
        self.index_of[order] = np.arange(len(order))

    def _rows(self, source_of: NDArray[Any], wanted: Sequence[int], relevant: set[int]) -> None:
        images = self.corpus.images
        split, skipped = np.asarray(images["split"]), Counter[str]()
        chosen = np.isin(source_of, wanted)
        skipped["of a source that was not chosen"] = int((~chosen).sum())
        related = np.isin(source_of, sorted(relevant))
        skipped["of a source that annotates no chosen structure"] = int((chosen & ~related).sum())
        chosen &= related
        excluded = chosen & (split == SPLITS.index("excluded"))
        skipped["excluded: near-duplicate of a test or validation image"] = int(excluded.sum())
        self.rows = {
            name: rows
            for name in EXPORTED
            if name in self.options.splits and len(rows := np.flatnonzero(chosen & (split == SPLITS.index(name))))
        }
        exported = sum(len(rows) for rows in self.rows.values())
        skipped["in a split that was not chosen"] = int(chosen.sum()) - int(excluded.sum()) - exported
        self.skipped = {reason: number for reason, number in skipped.items() if number}

    def __len__(self) -> int:
        return sum(len(rows) for rows in self.rows.values())

    def built(self, row: int) -> str | None:
        """Return the digest of an image's file by the manifest of its build; None where that is missing."""
        record = self.corpus.images[row]
        number = int(record["source"])
        if number not in self._built:
            path = self.corpus.manifest(number)
            self._built[number] = _digests(path) if path else (np.zeros(0, np.int64), np.zeros(0, "V32"))
        ids, digests = self._built[number]
        place = int(np.searchsorted(ids, record["id"]))
        return digests[place].tobytes().hex() if place < len(ids) and ids[place] == record["id"] else None

    @cached_property
    def _annotated(self) -> NDArray[np.int64]:
        """Number of exported annotations of every row of `corpus.images`."""
        exported = self.index_of[np.asarray(self.corpus.annotations["category"])] >= 0
        return np.bincount(np.asarray(self.corpus.annotations["image"])[exported], minlength=len(self.corpus))

    def items(self, split: str, start: int, stop: int) -> Iterator[Item]:
        """Yield images `start` to `stop` of a split, numbered over all exported splits."""
        number = annotation = 1
        for name, rows in self.rows.items():
            if name == split:
                break
            number += len(rows)
            annotation += int(self._annotated[rows].sum())
        before = self.rows[split][:start]
        number += start
        annotation += int(self._annotated[before].sum())
        for row in self.rows[split][start:stop].tolist():
            yield Item(self, row, number, annotation)
            number += 1
            annotation += int(self._annotated[row])

    @cached_property
    def units(self) -> Mapping[tuple[str, str], str]:
        """Return (source name, group) → its unit, for groups that show the same thing in several sources."""
        shared: Sequence[Any] = self.corpus.facts.get("across_sources", {}).get("shared", ())
        return {
            (entry["source"], entry["group"]): f"{groups[0]['source']}/{groups[0]['group']}"
            for groups in shared
            for entry in groups
        }

    def unit(self, item: Item) -> str:
        """Return the unit that must stay in one split: the group, united with near-duplicates in other sources."""
        own_unit = f"{item.source['name']}/{item.group}"
        return self.units.get((item.source["name"], item.group), own_unit)


def _digests(manifest: Path) -> tuple[NDArray[np.int64], NDArray[np.void]]:
    """Return ids, ascending, and SHA-256 digests of the image files that a manifest lists."""
    table = shards.read_table(manifest, ["id", "sha256"]).drop_null()  # images without a file, which were excluded
    ids = np.array(table["id"].to_pylist(), np.int64)  # to_numpy would import pandas
    order = np.argsort(ids)
    return ids[order], np.frombuffer(bytes.fromhex("".join(table["sha256"].to_pylist())), "V32")[order]


def fitted(size: tuple[int, int], long_side: int | None) -> tuple[int, int]:
    """Return (height, width) with the long side resized to `long_side` pixels; unchanged for None."""
    if long_side is None or max(size) == long_side:
        return size
    scale = long_side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def resized_mask(mask: NDArray[np.bool_], height: int, width: int) -> NDArray[np.bool_]:
    """Resize a mask (h, w) by nearest pixel."""
    small = cv2.resize(mask.view(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(small != 0)


def box_of(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Return (x, y, width, height) of a non-empty mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (
        int(columns[0]), int(rows[0]), int(columns[-1] - columns[0]) + 1, int(rows[-1] - rows[0]) + 1,
    )  # fmt: skip
