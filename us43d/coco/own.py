"""Convert a user's COCO file to the arrays of a corpus (docs/format.md), for training and evaluation.

Images other than plain 8-bit PNG or JPEG (other formats, more bits, palettes, orientation tags, frames) are read once
by `us43d.pictures` and stored next to the arrays as lossless PNG, as in builds. A group (an image's "group",
"patient_id", or the group under "us43d") is never divided; an image without one is a group of its own. Groups that
share an image are one group.
"""

import contextlib
import hashlib
import itertools
import json
import math
import os
import re
import shlex
import shutil
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from us43d import atomic, pictures
from us43d.coco import schema, segmentation
from us43d.coco.schema import Category, File, Image, Report
from us43d.errors import ImageError, RawDataError, TrainError, command, counted, listed
from us43d.harmonize.corpus import ANNOTATION, IMAGE, OWN, SPECK, SPLITS, TAGS, Corpus, is_speck
from us43d.limits import MAX_PIXELS
from us43d.masks import read as reading
from us43d.pictures.levels import is_two_valued
from us43d.rawtree import folded
from us43d.unions import Unions

__all__ = ["made", "made_of", "read", "told"]

#: Fraction of images held out for validation, in whole groups; at least one group of two or more.
HELD_OUT = 0.15
#: Largest number of categories in an array of annotations.
_CATEGORIES = 65_535
#: Bytes per pixel below which a PNG may be a mask.
_DENSEST_MASK = 0.1
#: Least number of outlines of which the unit can be told.
_OUTLINES = 5
#: Pixels by which corners may be beside an image, and the fraction of corners further outside that tells y before x.
_BESIDE, _SWAPPED = 2, 0.1
#: For the command to run next.
_ANY_FOLDER = "FOLDER   (the folder to which the file names are relative)"
#: Ids as arrays hold them: 64 bits.
_WHOLE, _BEYOND = re.compile(r"-?[0-9]{1,19}"), 1 << 63


