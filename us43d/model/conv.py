"""A small convolutional image encoder: residual blocks at strides 2 to 32, features of three strides for the decoder.

It needs about a hundredth of the operations of ViT-B at 1024. Group normalization makes results independent of the
other images of a batch and of the mode.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from us43d.model.config import ModelConfig
from us43d.model.layers import Features, Norm

__all__ = ["ConvEncoder"]


class Down(nn.Sequential):
    """Halve the resolution: 3×3 convolution of stride 2, normalised, ReLU."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__(nn.Conv2d(into, out, 3, 2, padding=1, bias=False), Norm(out), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """Two 3×3 convolutions beside an identity (He et al. 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1 = Norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = Norm(width)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(x + self.norm2(self.conv2(y)), inplace=True)


class ConvEncoder(nn.Module):
    """Residual network with features of strides 4, 8 and 16."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        widths, dim = config.widths, config.prompt_dim
        self.stages = nn.ModuleList(
            nn.Sequential(Down(into, out), *(Residual(out) for _ in range(count)))
            for into, out, count in zip((3, *widths), widths, config.blocks, strict=False)
        )
        self.lateral = nn.Conv2d(widths[3], dim, 1, bias=False)
        self.top = nn.Conv2d(widths[4], dim, 1, bias=False)
        self.neck = nn.Sequential(Norm(dim), nn.ReLU(inplace=True), nn.Conv2d(dim, dim, 3, padding=1, bias=False),
                                  Norm(dim))  # fmt: skip
        # The mask decoder adds these while upscaling (Ravi et al. 2024, "SAM 2").
        self.fine8 = nn.Conv2d(widths[2], dim // 4, 1)
        self.fine4 = nn.Conv2d(widths[1], dim // 8, 1)
        self.checkpointing = False

    def levels(self, x: Tensor) -> list[Tensor]:
        """Compute the features of (B, 3, S, S) normalised RGB at strides 4, 8, 16 and 32: (B, widths[n], S/s, S/s)."""
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        return levels[1:]

    def forward(self, x: Tensor) -> Features:
        """Encode (B, 3, S, S) normalised RGB to an embedding (B, C, S/16, S/16) and features of strides 8 and 4."""
        four, eight, sixteen, last = self.levels(x)
        joined = self.lateral(sixteen) + F.interpolate(self.top(last), scale_factor=2.0, mode="nearest")
        return Features(self.neck(joined), (self.fine8(eight), self.fine4(four)))
