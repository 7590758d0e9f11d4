"""Private sources in COCO's form: JSON files with images, annotations and categories, and the images they name."""

import posixpath
import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from us43d import masks, pictures
from us43d.coco import schema, segmentation
from us43d.contract import Lazy, RawTree, Remarked, Sample, Split, lazy
from us43d.errors import ImageError, RawDataError, UnreadableFile, UsageError
from us43d.masks import read as reading
from us43d.masks import rle
from us43d.pictures.listing import ENDINGS
from us43d.private.record import Annotations, Coco, group_of

__all__ = ["Plan", "plan", "read"]

#: JSON files that are opened to see which are COCO files.
_MOST_FILES = 200
#: Bytes in which the header of an image lies.
_HEAD = 1 << 18
#: File names that are looked up to find the folder of the images.
_TRIED = 50
_VIDEO = ENDINGS["video"]
_STILL = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


class Plan(NamedTuple):
    """What a folder holds. names: of the labels. keys: files that are read. remarks: what a person should know.

    stated: some images state their patient.
    """

    files: tuple[Annotations, ...]
    names: tuple[str, ...]
    keys: tuple[str, ...]
    stated: bool
    remarks: tuple[str, ...]


def plan(tree: RawTree) -> Plan | None:
    """Find the COCO files of a folder and their images; None where it holds no COCO file.

    Raises:
        RawDataError: With all faults: images that are missing, of another size, or listed twice.
        TrainError: A COCO file has faults.
    """
    files = [key for key in tree if key.lower().endswith(".json") and "/." not in f"/{key}"]
    if len(files) > _MOST_FILES:
        raise UsageError(
            f"{tree.root} holds {len(files):,} JSON files; a COCO folder holds few.",
            next="us43d coco --help   (writes a COCO file from images and masks)",
        )
    names: dict[str, None] = {}
    seen: dict[str, str] = {}
    used: dict[str, None] = {}
    chosen, remarks = list[Annotations](), list[str]()
    faults = schema.Report(tree.root)
    stated = False
    for key in sorted(files, key=lambda key: _split(key) is None):
        path = tree.path(key)
        if not _is_coco(path):
            continue
        content, report = schema.load(path)
        report.raise_faults(RawDataError)
        entry = Annotations(file=key, images=_images(tree, key, content.images), split=_split(key))
        if entry.split is None and chosen and all(one.split for one in chosen):
            places = [_place(tree, entry, image) for image in content.images]
            if places and all(place in seen for place in places):
                remarks.append(f"{key}: not read, as the files of splits list all of its images")
                continue
        chosen.append(entry)
        names |= dict.fromkeys(category.name for category in content.categories)
        remarks += [f"{key}: {number:,} annotations skipped {why}" for why, number in report.left_out.items()]
        stated |= any(image.unit is not None for image in content.images)
        for image in content.images:
            _look(tree, entry, image, seen, used, faults)
    faults.raise_faults(RawDataError)
    if not chosen:
        return None
    keys = (*(entry.file for entry in chosen), *used)
    return Plan(tuple(chosen), tuple(names), keys, stated, tuple(remarks))


def read(form: Coco, raw: RawTree) -> Iterator[Sample]:
    """Read the samples, by key. One annotation stays one instance."""
    samples = []
    for entry in form.files:
        path = raw.path(entry.file)
        raw.use(path)
        content, report = schema.load(path)
        report.raise_faults(RawDataError)
        names = {category.id: category.name for category in content.categories}
        of_image: dict[str, list[schema.Annotation]] = {}
        for one in content.annotations:
            of_image.setdefault(one.image_id, []).append(one)
        for image in content.images:
            samples.append(_sample(form, raw, entry, image, of_image.get(image.id, []), names))
    yield from sorted(samples, key=lambda sample: sample.key)


# ------------------------------------------------------------------------------------------------------- what is there