def read(file: Path, folder: Path, images: Path | None = None) -> Corpus:
    """Convert a COCO file to a corpus, or open the corpus if it was converted before.

    Args:
        file: The COCO file.
        folder: Folder of the corpus; a corpus of another version of the file is replaced.
        images: Folder to which file names are relative; the file's own folder if None.

    Returns:
        The corpus. `told` lists exclusions and remarks.

    Raises:
        TrainError: The file or its images have faults (all are listed), or no annotation has a mask.
        StorageError: The folder cannot be written.
    """
    file, images, digest = _identity(file, images)
    if made(file, folder, images):
        return Corpus.open(folder, images)
    content, report = schema.load(file)
    folder = Path(folder).absolute()
    with atomic.storage_errors(folder, "Nothing was changed on disk."):
        temporary = folder.with_name(f".{folder.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        parents = [place for place in temporary.parents if not place.exists()]
        temporary.mkdir(parents=True)
        try:
            _write(temporary, folder, content, report, images, digest)
        except TrainError:
            shutil.rmtree(temporary, ignore_errors=True)
            with contextlib.suppress(OSError):  # another process may have put something there since
                for place in parents:
                    place.rmdir()
            raise
        atomic.replace_dir(temporary, folder)
    return Corpus.open(folder, images)


def made(file: Path, folder: Path, images: Path | None = None) -> bool:
    """Return whether `folder` has the corpus of this file and folder of images. Raises TrainError as `read`."""
    _, _, digest = _identity(file, images)
    try:
        facts = json.loads((folder / "corpus.json").read_text("utf-8"))
        return bool(facts["digest"] == digest and facts["folder"] == str(Path(folder).absolute()))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def made_of(folder: Path, digest: str | None) -> tuple[Path, Path] | None:
    """Return file and images of the corpus made by `read`; None if `folder` has no such corpus of this digest."""
    try:
        facts = json.loads((folder / "corpus.json").read_text("utf-8"))
        origin = facts["made_of"] if facts["digest"] == digest else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (Path(origin["file"]), Path(origin["images"])) if origin else None


def told(corpus: Corpus) -> list[str]:
    """List exclusions, with reasons, and remarks of a corpus made by `read`, one line each."""
    left_out: Mapping[str, int] = corpus.facts["left_out"]
    lines = list(corpus.facts["remarks"])
    if left_out:
        total, reasons = sum(left_out.values()), ", ".join(f"{n:,} {reason}" for reason, n in left_out.items())
        lines.insert(
            0, f"Excluded: {total:,} of {counted(total + corpus.facts['annotations'], 'annotation')}: {reasons}."
        )
    return lines


def _identity(file: Path, images: Path | None) -> tuple[Path, Path, str]:
    """Return both absolute paths, and the digest of the file and the path of its images."""
    file = Path(file).expanduser().absolute()
    images = Path(images).expanduser().absolute() if images else file.parent
    if not images.is_dir():
        raise TrainError(f"{images} is not a folder.", next=f"the same with --images {_ANY_FOLDER}")
    try:
        mode = file.stat().st_mode
        if stat.S_ISDIR(mode):
            inside = [one for one in file.iterdir() if one.suffix.lower() == ".json"]
            raise TrainError(
                f"{file} is a folder, not a COCO file.",
                next=shlex.join(["ls", str(file)])
                if not inside
                else f"the same with --data {shlex.quote(str(inside[0]))}"
                if len(inside) == 1
                else f"us43d coco IMAGES {shlex.quote(str(file))}   (if these are files of LabelMe)",
            )
        if not stat.S_ISREG(mode):
            raise TrainError(f"{file} is not a regular file.")
        data = file.read_bytes()
    except OSError as error:
        place = next((place for place in file.parents if place.is_dir()), file)
        raise TrainError(f"{file} cannot be read: {error.strerror}.", next=shlex.join(["ls", str(place)])) from error
    return file, images, hashlib.sha256(data + str(images).encode()).hexdigest()


# ------------------------------------------------------------------------------------------------------------- images


class _Pixels:
    """Locate each image's pixels, and read their spacing; faults go to the report."""

    def __init__(self, content: File, report: Report, images: Path, temporary: Path, folder: Path) -> None:
        self.entries, self.report = content.images, report
        self.images, self.temporary, self.folder = images, temporary, folder
        self.files = [""] * len(self.entries)
        self.spacings: list[tuple[float, float] | None] = [image.spacing for image in self.entries]
        self.names = [image.file_name for image in self.entries]  # of their files, each always spelled the same
        self.contents = [b""] * len(self.entries)  # digests
        self.remarks: Counter[str] = Counter()
        self._folders: dict[Path, dict[str, list[Path]]] = {}
        self._find()

    def _find(self) -> None:
        by_file: dict[Path, list[int]] = {}
        missing, outside = [], []
        for place, image in enumerate(self.entries):
            path, remark = self._located(image.file_name)
            if path is None:
                outside.append(image)
            elif not _is_file(path):
                missing.append(image)
            else:
                by_file.setdefault(path, []).append(place)
                self.names[place] = path.relative_to(self.images).as_posix()
                self.remarks.update([remark] if remark else [])
        for images, where in ((outside, "outside of"), (missing, "not in")):
            if len(images) > len(self.entries) / 2:
                raise TrainError(
                    f"{len(images)} of {len(self.entries)} images of {self.report.file} are {where} {self.images}: "
                    f"{listed((schema.shortened(image.file_name) for image in images), 5)}.",
                    next=self._advice(images),
                )
            for image in images:
                self._fault(image, f"is {where} {self.images}")
        for path, places in by_file.items():
            try:
                self._read(path, places)
            except (ImageError, RawDataError) as error:
                self._fault(self.entries[places[0]], f"cannot be used: {error.what.rstrip('.')}")

    def _advice(self, images: Sequence[Image]) -> str:
        """Return what helps against images that are missing: the folder that has them, or the names that they need."""
        names = [schema.spellings(image.file_name)[-1][0] for image in images]
        if all(Path(name).is_absolute() and _is_file(Path(name)) for name in names):
            folder = os.path.commonpath([Path(name).parent for name in names])
            return f"the same with --images {shlex.quote(folder)}"
        if other := self._other_ending(names[0]):
            return (
                f"correct the endings of file_name in {self.report.file.name} ({other} is in place of "
                f"{schema.shortened(names[0])}), then run the same command"
            )
        for name in (names[0], names[0].rpartition("/")[2]):
            if len(folders := self._having(name)) > 1:
                break
            if folders and name == names[0]:
                return f"the same with --images {shlex.quote(str(folders[0]))}"
            if folders:  # whatever folder is given, names with another place in front are not in it
                return (
                    f"the same with --images {shlex.quote(str(folders[0]))}   (once the file names in "
                    f"{self.report.file.name} are relative to it: {schema.shortened(name)})"
                )
        return f"the same with --images {_ANY_FOLDER}"

    def _other_ending(self, name: str) -> str:
        """Return the name of the one image that differs from this one in the ending alone; "" without one."""
        path = self._inside(name)
        try:
            inside = list(path.parent.iterdir()) if path else []
        except OSError:
            return ""
        same = [one for one in inside if path and one.stem in (path.stem, path.name) and _is_file(one)]
        return same[0].relative_to(self.images).as_posix() if len(same) == 1 else ""

    def _having(self, name: str) -> list[Path]:
        """Return the folders near the COCO file, or else near the given folder, that have a file of this name.

        Near are the folders on two levels below (CVAT and datumaro write images/default), then those beside. Folders
        of masks often have files of the same names, and are not proposed.
        """
        places = (self.report.file.parent, self.images)
        for folder in dict.fromkeys((*places, *(place.parent for place in places))):
            inside = _folders(folder)
            for near in ([folder, *inside], itertools.chain.from_iterable(map(_folders, inside))):
                if having := [one for one in near if _is_file(one / name)]:
                    return having
        return []

    def _located(self, name: str) -> tuple[Path | None, str]:
        """Return the file of a name, or where it would be, and a remark; None for a place outside of the folder."""
        paths = {self._inside(spelling): remark for spelling, remark in reversed(schema.spellings(name))}
        inside = {path: paths[path] for path in reversed(paths) if path is not None}
        for path, remark in inside.items():
            if _is_file(path):
                return path, remark
        for path in inside:
            if len(alike := self._alike(path)) == 1:
                return alike[0], "the name in the COCO file differs in case, or in how accents are composed"
        return None if None in paths else next(iter(inside)), ""

    def _inside(self, name: str) -> Path | None:
        """Return the path of a name in the folder, without .. and doubled slashes; None if it leads elsewhere."""
        path = Path(os.path.normpath(self.images / name))
        for folder in (Path(os.path.normpath(self.images)), self.images.resolve()):
            if path.is_relative_to(folder) and path != folder:
                return self.images / path.relative_to(folder)
        return None

    def _alike(self, path: Path) -> list[Path]:
        """List the files whose paths differ from this one only in case, or in how accents are composed."""
        places = [self.images]
        for name in path.relative_to(self.images).parts:
            places = [entry for place in places for entry in self._entries(place).get(folded(name), ())]
        return [place for place in places if _is_file(place)]

    def _entries(self, folder: Path) -> dict[str, list[Path]]:
        """The entries of a folder by their folded names; none where it cannot be listed."""
        if folder not in self._folders:
            entries = self._folders[folder] = {}
            with contextlib.suppress(OSError):
                for entry in sorted(folder.iterdir()):
                    entries.setdefault(folded(entry.name), []).append(entry)
        return self._folders[folder]

    def _read(self, path: Path, places: Sequence[int]) -> None:
        data = path.read_bytes()
        header = reading.header(data, path)
        if header is not None and header.plain:
            reading.check_complete(data, path, header)
            place = self._first(places)
            if self._fits(place, header.width, header.height, ""):
                self.files[place] = self.names[place]
                self.contents[place] = hashlib.sha256(data).digest()
                # Few images are so small: decoding all would take long.
                if header.kind == "png" and len(data) < _DENSEST_MASK * header.width * header.height:
                    self._check_values(reading.decode(data, path))
            return
        media = pictures.open(path)
        single = media.kind == "image" and media.count == 1  # the entry's frame may refer to the original file
        wanted: dict[int, list[int]] = {}
        for place in places:
            number = 0 if single else self.entries[place].frame
            if number is None and media.count == 1:
                number = 0
            if number is None:
                many = "several" if media.count is None else media.count
                self._fault(self.entries[place], f"has {many} frames, and the entry has no frame (from 0)")
            else:
                wanted.setdefault(number, []).append(place)
        for frame in media.frames(next(iter(wanted))) if len(wanted) == 1 else media.frames() if wanted else ():
            if frame.number in wanted:
                self._keep(self._first(wanted.pop(frame.number)), frame.pixels, media)
            if not wanted and media.kind != "video":  # read to its end, where lost frames are noticed
                break
        for places_beyond in wanted.values():
            self._fault(self.entries[places_beyond[0]], f"has no frame {self.entries[places_beyond[0]].frame}")
        self.remarks.update(media.remarks)

    def _first(self, places: Sequence[int]) -> int:
        """Return the first of the entries that name one image; a fault for each other."""
        for place in places[1:]:
            self._fault(self.entries[place], f"is that of {self.entries[places[0]].where.partition(' ')[0]} as well")
        return places[0]

    def _keep(self, place: int, pixels: NDArray[np.uint8], media: pictures.Media) -> None:
        """Write a frame as PNG."""
        height, width = pixels.shape[:2]
        if not self._fits(place, width, height, "; ".join(media.remarks)):
            return
        self._check_values(pixels)
        self.spacings[place] = self.spacings[place] or media.spacing
        name = f"images/{place:08}.png"
        shown = pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[:, :, ::-1])
        (self.temporary / "images").mkdir(exist_ok=True)
        (self.temporary / name).write_bytes(cv2.imencode(".png", shown)[1].tobytes())
        self.files[place] = str(self.folder / name)
        self.contents[place] = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest()

    def _check_values(self, pixels: NDArray[np.uint8]) -> None:
        if is_two_valued(pixels):
            self.remarks["only two values, as in a mask (--images takes the folder of the ultrasound images)"] += 1

    def _fits(self, place: int, width: int, height: int, remark: str) -> bool:
        image = self.entries[place]
        if (image.width, image.height) == (width, height):
            return True
        sizes = f"{width} × {height} pixels instead of {image.width} × {image.height}"
        self._fault(image, "has another size than its entry says", f" ({sizes}{f'; {remark}' if remark else ''})")
        return False

    def _fault(self, image: Image, what: str, more: str = "") -> None:
        self.report.fault(f"{image.where} {schema.shortened(image.file_name)}{more}", "image", what)


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder that may hold images; none where it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(one) for one in entries if one.is_dir() and not schema.MASKS.search(one.name))
    except OSError:
        return []


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # an invalid file name
        return False


