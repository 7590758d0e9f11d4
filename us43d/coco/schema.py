"""Schema of a user's COCO file. All faults are collected, so that they can be corrected together.

A file with faults (missing fields, invalid values, unresolved references) is refused. Empty annotations (without
outline, of an unlisted image, enclosing no pixel) are excluded and counted with the reason.
"""

import json
import math
import re
import stat
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np
from pydantic import BaseModel, BeforeValidator, Field, PrivateAttr, ValidationError

from us43d.coco import segmentation
from us43d.errors import TrainError, Us43dError, UsageError, counted, listed
from us43d.limits import MAX_CORNER, MAX_PIXELS, parsed_json

__all__ = [
    "Annotation", "Category", "File", "Id", "Image", "Place", "Report", "Shown", "load", "load_prompts", "read_json",
    "shortened", "spellings",
]  # fmt: skip

#: Number of faults of one kind that are listed, and of kinds.
_NAMED, _KINDS = 3, 12
#: Pixels by which a box and an outline may differ.
_CLOSE = 2
#: Number of characters of a value that are shown.
_SHOWN = 60
#: Fields of an annotation that are read.
_READ = ("id", "image_id", "category_id", "segmentation", "bbox", "keypoints")
#: Names of folders of masks, which hold no images.
MASKS = re.compile("mask|label|seg|annot|truth|(?<![a-z])gt(?![a-z])", re.IGNORECASE)
#: Words for splits in names of files and folders.
SPLITS: Mapping[str, Literal["train", "val", "test"]] = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
}  # fmt: skip
#: A field of other forms of annotations → what has it.
_OTHERS = {"shapes": "LabelMe's labels of one image", "_via_img_metadata": "a project of VIA"}
#: Longest text in a corpus, in bytes.
_LONGEST = 65_535


def _id(value: Any) -> str:
    """Convert an id to text: tools write 7, "7" and 7.0 for the same id."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        raise ValueError("is neither a whole number nor a text")
    if isinstance(value, int) and abs(value) >= 1 << 63:
        raise ValueError("is a number of more than 64 bits (write it as a text)")
    return str(value)


def _group(value: Any) -> str | None:
    """Convert a group to text; None for the values that tools export for empty cells of a table."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    text = _id(value)
    if len(text.encode()) > _LONGEST:
        raise ValueError(f"is a text of over {_LONGEST:,} bytes")
    return text


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("is true or false, not a number")
    return value


def _side(value: Any) -> int | None:
    return value if type(value) is int and 0 < value <= MAX_PIXELS else None


def _box(value: Any) -> Any:
    """Return x, y, width and height; None for what is not a box, as boxes are compared with masks, and not needed."""
    numbers = isinstance(value, list) and len(value) == 4 and set(map(type, value)) <= {int, float}
    return value if numbers and min(value[2:]) > 0 and all(abs(number) <= MAX_CORNER for number in value) else None


def _outline(value: Any) -> Any:
    if value is not None and not isinstance(value, list | dict):
        raise ValueError("is neither a list of polygons nor run lengths")
    return value


Id: TypeAlias = Annotated[str, BeforeValidator(_id)]
Group: TypeAlias = Annotated[str | None, BeforeValidator(_group)]
Side: TypeAlias = Annotated[int, BeforeValidator(_number), Field(ge=1, le=MAX_PIXELS)]
Number: TypeAlias = Annotated[int, BeforeValidator(_number), Field(ge=0)]
Millimetres: TypeAlias = Annotated[float, BeforeValidator(_number), Field(gt=0, allow_inf_nan=False)]
Corner: TypeAlias = Annotated[float, BeforeValidator(_number), Field(ge=-MAX_CORNER, le=MAX_CORNER)]  # never NaN


class _Extra(BaseModel):
    """Fields that us43d writes in addition to COCO's."""

    source: Group = None
    group: Group = None
    frame: Number | None = None
    spacing_mm: tuple[Millimetres, Millimetres] | None = None
    tags: Annotated[dict[str, str | int | float | bool | None], Field(max_length=64)] = Field(default_factory=dict)

    @property
    def unit(self) -> str | None:
        """The group, of its source: several sources number their patients."""
        return self.group if None in (self.source, self.group) else f"{self.source}/{self.group}"


class _Entry(BaseModel):
    """An entry of a list. where: its position in the file, for messages."""

    id: Id
    _where: str = PrivateAttr("")

    @property
    def where(self) -> str:
        return self._where


