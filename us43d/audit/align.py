"""Whether two pictures show the same frame, judged by the pictures themselves.

One is laid on the other (affine, refined by Evangelidis and Psarakis' enhanced correlation coefficient), and the detail
of small blocks is correlated. Speckle is the fingerprint of a frame: blocks of the same frame correlate nearly
everywhere, whatever its encoding, size, gamma or the callipers drawn on it. Blocks of another frame of the same anatomy
do not, once what varies slowly, which is the anatomy, is taken out.
"""

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from us43d.audit.prints import THUMB, reduced, turned

__all__ = ["DETAIL", "Alignment", "Candidate", "align", "glance", "pixels"]

#: Longer side at which pictures are compared at most, pixels; the smaller of the two decides below it.
DETAIL = 256
#: Block's correlation that counts as equal. On real cuts, specimens and drawn frames, nearly all blocks of re-encoded,
#: halved and cropped pictures reach it, and a quarter of those of other frames in the same place with the same anatomy.
_EQUAL = 0.5
#: Share of blocks that must be equal, in the thumbnails (where other frames have up to 0.42) and in the pictures.
_GLANCE, _SHARE = 0.5, 0.6
#: Longer side at which a place is refined for a glance, pixels.
_COARSE = 64
#: Share of the larger picture that the other must show.
_OVERLAP = 0.5


class Candidate(NamedTuple):
    """a, b: places of two pictures in a list. turn: how `a` is mirrored first (`prints.turned`).

    place: (2, 3) float64, from `a` (mirrored) to `b`, in coordinates where the longer side of each picture is 1.
    exact: the place needs no refinement before the thumbnails are compared.
    """

    a: int
    b: int
    turn: int
    place: NDArray[np.float64]
    exact: bool = False


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


def pixels(place: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """A placement in coordinates where the longer side is 1, for pictures of `side` pixels, by pixel centres."""
    linear = place[:, :2]
    return np.concatenate([linear, (place[:, 2] * side + linear @ [0.5, 0.5] - 0.5)[:, None]], axis=1)


def glance(a: NDArray[np.uint8], b: NDArray[np.uint8], start: Candidate) -> Candidate | None:
    """The candidate, its place refined where that is needed, or None if the two thumbnails say that it is none."""
    one, place = turned(a, start.turn), start.place
    if not start.exact:
        place = _refined(reduced(one, _COARSE), reduced(b, _COARSE), place, _COARSE, 20)
    found = _compared(one, b, place, THUMB, False)
    return start._replace(place=place) if found.score >= _GLANCE and found.overlap >= _OVERLAP else None


def align(a: NDArray[np.uint8], b: NDArray[np.uint8], start: Candidate) -> Alignment:
    """Lay `a` (grey, as it is on disk) on `b` from where the candidate says, and compare."""
    side = min(DETAIL, max(a.shape), max(b.shape))
    one, other = turned(reduced(a, side), start.turn), reduced(b, side)
    return _compared(one, other, _refined(one, other, start.place, side, 30), side, True)


def _refined(
    one: NDArray[np.uint8], other: NDArray[np.uint8], place: NDArray[np.float64], side: int, steps: int
) -> NDArray[np.float64]:
    """The placement after ECC; the given one where it does not converge."""
    start = pixels(place, side)
    back = cv2.invertAffineTransform(start).astype(np.float32)
    seen = cv2.warpAffine(np.full_like(one, 255), start, other.shape[::-1], flags=cv2.INTER_NEAREST)
    how = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, steps, 1e-5)
    try:
        _, refined = cv2.findTransformECC(other, one, back, cv2.MOTION_AFFINE, how, seen, 5)
    except cv2.error:  # no overlap, or nothing to hold on to
        return place
    found = cv2.invertAffineTransform(refined.astype(np.float64))
    return np.concatenate([found[:, :2], ((found[:, 2] + 0.5 - found[:, :2] @ [0.5, 0.5]) / side)[:, None]], axis=1)


def _compared(
    one: NDArray[np.uint8], other: NDArray[np.uint8], place: NDArray[np.float64], side: int, fine: bool
) -> Alignment:
    size = other.shape[::-1]
    matrix = pixels(place, side)
    seen = cv2.warpAffine(np.full(one.shape, 255, np.uint8), matrix, size, flags=cv2.INTER_LINEAR) == 255
    area = abs(float(np.linalg.det(matrix[:, :2]))) * one.size
    overlap = float(seen.sum()) / max(1.0, area, float(other.size))
    x = _detail(cv2.warpAffine(one, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), fine)
    y = _detail(other, fine)
    block = min(max(8, side // 16), max(4, min(size) // 5))

    rows, columns = (length // block for length in other.shape)

    def mean(picture: NDArray[Any]) -> NDArray[np.float32]:
        cut = picture[: rows * block, : columns * block]
        return np.asarray(cv2.resize(cut, (columns, rows), interpolation=cv2.INTER_AREA), np.float32)

    mx, my = mean(x), mean(y)
    vx, vy = mean(x * x) - mx * mx, mean(y * y) - my * my
    textured = (mean(seen.astype(np.float32)) > 0.99) & (np.maximum(vx, vy) > 2)
    if textured.sum() < 6:
        return Alignment(place, 0.0, 0.0, overlap)
    correlation = ((mean(x * y) - mx * my) / np.sqrt(np.maximum(vx * vy, 1e-3)))[textured]
    return Alignment(place, float((correlation >= _EQUAL).mean()), float(np.median(correlation)), overlap)


def _detail(picture: NDArray[Any], fine: bool) -> NDArray[np.float32]:
    """What varies within a few pixels. fine: without the last pixel, which encodings change; thumbnails lost it."""
    found = picture.astype(np.float32)
    if fine:
        found = cv2.GaussianBlur(found, (0, 0), 1).astype(np.float32)
    return np.asarray(found - cv2.GaussianBlur(found, (0, 0), 3 if fine else 2), np.float32)