# ------------------------------------------------------------------------------------------------------------- corpus


def _write(temporary: Path, folder: Path, content: File, report: Report, images: Path, digest: str) -> None:
    pixels = _Pixels(content, report, images, temporary, folder)
    if len(content.categories) > _CATEGORIES:
        report.fault("categories", "number", f"is {len(content.categories):,}, more than {_CATEGORIES:,}")
    groups = _united(_groups(content.images, pixels.names, report), pixels, report)
    held_out = _held_out(groups)
    numbers = {name: n for n, name in enumerate(dict.fromkeys(groups))}
    categories = sorted(content.categories, key=lambda one: _order(one.id))
    if repeated := [name for name, uses in Counter(one.name for one in categories).items() if uses > 1]:
        report.remarks.append(f"Several categories have one name, and stay several: {listed(repeated, 5)}.")
    shared = {one.id: n for n, one in enumerate(categories, start=1)}
    annotations, runs = _annotations(content, shared, report)
    report.raise_faults()
    if not len(annotations):
        reasons = f"; excluded: {report.reasons}" if report.left_out else ""
        boxes = set(report.left_out) == {segmentation.WITHOUT} and all(one.bbox for one in content.annotations)
        raise TrainError(
            f"No annotation with a mask found in {report.file}{reasons}.",
            next=f"{command('predict', images, '--prompts', report.file, '--out', 'found')}   (masks of the boxes)"
            if boxes
            else "",
        )

    if specks := int(np.count_nonzero(annotations["flags"] & SPECK)):
        report.remarks.append(segmentation.specks_remark(specks))

    rows = np.zeros(len(content.images), IMAGE)
    rows["id"] = _numbered([image.id for image in content.images], "image", report)
    rows["height"], rows["width"] = ([getattr(i, side) for i in content.images] for side in ("height", "width"))
    rows["spacing"] = [spacing or (np.nan, np.nan) for spacing in pixels.spacings]
    rows["split"] = [SPLITS.index("val" if group in held_out else "train") for group in groups]
    rows["group"] = [numbers[group] for group in groups]
    counts = np.bincount(annotations["image"], minlength=len(rows))
    rows["count"], rows["first"] = counts, np.cumsum(counts) - counts
    strings = bytearray()
    for row, file, image, group in zip(rows, pixels.files, content.images, groups, strict=True):
        for name, text in (("file", file), ("key", _key(image)), ("group", group)):
            row[f"{name}_at"], row[f"{name}_len"] = len(strings), len(text.encode())
            strings += text.encode()
    np.save(temporary / "images.npy", rows, allow_pickle=False)
    np.save(temporary / "annotations.npy", annotations, allow_pickle=False)
    (temporary / "strings.bin").write_bytes(strings)
    (temporary / "rle.bin").write_bytes(runs)
    tags = {str(row["id"]): image.told for row, image in zip(rows, content.images, strict=True) if image.told}
    (temporary / TAGS).write_text(json.dumps(tags, sort_keys=True), "utf-8")
    report.remarks += [f"{counted(n, 'file')}: {remark}." for remark, n in pixels.remarks.items()]
    facts = _facts(report, rows, len(annotations), categories, len(numbers), digest)
    facts |= {"folder": str(folder), "made_of": {"file": str(report.file), "images": str(images)}}
    (temporary / "corpus.json").write_text(json.dumps(facts, indent=1, sort_keys=True), "utf-8")


