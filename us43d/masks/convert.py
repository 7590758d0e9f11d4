"""Turning label maps, colours, outlines and polygons into masks. A mask is (h, w) bool."""

import io
import math
import struct
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from us43d import limits, tiff
from us43d.contract import Lazy, Remarked, lazy
from us43d.errors import UnreadableFile
from us43d.masks.ellipses import boundary, fit_ellipse, perimeter
from us43d.masks.read import common_channel, content, decode, grey, header, lossy, picture

__all__ = [
    "above", "between", "binary", "by_value", "colour", "colour_classes", "eight_bit", "ellipse", "equal", "fill_holes",
    "fill_polygon", "foreground", "grey_frame", "is_outline", "label_image", "label_map", "label_values", "largest",
    "nonzero", "not_black", "opened", "turned",
]  # fmt: skip

#: Difference from a published circumference that is remarked, as a fraction of it.
_DIFFERENCE = 0.05


def above(array: NDArray[Any], threshold: float) -> NDArray[np.bool_]:
    return np.asarray(array > threshold)


def between(array: NDArray[Any], low: float, high: float) -> NDArray[np.bool_]:
    """Return the pixels above `low` and not above `high`."""
    return np.asarray((array > low) & (array <= high))


def nonzero(array: NDArray[Any]) -> NDArray[np.bool_]:
    return np.asarray(array != 0)


def not_black(path: Path) -> NDArray[np.bool_] | Remarked:
    """Return the pixels of a mask file that are not black; of a JPEG, whose noise is not black either, as `binary`.

    A JPEG is recognised by its content, as some are saved as .png.
    """
    return binary(path) if lossy(content(path)) else nonzero(grey(path))


def equal(array: NDArray[Any], *values: float) -> NDArray[np.bool_]:
    """Return the pixels of a label map that have one of `values`."""
    return np.asarray(array == values[0] if len(values) == 1 else np.isin(array, values))


def label_image(path: Path) -> NDArray[Any]:
    """Read an image whose values are labels (h, w): 8 or 16 bits as stored, the indices of a palette.

    Where a palette is grey, and its grey values tell the classes apart, they are the labels.

    Raises:
        UnreadableFile: If the image has colours, or cannot be read.
    """
    array = class_image(path)
    single = common_channel(array) if array.ndim == 3 else array
    if single is None:
        raise UnreadableFile(f"{path} has colours, where the values of a label map are expected.")
    return single


def class_image(path: Path, pixels: NDArray[Any] | None = None, *, colours: bool = False) -> NDArray[Any]:
    """Read an image of several classes: (h, w), or (h, w, 3) RGB; an alpha channel is dropped.

    pixels: those of a frame of the file, where they were read before. colours: give the colours of a palette, not its
    indices.
    """
    if pixels is not None:
        return pixels
    data = content(path)
    if (coded := palette(data, path)) is not None:
        return _indexed(*coded, path, colours)
    return tiff.image(data, path) if tiff.is_tiff(data) else picture(data, path, header(data, path))


def _indexed(indices: NDArray[Any], table: NDArray[np.uint8], path: Path, colours: bool) -> NDArray[Any]:
    """Indices (h, w) of a palette, its colours (h, w, 3), or its grey values where these tell the classes apart."""
    used = np.unique(indices)
    if used[-1] >= len(table):
        raise UnreadableFile(f"{path} uses the colour {used[-1]} of a palette that has {len(table)}.")
    if colours:
        return np.asarray(table[indices])
    is_grey = (table[used] == table[used, :1]).all() and len(np.unique(table[used, 0])) == len(used)
    return np.asarray(table[:, 0][indices] if is_grey else indices)


def label_map(array: NDArray[Any], values: tuple[int, ...]) -> NDArray[Any]:
    """Return the label map itself. Raises UnreadableFile if it holds a value that is neither 0 nor one of `values`."""
    if strange := [float(value) for value in np.unique(array) if value not in (0, *values)]:
        more = " …" if len(strange) > 5 else ""
        examples = ", ".join(f"{value:g}" for value in strange[:5])
        raise UnreadableFile(f"The label map holds {examples}{more} beside 0 and {', '.join(map(str, values))}.")
    return array


def by_value(labels: Lazy, values: Mapping[str, int]) -> dict[str, Lazy]:
    """Return label → its mask in a label map, which may hold no other values than 0 and those of `values`."""
    known = lazy(label_map, labels, tuple(values.values()))
    return {label: lazy(equal, known, value) for label, value in values.items()}


