"""Make a COCO file from a folder of images and a folder of their masks."""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from us43d import pictures
from us43d.coco import schema, segmentation
from us43d.errors import ImageError, RawDataError, UsageError, command, counted, listed
from us43d.harmonize.corpus import is_speck
from us43d.masks import classes as label_map
from us43d.masks.components import Piece, components, covers_corners, whole
from us43d.masks.convert import foreground, is_outline
from us43d.patients import patient_in
from us43d.pictures import Input, still
from us43d.pictures.media import stem
from us43d.rawtree import folded

__all__ = ["Written", "from_masks"]

#: Number of files listed per kind of fault.
_NAMED = 3
#: Number of masks whose names are compared with those of the images, for the command to run next.
_TRIED = 1000
_LETTER = re.compile(r"[^\W\d_]")
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
    pairs, remarks = _pairs(image_files, mask_files, (prefix, suffix), images, masks)
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
            owner = patient_in(
                image.relative, patient, "--patient", next="us43d coco IMAGES MASKS --patient '^(p[0-9]+)_'"
            )
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
    _raise(faults, len(pairs), unnamed)
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


def _pairs(
    image_files: Sequence[Input], mask_files: Sequence[Input], around: tuple[str, str], images: Path, masks: Path
) -> tuple[list[tuple[Input, list[Input]]], list[str]]:
    """Match images and masks by name, also `a_mask_1` beside `a_mask`; remark on files without a partner."""
    one_folder = images.resolve() == masks.resolve()
    by_name: dict[str, list[Input]] = {}
    for mask in mask_files:
        by_name.setdefault(_stem(mask), []).append(mask)
    names = Counter(_stem(image) for image in image_files)
    if one_folder and not any(around):
        raise UsageError(
            f"{images} has images and masks: give the text around an image's name in its mask's name.",
            next=_with_affix(names, by_name, images, masks) or _of_folders(image_files, mask_files, one_folder),
        )
    own = {name: _mask_name(name, *map(folded, around)) for name in names}
    further = _further(by_name, own) if any(around) else {}
    pairs, without, several = list[tuple[Input, list[Input]]](), [], []
    for image in image_files:
        partners = by_name.get(own[_stem(image)], [])
        if len(partners) > 1 or (partners and names[_stem(image)] > 1):
            several.append(image.relative)
        elif partners:
            pairs.append((image, [*partners, *further.get(_stem(image), ())]))
        else:
            without.append(image.relative)
    if several:
        raise ImageError(
            f"{counted(len(several), 'image shares its name', 'images share their names')} with another image "
            f"or mask: {listed(several, 5)}."
        )
    if not pairs:
        raise UsageError(
            f"No mask in {masks} has the name of an image in {images}: images such as {image_files[0].relative}, "
            f"masks such as {mask_files[0].relative}.",
            next=_with_affix(names, by_name, images, masks) or _of_folders(image_files, mask_files, one_folder),
        )
    used = {mask.relative for _, several in pairs for mask in several}
    unused = sorted({mask.relative for mask in mask_files} - used)
    if one_folder:
        without = [name for name in without if name not in used]
        unused = []  # the images are among the files of masks; those without a mask are listed as such
    remarks = []
    if several_masks := [image.relative for image, partners in pairs if len(partners) > 1]:
        name = "NAME".join(around)
        remarks.append(
            f"{counted(len(several_masks), 'image has', 'images have')} several masks, such as {name}_1 beside {name}: "
            f"{listed(several_masks, 5)}."
        )
    if without:
        remarks.append(
            f"Excluded, without a mask: {len(without):,} of {counted(len(image_files), 'image')}: {listed(without, 5)}."
        )
    if unused:
        remarks.append(
            f"Excluded, without an image: {len(unused):,} of {counted(len(mask_files), 'mask')}: {listed(unused, 5)}."
        )
    return pairs, remarks


def _mask_name(image: str, prefix: str, suffix: str) -> str:
    folder, slash, name = image.rpartition("/")
    return f"{folder}{slash}{prefix}{name}{suffix}"