def _annotations(content: File, categories: Mapping[str, int], report: Report) -> tuple[NDArray[Any], bytearray]:
    """Return rows of annotations in the order of the images, and their concatenated compressed run lengths."""
    places = {image.id: place for place, image in enumerate(content.images)}
    by_image: list[list[int]] = [[] for _ in content.images]
    for number, one in enumerate(content.annotations):
        by_image[places[one.image_id]].append(number)
    ids = _numbered([one.id for one in content.annotations], "annotation", report)
    rows: list[tuple[Any, ...]] = []
    runs = bytearray()
    unlike = []
    outlines = _Outlines()
    for place, (image, numbers) in enumerate(zip(content.images, by_image, strict=True)):
        known: set[tuple[str, bytes]] = set()
        for number in numbers:
            one = content.annotations[number]
            try:
                mask, reason = segmentation.encoded(one.segmentation, image.height, image.width)
            except ValueError as error:
                report.fault(one.where, "segmentation", *error.args)
                continue
            if one.segmentation and (corners := segmentation.corners(one.segmentation)) is not None:
                outlines.add(corners, image.height, image.width)
            if mask is None:
                report.leave_out(reason)
                continue
            if (same := (one.category_id, mask.counts)) in known:
                report.leave_out(segmentation.REPEATS)
                continue
            known.add(same)
            if one.bbox and not segmentation.fits_box(one.bbox, mask.box, image.height, image.width):
                unlike.append(one.where)
            flags = SPECK if is_speck(mask.area, image.height, image.width) else 0
            rows.append((ids[number], place, categories.get(one.category_id, 0), flags, mask.area, mask.box, len(runs),
                         len(mask.counts), 0))  # fmt: skip
            runs += mask.counts
    if unlike:
        report.remarks.append(
            f"The bbox of {len(unlike):,} of {counted(len(rows), 'annotation')} is not that of the segmentation: "
            f"{listed(unlike, 3)}. Check that outlines are in pixels (not percent) with x before y, that run lengths "
            "count down the columns, and that bbox is x, y, width, height."
        )
    outlines.check(report)
    return np.array(rows, ANNOTATION), runs


