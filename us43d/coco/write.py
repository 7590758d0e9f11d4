"""Make a COCO file from a folder of images and a folder of their masks."""

import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from us43d import pictures
from us43d.coco import segmentation
from us43d.coco.pairs import Naming
from us43d.errors import ImageError, RawDataError, counted, listed
from us43d.harmonize.corpus import is_speck
from us43d.masks import classes as label_map
from us43d.masks.components import Piece, components, covers_corners, whole
from us43d.masks.convert import foreground, is_outline
from us43d.patients import patient_in
from us43d.pictures import Input, still

__all__ = ["Written", "from_masks"]

#: Number of files listed per kind of fault.
_NAMED = 3
#: A mask with more values is an image rather than a label map.
_MOST_CLASSES = 32


class Written(NamedTuple):
    """A COCO file. content: its JSON content. remarks: exclusions and decisions, one line each."""

    content: dict[str, Any]
    remarks: list[str]


def from_masks(
    images: Path,
    masks: Path,
    *,
    category: str = "structure",
    classes: Mapping[int, str] | None = None,
    patient: str | None = None,
    prefix: str = "",
    suffix: str = "",
    replace: tuple[str, str] | None = None,
    united: bool = False,
    instances: bool = False,
    progress: Callable[[int, int | None], None] | None = None,
) -> Written:
    """Make a COCO file of images and masks of the same names.

    A mask is a two-valued image in any mode (`us43d.masks.convert.foreground`), or a label map of the given classes.
    Each connected component of a class becomes an annotation, as in a build. An empty mask gives an image without
    annotation.

    Args:
        images: Folder of images in any format of `us43d.pictures`, with one frame each.
        masks: Folder of masks; the mask of `sub/a.png` is `sub/<prefix>a<suffix>.png`, or has another ending.
        category: Name of the structure in the masks, without `classes`.
        classes: Name by key of a class (`us43d.masks.classes.parse_key`); keys named `BACKGROUND` are not annotated.
        patient: Regular expression for the patient in an image's path below `images`: its first group, or the whole
            match. Without it, the file has no groups; nothing is guessed.
        prefix: Text before the image's name in a mask's name, such as `mask_`.
        suffix: Text after the image's name in a mask's name, such as `_mask`. Numbered masks, `a_mask_1` beside
            `a_mask`, belong to the same image.
        replace: Text in an image's path below its folder, and the text in place of it in its mask's path.
        united: One annotation per mask, or per class of a mask, instead of one per connected component.
        instances: The values of a mask are objects of `category`, each one annotation.
        progress: Called with (images done, images).

    Returns:
        The COCO file and remarks.

    Raises:
        UsageError: The pattern is not a regular expression, or no mask belongs to an image.
        ImageError: Files are unusable; lists all of them.
    """
    image_files, mask_files = pictures.listing(images, leave_out=masks), pictures.listing(masks)
    naming = Naming(prefix, suffix, replace)
    pairs, remarks = naming.pairs(image_files, mask_files, images, masks, has_patients=patient is not None)
    faults: dict[str, list[str]] = {}
    counts: Counter[str] = Counter()
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    names = [category] if classes is None else [n for n in dict.fromkeys(classes.values()) if n != label_map.BACKGROUND]
    values: Counter[str] = Counter()  # masks by their foreground value
    unnamed: set[int] = set()
    corners: list[str] = []
    outlines: list[str] = []
    touching: list[str] = []
    for done, (image, own) in enumerate(pairs, 1):
        entry: dict[str, Any] = {"id": done, "file_name": image.relative}
        if patient is not None:
            owner = patient_in(image.relative, patient, "--patient", next="the same with --patient '^(p[0-9]+)_'")
            if owner is None:
                faults.setdefault(f"No patient found by {patient!r}", []).append(image.relative)
                continue
            entry["patient_id"] = owner
        shapes: set[tuple[int, ...]] = set()
        pieces: list[tuple[str, Piece, tuple[int, ...]]] = []
        covered = lines = False
        try:
            for mask in own:
                turn = _orientation(mask)
                if instances:
                    read: Iterable[tuple[str, NDArray[np.bool_]]] = (
                        (category, array) for array in label_map.objects(mask.path)
                    )
                elif classes is None:
                    read = [(category, _mask(mask, counts, values))]
                else:
                    read = label_map.masks(mask.path, classes)
                    if not united and len(names) < len(classes) and label_map.joined(mask.path, classes):
                        touching.append(mask.relative)
                for name, stored in read:  # one at a time: an instance map has hundreds
                    array = still.upright(stored, turn)
                    shapes.add(array.shape)
                    parts: Sequence[Piece | None] = [whole(array)] if united or instances else components(array)
                    pieces += [(name, piece, array.shape) for piece in parts if piece is not None]
                    covered = covered or covers_corners(array)
                    lines = lines or (not instances and is_outline(array))
        except (ImageError, RawDataError) as error:
            faults.setdefault("", []).append(error.what)
            if classes is None and isinstance(error, RawDataError) and not _is_jpeg(mask):
                unnamed.update(_classes(mask))
            continue
        try:
            _measure(image, shapes, entry)
        except ImageError as error:
            faults.setdefault("", []).append(error.what)
            continue
        entries.append(entry)
        for name, piece, shape in pieces:
            counts["specks"] += is_speck(piece.area, shape[0], shape[1])
            annotations.append(_annotation(len(annotations) + 1, done, names.index(name) + 1, piece, shape))
        if not pieces:
            counts["empty"] += 1
            counts["black JPEG"] += _is_jpeg(own[0])
        if covered:
            corners.append(own[0].relative)
        elif lines:
            outlines.append(own[0].relative)
        if progress is not None:
            progress(done, len(pairs))
    _raise(faults, len(pairs), () if instances else unnamed, category)
    if len(values) > 1:
        in_order = sorted(values, key=lambda text: (len(text), text))
        uses = ", ".join(f"{value} in {values[value]:,}" for value in in_order)
        remarks.append(
            f"The foreground value differs between masks ({uses}); all count as {category}. --classes tells classes "
            "apart."
        )
    if counts["edges"]:
        remarks.append(f"{counted(counts['edges'], 'mask has', 'masks have')} grey edges, thresholded at half range.")
    if counts["empty"]:
        remarks.append(f"{counted(counts['empty'], 'mask is', 'masks are')} empty: the image has no annotation.")
    if counts["black JPEG"]:
        remarks.append(
            f"{counted(counts['black JPEG'], 'empty mask is a JPEG', 'empty masks are JPEGs')}: JPEG turns a mask of 0 "
            "and 1 black. Check the originals."
        )
    if corners:
        remarks.append(
            f"{counted(len(corners), 'mask covers', 'masks cover')} all four corners of the image: "
            f"{listed(corners, 5)}. Black is background: masks that are white outside of the structure have to be "
            "inverted first (1-bit TIFF of tifffile and masks of ImageJ may be)."
        )
    if outlines:
        remarks.append(
            f"{counted(len(outlines), 'mask is', 'masks are')} of closed lines: {listed(outlines, 5)}. The annotations "
            "are these lines; fill the masks first if they outline structures."
        )
    if touching:
        remarks.append(
            f"{counted(len(touching), 'mask has', 'masks have')} touching areas of different values with one name: "
            f"{listed(touching, 5)}. They are one annotation."
        )
    if counts["specks"]:
        remarks.append(segmentation.specks_remark(counts["specks"]))
    if patient is None:
        remarks.append(
            "Patients are unknown (--patient was not given): every image counts as its own patient, and validation is "
            "optimistically biased if a patient has several images."
        )
    categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    content = {"images": entries, "annotations": annotations, "categories": categories}
    return Written(content, remarks)