def eight_bit(array: NDArray[Any]) -> NDArray[np.uint8] | Remarked:
    """Convert grey values of any type to uint8; values outside 0–255 are clipped, with a remark."""
    if array.dtype == np.uint8:
        return array
    whole = np.rint(np.clip(np.nan_to_num(array), 0, 255)).astype(np.uint8)
    beyond = int(np.count_nonzero(~((array >= 0) & (array <= 255))))
    return Remarked(whole, (f"grey values outside 0–255 cut off: {beyond} pixels",)) if beyond else whole


def grey_frame(
    read: Callable[[Path, int], NDArray[Any]], path: Path, frame: int, frames: int
) -> NDArray[np.uint8] | Remarked:
    """Return frame `frame` of a volume of `frames`, as `read` (`nifti_frame`, `mha_frame`) gives it, in uint8.

    Values of eight bits, or of any type within 0 and 255, stay; others are scaled from the range of the whole volume,
    with a remark. Raises UnreadableFile for values that are not finite.
    """
    plane = read(path, frame)
    if plane.dtype == np.uint8:
        return plane
    low, high = _range(read, path, frames)
    if low >= 0 and 1 < high <= 255:
        return eight_bit(plane)
    scaled = (plane.astype(np.float64) - low) * (255 / (high - low) if high > low else 0)
    return Remarked(np.rint(scaled).astype(np.uint8), (f"intensities scaled to 0–255: from {low:g} to {high:g}",))


@lru_cache(maxsize=64)
def _range(read: Callable[[Path, int], NDArray[Any]], path: Path, frames: int) -> tuple[float, float]:
    """Return the lowest and highest value of a volume, of which one frame at a time is in memory."""
    ends = [(float(plane.min()), float(plane.max())) for plane in (read(path, n) for n in range(frames))]
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    if not all(math.isfinite(value) for end in ends for value in end):  # min and max pass over NaN
        raise UnreadableFile(f"{path} has non-finite intensities.")
    return low, high


def turned(array: NDArray[Any]) -> NDArray[Any]:
    """Rotate by 180 degrees."""
    return np.ascontiguousarray(array[::-1, ::-1])


def label_values(array: NDArray[Any], where: object) -> tuple[int, ...]:
    """Return the values of a label map other than 0, sorted.

    Raises UnreadableFile, naming `where`, if they are not whole.
    """
    if not array.any():
        return ()
    values = np.unique(array[array != 0])
    if not np.isfinite(values).all() or (values != np.rint(values)).any():
        raise UnreadableFile(f"{where} has label values that are not integers, such as {values[-1]}.")
    return tuple(int(value) for value in values)


def binary(path: Path) -> NDArray[np.bool_] | Remarked:
    """Read a two-valued mask file in any mode: 1-bit, grey of 8 or 16 bits, palette, RGB, with or without alpha.

    Foreground is what is not black: of two values the one that is not 0 (1, 127, 255, 65535, dark red …), of a palette
    the index that is not 0, of an image of one colour what its alpha covers. Grey edges, as resizing and JPEG leave
    them, are cut at half range and counted in a remark.

    Returns:
        (h, w) bool; with the remark where there are grey edges.

    Raises:
        UnreadableFile: If the foreground value is unknown: several classes or colours, a palette whose index 0 is not
            black, an alpha channel that contradicts the colours; or if the file cannot be read.
    """
    return _two_valued(path)[0]


def foreground(path: Path, pixels: NDArray[Any] | None = None) -> tuple[NDArray[np.bool_] | Remarked, str]:
    """Read a mask as `binary` does, and its foreground value.

    Args:
        path: The file.
        pixels: Those of a frame of the file, (h, w) or (h, w, 3) RGB, where they were read before.

    Returns:
        (mask, value): a number, the index of a palette, or a colour such as #ff0000; "" for an empty mask and for one
        with grey edges.

    Raises:
        UnreadableFile: As `binary` does.
    """
    mask, values = _two_valued(path) if pixels is None else (_of_frame(pixels, path), pixels)
    if isinstance(mask, Remarked) or not mask.any():
        return mask, ""
    value = values[np.unravel_index(int(mask.argmax()), mask.shape)]
    if value.ndim == 0 or (value == value[0]).all():
        return mask, f"{value.flat[0]:g}"
    eight = values.dtype == np.uint8
    return mask, "#" + "".join(f"{channel:02x}" for channel in value) if eight else ", ".join(f"{c:g}" for c in value)


