"""Augment an image with its masks: rotation, zoom, flip, contrast, blur, speckle, mosaic."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from us43d.model import prompts
from us43d.model.geometry import fitted
from us43d.train.config import TrainConfig

__all__ = ["View", "augmented", "coloured", "mosaic"]


class View(NamedTuple):
    """An image, (h, w) or (h, w, 3) uint8, with masks (h, w) of instances and one mask for each structure."""

    pixels: NDArray[np.uint8]
    masks: list[NDArray[np.bool_]]
    structures: dict[int, NDArray[np.bool_]]


def augmented(view: View, config: TrainConfig, rng: np.random.Generator) -> View:
    """Rotate, zoom and flip a view, and change its contrast and quality, as far as the configuration says."""
    if config.turn:
        view = _turned(view, config, rng)
    if config.zoom:
        view = _zoomed(view, config, rng)
    pixels, masks, structures = view
    if rng.random() < config.flip:
        pixels, masks = _flipped(pixels), [_flipped(mask.view(np.uint8)).view(bool) for mask in masks]
        structures = {key: _flipped(mask.view(np.uint8)).view(bool) for key, mask in structures.items()}
    if config.contrast:
        gain, offset = math.exp(rng.normal(0, config.contrast)), 255 * rng.normal(0, config.contrast)
        gamma = math.exp(rng.normal(0, config.quality)) if config.quality else 1.0
        table = np.clip(gain * 255 * (np.arange(256) / 255) ** gamma + offset, 0, 255).astype(np.uint8)
        pixels = cv2.LUT(pixels, table).astype(np.uint8, copy=False)
    if config.quality:
        pixels = _degraded(pixels, config.quality, rng)
    return View(pixels, masks, structures)


def mosaic(parts: Sequence[View], side: int) -> tuple[NDArray[np.uint8], list[NDArray[np.bool_]]]:
    """Combine four images with their masks into one of side × side pixels; empty masks are excluded."""
    whole = np.zeros((side, side, 3), np.uint8)
    half, masks = side // 2, []
    for quarter, (shown, own, _) in enumerate(parts):
        rows, columns = fitted(shown.shape[:2], half)
        top, left = half * (quarter // 2), half * (quarter % 2)
        region = np.s_[top : top + rows, left : left + columns]
        whole[region] = coloured(cv2.resize(shown, (columns, rows), interpolation=cv2.INTER_AREA))
        for mask in own:
            moved = np.zeros((side, side), bool)
            moved[region] = (
                cv2.resize(255 * mask.astype(np.uint8), (columns, rows), interpolation=cv2.INTER_AREA) >= 128
            )
            masks += [moved] if moved.any() else []
    return whole, masks


def coloured(pixels: NDArray[Any]) -> NDArray[Any]:
    """Repeat a grey image (h, w) in three channels; an image with channels stays as it is."""
    return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB) if pixels.ndim == 2 else pixels


def _turned(view: View, config: TrainConfig, rng: np.random.Generator) -> View:
    """The image rotated about its centre, black where nothing was.

    Where less than half of an instance, or less than min_area, would be left, the image stays as it is.
    """
    height, width = view.pixels.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), rng.uniform(-config.turn, config.turn), 1.0)

    def turned(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return np.asarray(cv2.warpAffine(255 * mask.astype(np.uint8), matrix, (width, height)) >= 128)

    moved = [turned(mask) for mask in view.masks]
    if any(new.sum() < max(config.min_area, old.sum() / 2) for new, old in zip(moved, view.masks, strict=True)):
        return view
    whole = np.asarray(cv2.warpAffine(view.pixels, matrix, (width, height)), np.uint8)
    return View(whole, moved, {key: turned(mask) for key, mask in view.structures.items()})


def _zoomed(view: View, config: TrainConfig, rng: np.random.Generator) -> View:
    """Crop or extend the image to a window that shows the first instance.

    Instances of which less than half, or less than min_area, remains are excluded; if none remains, the image is
    not changed.
    """
    factor = math.exp(rng.uniform(-config.zoom, config.zoom))
    (height, width), masks = view.pixels.shape[:2], view.masks
    x0, y0, x1, y1 = prompts.box_of(masks[0]) if masks else (0, 0, width, height)
    rows, columns = max(8, round(height / factor)), max(8, round(width / factor))
    top, left = _start(y0, y1, rows, height, rng), _start(x0, x1, columns, width, rng)
    cut = [_window(mask, top, left, rows, columns) for mask in masks]
    kept = [crop for crop, mask in zip(cut, masks, strict=True) if crop.sum() >= max(config.min_area, mask.sum() / 2)]
    if masks and not kept:
        return view
    seen = {key: _window(mask, top, left, rows, columns) for key, mask in view.structures.items()}
    return View(_window(view.pixels, top, left, rows, columns), kept, seen)


def _start(low: float, high: float, window: int, extent: int, rng: np.random.Generator) -> int:
    """Draw the start of a window along one axis: low..high is inside it, or it is inside low..high.

    The window reaches beyond the image no further than necessary.
    """
    least, most = sorted((0, extent - window))
    first, last = (min(max(at, least), most) for at in sorted((high - window, low)))
    return round(rng.uniform(first, last))


def _window(array: NDArray[Any], top: int, left: int, rows: int, columns: int) -> NDArray[Any]:
    """Crop an image; zeros beyond its border."""
    out = np.zeros((rows, columns, *array.shape[2:]), array.dtype)
    y0, x0 = max(top, 0), max(left, 0)
    inside = array[y0 : max(top + rows, 0), x0 : max(left + columns, 0)]
    out[y0 - top : y0 - top + inside.shape[0], x0 - left : x0 - left + inside.shape[1]] = inside
    return out


def _degraded(pixels: NDArray[np.uint8], chance: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Blur an image and add multiplicative noise of random grain, each with the given probability."""
    if rng.random() < chance:
        pixels = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.4, 1.6)).astype(np.uint8, copy=False)
    if rng.random() < chance:
        grain = int(rng.integers(1, 4))
        shape = tuple(-(-length // grain) for length in pixels.shape[:2])
        noise = 1 + rng.normal(0, rng.uniform(0.03, 0.2), shape).astype(np.float32)
        grown = cv2.resize(noise, pixels.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        pixels = np.clip(pixels * (grown if pixels.ndim == 2 else grown[..., None]), 0, 255).astype(np.uint8)
    return pixels


def _flipped(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return cv2.flip(array, 1).astype(np.uint8, copy=False)
