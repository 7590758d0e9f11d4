"""The parallel part of a build: a block of consecutive samples becomes images on disk and one record file.

A block is the unit of work and of resuming: its record file is written last and renamed into place, so a block whose
record is there is complete.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from us43d import atomic
from us43d.contract import Lazy, Mask, Polygon, Sample
from us43d.errors import BuildError, MaskMismatch, RawDataError
from us43d.harmonize import pixels, records
from us43d.harmonize.corpus import is_speck
from us43d.harmonize.records import Annotation, Record, Written
from us43d.masks.components import Piece, components, covers_corners, whole
from us43d.masks.convert import fill_polygon
from us43d.masks.read import header, picture

__all__ = ["FIXED", "OUTPUT", "PARTS", "SKIPPED", "Block", "Options", "run"]

#: With this begins the remark on a correction.
FIXED = "fixed: "
#: Why a sample is dropped that cannot be read, where a person chose that.
SKIPPED = "unreadable or incomplete, skipped by --skip-bad"

#: In the staging folder: what becomes the build, and files that are being written.
OUTPUT, PARTS = "output", "parts"


@dataclass(frozen=True, slots=True)
class Options:
    """relabel: source label → the label written (None excludes it). skip_empty: drop images without annotation.

    skip_bad: the raw tree, where samples that cannot be read are dropped instead of failing the build.
    """

    relabel: Mapping[str, str | None]
    skip_empty: bool
    skip_bad: Path | None = None


class Block(NamedTuple):
    """number: place in the reader's order. folder: the staging folder. samples: (image id, sample)."""

    number: int
    folder: Path
    samples: Sequence[tuple[int, Sample]]
    options: Options


def run(block: Block) -> list[str]:
    """Write the images and the record of a block; return what was wrong, one sentence per sample.

    With errors no record is written. Raises StorageError if the disk refuses.
    """
    written: list[Record] = []
    errors: list[str] = []
    file = records.path_of(block.folder, block.number)
    with atomic.storage_errors(block.folder, "The finished blocks are kept; the next build resumes from them."):
        images = block.folder / OUTPUT / "images" / f"{block.number:05}"
        parts = block.folder / PARTS
        for folder in (images, parts, file.parent):
            folder.mkdir(parents=True, exist_ok=True)
        for number, sample in block.samples:
            try:
                written.append(_record(number, sample, images, parts, block.options))
            except RawDataError as error:
                what = error.what if sample.key in error.what else f"{sample.key}: {error.what}"
                if block.options.skip_bad is None:
                    errors.append(what)
                    continue
                # As on any machine: without the folder in which the raw tree lies.
                reason = what.replace(f"{block.options.skip_bad.as_posix()}/", "")
                skipped = replace(sample, drop=SKIPPED, remarks=(*sample.remarks, f"skipped: {reason}"))
                written.append(_record(number, skipped, images, parts, block.options))
        if not errors:
            if any(record.image and not record.image.kept for record in written):
                os.sync()  # the images before the record that calls them complete; one wait instead of one for each
            atomic.write_bytes(file, records.dump(written), parts=parts)
    return errors


def _record(id: int, sample: Sample, images: Path, parts: Path, options: Options) -> Record:
    record = Record(
        id=id,
        key=sample.key,
        group=sample.key if sample.group is None else sample.group,
        official=sample.split,
        frame=sample.frame,
        spacing=sample.spacing_mm,
        slice=sample.slice_mm,
        tags=dict(sample.tags),
        remarks=tuple(dict.fromkeys(sample.remarks)),
        drop=sample.drop,
    )
    if sample.drop is not None:
        # A structure that a correction removes was published, and is counted as published.
        if any(remark.startswith(FIXED) for remark in sample.remarks):
            record.masks = _declared(sample)
        return record
    memo: dict[Lazy, Any] = {}
    remarks = list(sample.remarks)
    data, array, kept = _image(sample, memo, remarks)
    annotations, record.masks = _annotations(sample, array.shape[:2], memo, remarks, options)
    record.remarks = tuple(dict.fromkeys(remarks))
    if options.skip_empty and not annotations:
        record.drop = "no annotation (excluded by the paper profile)"
        return record
    name = f"{id}.{kept or 'png'}"
    if kept and isinstance(sample.image, Path):
        atomic.link_or_copy(sample.image, images / name, parts=parts)
    else:
        atomic.write_bytes(images / name, data, durable=False, parts=parts)
    record.annotations = tuple(annotations)
    record.image = Written(
        file=f"images/{images.name}/{name}",
        sha256=hashlib.sha256(data).hexdigest(),
        bytes=len(data),
        kept=kept is not None,
        height=array.shape[0],
        width=array.shape[1],
        pixel_hash=pixels.pixel_hash(array),
        phash=pixels.perceptual_hash(array),
    )
    return record


def _declared(sample: Sample) -> int:
    """Return the number of masks of a sample, without reading them."""
    groups = (*sample.masks.values(), *sample.instances.values())
    return sum(len(group) if isinstance(group, list | tuple) else 1 for group in groups)