def _two_valued(path: Path) -> tuple[NDArray[np.bool_] | Remarked, NDArray[Any]]:
    """Return a mask, and what it was cut from: grey, alpha or indices (h, w), or colours (h, w, 3)."""
    data = content(path)
    known = header(data, path)
    if known is not None and known.plain and known.kind == "png":
        array = picture(data, path, known)
        return _cut(array, path), array
    if (coded := palette(data, path)) is not None:
        return _of_palette(*coded, path), coded[0]
    array = tiff.image(data, path, alpha=True) if tiff.is_tiff(data) else _rgb(decode(data, path))
    if (kind := lossy(data)) and 0 < int(array.max()) < _KEPT:
        raise UnreadableFile(
            f"{path} is a {kind} with values up to {int(array.max())} only, which loses pixels of such dark masks: "
            "save it as PNG from the original."
        )
    if array.ndim == 3 and array.shape[2] in (2, 4):
        colours, alpha = array[:, :, : array.shape[2] - 1], array[:, :, -1]
        if int(alpha.min()) != int(alpha.max()):
            return _of_alpha(colours, alpha, path), alpha
        array = colours
    if array.ndim == 3 and array.dtype == np.uint8 and array.shape[2] == 3 and _is_grey(array):
        return _cut(grey(path), path), array
    return _cut(array, path), array


def _of_frame(array: NDArray[Any], path: Path) -> NDArray[np.bool_] | Remarked:
    """Return the mask in a frame of a volume, a stack, a DICOM file or a video."""
    colours = array.ndim == 3 and array.dtype == np.uint8
    return _cut(cv2.cvtColor(array, cv2.COLOR_RGB2GRAY) if colours and _is_grey(array) else array, path)


def _rgb(array: NDArray[Any]) -> NDArray[Any]:
    """Return OpenCV's BGR or BGRA as RGB or RGBA, grey unchanged."""
    return array if array.ndim == 2 or array.shape[2] < 3 else array[:, :, [2, 1, 0, 3][: array.shape[2]]]


#: JPEG keeps the pixels of masks whose foreground is at least so light; it loses many, or all, of a mask of 0 and 1.
_KEPT = 64
#: Values of 8 bits from which on the lightest pixels of a mask count as white.
_WHITE = 192
#: A label map has at most so many values; JPEG of a quality under 90, and most edges of resized masks, have more.
_CLASSES = 32
#: Fraction of the lightest value from which on a value counts as white, not as a class.
_LIGHT = 15 / 16
#: Channels of a grey image differ by no more, and pixels of one colour from their mean, where JPEG has blurred them.
_CHROMA = 32


def _is_grey(array: NDArray[np.uint8]) -> bool:
    """Return whether an image is white on black but for the noise of JPEG's colours."""
    spread = array.max(axis=2) - array.min(axis=2)
    return int(spread.max()) <= _CHROMA and int(array.max()) >= _WHITE


def _cut(array: NDArray[Any], path: Path) -> NDArray[np.bool_] | Remarked:
    """Return the mask in grey values or colours on black."""
    if array.ndim == 3:
        array = _brightness(array, path)
    top = float(array.max())
    if array.dtype == np.uint8 and (top <= 1 or top >= _WHITE):  # white, but for grey edges
        mask = array > (0 if top <= 1 else 127)
        between = cv2.countNonZero(cv2.inRange(array, 1, 254)) if top > 1 else 0
        if between and (
            _is_label_map(array, np.flatnonzero(np.bincount(array.ravel()))) or _is_photograph(array, mask)
        ):
            raise UnreadableFile(f"{path} holds {_few(np.unique(array))}: the foreground values are unknown.")
        return Remarked(mask, (f"grey mask edge: {between} pixels between 0 and 255",)) if between else mask
    values = np.unique(array)
    if not np.isfinite(values).all() or values[0] < 0:
        raise UnreadableFile(f"{path} holds {values[0]:g} to {values[-1]:g}: the foreground value is unknown.")
    if len(values) == 1 and values[0] not in (0, 1, 255, 65535):
        raise UnreadableFile(f"{path} holds the value {values[0]:g} alone: foreground or background is unknown.")
    if len(values) <= 2 and (len(values) == 1 or values[0] == 0):
        return np.asarray(array != 0)
    between = int(np.count_nonzero((array > top / 4) & (array <= top * 3 / 4)))
    if 4 * between > np.count_nonzero(array > top * 3 / 4) or _is_label_map(array, values):
        raise UnreadableFile(f"{path} holds {_few(values)}: the foreground values are unknown.")
    edge = int(np.count_nonzero((array > 0) & (array < top)))
    return Remarked(np.asarray(array > top / 2), (f"grey mask edge: {edge} pixels between 0 and {top:g}",))


