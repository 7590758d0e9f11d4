"""Make a COCO file from a folder of images and a folder of their masks."""

import itertools
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from us43d import pictures
from us43d.coco import outlines, segmentation
from us43d.coco.drawn import MaskFile, Plane
from us43d.coco.outlines import Drawing
from us43d.coco.pairs import Naming, outlined
from us43d.errors import ImageError, RawDataError, UsageError, counted, listed
from us43d.harmonize.corpus import is_speck
from us43d.masks import classes as label_map
from us43d.masks.components import Piece, components, covers_corners, whole
from us43d.masks.convert import is_outline
from us43d.masks.read import content, lossy
from us43d.patients import patient_in
from us43d.pictures import Input
from us43d.pictures.listing import stem
from us43d.rawtree import folded

__all__ = ["Written", "from_masks"]

#: Number of files listed per kind of fault.
_NAMED = 3
#: Category of masks without a name.
_STRUCTURE = "structure"
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
    category: str | None = None,
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
        images: Folder of images in any format of `us43d.pictures`; of several frames, if their masks have as many.
        masks: Folder of masks; the mask of `sub/a.png` is `sub/<prefix>a<suffix>.png`, or has another ending. Or
            outlines (`us43d.coco.outlines`): a folder of LabelMe's files, which may be that of the images, or a file.
        category: Name of the structure in the masks, without `classes`; by default "structure", or the labels of
            outlines.
        classes: Name by key of a class (`us43d.masks.classes.parse_key`); keys named `BACKGROUND` are not annotated.
        patient: Regular expression for the patient in an image's path below `images`: its first group, or the whole
            match. Without it, the file has no groups; nothing is guessed.
        prefix: Text before the image's name in a mask's name, such as `mask_`.
        suffix: Text after the image's name in a mask's name, such as `_mask`. Numbered masks, `a_mask_1`
            beside `a_mask` or without it, belong to the same image.
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
    naming = Naming(prefix, suffix, replace)
    image_files = pictures.listing(images, leave_out=masks)
    mask_files = _mask_files(image_files, images, masks, naming)
    has_outlines = outlined(mask_files[0])
    if has_outlines and (classes is not None or united or instances):
        raise UsageError(
            f"{masks} has outlines: --classes, --united and --instances are for masks that are images.",
            next=f"the same without {'--united' if united else '--instances'}"
            if classes is None
            else "us43d coco --help",
        )
    pairs, remarks = naming.pairs(image_files, mask_files, images, masks, has_patients=patient is not None)
    if not has_outlines:
        category = category or _STRUCTURE
    read = _Read(category, classes, united=united, instances=instances or has_outlines)
    for done, (image, own) in enumerate(pairs, 1):
        owner = None
        if patient is not None:
            owner = patient_in(image.relative, patient, "--patient", next="the same with --patient '^(p[0-9]+)_'")
            if owner is None:
                read.faults.setdefault(f"No patient found by {patient!r}", []).append(image.relative)
                continue
        try:
            read.pair(image, own, owner)
        except (ImageError, RawDataError) as error:
            read.faults.setdefault("", []).append(error.what)
            continue
        if progress is not None:
            progress(done, len(pairs))
    _raise(read.faults, len(pairs), read.unnamed, bool(read.counts["many values"]), category or _STRUCTURE)
    remarks += read.remarks()
    if patient is None:
        remarks.append(
            "Patients are unknown (--patient was not given): every image counts as its own patient, and validation is "
            "optimistically biased if a patient has several images."
        )
    categories = [{"id": number, "name": name} for number, name in enumerate(read.names, 1)]
    content = {"images": read.entries, "annotations": read.annotations, "categories": categories}
    return Written(content, remarks)


def _mask_files(image_files: Sequence[Input], images: Path, masks: Path, naming: Naming) -> list[Input]:
    """List the masks: images; or outlines, if they are a file, have the names of images beside them, or are alone."""
    if masks.suffix.lower() == ".json" and masks.is_file():
        return outlines.listing(masks)
    if not any(naming) and images.resolve() == masks.resolve():
        names, files = {folded(stem(image)) for image in image_files}, outlines.listing(masks)
        if any(folded(file.name) in names for file in files):
            return files
    try:
        return pictures.listing(masks)
    except ImageError:
        if masks.is_dir() and (alone := outlines.listing(masks)):
            return alone
        raise


