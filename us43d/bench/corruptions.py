"""Corruptions of ultrasound images, each in three severities; the masks stay true.

Every function takes (h, w) or (h, w, 3) uint8, the boxes of the annotated objects (N, 4) as x0, y0, x1, y1 in pixels,
severity 1 to 3 and a generator, and returns an image of the same shape and dtype. Strengths are choices of this
project, stated here; they are not calibrated on devices.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from us43d.harmonize.corpus import Corpus
from us43d.model import prompts

__all__ = ["CORRUPTIONS", "Corrupted"]

Pixels: TypeAlias = NDArray[np.uint8]
Boxes: TypeAlias = NDArray[np.int64]
Corruption: TypeAlias = Callable[[Pixels, Boxes, int, np.random.Generator], Pixels]


def speckle(image: Pixels, boxes: Boxes, severity: int, rng: np.random.Generator) -> Pixels:
    """Multiplicative noise, correlated over about 2 pixels as speckle is; standard deviation 0.15, 0.3, 0.5."""
    noise = cv2.GaussianBlur(rng.normal(0, 1, image.shape[:2]), (0, 0), 1.0)
    noise = noise / noise.std() * (0.15, 0.3, 0.5)[severity - 1]
    return _scaled(image, 1 + noise)


def gain(image: Pixels, boxes: Boxes, severity: int, rng: np.random.Generator) -> Pixels:
    """Gain too low or too high: a factor of 0.7 or 1.4, 0.5 or 2, 0.3 or 3."""
    low, high = ((0.7, 1.4), (0.5, 2.0), (0.3, 3.0))[severity - 1]
    return _scaled(image, np.full(image.shape[:2], low if rng.random() < 0.5 else high))


def shadow(image: Pixels, boxes: Boxes, severity: int, rng: np.random.Generator) -> Pixels:
    """An acoustic shadow: a vertical band with soft edges, a tenth, a fifth, a third of the width, that dims to 0.2."""
    width = image.shape[1]
    half = width * (0.1, 0.2, 0.33)[severity - 1] / 2
    middle = rng.uniform(half, max(half, width - half))
    depth = np.clip((half - np.abs(np.arange(width) - middle)) / max(0.2 * half, 1), 0, 1)
    begin = int(rng.uniform(0, 0.3) * image.shape[0])
    factor = np.ones(image.shape[:2])
    factor[begin:] = 1 - 0.8 * depth
    return _scaled(image, factor)


def crop(image: Pixels, boxes: Boxes, severity: int, rng: np.random.Generator) -> Pixels:
    """A narrower field of view: black margins of 10, 20, 30 % on every side, but never over an annotated object."""
    height, width = image.shape[:2]
    share = (0.1, 0.2, 0.3)[severity - 1]
    x0, y0, x1, y1 = share * width, share * height, (1 - share) * width, (1 - share) * height
    if len(boxes):
        x0, y0 = min(x0, boxes[:, 0].min()), min(y0, boxes[:, 1].min())
        x1, y1 = max(x1, boxes[:, 2].max()), max(y1, boxes[:, 3].max())
    out = np.zeros_like(image)
    inside = np.s_[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))]
    out[inside] = image[inside]
    return out


def jpeg(image: Pixels, boxes: Boxes, severity: int, rng: np.random.Generator) -> Pixels:
    """JPEG of quality 40, 20, 8."""
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, (40, 20, 8)[severity - 1]])
    how = cv2.IMREAD_GRAYSCALE if image.ndim == 2 else cv2.IMREAD_COLOR
    return np.asarray(cv2.imdecode(data, how), np.uint8)


def resolution(image: Pixels, boxes: Boxes, severity: int, rng: np.random.Generator) -> Pixels:
    """Reduced to a half, a quarter, an eighth of the resolution and enlarged again."""
    height, width = image.shape[:2]
    factor = 2**severity
    small = cv2.resize(image, (max(1, width // factor), max(1, height // factor)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


CORRUPTIONS: Mapping[str, Corruption] = {
    function.__name__: function for function in (speckle, gain, shadow, crop, jpeg, resolution)
}


def _scaled(image: Pixels, factor: NDArray[np.float64]) -> Pixels:
    factor = factor[:, :, None] if image.ndim == 3 else factor
    return np.clip(np.rint(image * factor), 0, 255).astype(np.uint8)


class Corrupted(Corpus):
    """A corpus whose images are corrupted when they are read; what chance decides depends on the image's id alone."""

    def __init__(self, corpus: Corpus, corruption: str, severity: int) -> None:
        super().__init__(corpus.path, corpus.home)
        self.corruption, self.severity = corruption, severity

    def picture(self, image: int) -> NDArray[np.uint8]:
        pixels = super().picture(image)
        sides = self.annotations["bbox"][list(self.of(image))].astype(np.int64).reshape(-1, 4)
        boxes = np.concatenate([sides[:, :2], sides[:, :2] + sides[:, 2:]], axis=1)
        rng = prompts.fixed(f"{self.corruption}\0{self.severity}\0{self.images['id'][image]}")
        return CORRUPTIONS[self.corruption](pixels, boxes, self.severity, rng)
