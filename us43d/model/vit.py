"""SAM's image encoder: a ViT with windowed attention, global attention in some blocks, relative positions.

Parameters have the names of Meta's checkpoints. Shapes: B images, G = image_size / patch_size the side of the grid, C
channels of the embedding.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from us43d.model.attention import biased_attention
from us43d.model.config import ModelConfig
from us43d.model.layers import LayerNorm2d, Mlp

__all__ = ["EncoderAttention", "ImageEncoder"]


class EncoderAttention(nn.Module):
    """Self-attention over a grid with decomposed relative positions (Li et al. 2022, "MViTv2")."""

    def __init__(self, dim: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, dim // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, dim // heads))

    def forward(self, x: Tensor) -> Tensor:
        """Attend within (B, H, W, dim); the shape is kept."""
        batch, height, width, dim = x.shape
        qkv = self.qkv(x).view(batch, height * width, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        out = biased_attention(q, k, v, _relative(self.rel_pos_h, height), _relative(self.rel_pos_w, width))
        return self.proj(out.transpose(1, 2).reshape(batch, height, width, dim))


def _relative(table: Tensor, side: int) -> Tensor:
    """Arrange a table as (side, side, d): [i, k] is the embedding of offset i − k. Other table sizes are resampled."""
    if table.shape[0] != 2 * side - 1:
        table = F.interpolate(table.T[None], size=2 * side - 1, mode="linear")[0].T
    at = torch.arange(side, device=table.device)
    return table[at[:, None] - at[None, :] + side - 1]


class EncoderBlock(nn.Module):
    """Transformer block. window: side of the attention windows, in patches; 0 for global attention."""

    def __init__(self, config: ModelConfig, window: int) -> None:
        super().__init__()
        dim = config.embed_dim
        self.window = window
        self.norm1 = nn.LayerNorm(dim, eps=config.encoder_eps)
        self.attn = EncoderAttention(dim, config.heads, window or config.grid)
        self.norm2 = nn.LayerNorm(dim, eps=config.encoder_eps)
        self.mlp = Mlp(dim, int(dim * config.mlp_ratio), F.gelu)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        y = self._windowed(y) if self.window else self.attn(y)
        x = x + y
        return x + self.mlp(self.norm2(x))

    def _windowed(self, x: Tensor) -> Tensor:
        batch, height, width, dim = x.shape
        side = self.window
        down, right = -height % side, -width % side
        x = F.pad(x, (0, 0, 0, right, 0, down))
        rows, cols = (height + down) // side, (width + right) // side
        x = x.view(batch, rows, side, cols, side, dim).transpose(2, 3).reshape(-1, side, side, dim)
        x = self.attn(x)
        x = x.view(batch, rows, cols, side, side, dim).transpose(2, 3).reshape(batch, rows * side, cols * side, dim)
        return x[:, :height, :width]


class PatchEmbed(nn.Module):
    """Project patches of an image: (B, 3, S, S) → (B, G, G, embed_dim)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.embed_dim, config.patch_size, config.patch_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).permute(0, 2, 3, 1)


class ImageEncoder(nn.Module):
    """SAM's ViT with its neck."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(config)
        self.pos_embed = nn.Parameter(torch.zeros(1, config.grid, config.grid, config.embed_dim))
        self.blocks = nn.ModuleList(
            EncoderBlock(config, 0 if n in config.global_blocks else config.window) for n in range(config.depth)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(config.embed_dim, config.prompt_dim, 1, bias=False),
            LayerNorm2d(config.prompt_dim, config.encoder_eps),
            nn.Conv2d(config.prompt_dim, config.prompt_dim, 3, padding=1, bias=False),
            LayerNorm2d(config.prompt_dim, config.encoder_eps),
        )
        self.checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        """Encode (B, 3, S, S) normalized RGB as (B, C, G, G)."""
        x = self.patch_embed(x) + self.pos_embed
        for block in self.blocks:
            if self.checkpointing and self.training:
                x = torch.utils.checkpoint.checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return self.neck(x.permute(0, 3, 1, 2))