class _Read:
    """What pairs of image and masks hold: entries, annotations, faults, and what is remarked.

    Attributes:
        names: Of the categories.
        faults: By their kind.
        unnamed: Keys of classes in masks that were refused.
    """

    def __init__(
        self, category: str | None, classes: Mapping[int, str] | None, *, united: bool, instances: bool
    ) -> None:
        self.category, self.classes, self.united, self.instances = category, classes, united, instances
        named = dict.fromkeys(classes.values()) if classes else [category] if category else []
        self.names = [name for name in named if classes is None or name != label_map.BACKGROUND]  # outlines add theirs
        self.faults: dict[str, list[str]] = {}
        self.unnamed: set[int] = set()
        self.entries: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.counts: Counter[str] = Counter()
        self.values: Counter[str] = Counter()  # masks by their foreground value
        self.corners: list[str] = []
        self.outlines: list[str] = []
        self.touching: list[str] = []
        self.elsewhere: list[str] = []  # volumes
        self.excluded: Counter[str] = Counter()  # shapes of outlines

    def pair(self, image: Input, own: Sequence[Input], owner: str | None) -> None:
        """Add an image, or the frames of a stack or volume, and the masks of each.

        Raises:
            ImageError, RawDataError: A file cannot be read, or sizes or numbers of frames differ.
        """
        files = [Drawing(mask) if outlined(mask) else MaskFile(mask) for mask in own]
        media = pictures.open(image)
        for file in files:
            if file.count != media.count and None not in (file.count, media.count):
                numbers = [counted(one.count or 0, "frame") for one in (media, file)]
                raise ImageError(f"{image.path} has {numbers[0]}, its mask {file.path} {numbers[1]}.")
            if isinstance(file, MaskFile) and media.grid and file.grid and file.grid.differs(media.grid):
                self.elsewhere.append(f"{file.path.name} ({file.grid}, its image {media.grid})")
        # A video may have fewer frames than it states, or state no number.
        together: Iterator[tuple[Any, ...]] = itertools.zip_longest(media.frames(), *(file.planes() for file in files))
        for number, (frame, *planes) in enumerate(together):
            if frame is None or any(plane is None for plane in planes):
                raise ImageError(f"{image.path} and its mask {own[0].path} have different numbers of frames.")
            entry: dict[str, Any] = {"id": len(self.entries) + 1, "file_name": image.relative}
            entry |= {} if owner is None else {"patient_id": owner}
            entry |= {} if media.count == 1 else {"frame": number}
            where = own[0].relative if media.count == 1 else f"{own[0].relative} (frame {number})"
            height, width = frame.pixels.shape[:2]
            shapes = self._planes(planes, entry["id"], where, (height, width))
            for shape in shapes:
                if shape != (height, width):
                    turned = f" ({'; '.join(media.remarks)})" if media.remarks else ""
                    raise ImageError(
                        f"{image.path} has {width} × {height} pixels{turned}, its mask {shape[1]} × {shape[0]}."
                    )
            entry |= {"width": width, "height": height}
            if media.spacing:
                entry["spacing_mm"] = list(media.spacing)
            self.entries.append(entry)

    def _planes(
        self, planes: Sequence[Plane | Drawing], image: int, where: str, size: tuple[int, int]
    ) -> set[tuple[int, ...]]:
        """Add the annotations of the masks of one image of `size`; return the shapes of the masks."""
        shapes: set[tuple[int, ...]] = set()
        number, covered, lines = len(self.annotations), False, False
        for plane in planes:
            for name, stored in self._masks(plane, where, size):  # one at a time: an instance map has hundreds
                array = plane.upright(stored)
                shapes.add(array.shape)
                whole_mask = self.united or self.instances
                pieces: Sequence[Piece | None] = [whole(array)] if whole_mask else components(array)
                for piece in filter(None, pieces):
                    self.counts["specks"] += is_speck(piece.area, *array.shape)
                    self.annotations.append(self._annotation(image, name, piece, array.shape))
                covered = covered or covers_corners(array)
                lines = lines or (not self.instances and is_outline(array))
        if len(self.annotations) == number:
            self.counts["empty"] += 1
            self.counts["black lossy"] += _is_lossy(planes[0])
        if covered:
            self.corners.append(where)
        elif lines:
            self.outlines.append(where)
        return shapes

    def _masks(
        self, plane: Plane | Drawing, where: str, size: tuple[int, int]
    ) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        """Yield (category, mask as stored) of one plane."""
        if isinstance(plane, Drawing):
            yield from plane.masks(size, self.category)
            self.excluded.update(plane.excluded)
        elif self.instances:
            yield from ((self.names[0], array) for array in label_map.objects(plane.path, plane.pixels))
        elif self.classes is None:
            yield self.names[0], self._two_valued(plane)
        else:
            yield from label_map.masks(plane.path, self.classes, plane.pixels)
            shared = len(self.names) < len(self.classes) and not self.united
            if shared and label_map.joined(plane.path, self.classes, plane.pixels):
                self.touching.append(where)

    def _two_valued(self, plane: Plane) -> NDArray[np.bool_]:
        """Read a two-valued mask; count its grey edges, or its foreground value, or note its classes."""
        try:
            array, value = plane.foreground()
        except RawDataError:
            keys = [] if _is_lossy(plane) else _classes(plane)
            self.unnamed.update(keys if len(keys) <= _MOST_CLASSES else [])
            self.counts["many values"] += len(keys) > _MOST_CLASSES
            raise
        self.values.update([value] if value else [])
        if isinstance(array, np.ndarray):
            return array
        self.counts["edges"] += 1
        return np.asarray(array.array, bool)

    def _annotation(self, image: int, name: str, piece: Piece, shape: tuple[int, ...]) -> dict[str, Any]:
        if name not in self.names:
            self.names.append(name)
        return {
            "id": len(self.annotations) + 1, "image_id": image, "category_id": self.names.index(name) + 1, "iscrowd": 0,
            "area": piece.area, "bbox": list(piece.box), "segmentation": {"size": list(shape), "counts": piece.counts},
        }  # fmt: skip

    def remarks(self) -> list[str]:
        """Return what a person should know of the masks, one line each."""
        remarks, counts = list[str](), self.counts
        if len(self.values) > 1:
            in_order = sorted(self.values, key=lambda text: (len(text), text))
            uses = ", ".join(f"{value} in {self.values[value]:,}" for value in in_order)
            remarks.append(
                f"The foreground value differs between masks ({uses}); all count as {self.category}. --classes tells "
                "classes apart."
            )
        if n := counts["edges"]:
            remarks.append(f"{counted(n, 'mask has', 'masks have')} grey edges, thresholded at half range.")
        if n := counts["empty"]:
            remarks.append(f"{counted(n, 'mask is', 'masks are')} empty: the image has no annotation.")
        if n := counts["black lossy"]:
            remarks.append(
                f"{counted(n, 'empty mask is', 'empty masks are')} JPEG or lossy WebP, which turn a mask of 0 and 1 "
                "black. Check the originals."
            )
        if self.corners:
            remarks.append(
                f"{counted(len(self.corners), 'mask covers', 'masks cover')} all four corners of the image: "
                f"{listed(self.corners, 5)}. Black is background: masks that are white outside of the structure have "
                "to be inverted first (1-bit TIFF of tifffile and masks of ImageJ may be)."
            )
        if self.outlines:
            remarks.append(
                f"{counted(len(self.outlines), 'mask is', 'masks are')} of closed lines: {listed(self.outlines, 5)}. "
                "The annotations are these lines; fill the masks first if they outline structures."
            )
        if self.touching:
            remarks.append(
                f"{counted(len(self.touching), 'mask has', 'masks have')} touching areas of different values with one "
                f"name: {listed(self.touching, 5)}. They are one annotation."
            )
        if self.elsewhere:
            remarks.append(
                f"{counted(len(self.elsewhere), 'mask does', 'masks do')} not lie on the grid of the image: "
                f"{listed(self.elsewhere, 5)}. Voxels are compared as they are stored: if masks are mirrored or "
                "shifted, resample them to the grids of the images first."
            )
        for reason, n in sorted(self.excluded.items()):
            remarks.append(f"{counted(n, 'shape')} excluded: {reason}.")
        if n := counts["specks"]:
            remarks.append(segmentation.specks_remark(n))
        return remarks


