"""What specimens are made of: simulated speckle, known shapes, and the truth about what was drawn.

A specimen is a tiny raw tree with the published names, formats and oddities of one source. It follows the facts, not
the reader, so it does not use `us43d.masks`.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from us43d.errors import RecipeError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "Drawn", "Specimen", "Truth", "blob", "label_map", "of_source", "ring", "speckle", "ventricle", "write_image",
    "write_stack", "write_volume",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Drawn:
    """Truth of one sample.

    masks: source label → the masks drawn (h, w) bool, in the image's own size, one per mask file or instance,
        without empty ones. dropped: whether the reader must drop the sample, with a reason. lossless: False where the
        source's encoding blurs the masks of this sample only; see `Truth`.
    """

    masks: "Mapping[str, Sequence[NDArray[np.bool_]]]" = field(default_factory=dict)
    group: str | None = None
    split: str | None = None
    tags: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    dropped: bool = False
    lossless: bool = True


@dataclass(frozen=True, slots=True)
class Truth:
    """samples: key → what was drawn.

    lossless: False where the source's own encoding (JPEG, resampling) blurs masks, so that they are compared by
    IoU ≥ 0.98 instead of exactly.
    """

    samples: Mapping[str, Drawn]
    lossless: bool = True


class Specimen(Protocol):
    def __call__(self, root: Path, rng: "np.random.Generator", scale: int = 1) -> Truth:
        """Write the raw tree below `root` (an existing empty folder). `scale` multiplies frames or images."""


def of_source(slug: str) -> Specimen:
    """Return the specimen generator of a source. Raises RecipeError if it has none."""
    try:
        module = importlib.import_module(f"us43d.recipes.specimens.{slug}")
    except ModuleNotFoundError as error:
        raise RecipeError(f"{slug} has no specimen: recipes/specimens/{slug}.py is missing.") from error
    make: Specimen = module.make
    return make


def blob(
    shape: tuple[int, int],
    rng: "np.random.Generator",
    size: float = 0.25,
    cell: tuple[float, float, float, float] = (0, 0, 1, 1),
) -> "NDArray[np.bool_]":
    """Return one connected lobed region (h, w) bool, deliberately not an ellipse.

    Args:
        shape: (height, width) in pixels.
        rng: Source of randomness.
        size: Mean radius as a fraction of the smaller side of the cell.
        cell: Part of the image with the region, as fractions (x0, y0, x1, y1).
    """
    import numpy as np

    rows, cols = shape
    x0, y0, x1, y1 = cell[0] * cols, cell[1] * rows, cell[2] * cols, cell[3] * rows
    radius = size * min(x1 - x0, y1 - y0)
    room = 0.5 - min(0.45, 1.6 * size)  # how far the centre may move without touching the cell's border
    cx = (x0 + x1) / 2 + (x1 - x0) * rng.uniform(-room, room)
    cy = (y0 + y1) / 2 + (y1 - y0) * rng.uniform(-room, room)
    y, x = np.mgrid[:rows, :cols]
    angle = np.arctan2(y - cy, x - cx)
    wave = np.ones(shape)
    for lobes in (2, 3, 5):
        wave += rng.uniform(0.1, 0.28) * np.cos(lobes * angle + rng.uniform(0, 2 * np.pi))
    return np.asarray(np.hypot(x - cx, y - cy) < radius * np.maximum(wave, 0.3))


def ventricle(
    shape: tuple[int, int],
    apex: tuple[float, float],
    size: tuple[float, float],
    angle: float = 0.0,
    ejected: float = 0.0,
) -> "NDArray[np.bool_]":
    """Return a left ventricle (h, w) bool of an apical view: round at the apex, cut off at the mitral valve.

    Length and width shrink so that the volume, by any rule that takes the ventricle for a body of revolution, falls by
    the ejected fraction: length × width² is what is left.

    Args:
        shape: (height, width) in pixels.
        apex: (x, y) in pixels.
        size: (length, largest width) in pixels at end-diastole.
        angle: Of the long axis from straight down, in degrees.
        ejected: Fraction of the end-diastolic volume that has left, 0 to 1.
    """
    import numpy as np

    length, width = size[0] * (1 - ejected) ** 0.2, size[1] * (1 - ejected) ** 0.4
    y, x = np.mgrid[: shape[0], : shape[1]]
    down, right = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    along = ((x - apex[0]) * right + (y - apex[1]) * down) / length
    across = np.abs((x - apex[0]) * down - (y - apex[1]) * right)
    bulge = np.sqrt(np.clip(1 - ((along - 0.65) / 0.65) ** 2, 0, None))  # widest at 0.65 of the length
    return np.asarray((along >= 0) & (along <= 1) & (across <= width / 2 * bulge))


def ring(
    shape: tuple[int, int], centre: tuple[float, float], axes: tuple[float, float], angle: float
) -> "tuple[NDArray[np.bool_], NDArray[np.bool_]]":
    """Return (what an ellipse's outline encloses, with it; the one-pixel outline), both (h, w) bool.

    centre and axes (full lengths) in (x, y) pixels, angle in degrees, OpenCV's conventions. Where the outline leaves
    the image, and so encloses nothing, OpenCV's filled ellipse is used.
    """
    import cv2
    import numpy as np

    filled, line = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    cv2.ellipse(line, (centre, axes, angle), 1, 1)
    cv2.drawContours(filled, cv2.findContours(line, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0], -1, 1, -1)
    if np.count_nonzero(filled) < 2 * np.count_nonzero(line):
        cv2.ellipse(filled, (centre, axes, angle), 1, -1)
    return (filled | line) != 0, line != 0


def speckle(
    shape: tuple[int, int], masks: "Sequence[NDArray[np.bool_]]", rng: "np.random.Generator"
) -> "NDArray[np.uint8]":
    """Return a B-mode-like image (h, w) uint8: Rayleigh speckle over tissue, brighter near the probe.

    Each mask darkens or brightens its region, later ones over earlier ones.
    """
    import cv2
    import numpy as np

    tissue = np.full(shape, 95.0)
    for n, mask in enumerate(masks):
        tissue[mask] = (32.0, 165.0, 60.0, 200.0, 15.0)[n % 5]
    depth = np.linspace(1.15, 0.8, shape[0])[:, None]
    noise = cv2.GaussianBlur(rng.rayleigh(1.0, shape), (0, 0), 0.8) / 1.25
    picture: NDArray[np.uint8] = np.clip(tissue * depth * (0.35 + 0.65 * noise), 0, 255).astype(np.uint8)
    return picture


def label_map(shape: tuple[int, int], masks: "Mapping[int, NDArray[np.bool_]]") -> "NDArray[np.uint8]":
    """Return the label map (h, w) uint8 of value → mask (h, w) bool, later ones over earlier ones."""
    import numpy as np

    labels = np.zeros(shape, np.uint8)
    for value, mask in masks.items():
        labels[mask] = value
    return labels


def write_image(path: Path, array: "NDArray[Any]", *options: int) -> None:
    """Write (h, w) or (h, w, 3) RGB in the format of the file's ending; folders are made; options are OpenCV's."""
    import cv2
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    bgr: Any = np.ascontiguousarray(array[..., ::-1]) if array.ndim == 3 else array
    ok, data = cv2.imencode(path.suffix.lower(), bgr, list(options))
    if not ok:
        raise ValueError(f"OpenCV cannot write {path.suffix}")
    path.write_bytes(data.tobytes())


def write_volume(path: Path, array: "NDArray[Any]", spacing: Sequence[float] = (1, 1, 1)) -> None:
    """Write a NIfTI file of an array with axes x, y and slice or time; folders are made. spacing: in mm."""
    import nibabel
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.nifti1.Nifti1Image(np.ascontiguousarray(array), np.diag([*spacing, 1])), path)


def write_stack(
    path: Path, array: "NDArray[Any]", spacing: Sequence[float] | None = None, *, compress: bool = False
) -> None:
    """Write (slices, rows, columns) or (rows, columns) as MetaImage or NRRD; folders are made. spacing: (x, y, z)."""
    import SimpleITK as sitk

    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    if spacing:
        image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path), compress)