def _mask(mask: Input, counts: Counter[str], values: Counter[str]) -> NDArray[np.bool_]:
    """Read a two-valued mask; count its grey edges, or its foreground value."""
    array, value = foreground(mask.path)
    values.update([value] if value else [])
    if isinstance(array, np.ndarray):
        return array
    counts["edges"] += 1
    return np.asarray(array.array, bool)


def _is_jpeg(mask: Input) -> bool:
    return mask.path.suffix.lower() in (".jpg", ".jpeg")


def _orientation(mask: Input) -> int:
    """The orientation tag of a mask. Raises ImageError for a volume, a video, or several frames."""
    if mask.kind != "image":
        raise ImageError(f"{mask.path} is not an image file; save the mask of each image as PNG.")
    media = still.opened(mask.path)
    if media.count != 1:
        raise ImageError(f"{mask.path} has {media.count} frames; a mask has one.")
    return media.orientation


def _classes(mask: Input) -> list[int]:
    """The keys of the classes of a mask; none where it cannot be a label map."""
    try:
        keys = label_map.keys(mask.path)
    except RawDataError:  # reported already, by the reader of two-valued masks
        return []
    return keys if len(keys) <= _MOST_CLASSES else []


def _measure(image: Input, shapes: Iterable[tuple[int, ...]], entry: dict[str, Any]) -> None:
    """Add the image's size and spacing to its entry. Raises ImageError if a mask's shape is another."""
    media = pictures.open(image)
    if media.count != 1:
        raise ImageError(f"{image.path} has {media.count or 'several'} frames; a mask belongs to one.")
    height, width = media.frame().pixels.shape[:2]
    for shape in shapes:
        if shape != (height, width):
            turned = f" ({'; '.join(media.remarks)})" if media.remarks else ""
            raise ImageError(f"{image.path} has {width} × {height} pixels{turned}, its mask {shape[1]} × {shape[0]}.")
    entry |= {"width": width, "height": height}
    if media.spacing:
        entry["spacing_mm"] = list(media.spacing)


def _annotation(number: int, image: int, category: int, piece: Piece, shape: tuple[int, ...]) -> dict[str, Any]:
    return {
        "id": number, "image_id": image, "category_id": category, "iscrowd": 0, "area": piece.area,
        "bbox": list(piece.box), "segmentation": {"size": list(shape), "counts": piece.counts},
    }  # fmt: skip


def _raise(faults: Mapping[str, Sequence[str]], files: int, unnamed: Iterable[int], category: str) -> None:
    """Raise ImageError if there are faults; unnamed: keys of classes in the masks, for the command to run next."""
    if not faults:
        return
    count = sum(map(len, faults.values()))
    lines = [f"{what}: {listed(names, _NAMED)}" for what, names in faults.items() if what]
    lines += [message.rstrip(".") for message in faults.get("", ())[:_NAMED]]
    more = len(faults.get("", ())) - _NAMED
    lines += [f"and {more} more"] if more > 0 else []
    keys = [label_map.key_text(key) for key in sorted(unnamed)]
    classes = ",".join(f"{key}=class_{key.removeprefix('#')}" for key in keys) if len(keys) <= _MOST_CLASSES else ""
    raise ImageError(
        f"{count} of {files} pairs of image and mask cannot be used. {'; '.join(lines)}.",
        next=f"the same without --category {shlex.quote(category)} with --classes {shlex.quote(classes)}   "
        "(with your names; or with --instances in place of --classes, if each value is an object)"
        if classes
        else "the same command again   (after these files are mended or removed)",
    )