def _is_lossy(mask: Plane | Drawing) -> bool:
    return bool(lossy(content(mask.path)))


def _classes(mask: Plane) -> list[int]:
    """The keys of the classes of a mask; none where it cannot be a label map."""
    try:
        return label_map.keys(mask.path, mask.pixels)
    except RawDataError:  # reported already, by the reader of two-valued masks
        return []


def _raise(faults: Mapping[str, Sequence[str]], files: int, unnamed: Iterable[int], many: bool, category: str) -> None:
    """Raise ImageError if there are faults.

    For the command to run next: unnamed, keys of classes in the masks; many, whether masks have too many for classes.
    """
    if not faults:
        return
    count = sum(map(len, faults.values()))
    lines = [f"{what}: {listed(names, _NAMED)}" for what, names in faults.items() if what]
    lines += [message.rstrip(".") for message in faults.get("", ())[:_NAMED]]
    more = len(faults.get("", ())) - _NAMED
    lines += [f"and {more} more"] if more > 0 else []
    keys = [label_map.key_text(key) for key in sorted(unnamed)]
    classes = ",".join(f"{key}=class_{key.removeprefix('#')}" for key in keys) if len(keys) <= _MOST_CLASSES else ""
    again = "the same command again   (after these files are mended or removed)"
    if many:
        again = "the same with --instances   (if each value of a mask is an object; else after these files are mended)"
    if "" not in faults:  # but for their patients, all can be used
        again = "the same with --patient '[^/]+'   (or with another pattern that fits every path)"
    raise ImageError(
        f"{count} of {files} pairs of image and mask cannot be used. {'; '.join(lines)}.",
        next=f"the same without --category {shlex.quote(category)} with --classes {shlex.quote(classes)}   "
        "(with your names; or with --instances in place of --classes, if each value is an object)"
        if classes
        else again,
    )