class _Outlines:
    """Corners of all outlines, which show their unit and the order of x and y."""

    def __init__(self) -> None:
        self.count = 0
        self.highest, self.side = -math.inf, MAX_PIXELS
        #: Of images that are not square: corners, those outside, and outlines that have some; whether any corner would
        #: be outside with x and y exchanged.
        self.corners = self.outside = self.leaving = 0
        self.exchanged = False

    def add(self, corners: NDArray[np.float64], height: int, width: int) -> None:
        """Count an outline's corners (n, 2) in an image of this size."""
        self.count += 1
        lowest, (x, y) = float(corners.min()), corners.max(axis=0).tolist()
        self.highest, self.side = max(self.highest, x, y), min(self.side, height, width)
        if height == width:
            return
        self.corners += len(corners)
        across, down = width + _BESIDE, height + _BESIDE
        self.exchanged = self.exchanged or lowest < -_BESIDE or x > down or y > across
        if lowest < -_BESIDE or x > across or y > down:
            self.leaving += 1
            self.outside += int(((corners < -_BESIDE) | (corners > (across, down))).any(axis=1).sum())

    def check(self, report: Report) -> None:
        """Find outlines that have y before x, or are all in fractions (faults) or percent (a remark) of the image."""
        if self.leaving and not self.exchanged and self.outside > _SWAPPED * self.corners:
            where = (
                f"{self.outside:,} of {self.corners:,} corners are outside of their image, none with x and y exchanged"
            )
            if self.leaving >= _OUTLINES:
                report.fault(where, "segmentation", "has y before x")
            else:
                report.remarks.append(f"{where}. Check that outlines have x before y.")
        if self.count < _OUTLINES:
            return
        if self.highest <= 1:
            report.fault(counted(self.count, "outline"), "segmentation", "is in fractions of the image, not in pixels")
        elif self.highest <= 100 < self.side / 2:
            report.remarks.append(
                f"No outline has a coordinate above {self.highest:g}, in images of {self.side} pixels and more. Check "
                "that outlines are in pixels, not in percent."
            )


