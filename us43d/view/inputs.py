"""The images a person labels: files of a folder, frames of a video or volume, or images of a build, by number."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from us43d import pictures
from us43d.coco import schema, segmentation
from us43d.errors import ImageError, UsageError
from us43d.harmonize.corpus import Corpus
from us43d.masks.read import header, image
from us43d.patients import patient_in
from us43d.pictures.levels import eight_bits, finite_range
from us43d.spelling import counting
from us43d.view import thumbs

__all__ = ["FileInputs", "Item", "Source", "SourceInputs", "Window", "value_range"]

#: Bytes of compressed frames kept in memory.
_KEPT = 512 << 20
#: Files kept open; images, DICOM files and volumes are in memory as long as they are.
_OPEN = 8


#: Values of an image that are shown black and white.
Window: TypeAlias = tuple[float, float]


def value_range(file: Path) -> Window | None:
    """Return the smallest and largest value of a 16-bit PNG, which is all that builds have besides 8 bits, or None.

    A missing file is reported when its pixels are read. Raises UnreadableFile.
    """
    try:
        with file.open("rb") as stream:
            head = stream.read(25)
    except OSError:
        return None
    if head[:8] != b"\x89PNG\r\n\x1a\n" or head[24:25] != b"\x10":
        return None
    return finite_range([image(file)])


class Item(NamedTuple):
    """One image to label. name: unique. input: the file it comes from. frame: from 0 in its file, None for a still.

    group: number of the file, within which masks propagate. patient: whose it is. spacing: mm a pixel in x and y.
    id: that of an image of a corpus.
    """

    name: str
    input: str
    frame: int | None
    group: int
    patient: str
    spacing: tuple[float, float] | None = None
    id: int | None = None


class Source(NamedTuple):
    """What an image of a build is there: its source's slug, its key and its pixel hash."""

    source: str
    key: str
    picture: str


def _text(name: str) -> str:
    """Return a file name that a page can show: of one that is not UTF-8, the bytes as escapes."""
    return name.encode(errors="backslashreplace").decode()


