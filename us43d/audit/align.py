"""Whether two pictures show the same frame, judged by the pictures themselves.

One is laid on the other (affine, refined by Evangelidis and Psarakis' enhanced correlation coefficient), and small
blocks are correlated. Speckle is the fingerprint of a frame: blocks of the same frame correlate nearly everywhere,
whatever its encoding, size, gamma or the callipers drawn on it; blocks of another frame of the same anatomy do not.
"""

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from us43d.audit.candidates import Candidate, pixels
from us43d.audit.prints import reduced, turned

__all__ = ["DETAIL", "Alignment", "align"]

#: Longer side at which pictures are compared at most, pixels; the smaller of the two decides below it.
DETAIL = 256
#: Block's correlation that counts as equal, and the share of blocks that must be.
_EQUAL, _SHARE = 0.7, 0.7
#: Share of the larger picture that the other must show.
_OVERLAP = 0.5


class Alignment(NamedTuple):
    """place: as of `Candidate`, refined. score: share of textured blocks that are equal. median: of their correlations.

    overlap: share of the picture covered, of the one that is covered less.
    """

    place: NDArray[np.float64]
    score: float
    median: float
    overlap: float

    @property
    def same(self) -> bool:
        return self.score >= _SHARE and self.overlap >= _OVERLAP


def align(a: NDArray[np.uint8], b: NDArray[np.uint8], start: Candidate) -> Alignment:
    """Lay `a` (grey, as it is on disk) on `b` from where the candidate says, and compare."""
    side = min(DETAIL, max(a.shape), max(b.shape))
    one, other = turned(reduced(a, side), start.turn), reduced(b, side)
    place = start.place
    for step in sorted({min(side, 96), side}):
        place = _refined(reduced(one, step), reduced(other, step), place, step)
    return _compared(one, other, place, side)


def _refined(
    one: NDArray[np.uint8], other: NDArray[np.uint8], place: NDArray[np.float64], side: int
) -> NDArray[np.float64]:
    """The placement after ECC; the given one where it does not converge."""
    start = pixels(place, side)
    back = cv2.invertAffineTransform(start).astype(np.float32)
    seen = cv2.warpAffine(np.full_like(one, 255), start, other.shape[::-1], flags=cv2.INTER_NEAREST)
    how = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 50, 1e-5)
    try:
        _, refined = cv2.findTransformECC(other, one, back, cv2.MOTION_AFFINE, how, seen, 5)
    except cv2.error:  # no overlap, or nothing to hold on to
        return place
    found = cv2.invertAffineTransform(refined.astype(np.float64))
    return np.concatenate([found[:, :2], ((found[:, 2] + 0.5 - found[:, :2] @ [0.5, 0.5]) / side)[:, None]], axis=1)


def _compared(one: NDArray[np.uint8], other: NDArray[np.uint8], place: NDArray[np.float64], side: int) -> Alignment:
    size = other.shape[::-1]
    matrix = pixels(place, side)
    seen = cv2.warpAffine(np.full(one.shape, 255, np.uint8), matrix, size, flags=cv2.INTER_LINEAR) == 255
    area = abs(float(np.linalg.det(matrix[:, :2]))) * one.size
    overlap = float(seen.sum()) / max(1.0, area, float(other.size))
    x = cv2.GaussianBlur(cv2.warpAffine(one, matrix, size, flags=cv2.INTER_LINEAR).astype(np.float32), (0, 0), 1)
    y = cv2.GaussianBlur(other.astype(np.float32), (0, 0), 1)
    block = min(max(8, side // 16), max(4, min(size) // 5))

    def mean(picture: NDArray[Any]) -> NDArray[np.float32]:
        rows, columns = (length // block for length in picture.shape)
        cut = picture[: rows * block, : columns * block].reshape(rows, block, columns, block)
        return np.asarray(cut.mean(axis=(1, 3)), np.float32)

    mx, my = mean(x), mean(y)
    vx, vy = mean(x * x) - mx * mx, mean(y * y) - my * my
    textured = (mean(seen.astype(np.float32)) > 0.99) & (np.maximum(vx, vy) > 4)
    if textured.sum() < 6:
        return Alignment(place, 0.0, 0.0, overlap)
    correlation = ((mean(x * y) - mx * my) / np.sqrt(np.maximum(vx * vy, 1e-3)))[textured]
    return Alignment(place, float((correlation >= _EQUAL).mean()), float(np.median(correlation)), overlap)