def _is_label_map(array: NDArray[Any], values: NDArray[Any]) -> bool:
    """Return whether values between black and white are classes of their own: few values, in areas of one value.

    In the edge of a mask that was resized, blurred or kept as JPEG, the neighbours of a pixel differ from it. A class
    can be as dark as 1, beside 255 for what is to be ignored; near white, JPEG makes areas of 254.

    Args:
        array: (h, w) grey values.
        values: Those that occur, ascending.
    """
    if len(values) > _CLASSES:
        return False
    ranks = np.searchsorted(values, array).astype(np.uint8)
    light = int(np.searchsorted(values, values[-1] * _LIGHT))
    middle = cv2.inRange(ranks, 1, light - 1)
    square = np.ones((3, 3), np.uint8)
    flat = middle[cv2.erode(ranks, square, borderValue=0) == cv2.dilate(ranks, square)]
    return 4 * cv2.countNonZero(flat) > cv2.countNonZero(middle)


def _is_photograph(array: NDArray[np.uint8], mask: NDArray[np.bool_]) -> bool:
    """Return whether grey is too common to be an edge: over 1/8 of the image, and over half as much as the white."""
    middle = cv2.countNonZero(cv2.inRange(array, 64, 191))
    return bool(8 * middle > array.size and 2 * middle > np.count_nonzero(mask))


def _few(values: NDArray[Any]) -> str:
    return f"the values {', '.join(f'{v:g}' for v in values)}" if len(values) <= 6 else f"{len(values)} values"


def _brightness(array: NDArray[Any], path: Path) -> NDArray[Any]:
    """Return the lightest channel of each pixel, which a dark or pure colour has as well.

    Raises UnreadableFile where the
    foreground has several colours."""
    lightest = np.asarray(array.max(axis=2))
    top = float(lightest.max())
    inside = array[lightest > top / 2].astype(np.float64)
    if len(inside) and float(np.abs(inside / top * 255 - inside.mean(0) / top * 255).max()) > 4 * _CHROMA:
        raise UnreadableFile(f"{path} has a foreground of several colours: the colour of the structure is unknown.")
    return lightest


def palette(data: bytes, path: Path) -> tuple[NDArray[Any], NDArray[np.uint8]] | None:
    """Return (indices (h, w), colours (n, 3)) of a PNG, BMP, GIF or TIFF with a palette; None for any other file."""
    if tiff.is_tiff(data):
        return tiff.palette(data, path)
    png = data[:8] == b"\x89PNG\r\n\x1a\n" and data[25:26] == b"\3"
    if not png and data[:2] != b"BM" and data[:4] != b"GIF8":
        return None
    if not png:
        limits.claimed_size(data, path)
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limits were checked
            with Image.open(io.BytesIO(data), formats=("PNG", "BMP", "GIF")) as image:
                if image.mode != "P":
                    return None
                indices, flat = np.asarray(image), image.getpalette("RGB") or []
    except (OSError, EOFError, ValueError, SyntaxError, TypeError, LookupError, struct.error) as error:
        raise UnreadableFile(f"{path} is a damaged or truncated image: {error}.") from error
    return indices, np.array(flat, np.uint8).reshape(-1, 3)


def _of_palette(indices: NDArray[Any], colours: NDArray[np.uint8], path: Path) -> NDArray[np.bool_] | Remarked:
    used = np.unique(indices)
    if used[-1] >= len(colours):
        raise UnreadableFile(f"{path} uses the colour {used[-1]} of a palette that has {len(colours)}.")
    if (colours[used] == colours[used, :1]).all() and (len(used) > 2 or (len(used) == 2 and used[0] != 0)):
        return _cut(colours[:, 0][indices], path)  # grey values
    if len(used) - (used[0] == 0) > 1:
        raise UnreadableFile(
            f"{path} holds the classes {', '.join(map(str, used[:6]))}: the class of the structure is unknown."
        )
    if colours[0].any():
        raise UnreadableFile(
            f"{path} has a palette whose colour 0 is {tuple(colours[0].tolist())}, not black: the foreground value is "
            "unknown."
        )
    return np.asarray(indices != 0)


