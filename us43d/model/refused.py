"""Remove structures that a click outside refuses, in which the network itself only makes a hole."""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from us43d.model import look
from us43d.model.network import NEGATIVE, POSITIVE

__all__ = ["drop"]


def drop(refined: Tensor, windows: Tensor, places: NDArray[np.float64], labels: Tensor, former: Tensor) -> None:
    """Remove structures that a negative click refuses from masks, in place.

    A connected area of the mask to correct is refused if a negative click is in it and no positive one. Areas of
    the refined mask that lie in it by more than half, and hold no positive click, are removed. A prompt without
    positive clicks keeps all.

    Args:
        refined: (P, s, s) logits of the windows.
        windows: (P, 4).
        places: (P, N, 2), the points in fractions of the frame.
        labels: (P, N) int.
        former: (P, h, h) logits of the whole frame, of the mask to correct.
    """
    kinds = labels.cpu().numpy()
    frame = np.array([0.0, 0.0, 1.0, 1.0])
    for row in np.flatnonzero((kinds == NEGATIVE).any(1) & (kinds == POSITIVE).any(1)):
        positive, negative = (places[row][kinds[row] == kind] for kind in (POSITIVE, NEGATIVE))
        areas = _areas(former[row])
        refused = _labels_at(areas, negative, frame) - _labels_at(areas, positive, frame)
        if not refused:
            continue
        region = torch.from_numpy(np.isin(areas, list(refused)).astype(np.float32))[None, None]
        window = windows[row : row + 1].float().cpu()
        seen = look.sample(region, window, refined.shape[-1])[0, 0].numpy() > 0.5
        parts = _areas(refined[row])
        separate = set(range(1, int(parts.max()) + 1)) - _labels_at(parts, positive, window[0].numpy())
        dropped = [n for n in separate if 2 * np.count_nonzero(seen[parts == n]) > np.count_nonzero(parts == n)]
        refined[row][torch.from_numpy(np.isin(parts, dropped)).to(refined.device)] = look.OUTSIDE


def _areas(logits: Tensor) -> NDArray[np.int32]:
    """Number the connected areas of a mask (h, w) from 1; 0 is outside of it."""
    return np.asarray(cv2.connectedComponents((logits > 0).cpu().numpy().astype(np.uint8))[1], np.int32)


def _labels_at(areas: NDArray[np.int32], places: NDArray[np.float64], window: NDArray[np.float64]) -> set[int]:
    """Return the areas of a window (x0, y0, x1, y1) in which places (N, 2) lie, both in fractions of the frame."""
    columns, rows = np.floor((places - window[:2]) / (window[2:] - window[:2]) * areas.shape[0]).astype(int).T
    within = (np.minimum(columns, rows) >= 0) & (np.maximum(columns, rows) < areas.shape[0])
    return {int(area) for area in areas[rows[within], columns[within]]} - {0}