class Image(_Entry):
    """An entry of `images`. frame: of a video, volume or stack, from 0. group, patient_id: never divided by a split."""

    file_name: str = Field(min_length=1, max_length=_LONGEST // 4)
    width: Side
    height: Side
    frame: Number | None = None
    group: Group = None
    patient_id: Group = None
    spacing_mm: tuple[Millimetres, Millimetres] | None = None
    tags: Annotated[dict[str, str | int | float | bool | None], Field(max_length=64)] = Field(default_factory=dict)
    us43d: _Extra | None = None

    @property
    def told(self) -> dict[str, str | int | float | bool | None]:
        """The image's tags: view, device, diagnosis, …"""
        return (self.us43d.tags if self.us43d else {}) | self.tags

    @property
    def unit(self) -> str | None:
        """The image's group; None without one."""
        for value in (self.us43d.unit if self.us43d else None, self.group, self.patient_id):
            if value is not None:
                return value
        return None

    @property
    def spacing(self) -> tuple[float, float] | None:
        """(x, y) mm per pixel; None if unknown."""
        return self.spacing_mm or (self.us43d.spacing_mm if self.us43d else None)


class Annotation(NamedTuple):
    """A valid entry of `annotations`; a tuple, as a file has many. place: its position in the file."""

    id: str
    image_id: str
    category_id: str
    segmentation: Any
    bbox: tuple[float, ...] | None
    place: int

    @property
    def where(self) -> str:
        """The entry, for messages."""
        return f"annotations[{self.place}] (id {self.id[:_SHOWN]})"


class _Annotation(_Entry):
    """An entry of `annotations`. iscrowd is ignored: tools set it for every mask that is not a polygon."""

    image_id: Id
    category_id: Id
    segmentation: Annotated[Any, BeforeValidator(_outline)] = None  # FiftyOne and Detectron2 omit it from boxes
    bbox: Annotated[tuple[float, ...] | None, BeforeValidator(_box)] = None


class Category(_Entry):
    """An entry of `categories`."""

    name: str = Field(min_length=1)
    supercategory: str | None = None


class Place(_Entry):
    """An entry of `images` in a file of prompts. width, height: None if they are unknown."""

    file_name: str = Field(min_length=1)
    frame: Number | None = None
    width: Annotated[int | None, BeforeValidator(_side)] = None
    height: Annotated[int | None, BeforeValidator(_side)] = None


class Shown(BaseModel):
    """An entry of `annotations` in a file of prompts. bbox: x, y, width, height. keypoints: x, y, visibility, …"""

    image_id: Id
    bbox: list[Corner] | None = None
    keypoints: list[Corner] | None = None
    segmentation: Any = None
    _where: str = PrivateAttr("")


class File(NamedTuple):
    """A valid file, without annotations of unlisted images."""

    images: list[Image]
    annotations: list[Annotation]
    categories: list[Category]


class Report:
    """Faults, remarks, and exclusions with their reasons, of a file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.left_out: dict[str, int] = {}
        self.remarks: list[str] = []
        self._faults: dict[tuple[str, str], list[str]] = {}

    def fault(self, where: str, field: str, problem: str, value: Any = None) -> None:
        """Add a fault.

        Args:
            where: The entry, such as "annotations[3] (id 17)".
            field: Its field.
            problem: The fault, such as "is missing"; equal faults need equal words.
            value: The value, if it helps to find the fault.
        """
        shown = "" if value is None else f" has {_short(value)}"
        self._faults.setdefault((field, problem), []).append(f"{where}{shown}")

    def leave_out(self, reason: str) -> None:
        """Count an excluded annotation by its reason, such as "without segmentation"."""
        self.left_out[reason] = self.left_out.get(reason, 0) + 1

    @property
    def reasons(self) -> str:
        """Reasons of exclusions with numbers: "3 without segmentation, 1 that encloses no pixel"."""
        return ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items())

    def raise_faults(self, kind: type[Us43dError] = TrainError) -> None:
        """Raise an error of this kind if there are faults."""
        if not self._faults:
            return
        count = sum(map(len, self._faults.values()))
        faults = self._faults.items()
        kinds = [f"{field} {problem}: {listed(entries, _NAMED)}" for (field, problem), entries in faults]
        more = f"; and {counted(len(kinds) - _KINDS, 'more kind')} of fault" if len(kinds) > _KINDS else ""
        raise kind(
            f"{self.file} has {counted(count, 'fault')}. {'; '.join(kinds[:_KINDS])}{more}.",
            next="correct the file or its images, then run the same command (docs/finetune.md describes the format)",
        )


def read_json(path: Path) -> Any:
    """Read a JSON file in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Raises:
        ValueError: If it cannot be read, is not JSON, or has a key twice in an object.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError("it is not a regular file")
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            raise ValueError("it is compressed by gzip; unpack it first")
        if data[:4] == b"PK\3\4":
            raise ValueError("it is a ZIP archive; unpack it first")
        text = data.decode(json.detect_encoding(data))
        del data  # not held while the text is parsed
        return parsed_json(text, _compact)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"it is not text in {error.encoding.upper()} (byte 0x{error.object[error.start]:02x} at position "
            f"{error.start:,})"
        ) from error
    except OSError as error:
        raise ValueError(error.strerror) from error