def _is_coco(path: Path) -> bool:
    """Return whether a JSON file has COCO's lists. Raises RawDataError for one that is not JSON."""
    try:
        content = schema.read_json(path)
    except ValueError as error:
        raise RawDataError(f"{path} is not readable JSON: {error}.") from error
    return isinstance(content, dict) and all(
        isinstance(content.get(name), list) for name in ("images", "annotations", "categories")
    )


def _images(tree: RawTree, file: str, images: list[schema.Image]) -> str:
    """Return the folder of the tree in which the file names of a COCO file begin: the one that has most of them.

    Of several, one that is not called masks: files of masks often have the names of their images.

    Raises:
        RawDataError: If two such folders are as good.
    """
    wanted = [_spellings(image.file_name) for image in images[:_TRIED]]
    tops: dict[str, None] = {}
    for name in (name for names in wanted[:5] for name in names):
        ending = f"/{name}".casefold()
        tops |= {key[: -len(name)]: None for key in tree if f"/{key}".casefold().endswith(ending)}
    nearest = file.rpartition("/")[0].split("/")[0]

    def rank(top: str) -> tuple[int, bool, bool, int]:
        count = sum(any(tree.has(top + name) for name in names) for names in wanted)
        return -count, schema.MASKS.search(top) is not None, not top.startswith(nearest), top.count("/")

    order = sorted(tops, key=lambda top: (rank(top), top))
    if len(order) > 1 and rank(order[0]) == rank(order[1]):
        raise RawDataError(
            f"The images of {file} may be in {order[0]} or in {order[1]}: both have files of these names. Remove one "
            f"folder from {tree.root}, or write the folder into the file names of {file}."
        )
    return next(iter(order), "")


def _split(key: str) -> Split | None:
    """The split that the name of a COCO file, or else of its folder, states: instances_train2017.json, valid/x.json."""
    folder, _, name = key.rpartition("/")
    for text in (name.removesuffix(".json"), folder.rpartition("/")[2]):
        words = re.findall(r"[a-z]+", text.lower())
        splits = {schema.SPLITS[word] for word in words if word in schema.SPLITS}
        if len(splits) == 1:
            return splits.pop()
    return None


def _spellings(name: str) -> list[str]:
    return [posixpath.normpath(spelling) for spelling, _ in schema.spellings(name)]


def _file(tree: RawTree, entry: Annotations, image: schema.Image) -> str:
    files = [entry.images + spelling for spelling in _spellings(image.file_name)]
    return next(filter(tree.has, files), files[0])


def _key(file: str, image: schema.Image) -> str:
    return file if image.frame is None else f"{file}#{image.frame:04}"


def _place(tree: RawTree, entry: Annotations, image: schema.Image) -> str | None:
    """The key of an image, however the entry spells its name; None where the file is missing."""
    file = _file(tree, entry, image)
    return _key(tree.name(tree.path(file)), image) if tree.has(file) else None


def _look(
    tree: RawTree,
    entry: Annotations,
    image: schema.Image,
    seen: dict[str, str],
    used: dict[str, None],
    faults: schema.Report,
) -> None:
    """Note an image's key and file; a fault where the file is missing, listed before, or of another size."""
    where = f"{entry.file} {image.where} {image.file_name}"
    file, place = _file(tree, entry, image), _place(tree, entry, image)
    if place is None:
        faults.fault(where, "image", f"is missing in {tree.root}")
        return
    used[tree.name(tree.path(file))] = None
    if (other := seen.setdefault(place, where)) != where:
        faults.fault(where, "image", f"is listed before, as {other.partition(' (')[0]}")
        return
    path = tree.path(file)
    if not path.name.lower().endswith(_STILL):
        return
    try:
        data = reading.content(path)
        if header := reading.header(data, path):
            reading.check_complete(data, path, header)
    except UnreadableFile as error:
        faults.fault(where, "image", f"cannot be read: {error.what.rstrip('.')}")
        return
    if header is not None and header.plain and (header.width, header.height) != (image.width, image.height):
        faults.fault(
            where, "image", f"has {header.width} × {header.height} pixels, the entry {image.width} × {image.height}"
        )


