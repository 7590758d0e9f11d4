"""regPro: transrectal volumes of 73 prostates; the gland and five landmarks of each in four-dimensional masks."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from us43d import masks
from us43d.contract import RawTree, Remarked, Sample, Split, lazy
from us43d.errors import MaskMismatch, UnreadableFile
from us43d.facts import source

if TYPE_CHECKING:
    from numpy.typing import NDArray

STRUCTURES = ("prostate", "landmark_1", "landmark_2", "landmark_3", "landmark_4", "landmark_5")
PARTS: dict[str, Split] = {"train": "train", "val": "val"}


def read(raw: RawTree, *, merged: bool = False) -> Iterator[Sample]:
    """merged: every structure has the one label the paper gives it."""
    paths = [(subset, path) for subset in PARTS for path in raw.glob(f"**/{subset}/us_images/*.nii.gz")]
    for subset, path in paths:  # those in other folders stay unread, and the build reports them
        above, _, name = path.rpartition("us_images/")
        with raw.reading(f"{subset}/us_images/{name}"):
            image, truth = raw.path(path), raw.path(f"{above}us_labels/{name}")
            raw.use(truth)
            shape, (volume, spacing) = _shape(image), masks.nifti_upright(truth)
            if volume.ndim != 4 or volume.shape[3] != len(STRUCTURES):
                raise UnreadableFile(f"{truth} has the shape {volume.shape}, not that of {len(STRUCTURES)} structures.")
            if volume.shape[:3] != shape:
                raise MaskMismatch(f"{truth} has the shape {volume.shape[:3]} upright, its image {shape}.")
            key, case = f"{subset}/us_images/{name}", name.partition(".")[0]
            shown: Any = (volume > 0).any(axis=(1, 2))
            for n in map(int, shown.any(axis=1).nonzero()[0]):
                structures = {
                    label: lazy(_mask, truth, n, index) for index, label in enumerate(STRUCTURES) if shown[n, index]
                }
                yield Sample(
                    key=f"{key}#{n:03}",
                    image=lazy(_picture, image, n),
                    masks={"unknow1": tuple(structures.values())} if merged else structures,
                    group=case,
                    split=PARTS[subset],
                    frame=n,
                    spacing_mm=spacing[1:],
                )
            if not shown.any():
                yield Sample(
                    key=f"{key}#000", image=image, group=case, split=PARTS[subset], drop="no structure is labelled"
                )


def _shape(path: Path) -> tuple[int, ...]:
    """Return the shape of an upright image; a fourth axis of length 1 is tolerated."""
    shape = masks.nifti_upright(path).array.shape
    if len(shape) not in (3, 4) or shape[3:] not in ((), (1,)):
        raise UnreadableFile(f"{path} has the shape {shape}, not that of a volume.")
    return shape[:3]


def _sagittal(plane: "NDArray[Any]") -> "NDArray[Any]":
    """Return (front, head) → (rows, columns) with the head above and the front to the left."""
    return masks.turned(plane.T)


def _mask(path: Path, n: int, structure: int) -> "NDArray[Any]":
    return _sagittal(masks.above(masks.nifti_upright(path).array[n, :, :, structure], 0))


def _picture(path: Path, n: int) -> "NDArray[Any] | Remarked":
    """Return slice n; intensities other than 8-bit grey values are scaled from the volume's range."""
    volume = masks.nifti_upright(path).array
    low, high = float(volume.min()), float(volume.max())
    plane = _sagittal(volume.reshape(volume.shape[:3])[n])
    if volume.dtype == "uint8" or (low >= 0 and 1 < high <= 255):
        return masks.eight_bit(plane)
    if not high - low < float("inf"):
        raise UnreadableFile(f"{path} has non-finite intensities.")
    scaled = (plane - low) * (255 / (high - low) if high > low else 0)
    return Remarked(scaled.round().astype("uint8"), (f"intensities scaled to 0–255: from {low:g} to {high:g}",))


RECIPE = source(__name__, read, paper=partial(read, merged=True))