def _of_alpha(colours: NDArray[Any], alpha: NDArray[Any], path: Path) -> NDArray[np.bool_] | Remarked:
    """Return the mask of an image whose alpha varies: alpha itself where there is one colour, else both must agree."""
    covered = _cut(alpha, path)
    if (colours == colours[:1, :1]).all():
        return covered
    shown = _cut(colours, path)
    one, other = (np.asarray(mask.array if isinstance(mask, Remarked) else mask, bool) for mask in (shown, covered))
    if np.count_nonzero(one & ~other):
        raise UnreadableFile(f"{path} has colours and an alpha channel that contradict each other.")
    return shown


def colour(array: NDArray[np.uint8], wanted: tuple[int, int, int], tolerance: int = 127) -> NDArray[np.bool_]:
    """Return the pixels of an RGB image within `tolerance` of a colour in every channel."""
    low = [max(0, channel - tolerance) for channel in wanted]
    high = [min(255, channel + tolerance) for channel in wanted]
    return np.asarray(cv2.inRange(array, np.array(low, np.uint8), np.array(high, np.uint8)) != 0)


def colour_classes(array: NDArray[np.uint8], colours: tuple[tuple[int, int, int], ...]) -> NDArray[np.uint8]:
    """Return the label map (h, w) of a painted RGB image: n for the n-th of `colours`, from 1, and 0 for black.

    Raises UnreadableFile if it has any other colour.
    """
    classes = np.zeros(array.shape[:2], np.uint8)
    known = colour(array, (0, 0, 0), 0)
    for number, wanted in enumerate(colours, 1):
        inside = colour(array, wanted, 0)
        classes[inside] = number
        known |= inside
    if not known.all():
        strange = tuple(int(channel) for channel in array[~known][0])
        raise UnreadableFile(f"The painted mask has the colour {strange}, which is not among those described.")
    return classes