def _numbered(ids: Sequence[str], what: str, report: Report) -> list[int]:
    """Convert ids to numbers of 64 bits: unchanged if all are, and unique, else by order, with a remark."""
    numbers = [int(text) if _WHOLE.fullmatch(text) else _BEYOND for text in ids]
    whole = all(-_BEYOND <= number < _BEYOND for number in numbers)
    distinct = len(set(numbers))  # as numbers: 01 is 1
    if whole and distinct == len(ids):
        return numbers
    if not whole:
        report.remarks.append(
            f"Some {what} ids are not whole numbers of 64 bits; all are numbered from 1 in the order of the file."
        )
    else:
        repeated = len(ids) - distinct
        report.remarks.append(f"{repeated:,} {what} ids repeat; all are numbered from 1 in the order of the file.")
    return list(range(1, len(ids) + 1))


def _order(text: str) -> tuple[int, int, str]:
    """Sort numbers by value, then texts."""
    return (0, int(text), "") if _WHOLE.fullmatch(text) else (1, 0, text)


def _key(image: Image) -> str:
    return image.file_name if image.frame is None else f"{image.file_name}#{image.frame}"


def _groups(images: Sequence[Image], names: Sequence[str], report: Report) -> list[str]:
    """Return the group of each image; without one, the images of a file are a group."""
    without = sum(image.unit is None for image in images)
    if without == len(images) and images:
        report.remarks.append(
            f"{report.file.name} does not group images by patient (group or patient_id): every image counts as "
            "its own patient, and validation is optimistically biased if a patient has several images."
        )
    elif without:
        report.remarks.append(f"{without:,} of {len(images):,} images have no group; each of them is its own group.")
    return [image.unit if image.unit is not None else name for image, name in zip(images, names, strict=True)]


def _united(groups: Sequence[str], pixels: _Pixels, report: Report) -> list[str]:
    """Make one group of those that share an image, so that no image is in two splits; named as the first by name."""
    unions = Unions[str]()
    first: dict[bytes, int] = {}
    pairs = []
    for place, (group, content) in enumerate(zip(groups, pixels.contents, strict=True)):
        if content and groups[other := first.setdefault(content, place)] != group:
            pairs.append(f"{schema.shortened(pixels.names[place])} and {schema.shortened(pixels.names[other])}")
            unions.unite((group, groups[other]))
    if pairs:
        report.remarks.append(
            f"{counted(len(pairs), 'image repeats', 'images repeat')} one of another group: {listed(pairs, 3)}. Groups "
            "that share an image are kept in one split."
        )
    return [unions.root(group) for group in groups]


def _held_out(groups: Sequence[str]) -> set[str]:
    """Select whole groups, in an order that depends only on their names, until HELD_OUT is reached."""
    counts = Counter(groups)
    order = sorted(counts, key=lambda name: hashlib.sha256(name.encode()).digest())
    chosen: set[str] = set()
    images = 0
    for name in order[:-1]:
        if images >= HELD_OUT * len(groups):
            break
        chosen.add(name)
        images += counts[name]
    return chosen


def _facts(
    report: Report,
    rows: NDArray[Any],
    annotations: int,
    categories: Sequence[Category],
    groups: int,
    digest: str,
) -> dict[str, Any]:
    licence = {"id": "OWN", "title": "Your own data; its terms are not known here", "url": None, "evidence": ""}
    unknown = dict.fromkeys(("commercial", "redistribute", "derivatives", "share_alike", "attribution"))
    source = {
        "name": report.file.stem, "slug": OWN, "version": digest[:12], "digest": digest, "organ": "", "path": ".",
        "licence": licence | unknown, "citations": [], "partial": False, "counts": {},
    }  # fmt: skip
    return {
        "release": report.file.stem,
        "sources": [source],
        "categories": [
            {"id": n, "name": one.name, "supercategory": one.supercategory or ""}
            for n, one in enumerate(categories, start=1)
        ],
        "diagnoses": [""],
        "images": {name: int((rows["split"] == n).sum()) for n, name in enumerate(SPLITS)},
        "annotations": annotations,
        "groups": groups,
        "digest": digest,
        "left_out": report.left_out,
        "remarks": report.remarks,
    }
