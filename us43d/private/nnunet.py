"""Private sources in nnU-Net's form: dataset.json, imagesTr, labelsTr, and perhaps imagesTs and labelsTs."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from us43d import masks
from us43d.contract import Lazy, RawTree, Remarked, Sample, lazy
from us43d.errors import MaskMismatch, RawDataError, UnreadableFile, counted, listed
from us43d.pictures import levels
from us43d.private.record import NnUnet, group_of

__all__ = ["ENDINGS", "TURNED", "Plan", "Volume", "plan", "read"]

#: Endings that are read. The first three are volumes.
ENDINGS = (".nii.gz", ".nii", ".mha", ".png", ".bmp", ".tif", ".tiff")
_VOLUMES, _TIFF = ENDINGS[:3], ENDINGS[-2:]


class Plan(NamedTuple):
    """What a folder holds, as `us43d.private.coco.Plan`. values: name of a label → its values."""

    ending: str
    values: Mapping[str, tuple[int, ...]]
    keys: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def volumes(self) -> bool:
        return self.ending in _VOLUMES


def plan(tree: RawTree) -> Plan | None:
    """Find the cases of an nnU-Net dataset; None if the folder is not one.

    Raises:
        RawDataError: dataset.json cannot be used, or images or masks are missing.
    """
    if not tree.has("dataset.json") or not any(key.startswith("imagesTr/") for key in tree):
        return None
    content = tree.json("dataset.json")
    where = f"{tree.root}/dataset.json"
    if not isinstance(content, dict) or not isinstance(content.get("labels"), dict):
        raise RawDataError(f"{where} is not that of an nnU-Net dataset: the object labels is missing.")
    values = _values(content["labels"], where)
    ending = _ending(content, where)
    remarks, missing, keys = list[str](), list[str](), ["dataset.json"]
    beyond = 0
    for subset in ("Tr", "Ts"):
        images = {_case(key): key for key in _inside(tree, f"images{subset}", f"_0000{ending}")}
        labels = {_stem(key, ending): key for key in _inside(tree, f"labels{subset}", ending)}
        beyond += len(_inside(tree, f"images{subset}", ending)) - len(images)
        missing += [f"labelsTr/{case}{ending}" for case in sorted(images.keys() - labels.keys()) if subset == "Tr"]
        missing += [f"images{subset}/{case}_0000{ending}" for case in sorted(labels.keys() - images.keys())]
        keys += [*images.values(), *labels.values()]
    if missing:
        raise RawDataError(
            f"{counted(len(missing), 'file is', 'files are')} missing in {tree.root}: {listed(missing, 5)}."
        )
    if beyond:
        remarks.append(f"{beyond:,} files of further channels are not read; the first channel is the image")
    if len(keys) == 1:
        raise RawDataError(f"No image imagesTr/<case>_0000{ending} found in {tree.root}.")
    return Plan(ending, values, tuple(keys), tuple(remarks))


def _inside(tree: RawTree, folder: str, ending: str) -> list[str]:
    return [key for key in tree if key.rpartition("/")[0] == folder and key.lower().endswith(ending)]


def _stem(key: str, ending: str) -> str:
    return key.rpartition("/")[2][: -len(ending)]


def _case(key: str) -> str:
    return key.rpartition("/")[2].rpartition("_0000.")[0]


def _values(labels: Mapping[str, Any], where: str) -> dict[str, tuple[int, ...]]:
    """Name → values of its pixels, of version 2 ({"x": 1}, regions {"x": [1, 2]}) and version 1 ({"1": "x"})."""
    if all(name.isdigit() and isinstance(value, str) for name, value in labels.items()):
        labels = {value: int(name) for name, value in labels.items()}
    values = {}
    for name, value in labels.items():
        numbers = value if isinstance(value, list) else [value]
        if not numbers or any(not isinstance(n, int) or isinstance(n, bool) or not 0 <= n <= 65535 for n in numbers):
            raise RawDataError(f"{where}: the label {name!r} has the value {value!r}, not whole numbers from 0.")
        if numbers != [0]:
            values[name] = tuple(numbers)
    if not values:
        raise RawDataError(f"{where} lists no label besides the background.")
    return values


def _ending(content: Mapping[str, Any], where: str) -> str:
    ending = content.get("file_ending", ".nii.gz")
    if not isinstance(ending, str) or ending.lower() not in ENDINGS:
        raise RawDataError(
            f"{where} has the file_ending {ending!r}; those that are read are {listed(ENDINGS, 9)}.",
            next="convert the files, for example with SimpleITK, and change file_ending",
        )
    return ending.lower()


def read(form: NnUnet, raw: RawTree) -> Iterator[Sample]:
    """Read the samples, by case: one for a 2-D image, one for each slice of a volume."""
    raw.use(raw.path("dataset.json"))
    for subset in ("Tr", "Ts"):
        labels = {_stem(key, form.ending): key for key in _inside(raw, f"labels{subset}", form.ending)}
        for key in sorted(_inside(raw, f"images{subset}", f"_0000{form.ending}")):
            truth = labels.get(_case(key))
            group = group_of(form.group, key)
            split = "test" if subset == "Ts" else None
            path = raw.path(key)
            if form.ending not in _VOLUMES:
                yield _still(form, key, path, raw.path(truth) if truth else None, group, split)
                continue
            with raw.reading(key):
                volume = Volume.of(path, raw.path(truth) if truth else None)
                for frame in range(volume.frames):
                    yield _slice(form, key, volume, frame, group or key, split)


def _still(form: NnUnet, key: str, path: Path, truth: Path | None, group: str | None, split: Any) -> Sample:
    if truth is None:
        return Sample(key=key, image=path, group=group, drop=_UNLABELLED)
    return Sample(
        key=key,
        image=lazy(_intensities, lazy(masks.image, path)) if path.name.lower().endswith(_TIFF) else path,
        group=group,
        split=split,
        **_drawn(form, lazy(_label_map, lazy(masks.image, truth), truth)),
    )


def _intensities(array: NDArray[Any]) -> NDArray[Any] | Remarked:
    """Return an image of any type as a build holds it: 8 or 16 bits without sign; others are scaled by their range."""
    if array.dtype in (np.uint8, np.uint16):
        return array
    low, high = levels.finite_range([array])
    remark = f"{array.dtype} values scaled to 0–255: from {low:g} to {high:g}"
    return Remarked(levels.eight_bits(array, (low, high)), (remark,))


#: Drop reason of a test image without a mask.
_UNLABELLED = "test image without a mask (imagesTs without labelsTs)"


#: Remark on a label map whose header turns it otherwise than its image.
TURNED = (
    "the label map states other directions of its axes than its image; pixels are compared as they are stored, as by "
    "nnU-Net"
)


class Volume(NamedTuple):
    """An image volume and its label map, once both are known to have one shape. spacing: (x, y, z) in mm.

    turned: whether the headers state different directions of the axes.
    """

    image: Path
    truth: Path | None
    frames: int
    spacing: tuple[float, float, float] | None
    turned: bool

    @classmethod
    def of(cls, image: Path, truth: Path | None) -> "Volume":
        """Read the header of a volume and of its label map. Raises MaskMismatch and UnreadableFile."""
        shape, spacing = _shape(image)
        if len(shape) not in (2, 3):
            raise UnreadableFile(f"{image} has the shape {shape}, not that of an image or a volume.")
        if truth is not None and _shape(truth)[0] != shape:
            raise MaskMismatch(f"{truth} has the shape {_shape(truth)[0]}, its image {shape}.")
        sizes = (*spacing, 0.0)[:3]
        known = all(0 < size < float("inf") for size in sizes[:2])
        frames = shape[2] if len(shape) == 3 else 1
        turned = truth is not None and _axes(truth) != _axes(image)
        return cls(image, truth, frames, (sizes[0], sizes[1], sizes[2]) if known else None, turned)


def _axes(path: Path) -> str:
    return masks.mha_axes(path) if path.name.lower().endswith(".mha") else masks.nifti_axes(path)


def _shape(path: Path) -> tuple[tuple[int, ...], tuple[float, ...]]:
    return masks.mha_shape(path) if path.name.lower().endswith(".mha") else masks.nifti_shape(path)


def _slice(form: NnUnet, key: str, volume: Volume, frame: int, group: str, split: Any) -> Sample:
    plane = masks.mha_frame if volume.image.name.lower().endswith(".mha") else masks.nifti_frame
    image = lazy(masks.grey_frame, plane, volume.image, frame, volume.frames)
    name = f"{key}#{frame:04}"
    if volume.truth is None:
        return Sample(key=name, image=image, group=group, frame=frame, drop=_UNLABELLED)
    parts = _drawn(form, lazy(_label_map, lazy(plane, volume.truth, frame), volume.truth))
    parts["remarks"] += (TURNED,) * volume.turned
    return Sample(
        key=name,
        image=image,
        group=group,
        split=split,
        frame=frame,
        spacing_mm=volume.spacing[:2] if volume.spacing else None,
        slice_mm=volume.spacing[2] if volume.spacing and volume.spacing[2] > 0 else None,
        **parts,
    )


def _drawn(form: NnUnet, labels: Lazy) -> dict[str, Any]:
    """Return masks and remarks of a sample, from its label map."""
    allowed = tuple(sorted({value for values in form.values.values() for value in values}))
    checked = lazy(masks.label_map, labels, allowed)
    structures: dict[str, list[Lazy]] = {}
    for name, values in form.values.items():
        if (label := form.labels.get(name)) is not None:
            structures.setdefault(label, []).append(lazy(masks.equal, checked, *values))
    remarks = tuple(f"label excluded by --label: {name}" for name in form.values if name not in form.labels)
    return {"masks": structures, "remarks": remarks}


def _label_map(array: NDArray[Any], path: Path) -> NDArray[Any]:
    """Return a label map of one channel. Raises UnreadableFile for a coloured one."""
    if array.ndim == 3:
        single = masks.common_channel(array)
        if single is None:
            raise UnreadableFile(f"{path} is a colour image, not a label map of one value per pixel.")
        return single
    return array