def _further(masks: Mapping[str, list[Input]], own: Mapping[str, str]) -> dict[str, list[Input]]:
    """Return the numbered masks of each image, in order: `a_mask_1`, `a_mask_2` … beside `a_mask`, as BUSI has them.

    own: image → name of its mask.
    """
    image_of = {mask: image for image, mask in own.items() if mask in masks}
    further: dict[str, list[tuple[int, Input]]] = {}
    for name, files in masks.items():
        first, _, number = name.rpartition("_")
        if number.isascii() and number.isdigit() and first in image_of and len(files) == 1:
            further.setdefault(image_of[first], []).append((int(number), files[0]))
    return {image: [file for _, file in sorted(files, key=lambda pair: pair[0])] for image, files in further.items()}


def _with_affix(images: Iterable[str], masks: Iterable[str], folder: Path, of_masks: Path) -> str:
    """Return the command with the text that most masks have around an image's name; "" where none has."""
    known = set(images)
    around: Counter[tuple[str, str]] = Counter()
    for place, slash, name in (mask.rpartition("/") for mask in itertools.islice(masks, _TRIED)):
        spans = ((a, b) for a in range(len(name)) for b in range(a + 1, len(name) + 1))
        # Without a letter around it, as in a1 and a10, the name is that of another image.
        inside = [(a, b) for a, b in spans if _LETTER.search(name[:a] + name[b:])
                  and f"{place}{slash}{name[a:b]}" in known]  # fmt: skip
        if inside:
            a, b = max(inside, key=lambda pair: pair[1] - pair[0])
            around[name[:a], name[b:]] += 1
    if not around:
        return ""
    prefix, suffix = around.most_common(1)[0][0]
    options = [*(("--prefix", prefix) if prefix else ()), *(("--suffix", suffix) if suffix else ())]
    return command("coco", folder, of_masks, *options)


def _of_folders(images: Iterable[Input], masks: Iterable[Input], one_folder: bool) -> str:
    """Return the command with the two folders that have most names in common, such as train/images and train/masks.

    Where both are in one folder, those of masks have a word for masks in their names. Without such folders, the help.
    """
    if one_folder:
        images = [one for one in images if not schema.MASKS.search(one.path.parent.name)]
        masks = (one for one in masks if schema.MASKS.search(one.path.parent.name))
    by_name: dict[str, set[Path]] = {}
    for image in images:
        by_name.setdefault(_stem(image).rpartition("/")[2], set()).add(image.path.parent)
    uses: Counter[tuple[Path, Path]] = Counter()
    for mask in itertools.islice(masks, _TRIED):
        uses.update((place, mask.path.parent) for place in by_name.get(_stem(mask).rpartition("/")[2], ()))
    if not uses:
        return "us43d coco --help"
    most = max(uses.values())
    places = min((pair for pair, count in uses.items() if count == most), key=_apart)
    return f"{command('coco', *places)}   (one folder of images and one of masks at a time)"


def _apart(pair: tuple[Path, Path]) -> tuple[int, tuple[Path, Path]]:
    """Sort folders that have more of their paths in common first."""
    one, other = pair
    return -len(set(one.parents) & set(other.parents)), pair


def _stem(file: Input) -> str:
    """Return the path below the folder without the ending, as it is compared."""
    return folded(stem(file))


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


def _raise(faults: Mapping[str, Sequence[str]], files: int, unnamed: Iterable[int]) -> None:
    """Raise ImageError if there are faults; unnamed: keys of classes in the masks, for the command to run next."""
    if not faults:
        return
    count = sum(map(len, faults.values()))
    lines = [f"{what}: {listed(names, _NAMED)}" for what, names in faults.items() if what]
    lines += [message.rstrip(".") for message in faults.get("", ())[:_NAMED]]
    more = len(faults.get("", ())) - _NAMED
    lines += [f"and {more} more"] if more > 0 else []
    named = ",".join(f"{label_map.key_text(key)}=NAME" for key in sorted(unnamed)[:_NAMED])
    raise ImageError(
        f"{count} of {files} pairs of image and mask cannot be used. {'; '.join(lines)}.",
        next=f"us43d coco IMAGES MASKS --classes '{named}'   (or --instances, if each value is an object)"
        if named
        else "the same command again   (after these files are mended or removed)",
    )