# ------------------------------------------------------------------------------------------------------------- samples


def _sample(
    form: Coco,
    raw: RawTree,
    entry: Annotations,
    image: schema.Image,
    annotations: list[schema.Annotation],
    names: dict[str, str],
) -> Sample:
    instances: dict[str, list[Lazy]] = {}
    remarks = list[str]()
    left_out: Counter[str] = Counter()
    known: set[tuple[str, bytes]] = set()
    for one in annotations:
        label = form.labels.get(names[one.category_id])
        if label is None:
            remarks.append(f"label excluded by --label: {names[one.category_id]}")
            continue
        try:
            mask, why = segmentation.encoded(one.segmentation, image.height, image.width)
        except ValueError as error:
            raise RawDataError(f"{entry.file}: the segmentation of {one.where} {error.args[0]}.") from error
        if mask is None or (one.category_id, mask.counts) in known:
            left_out[why or segmentation.REPEATS] += 1
            continue
        known.add((one.category_id, mask.counts))
        if one.bbox and not segmentation.fits_box(one.bbox, mask.box, image.height, image.width):
            remarks.append("the bbox of an annotation is not that of its segmentation")
        instances.setdefault(label, []).append(lazy(rle.decode, mask.counts, image.height, image.width))
    remarks += [f"annotations skipped: {number} {why}" for why, number in sorted(left_out.items())]
    file = _file(raw, entry, image)
    path = raw.path(file)
    stated = group_of(form.group, file) or (image.unit if form.group is None else None)
    return Sample(
        key=_key(file, image),
        image=_picture(path, image.frame),
        instances=instances,
        group=stated or (None if image.frame is None else file),
        split=entry.split,
        frame=image.frame,
        spacing_mm=image.spacing or _spacing(path),
        tags={name: value for name, value in image.told.items() if value is not None},
        remarks=tuple(remarks),
    )


def _picture(path: Path, frame: int | None) -> "Path | Lazy":
    name = path.name.lower()
    if frame is not None and name.endswith(_VIDEO):
        return lazy(_video_frame, path, frame)
    return path if name.endswith(_STILL) and _is_plain(path) else lazy(_frame, path, frame)


def _video_frame(path: Path, number: int) -> "NDArray[np.uint8] | Remarked":
    pixels, remark = masks.video_frame(path, number), masks.video_remark(path)
    return Remarked(pixels, (remark,)) if remark else pixels


def _is_plain(path: Path) -> bool:
    """Return whether a file is a plain 8-bit PNG or JPEG, which a build keeps byte for byte."""
    try:
        with path.open("rb") as file:
            header = reading.header(file.read(_HEAD), path)
    except (OSError, UnreadableFile):
        return True  # the build says what is wrong with it
    return header is not None and header.plain


def _spacing(path: Path) -> tuple[float, float] | None:
    """Return the spacing in the header of a DICOM file or a volume; None for other files, and unreadable ones."""
    if path.name.lower().endswith((*_STILL, *_VIDEO)) and not pictures.is_dicom(path):
        return None
    try:
        return cast("pictures.Media", _media(path)).spacing
    except ImageError:  # the build says what is wrong with it
        return None


def _frame(path: Path, number: int | None) -> NDArray[np.uint8] | NDArray[np.uint16] | Remarked:
    """Return a frame of any file that `us43d.pictures` opens; the 16 bits of a single image. Raises UnreadableFile."""
    try:
        media = _media(path)
        if number is None and media.count != 1:
            raise UnreadableFile(f"{path} has {media.count or 'several'} frames, and its entry has no frame (from 0).")
        single = media.kind == "image" and media.count == 1  # the entry's frame may refer to the original file
        pixels = media.deep() if media.count == 1 else None
        if pixels is None:
            pixels = media.frame(0 if single else number or 0).pixels
    except ImageError as error:
        raise UnreadableFile(error.what) from error
    return Remarked(pixels, media.remarks) if media.remarks else pixels


@lru_cache(maxsize=4)
def _media(path: Path) -> Any:
    return pictures.open(path)