def fill_holes(mask: NDArray[Any]) -> NDArray[np.bool_]:
    """Return the mask with every background region that does not reach the border (4-connected) filled."""
    padded = cv2.copyMakeBorder((mask != 0).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    cv2.floodFill(padded, None, (0, 0), 2, flags=4)
    return np.asarray(padded[1:-1, 1:-1] != 2)


def is_outline(mask: NDArray[Any]) -> bool:
    """Return whether a mask is of closed lines: its holes are over twice its area, and it is up to 4 pixels thick."""
    if cv2.erode((mask != 0).astype(np.uint8), np.ones((5, 5), np.uint8), borderValue=0).any():
        return False
    area = np.count_nonzero(mask)
    return bool(np.count_nonzero(fill_holes(mask)) - area > 2 * area)


def largest(mask: NDArray[Any]) -> NDArray[np.bool_]:
    """Return the largest 8-connected component of a mask, the first of equal ones; none of an empty mask."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats((mask != 0).astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    return np.asarray(labels == 1 + int(areas.argmax())) if len(areas) else np.zeros(mask.shape, bool)


def opened(mask: NDArray[Any], side: int) -> NDArray[np.bool_]:
    """Return a mask eroded with a square of `side` pixels, its largest component dilated by the same square."""
    square = np.ones((side, side), np.uint8)
    core = largest(cv2.erode((mask != 0).astype(np.uint8), square))
    centre = ((side - 1) // 2, (side - 1) // 2)  # an even square is mirrored, or the mask would move by a pixel
    return np.asarray(cv2.dilate(core.astype(np.uint8), square, anchor=centre) != 0)


def ellipse(outline: NDArray[Any], pixel: float | None = None, circumference: float | None = None) -> Remarked:
    """Return the region enclosed by a drawn ellipse, closed where the image's border cuts it.

    A closed outline is filled as drawn. An open one is completed by the ellipse fitted to its pixels (least squares of
    algebraic distance, Fitzgibbon 1995, as in OpenCV's fitEllipseDirect), with a remark. The line is brighter than
    half of the brightest pixel, which the noise of a JPEG is not.

    Args:
        outline: (h, w), the drawn line.
        pixel: Side of a pixel in mm.
        circumference: The published one in mm; one that differs by more than 5 % is remarked.

    Raises:
        UnreadableFile: If an open outline has fewer than 5 pixels.
    """
    line = outline > outline.max() / 2
    filled = fill_holes(line)
    if np.count_nonzero(filled) > 2 * np.count_nonzero(line):
        return Remarked(filled, _differs(filled, pixel, circumference))
    points = cv2.findNonZero(line.astype(np.uint8))
    if points is None or len(points) < 5:
        raise UnreadableFile("An outline has fewer than 5 pixels, too few for an ellipse.")
    centre, axes, angle = cv2.fitEllipseDirect(points)
    canvas = np.zeros(line.shape, np.uint8)
    cv2.ellipse(canvas, (centre, axes, angle), 1, -1, cv2.LINE_8)
    region = (canvas != 0) | line
    remark = "open outline completed by the fitted ellipse"
    return Remarked(region, (remark, *_differs(region, pixel, circumference)))


def _differs(region: NDArray[np.bool_], pixel: float | None, circumference: float | None) -> tuple[str, ...]:
    if pixel is None or circumference is None:
        return ()
    around = perimeter(fit_ellipse(boundary(region, (pixel, pixel))))
    if not abs(around - circumference) > _DIFFERENCE * circumference:  # NaN where no ellipse fits
        return ()
    return (f"circumference differs from the published one: {around:.1f} mm of the mask, {circumference:.1f} mm there",)


def fill_polygon(
    points: Sequence[tuple[float, float]], shape: tuple[int, int], rule: str = "touch"
) -> NDArray[np.bool_]:
    """Return a filled polygon of (x, y) points on a canvas of `shape` (rows, columns); see `Polygon` for the rules.

    "inside" follows the even-odd rule on pixel centres at integer coordinates; the outline itself counts as inside.
    Raises UnreadableFile for a corner far outside any image, for which arithmetic would fail.
    """
    if far := [point for point in points if not max(map(abs, point)) <= limits.MAX_CORNER]:
        raise UnreadableFile(f"An outline has a corner at ({far[0][0]:g}, {far[0][1]:g}), far outside any image.")
    if rule == "touch":
        canvas = np.zeros(shape, np.uint8)
        if points:
            cv2.fillPoly(canvas, [np.rint(np.asarray(points, np.float64)).astype(np.int32)], 1)
        return np.asarray(canvas != 0)
    inside = np.zeros(shape, bool)
    xy = np.asarray(points, np.float64)
    first, last = max(0, int(np.ceil(xy[:, 1].min()))), min(shape[0], int(np.floor(xy[:, 1].max())) + 1)
    band = max(1, _CELLS // max(len(xy), shape[1]))
    for top in range(first, last, band):
        rows = np.arange(top, min(top + band, last))
        inside[top : top + len(rows)] = _rows_inside(xy, rows, shape[1])
    return inside


_CELLS = 1 << 22  # edges, or columns, times rows in memory at once


def _rows_inside(xy: NDArray[np.float64], rows: NDArray[np.int64], columns: int) -> NDArray[np.bool_]:
    """Return (len(rows), columns): the pixels of consecutive rows that lie in or on a closed polygon (n, 2)."""
    x0, y0 = xy.T
    x1, y1 = np.roll(xy, -1, axis=0).T
    steps = np.zeros((len(rows), columns + 1), np.int32)  # +1 where a run begins, −1 behind its end

    def fill(row: NDArray[np.int64], left: NDArray[np.float64], right: NDArray[np.float64]) -> None:
        begin = np.clip(np.ceil(left - 1e-9), 0, columns).astype(np.int64)
        end = np.clip(np.floor(right + 1e-9) + 1, 0, columns).astype(np.int64)
        np.add.at(steps, (row, begin), 1)
        np.add.at(steps, (row, end), -1)

    at = rows[:, None]
    # The two half-open readings of "crosses this row" differ on vertices and level edges only; together they give the
    # region with its border, but for level edges that enclose nothing.
    for crossing in ((y0 <= at) != (y1 <= at), (y0 < at) != (y1 < at)):
        row, edge = np.nonzero(crossing)
        x = x0[edge] + (rows[row] - y0[edge]) / (y1[edge] - y0[edge]) * (x1[edge] - x0[edge])
        order = np.lexsort((x, row))  # a row crosses a closed polygon an even number of times
        fill(row[order][::2], x[order][::2], x[order][1::2])
    row, edge = np.nonzero((y0 == at) & (y1 == at))
    fill(row, np.minimum(x0, x1)[edge], np.maximum(x0, x1)[edge])
    return np.asarray(np.cumsum(steps[:, :-1], axis=1) > 0)
