"""Decide whether two images show the same frame by aligning one with the other.

Each candidate pair is aligned (affine, refined with the enhanced correlation coefficient of Evangelidis and Psarakis
2008), high-pass filtered, and compared block by block with normalized cross-correlation. Speckle identifies a frame:
blocks of the same frame correlate nearly everywhere, whatever the encoding, size, gamma or callipers. Blocks of another
frame of the same anatomy do not, once the low frequencies, which show the anatomy, are removed.
"""

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from us43d.audit.fingerprints import THUMB, mirrored, reduced

__all__ = ["DETAIL", "Alignment", "Candidate", "align", "align_thumbnails", "in_pixels"]

#: Longer side at which images are compared at most, pixels; the smaller of the two images decides below it.
DETAIL = 256
#: Correlation from which a block counts as equal. On real images, synthetic samples and simulated frames, nearly all
#: blocks of re-encoded, halved and cropped images reach it, and a quarter of those of other frames of the same anatomy.
_EQUAL = 0.5
#: Share of blocks that must be equal in the thumbnails (other frames reach 0.42 there) and in the images.
_THUMB_SHARE, _SHARE = 0.5, 0.6
#: Longer side at which a placement is refined for the thumbnails, pixels.
_COARSE = 64
#: Share of equal blocks below which images are rejected where their thumbnails place them, before the refinement, which
#: costs several times as much. Nearly all duplicates reach 0.7 there; a few that changed in several ways reach 0.23.
_UNREFINED_SHARE = 0.2
#: Share of the larger image that the other one must show; the share that counts as the whole; and the share of equal
#: blocks that a deep crop needs. The less an image shows, the better it must agree: a reduced crop reached 0.62 on
#: another frame at an overlap of 0.79, and a few blocks can be the machine's own graphics, which many images share.
_CROP_OVERLAP, _WHOLE_OVERLAP, _CROP_SHARE = 0.2, 0.9, 0.8


class Candidate(NamedTuple):
    """Two images that may show the same frame.

    Attributes:
        a: Position of the first image in the list of images.
        b: Position of the second.
        mirroring: How `a` is mirrored first (`fingerprints.mirrored`).
        place: (2, 3) float64, from `a` (mirrored) to `b`, in coordinates where each image's longer side is 1.
        exact: The placement is compared on the thumbnails as it is, and refined only if they are not similar there.
    """

    a: int
    b: int
    mirroring: int
    place: NDArray[np.float64]
    exact: bool = False


class Alignment(NamedTuple):
    """One image placed on another, and how well they agree.

    Attributes:
        place: As in `Candidate`, refined.
        score: Share of textured blocks that are equal.
        median: Median correlation of the blocks.
        overlap: Share that is covered of the image that is covered less.
        refined: Whether the refinement converged; if False, the images were compared where the candidate placed them.
            None if there was no refinement: the placement is exact, or the images differ too much.
    """

    place: NDArray[np.float64]
    score: float
    median: float
    overlap: float
    refined: bool | None

    @property
    def similar(self) -> bool:
        """Whether thumbnails agree well enough to compare the images."""
        return self.score >= _THUMB_SHARE and self.overlap >= _CROP_OVERLAP

    @property
    def same(self) -> bool:
        """Whether images show the same frame."""
        least = min(_CROP_SHARE, _SHARE + max(0.0, _WHOLE_OVERLAP - self.overlap))
        return self.overlap >= _CROP_OVERLAP and self.score >= least