def spellings(name: str) -> list[tuple[str, str]]:
    """List the paths that a file name may mean, with remarks: the literal one first, without remark.

    Windows writes backslashes. Label Studio and others write URLs: %20 for a space, file:// in front.
    """
    slashed = name.replace("\\", "/")
    plain = urllib.parse.unquote(slashed.removeprefix("file://"))
    return [(name, ""), (slashed, ""), (plain, "the name in the COCO file is written as in a URL (%20 for a space)")]


def _compact(entry: dict[str, Any]) -> dict[str, Any]:
    """Hold the numbers of an annotation's outline in arrays, in a quarter of the memory that lists take."""
    outline = entry.get("segmentation")
    if outline is not None:  # what tools write beside it: area, iscrowd, attributes, …
        entry = {name: value for name, value in entry.items() if name in _READ}
    if isinstance(outline, list):
        entry["segmentation"] = [_array(polygon) for polygon in outline]
    elif isinstance(outline, dict) and "counts" in outline:
        outline["counts"] = _array(outline["counts"])
    return entry


def _array(numbers: Any) -> Any:
    """The numbers of a list as an array; anything else unchanged. Whole numbers beyond all types stay Python's."""
    if not isinstance(numbers, list) or not numbers or not set(map(type, numbers)) <= {int, float}:
        return numbers
    return np.asarray(numbers)


def load_prompts(file: Path) -> list[tuple[Place, Shown]]:
    """Read the prompts of a COCO file: the image and the annotation of each.

    Raises:
        UsageError: The file is not JSON, lacks a list, or has invalid annotations; all faults are listed.
    """
    lists = _lists(file, ("images", "annotations"), UsageError, "a COCO file with prompts")
    report = Report(file)
    listed_ids = _ids(lists["images"])
    entries = [place for _, place in _entries(Place, "images", lists["images"], report)]
    _check_ids(entries, report)
    places = {place.id: place for place in entries}
    prompts = []
    for _, one in _entries(Shown, "annotations", lists["annotations"], report):
        if one.bbox and (len(one.bbox) != 4 or min(one.bbox[2:]) <= 0):
            report.fault(one._where, "bbox", "is not x, y, width and height above 0", one.bbox)
        elif one.keypoints and len(one.keypoints) % 3:
            report.fault(one._where, "keypoints", "are not triples of x, y and visibility", one.keypoints)
        elif not one.bbox and not any(visible > 0 for visible in (one.keypoints or ())[2::3]):
            report.fault(one._where, "bbox and keypoints", "are missing or not visible")
        elif one.image_id in places:
            prompts.append((places[one.image_id], one))
        elif one.image_id not in listed_ids:
            report.fault(one._where, "image_id", "is not among the images", one.image_id)
    readings = [reading for _, one in prompts if (reading := _corners_in_box(one)) is not None]
    for _, one in prompts:
        one.segmentation = None  # takes memory, and is not needed any more
    if readings and all(readings):
        report.fault(counted(len(readings), "annotation"), "bbox", "is x0, y0, x1, y1 in place of x, y, width, height")
    report.raise_faults(UsageError)
    return prompts


def _corners_in_box(one: Shown) -> bool | None:
    """Return whether a box has the far corner of the polygons in place of its size; None where it cannot be told."""
    try:
        corners = segmentation.corners(one.segmentation) if one.bbox and one.segmentation else None
    except (ValueError, TypeError):  # not polygons, which are not needed here
        return None
    if corners is None or not one.bbox:
        return None
    near, far, box = corners.min(axis=0), corners.max(axis=0), np.array(one.bbox)
    if np.abs(box[:2] - near).max() > _CLOSE or min(np.abs(near)) <= _CLOSE:
        return None
    return bool(np.abs(box[2:] - far).max() <= _CLOSE < np.abs(box[2:] - (far - near)).max())