class FileInputs:
    """The files that `us43d predict` reads, listed at once and decoded when they are shown.

    patient: a regular expression on paths below `path`; its first group, or the whole match, is the patient. None:
    DICOM files that name one patient share a pseudonym, any other file is a patient of its own. leave_out: the folder
    of the labels. move: called with the number of files that were opened and that of all. Raises ImageError for a
    missing file, UsageError for an invalid pattern.
    """

    def __init__(
        self, path: Path, patient: str | None = None, leave_out: Path | None = None,
        move: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:  # fmt: skip
        self.files = sorted(pictures.listing(path, leave_out=leave_out), key=lambda file: counting(file.relative))
        self.items: list[Item] = []
        #: Path below the folder → why a file cannot be opened.
        self.faults: dict[str, str] = {}
        #: Number of a file → the patient that it names, where no pattern was given.
        self.named: dict[int, str] = {}
        self._media: OrderedDict[int, pictures.Media] = OrderedDict()
        self._place: list[tuple[int, int]] = []
        self._frames: OrderedDict[int, list[bytes]] = OrderedDict()
        #: Number of an item → (height, width) and masks that it starts with.
        self._starts: dict[int, tuple[tuple[int, int], list[dict[str, Any]]]] = {}
        self._lock, self._opening = Lock(), Lock()
        for number, file in enumerate(self.files):
            label, relative = _text(file.name), _text(file.relative)
            owner = patient_in(relative, patient, "--patient", next="us43d label --help") or label
            count, spacing = 1, None
            try:
                media = self._opened(number)
                spacing = media.spacing
                if media.patient and patient is None:
                    owner = media.patient
                    self.named[number] = owner
                count = len(self._decoded(number)) if media.count is None else media.count
            except ImageError as error:  # the page shows it in the place of the image
                self.faults[relative] = error.what
            for frame in range(count):
                name = label if count == 1 else f"{label}_{frame:05}"
                self.items.append(Item(name, relative, frame if count > 1 else None, number, owner, spacing))
                self._place.append((number, frame))
            move(number + 1, len(self.files))

    def start_from(self, masks: Path) -> tuple[int, str]:
        """Show the masks of a COCO file on the images that have no labels yet, to check.

        Args:
            masks: A file as `us43d predict` writes it, or any whose file names are those of the images.

        Returns:
            Number of images with masks, and the number of excluded annotations by reason; "" without one.

        Raises:
            TrainError: The file has faults.
            UsageError: None of its masks is of an image here.
        """
        content, report = schema.load(masks)
        names = {category.id: category.name for category in content.categories}
        places = {(item.input, item.frame or 0): n for n, item in enumerate(self.items)}
        images = {image.id: image for image in content.images}
        for one in content.annotations:
            image = images[one.image_id]
            place = places.get((image.file_name, image.frame or 0))
            try:
                mask, reason = segmentation.encoded(one.segmentation, image.height, image.width)
            except ValueError as error:
                report.fault(one.where, "segmentation", *error.args)
                continue
            if place is None or mask is None:
                report.leave_out("of other images" if place is None else reason)
            else:
                start = self._starts.setdefault(place, ((image.height, image.width), []))
                start[1].append(
                    {"structure": names[one.category_id], "rle": mask.counts.decode("ascii"), "origin": "propagated"}
                )
        report.raise_faults()
        if not self._starts:
            raise UsageError(
                f"{masks} has no mask of these images. Its first file name is {content.images[0].file_name!r}, "
                f"that of the images {self.items[0].input!r}."
                if content.images
                else f"{masks} lists no images."
            )
        return len(self._starts), report.reasons if report.left_out else ""

    def objects(self, number: int) -> list[dict[str, Any]]:
        """Return the masks that an image without labels starts with. Raises ImageError if they have another size."""
        size, masks = self._starts.get(number, (None, []))
        if size is not None and (shape := self.read(number).shape[:2]) != size:
            raise ImageError(
                f"{self.items[number].input} has {shape[1]} × {shape[0]} pixels, its masks {size[1]} × {size[0]}."
            )
        return masks

    def read(self, number: int, window: Window | None = None) -> NDArray[np.uint8]:
        """Return (h, w) grey or (h, w, 3) RGB of an item, 8 bits. Raises ImageError.

        window: values of a deeper image that become 0 and 255; without it, the range of its file.
        """
        file, frame = self._place[number]
        media = self._opened(file)
        if media.count == 1 or window:
            return media.frame(frame, window).pixels
        frames = self._decoded(file)
        if frame >= len(frames):
            raise ImageError(f"{self.files[file].path} has {len(frames)} frames, fewer than it says.")
        decoded: Any = cv2.imdecode(np.frombuffer(frames[frame], np.uint8), cv2.IMREAD_UNCHANGED)
        return np.asarray(decoded if decoded.ndim == 2 else decoded[:, :, ::-1], np.uint8)

    def range(self, number: int) -> Window | None:
        """Return the smallest and largest value of an item's file; None for 8 bits. Raises ImageError."""
        return self._opened(self._place[number][0]).levels

    def _opened(self, file: int) -> pictures.Media:
        if fault := self.faults.get(_text(self.files[file].relative)):
            raise ImageError(fault)
        with self._opening:
            if file not in self._media:
                self._media[file] = pictures.open(self.files[file])
                if len(self._media) > _OPEN:
                    self._media.popitem(last=False)
            self._media.move_to_end(file)
            return self._media[file]

    def original(self, number: int) -> Path | None:
        """Return the file of an item that is a plain 8-bit PNG or JPEG, which is kept byte for byte."""
        file = self.files[self._place[number][0]]
        if file.kind != "image" or self.items[number].frame is not None:
            return None
        with file.path.open("rb") as stream:
            head = header(stream.read(1 << 16), file.path)
        return file.path if head and head.plain else None

    def _decoded(self, number: int) -> list[bytes]:
        """Return the frames of a video or volume as PNG, decoded once as long as memory allows."""
        with self._lock:
            if number in self._frames:
                self._frames.move_to_end(number)
                return self._frames[number]
            frames, size = [], 0
            for frame in self._opened(number).frames():
                frames.append(thumbs.png(frame.pixels))
                size += len(frames[-1])
                if size > _KEPT:
                    raise ImageError(
                        f"{self.files[number].path} has too many frames to label at once (over 512 MiB compressed).",
                        next="cut the video into shorter ones, for example with ffmpeg",
                    )
            self._frames[number] = frames
            while len(self._frames) > 1 and sum(len(f) for kept in self._frames.values() for f in kept) > _KEPT:
                self._frames.popitem(last=False)
            return frames


class SourceInputs:
    """Images of a corpus. rows: of `corpus.images`."""

    def __init__(self, corpus: Corpus, rows: Sequence[int], hashes: dict[int, str]) -> None:
        self.corpus, self.rows = corpus, list(rows)
        groups: dict[tuple[int, str], int] = {}
        self.items = []
        self.sources = []
        for row in self.rows:
            record = corpus.images[row]
            source = corpus.sources[record["source"]]
            key, group = corpus.key(row), corpus.group(row)
            number = groups.setdefault((int(record["source"]), group), len(groups))
            spacing = tuple(float(v) for v in record["spacing"])
            known = (spacing[0], spacing[1]) if all(v > 0 for v in spacing) else None
            self.items.append(
                Item(f"{source['name']} {record['id']}", key, None, number, group, known, int(record["id"]))
            )
            self.sources.append(Source(str(source["slug"]), key, hashes[int(record["id"])]))

    @cached_property
    def structures(self) -> list[str]:
        """Names of the structures that the sources of these images have."""
        sources = np.unique(self.corpus.images["source"][self.rows])
        owners = self.corpus.images["source"][self.corpus.annotations["image"]]
        used = set(np.unique(self.corpus.annotations["category"][np.isin(owners, sources)]).tolist())
        return [str(entry["name"]) for entry in self.corpus.categories if entry["id"] in used]

    def read(self, number: int, window: Window | None = None) -> NDArray[np.uint8]:
        """Return an image as `FileInputs.read` does."""
        if window is None:
            return self.corpus.picture(self.rows[number])
        return eight_bits(image(self.corpus.file(self.rows[number])), window)

    def range(self, number: int) -> Window | None:
        """Return what `FileInputs.range` does."""
        return value_range(self.corpus.file(self.rows[number]))

    def original(self, number: int) -> Path | None:
        """Return the file of the build, which is PNG or JPEG."""
        return self.corpus.file(self.rows[number])

    def facts(self, number: int) -> dict[str, str]:
        """Return what identifies the corrected image for a build: source, key, pixel digest."""
        return self.sources[number]._asdict()

    def objects(self, number: int) -> list[dict[str, Any]]:
        """Return the masks of the build, one object per annotation."""
        corpus = self.corpus
        names = {entry["id"]: entry["name"] for entry in corpus.categories}
        return [
            {"structure": names[int(corpus.annotations["category"][n])], "rle": corpus.rle(n).decode("ascii"),
             "origin": "build"}
            for n in corpus.of(self.rows[number])
        ]  # fmt: skip