def in_pixels(place: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Convert a placement to images whose longer side has `side` pixels, by pixel centres."""
    linear = place[:, :2]
    return np.concatenate([linear, (place[:, 2] * side + linear @ [0.5, 0.5] - 0.5)[:, None]], axis=1)


def align_thumbnails(a: NDArray[np.uint8], b: NDArray[np.uint8], candidate: Candidate) -> Alignment:
    """Align two thumbnails, refining the placement unless it is exact and they are similar there."""
    image = mirrored(a, candidate.mirroring)
    if candidate.exact and (whole := _compare(image, b, candidate.place, THUMB, fine=False)).similar:
        return whole
    place, refined = _refine(reduced(image, _COARSE), reduced(b, _COARSE), candidate.place, _COARSE, 20)
    return _compare(image, b, place, THUMB, fine=False)._replace(refined=refined)


def align(a: NDArray[np.uint8], b: NDArray[np.uint8], candidate: Candidate, *, refined: bool = False) -> Alignment:
    """Align two grey images of any size, starting from the placement of the candidate.

    Args:
        a: The first image, (h, w).
        b: The second image, (h, w).
        candidate: Where the first image lies on the second.
        refined: Whether that placement was refined on the thumbnails, so that images that differ too much there can be
            rejected without another refinement.
    """
    side = min(DETAIL, max(a.shape), max(b.shape))
    image, other = mirrored(reduced(a, side), candidate.mirroring), reduced(b, side)
    if refined:
        before = _compare(image, other, candidate.place, side, fine=True)
        if before.score < _UNREFINED_SHARE:
            return before
    place, converged = _refine(image, other, candidate.place, side, 30)
    return _compare(image, other, place, side, fine=True)._replace(refined=converged)


def _refine(
    image: NDArray[np.uint8], other: NDArray[np.uint8], place: NDArray[np.float64], side: int, steps: int
) -> tuple[NDArray[np.float64], bool]:
    """Refine a placement with ECC. Returns (placement, whether it converged); the given one where it did not."""
    back = cv2.invertAffineTransform(in_pixels(place, side)).astype(np.float32)
    valid = np.full_like(image, 255)  # the mask has the shape of the image that is moved, not of the template
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, steps, 1e-5)
    try:
        _, refined = cv2.findTransformECC(other, image, back, cv2.MOTION_AFFINE, criteria, valid, 5)
    except cv2.error as error:
        if error.code != cv2.Error.STS_NO_CONV:  # anything else is a fault of this call, not of the images
            raise
        return place, False
    matrix = cv2.invertAffineTransform(refined.astype(np.float64))
    if not np.isfinite(matrix).all() or not matrix[:, :2].any():  # singular
        return place, False
    shift = (matrix[:, 2] + 0.5 - matrix[:, :2] @ [0.5, 0.5]) / side
    return np.concatenate([matrix[:, :2], shift[:, None]], axis=1), True


def _compare(
    image: NDArray[np.uint8], other: NDArray[np.uint8], place: NDArray[np.float64], side: int, fine: bool
) -> Alignment:
    size = other.shape[::-1]
    matrix = in_pixels(place, side)
    seen = cv2.warpAffine(np.full(image.shape, 255, np.uint8), matrix, size, flags=cv2.INTER_LINEAR) == 255
    area = abs(float(np.linalg.det(matrix[:, :2]))) * image.size
    overlap = float(seen.sum()) / max(1.0, area, float(other.size))
    x = _detail(cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), fine)
    y = _detail(other, fine)
    block = min(max(8, side // 16), max(4, min(size) // 5))
    rows, columns = (length // block for length in other.shape)

    def mean(values: NDArray[Any]) -> NDArray[np.float32]:
        cut = values[: rows * block, : columns * block]
        return np.asarray(cv2.resize(cut, (columns, rows), interpolation=cv2.INTER_AREA), np.float32)

    mx, my = mean(x), mean(y)
    vx, vy = mean(x * x) - mx * mx, mean(y * y) - my * my
    textured = (mean(seen.astype(np.float32)) > 0.99) & (np.maximum(vx, vy) > 2)
    if textured.sum() < 6:
        return Alignment(place, 0.0, 0.0, overlap, None)
    correlation = ((mean(x * y) - mx * my) / np.sqrt(np.maximum(vx * vy, 1e-3)))[textured]
    return Alignment(place, float((correlation >= _EQUAL).mean()), float(np.median(correlation)), overlap, None)


def _detail(image: NDArray[Any], fine: bool) -> NDArray[np.float32]:
    """High-pass filter. fine: also remove the finest detail, which encodings change; thumbnails have none of it."""
    values = image.astype(np.float32)
    if fine:
        values = cv2.GaussianBlur(values, (0, 0), 1).astype(np.float32)
    return np.asarray(values - cv2.GaussianBlur(values, (0, 0), 3 if fine else 2), np.float32)