def _image(sample: Sample, memo: dict[Lazy, Any], remarks: list[str]) -> tuple[bytes, NDArray[Any], str | None]:
    """Return (the file's bytes, canonical pixels, ending if the published file is kept byte for byte)."""
    if isinstance(sample.image, Path):
        try:
            data = sample.image.read_bytes()
        except OSError as error:
            raise RawDataError(f"{sample.image} cannot be read: {error.strerror}.") from error
        head = header(data, sample.image)
        array = pixels.canonical(picture(data, sample.image, head))
        if head and head.plain:
            return data, array, {"png": "png", "jpeg": "jpg"}[head.kind]
    else:
        array = sample.image.read(memo, remarks) if isinstance(sample.image, Lazy) else sample.image
        array = pixels.canonical(array)
    if array.dtype not in (np.uint8, np.uint16) or array.ndim not in (2, 3) or 0 in array.shape:
        raise RawDataError(f"{sample.key}: an image of shape {array.shape} and type {array.dtype} cannot be written.")
    ok, png = cv2.imencode(".png", array if array.ndim == 2 else np.ascontiguousarray(array[:, :, ::-1]))
    if not ok:
        raise BuildError(f"{sample.key}: OpenCV could not write its PNG.")
    return png.tobytes(), array, None


def _annotations(
    sample: Sample, shape: tuple[int, ...], memo: dict[Lazy, Any], remarks: list[str], options: Options
) -> tuple[list[Annotation], int]:
    """Return the annotations in the order label, mask, first pixel; and how many masks were not empty."""
    annotations: list[Annotation] = []
    masks = 0
    for label, group in _relabelled(sample.masks, options):
        arrays = [_mask(mask, sample, shape, memo, remarks) for mask in group]
        if any(map(covers_corners, arrays)):
            remarks.append("mask covers all four corners of its image: inverted, or drawn over all of it")
        if again := _again(arrays):
            remarks.append(f"equal masks, as of a copied file: {again} more of {label}")
        masks += sum(bool(array.any()) for array in arrays)
        if len({name for name, to in options.relabel.items() if to == label}) > 1:  # the paper merged these labels
            arrays = [np.logical_or.reduce(arrays)]
        for number, array in enumerate(arrays):
            annotations += [_annotation(piece, label, number, shape) for piece in components(array)]
    for label, group in _relabelled(sample.instances, options):
        for number, mask in enumerate(group):
            piece = whole(_mask(mask, sample, shape, memo, remarks))
            if piece is not None:
                masks += 1
                annotations.append(_annotation(piece, label, number, shape))
    return annotations, masks


def _again(arrays: Sequence[NDArray[Any]]) -> int:
    """Return how many masks, of those that are not empty, equal one before them."""
    if len(arrays) < 2:
        return 0
    masks = [np.packbits(array != 0).tobytes() for array in arrays if array.any()]
    return len(masks) - len(set(masks))


def _relabelled(masks: "Mapping[str, Mask | Sequence[Mask]]", options: Options) -> "Iterator[tuple[str, list[Mask]]]":
    """Return (label to write, its masks), sorted by label."""
    by_label: dict[str, list[Mask]] = {}
    for label in sorted(masks):
        to = options.relabel.get(label, label)
        if to is not None:
            group = masks[label]
            by_label.setdefault(to, []).extend(group if isinstance(group, list | tuple) else [group])  # type: ignore[list-item]
    yield from sorted(by_label.items())


def _mask(
    mask: Mask, sample: Sample, shape: tuple[int, ...], memo: dict[Lazy, Any], remarks: list[str]
) -> NDArray[Any]:
    """Return a mask of the image's size. Raises MaskMismatch where sizes differ and the sample has no rule for it."""
    if isinstance(mask, Polygon):
        if any(not (-1 <= x <= shape[1] and -1 <= y <= shape[0]) for x, y in mask.points):
            remarks.append(f"outline leaves the picture of {shape[1]} × {shape[0]} pixels")
        return fill_polygon(mask.points, (shape[0], shape[1]), mask.rule)
    array: NDArray[Any] = mask.read(memo, remarks) if isinstance(mask, Lazy) else mask
    if array.shape == tuple(shape):
        return array
    sizes = " × ".join(map(str, array.shape[1::-1])), f"{shape[1]} × {shape[0]}"
    if sample.fit is None or array.ndim != 2 or 0 in array.shape:
        raise MaskMismatch(
            f"{sample.key}: its mask is {sizes[0]} pixels, the image {sizes[1]}, and no rule covers that."
        )
    remarks.append(f"mask resized to its image by nearest neighbour: {sizes[0]} to {sizes[1]}")
    # The pixel whose area holds the new one's centre; in whole numbers, as OpenCV's rounding differs between versions.
    rows, columns = ((2 * np.arange(new) + 1) * old // (2 * new) for new, old in zip(shape, array.shape, strict=True))
    return np.asarray(array[np.ix_(rows, columns)])


def _annotation(piece: Piece, label: str, number: int, shape: tuple[int, ...]) -> Annotation:
    return Annotation.of(piece, label, number, is_speck(piece.area, shape[0], shape[1]))
