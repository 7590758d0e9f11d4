"""The second look: a small U-Net on a crop around the prompt, at a higher resolution than the whole frame allows.

Its input is the crop, the prompts as maps, the mask of the first look and, after corrective clicks, the mask they
correct (following FocalClick, Chen et al. 2022). P prompts, s = look_size. Windows are (x0, y0, x1, y1) in fractions of
the frame: 0 its left or upper edge, 1 its right or lower one; a window may reach beyond the frame, which is black
there.
"""

from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from us43d.model.config import ModelConfig
from us43d.model.layers import Norm

__all__ = ["MARGIN", "OUTSIDE", "SEEN", "SecondLook", "crop", "paste", "placed", "sample", "window"]

#: Sides of the window in sides of the box it is made for.
MARGIN = 1.25
#: Least side of a window, in fractions of the frame.
LEAST = 1 / 64
#: Logit outside of a window: background.
OUTSIDE = -8.0
#: Width of a click in the maps, in sides of the window.
CLICK = 0.03
#: A mask to correct whose logits are all below this counts as absent.
GIVEN = -99.0
#: Channels of the input: red, green, blue; box, clicks inside, clicks outside; mask of the first look, mask to correct.
SEEN = 8


def window(box: NDArray[Any] | tuple[float, ...], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Compute the window of a box.

    Args:
        box: (x0, y0, x1, y1) in pixels of the image, as in COCO: x1 = x0 + width.
        shape: (rows, columns) of the image.

    Returns:
        (4,) in fractions of the frame.
    """
    size = np.array([shape[1], shape[0]], np.float64)
    low, high = np.asarray(box, np.float64).reshape(2, 2) / size
    half = MARGIN * np.maximum(high - low, LEAST) / 2
    centre = (low + high) / 2
    return np.concatenate([centre - half, centre + half])


def crop(pixels: NDArray[Any], of: NDArray[Any], side: int) -> NDArray[np.uint8]:
    """Cut a window out of an image and resize it to side × side.

    Args:
        pixels: (rows, columns) or (rows, columns, channels) uint8.
        of: (4,) window.
        side: of the result, in pixels.

    Returns:
        (side, side) or (side, side, channels) uint8; averaged where it is reduced, black outside of the image.
    """
    rows, columns = pixels.shape[:2]
    x0, y0, x1, y1 = np.asarray(of, np.float64) * (columns, rows, columns, rows)
    across, down = (x1 - x0) / side, (y1 - y0) / side
    # A pixel more on each side, which the interpolation of the outermost pixels needs.
    left, top = max(int(np.floor(x0)) - 1, 0), max(int(np.floor(y0)) - 1, 0)
    inside = pixels[top : max(int(np.ceil(y1)) + 1, top + 1), left : max(int(np.ceil(x1)) + 1, left + 1)]
    if 0 in inside.shape:
        return np.zeros((side, side, *pixels.shape[2:]), np.uint8)
    shift = np.zeros(2)
    if max(across, down) >= 1.5:  # reduced: without averaging, speckle would alias
        kernel = max(1, round(across)), max(1, round(down))
        inside = cv2.blur(inside, kernel)
        # The mean of an even number of pixels belongs half a pixel before the one OpenCV writes it to.
        shift = 0.5 * np.array([length % 2 == 0 for length in kernel])
    # OpenCV counts from the centre of the first pixel.
    first = np.array([x0 - left + across / 2, y0 - top + down / 2]) - 0.5 + shift
    matrix = np.array([[across, 0, first[0]], [0, down, first[1]]])
    out = cv2.warpAffine(inside, matrix, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return np.asarray(out, np.uint8)


def sample(maps: Tensor, windows: Tensor, side: int) -> Tensor:
    """Read maps of the whole frame (P, 1, h, w) inside of windows (P, 4) → (P, 1, side, side), 0 outside."""
    at = (torch.arange(side, device=maps.device, dtype=windows.dtype) + 0.5) / side
    low, high = windows[:, None, :2], windows[:, None, 2:]
    x, y = (2 * (low + (high - low) * at[None, :, None]) - 1).unbind(-1)
    grid = torch.stack([x[:, None, :].expand(-1, side, -1), y[:, :, None].expand(-1, -1, side)], dim=-1)
    return F.grid_sample(maps, grid.to(maps.dtype), align_corners=False)


def paste(logits: Tensor, windows: Tensor, side: int) -> Tensor:
    """Put logits of windows (P, s, s) into the whole frame (P, side, side); OUTSIDE beyond the window."""
    at = (torch.arange(side, device=logits.device, dtype=windows.dtype) + 0.5) / side
    low, high = windows[:, None, :2], windows[:, None, 2:]
    x, y = (2 * (at[None, :, None] - low) / (high - low) - 1).unbind(-1)
    grid = torch.stack([x[:, None, :].expand(-1, side, -1), y[:, :, None].expand(-1, -1, side)], dim=-1)
    return F.grid_sample(logits[:, None] - OUTSIDE, grid.to(logits.dtype), align_corners=False)[:, 0] + OUTSIDE


def placed(logits: NDArray[np.float32], window: NDArray[Any], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Interpolate logits (s, s) of a window to a mask (h, w) of the image; background outside of the window."""
    rows, columns = shape
    x0, y0, x1, y1 = np.asarray(window, np.float64) * (columns, rows, columns, rows)
    left, top = max(int(np.floor(x0)), 0), max(int(np.floor(y0)), 0)
    right, bottom = min(int(np.ceil(x1)), columns), min(int(np.ceil(y1)), rows)
    mask = np.zeros(shape, bool)
    if right > left and bottom > top:
        across, down = logits.shape[1] / (x1 - x0), logits.shape[0] / (y1 - y0)
        matrix = np.array([[across, 0, (left + 0.5 - x0) * across - 0.5], [0, down, (top + 0.5 - y0) * down - 0.5]])
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        inside = cv2.warpAffine(
            logits, matrix, (right - left, bottom - top), flags=how, borderMode=cv2.BORDER_REPLICATE
        )
        mask[top:bottom, left:right] = inside > 0
    return mask


class Block(nn.Sequential):
    """Two 3×3 convolutions, each with instance normalisation and leaky ReLU, or group normalisation and ReLU."""

    def __init__(self, into: int, out: int, instance: bool) -> None:
        def after() -> tuple[nn.Module, nn.Module]:
            return (Norm(out, out), nn.LeakyReLU(0.1, True)) if instance else (Norm(out), nn.ReLU(True))

        super().__init__(
            nn.Conv2d(into, out, 3, padding=1, bias=False), *after(),
            nn.Conv2d(out, out, 3, padding=1, bias=False), *after(),
        )  # fmt: skip


class Refiner(nn.Module):
    """A U-Net (Ronneberger et al. 2015) from the crop's full resolution down."""

    def __init__(self, widths: tuple[int, ...], *, instance: bool) -> None:
        super().__init__()
        self.stem = Block(SEEN, widths[0], instance)
        self.down = nn.ModuleList(Block(a, b, instance) for a, b in pairwise(widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in pairwise(widths))
        self.join = nn.ModuleList(Block(2 * a, a, instance) for a in widths[:-1])
        self.mask = nn.Conv2d(widths[0], 1, 1)
        self.iou = nn.Sequential(nn.Linear(widths[-1], widths[-1]), nn.ReLU(), nn.Linear(widths[-1], 1))

    def forward(self, shown: Tensor) -> tuple[Tensor, Tensor]:
        """Compute logits (P, s, s) and predicted IoU (P,) from crops with their maps (P, SEEN, s, s)."""
        x = self.stem(shown)
        levels = [x]
        for block in self.down:
            x = block(F.max_pool2d(x, 2))
            levels.append(x)
        iou = self.iou(x.mean((2, 3)))[:, 0]
        for n in range(len(self.join) - 1, -1, -1):
            x = self.join[n](torch.cat([self.up[n](x), levels[n]], 1))
        return self.mask(x)[:, 0], iou


class SecondLook(nn.Module):
    """Two refiners: one for all prompts, one for boxes alone, whose result is the mean of both."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.side, self.frame = config.look_size, config.image_size
        self.boxes, self.others = Refiner(config.look, instance=True), Refiner(config.look, instance=False)

    def forward(
        self,
        crops: Tensor,
        windows: Tensor,
        points: Tensor,
        labels: Tensor,
        first: Tensor,
        former: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Refine the masks of P prompts.

        Args:
            crops: (P, 3, s, s), normalised as the encoder's input.
            windows: (P, 4) of the crops.
            points: (P, N, 2) in pixels of the network's input, as `UltraSam.decode` takes them.
            labels: (P, N) int.
            first: (P, h, w) logits of the whole frame, of the first look. Hidden from the network where a box is given:
                on training images they are better than on new ones, and it learns to trust them too much.
            former: (P, h, w) logits of the whole frame, of the mask that clicks correct.

        Returns:
            Logits (P, s, s) of the windows, and predicted IoU (P,).
        """
        shown = self.shown(crops, windows, points, labels, first, former)
        alone = (labels == 2).any(1) & ~((labels == 0) | (labels == 1)).any(1)
        if former is not None:
            alone = alone & (former.flatten(1).amax(1) < GIVEN)
        logits, iou = self.others(shown)
        if torch.compiler.is_exporting():  # a graph has no branches
            more, rated = self.boxes(shown)
        else:
            (rows,) = alone.nonzero(as_tuple=True)
            if not len(rows):
                return logits, iou
            results = zip((logits, iou), self.boxes(shown[rows]), strict=True)
            more, rated = (torch.zeros_like(all_rows).index_copy(0, rows, some) for all_rows, some in results)
        mean = (logits + more) / 2, (iou + rated) / 2
        return torch.where(alone[:, None, None], mean[0], logits), torch.where(alone, mean[1], iou)

    def shown(
        self, crops: Tensor, windows: Tensor, points: Tensor, labels: Tensor, first: Tensor, former: Tensor | None
    ) -> Tensor:
        """Compute the input (P, SEEN, s, s) of the refiners; arguments as those of `forward`."""
        boxed = (labels == 2).any(1)[:, None, None, None]
        seen = [sample(first[:, None].sigmoid(), windows, self.side) * ~boxed]
        seen.append(
            torch.zeros_like(seen[0]) if former is None else sample(former[:, None].sigmoid(), windows, self.side)
        )
        maps = (*self._maps(windows, points, labels, boxed), *seen)
        shown = torch.cat([crops, *(values.to(crops.dtype) for values in maps)], 1)
        return shown.contiguous(memory_format=torch.channels_last)

    def _maps(self, windows: Tensor, points: Tensor, labels: Tensor, boxed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Draw prompts as maps (P, 1, s, s) of the windows: inside of the box, positive clicks, negative clicks.

        boxed: (P, 1, 1, 1), whether a box is given.
        """
        side = self.side
        low, high = windows[:, None, :2], windows[:, None, 2:]
        places = ((points - 0.5) / self.frame - low) / (high - low)  # (P, N, 2) in sides of the window
        at = (torch.arange(side, device=points.device, dtype=places.dtype) + 0.5) / side

        bells = torch.exp(-0.5 * ((at - places[..., None]) / CLICK).square())  # (P, N, 2, s)
        blobs = bells[:, :, 1, :, None] * bells[:, :, 0, None, :]  # (P, N, s, s)
        clicks = [(blobs * (labels == kind)[..., None, None]).amax(1, keepdim=True) for kind in (1, 0)]

        corners = [torch.where((labels == kind)[..., None], places, 0).sum(1) for kind in (2, 3)]  # (P, 2) each
        soft = [(1.0 * (at - corners[0][..., None]) * side + 0.5).clamp(0, 1),
                ((corners[1][..., None] - at) * side + 0.5).clamp(0, 1)]  # fmt: skip
        inside = soft[0] * soft[1]  # (P, 2, s)
        box = (inside[:, 1, :, None] * inside[:, 0, None, :])[:, None] * boxed
        return box, clicks[0], clicks[1]