def _lists(file: Path, names: Sequence[str], kind: type[Us43dError], what: str) -> dict[str, list[Any]]:
    """Read the lists of a JSON file. Raises an error of this kind if it is not JSON or lacks a list."""
    try:
        content = read_json(file)
    except ValueError as error:
        raise kind(f"{file} is not {what}: {error}.") from error
    if isinstance(content, list):
        raise kind(
            f"{file} is not {what}: it is a list, as files of results (predictions) and of other tools are. A COCO "
            "file has the lists images, annotations and categories."
        )
    for name in names:
        if not isinstance(content, Mapping) or not isinstance(content.get(name), list):
            fields = content if isinstance(content, Mapping) else {}
            hints = [f" It is {other}; us43d coco converts it." for field, other in _OTHERS.items() if field in fields]
            raise kind(f"{file} is not {what}: it has no list of {name}.{''.join(hints)}")
    if any("segments_info" in one for one in content["annotations"] if isinstance(one, Mapping)):
        raise kind(
            f"{file} is not {what}: it is a panoptic COCO file, whose masks are PNG images.",
            next="us43d coco IMAGES PNGS --instances   (with the folders of the images and of the PNG images)",
        )
    return {name: content[name] for name in names}


def load(file: Path) -> tuple[File, Report]:
    """Read a COCO file and collect its faults; `Report.raise_faults` raises them once all checks are done.

    Raises:
        TrainError: The file is not JSON, or lacks one of its three lists.
    """
    lists = _lists(file, ("images", "annotations", "categories"), TrainError, "a readable COCO file")
    report = Report(file)
    category_ids = _ids(lists["categories"])
    images = [one for _, one in _entries(Image, "images", lists["images"], report)]
    categories = [one for _, one in _entries(Category, "categories", lists["categories"], report)]
    _check_ids(images, report)
    _check_ids(categories, report)
    for image in images:
        if image.width * image.height > MAX_PIXELS:
            report.fault(image.where, "width × height", f"is over {MAX_PIXELS:,} pixels", (image.width, image.height))
    # An entry with a fault of its own is not reported as missing, too.
    known = {one: one for one in category_ids} | {one.id: one.id for one in categories}
    listed_images, kept = {one.id: one.id for one in images}, []
    for place, one in _entries(_Annotation, "annotations", lists["annotations"], report):
        if one.category_id not in known:
            report.fault(one.where, "category_id", "is not among the categories", one.category_id)
        elif one.image_id in listed_images:
            image_id, category_id = listed_images[one.image_id], known[one.category_id]  # texts that are held already
            kept.append(Annotation(one.id, image_id, category_id, one.segmentation, one.bbox, place))
        else:
            report.leave_out("whose image_id is not listed")
    return File(images, kept, categories), report


_Kind = TypeVar("_Kind", Image, _Annotation, Category, Place, Shown)


def _entries(kind: type[_Kind], section: str, entries: list[Any], report: Report) -> Iterator[tuple[int, _Kind]]:
    """Yield the valid entries and their places, and remove them from the list; the others become faults."""
    for place, entry in enumerate(entries):
        entries[place] = None  # a file of many annotations is not held twice
        known = entry.get("id") if isinstance(entry, Mapping) else None
        where = f"{section}[{place}]" if known is None else f"{section}[{place}] (id {str(known)[:_SHOWN]})"
        try:
            one = kind.model_validate(entry)
        except ValidationError as error:
            for fault in error.errors(include_url=False):
                field = ".".join(map(str, fault["loc"]))
                value = None if fault["type"] == "missing" else _Null() if fault["input"] is None else fault["input"]
                report.fault(where, field or "entry", _problem(fault), value)
        else:
            one._where = where
            yield place, one


def _problem(fault: Any) -> str:
    if fault["type"] == "missing":
        return "is missing"
    if fault["type"] == "model_type":
        return "is not an object"
    message = str(fault["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    return message[:1].lower() + message[1:]


def _ids(entries: Sequence[Any]) -> set[str]:
    """Return the ids of all entries, including those with a fault in another field."""
    return {str(entry["id"]) for entry in entries if isinstance(entry, Mapping) and "id" in entry}


def _check_ids(entries: Sequence[Image] | Sequence[Place] | Sequence[Category], report: Report) -> None:
    first: dict[str, str] = {}
    for entry in entries:
        if entry.id in first:
            report.fault(entry.where, "id", f"is that of {first[entry.id].partition(' ')[0]} as well")
        first.setdefault(entry.id, entry.where)


class _Null:
    """JSON's null, for messages."""

    def __repr__(self) -> str:
        return "null"


def _short(value: Any) -> str:
    return shortened(repr(value))


def shortened(text: str) -> str:
    """Return the first characters of a text, for messages."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
