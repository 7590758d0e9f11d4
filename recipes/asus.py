"""ASUS: vertebral surfaces in sagittal spine sweeps of eight volunteers; float16 arrays stored upside down."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.errors import UnreadableFile
from us43d.facts import source

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _upright(frame: "NDArray[Any]") -> "NDArray[Any]":
    """Return (128, 128, 1) → (128, 128), turned by 180 degrees: the frames are stored so."""
    turned: NDArray[Any] = frame[::-1, ::-1, 0]
    return turned


def _grey(frame: "NDArray[Any]") -> "NDArray[Any]":
    """Return 0..1 → 0..255, to the nearest integer."""
    grey: NDArray[Any] = (frame.astype("float32").clip(0, 1) * 255).round().astype("uint8")
    return grey


def read(raw: RawTree) -> Iterator[Sample]:
    for key in sorted(raw.glob("**/q*_ultrasound.npy"), key=lambda key: key.rpartition("/")[2].lower()):
        folder, _, name = key.rpartition("/")
        with raw.reading(name):
            volunteer = name.partition("_")[0]
            mask = next(
                (k for k in raw.glob(f"**/{volunteer}_segmentation.npy") if k.rpartition("/")[0] == folder), None
            )
            images, labels = raw.path(key), raw.path(mask or f"{folder}/{volunteer}_segmentation.npy")
            if (shape := masks.npy_shape(images)) != masks.npy_shape(labels) or len(shape) != 4 or shape[3] != 1:
                raise UnreadableFile(f"{images} and {labels} are not arrays of one shape (frames, rows, columns, 1).")
            for n in range(shape[0]):
                yield Sample(
                    key=f"{volunteer.lower()}/{n:04}",
                    image=lazy(_grey, lazy(_upright, lazy(masks.npy_frame, images, n))),
                    masks={"spine": lazy(masks.nonzero, lazy(_upright, lazy(masks.npy_frame, labels, n)))},
                    group=volunteer.lower(),
                    frame=n,
                )


RECIPE = source(__name__, read)
