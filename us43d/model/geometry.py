"""Place images and prompts in the network's input, for prediction and training alike.

Coordinates of prompts are in pixels of the image: x to the right, y down, the centre of the first pixel at (0, 0).
"""

from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from us43d.model.config import MEAN, STD
from us43d.model.network import LOWER_RIGHT, PADDING, POSITIVE, UPPER_LEFT
from us43d.model.weights import Preprocessing

__all__ = ["box_prompts", "fitted", "normalised", "point_prompts", "standard"]


def fitted(
    shape: tuple[int, int], side: int, stretch: bool = False, how: Preprocessing = "ultrasam"
) -> tuple[int, int]:
    """Compute the size of the resized image.

    Args:
        shape: (rows, columns) of the image.
        side: Side of the network's input, in pixels.
        stretch: Resize both sides to `side`; else the longer side.
        how: The shorter side is rounded for "sam" and rounded down for "ultrasam", as in the original software.

    Returns:
        (rows, columns).
    """
    if stretch:
        return side, side
    scale, more = side / max(shape), 0.5 if how == "sam" else 0.0
    return max(1, int(shape[0] * scale + more)), max(1, int(shape[1] * scale + more))


def normalised(image: NDArray[Any], side: int, stretch: bool = False, how: Preprocessing = "ultrasam") -> Tensor:
    """Resize, normalize and pad an image for the network.

    Args:
        image: (h, w) grey or (h, w, 3) RGB uint8.
        side: Side of the network's input, in pixels.
        stretch: As in `fitted`.
        how: As in `fitted`.

    Returns:
        (3, side, side) float32; padded with zeros to the right and below.
    """
    rows, columns = fitted(image.shape[:2], side, stretch, how)
    tensor = standard(_resized(image, rows, columns, how))
    return F.pad(tensor, (0, side - columns, 0, side - rows))


def _resized(image: NDArray[Any], rows: int, columns: int, how: Preprocessing) -> NDArray[np.uint8]:
    """Resize uint8 pixels with bilinear interpolation, antialiased for "sam"."""
    if how == "ultrasam":
        return np.asarray(cv2.resize(image, (columns, rows), interpolation=cv2.INTER_LINEAR), np.uint8)
    from PIL import Image  # used by SAM's own code

    return np.asarray(Image.fromarray(image).resize((columns, rows), Image.Resampling.BILINEAR))


def standard(pixels: NDArray[Any]) -> Tensor:
    """Normalize (h, w) grey or (h, w, 3) RGB uint8 to (3, h, w) float32 by mean and standard deviation."""
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    tensor = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).float()
    return (tensor - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def box_prompts(boxes: Tensor, scale: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Convert box prompts to points of the network's input.

    Args:
        boxes: (P, 4), (x0, y0, x1, y1) in pixels of the image.
        scale: `Encoded.scale`.

    Returns:
        Points (P, 2, 2) float32, (x, y) in pixels of the network's input, and labels (P, 2).
    """
    points = boxes.view(-1, 2, 2) * torch.tensor(scale, dtype=boxes.dtype, device=boxes.device) + 0.5
    labels = torch.tensor([UPPER_LEFT, LOWER_RIGHT], device=boxes.device).expand(len(points), 2)
    return points.float(), labels


def point_prompts(points: Tensor, scale: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Convert positive points to points of the network's input, one per prompt.

    Args:
        points: (P, 2), (x, y) in pixels of the image.
        scale: `Encoded.scale`.

    Returns:
        Points (P, 2, 2) float32, of which the second is padding, and labels (P, 2).
    """
    placed = points * torch.tensor(scale, dtype=points.dtype, device=points.device) + 0.5
    labels = torch.tensor([POSITIVE, PADDING], device=points.device).expand(len(points), 2)
    return torch.stack([placed, torch.zeros_like(placed)], dim=1).float(), labels
