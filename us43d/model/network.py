"""The promptable model: SAM's image encoder, prompt encoder and mask decoder (Kirillov et al. 2023), and UltraSam's.

Parameters carry the names of Meta's checkpoints. Shapes: B images, P prompted instances, C channels of the embedding,
G = image_size / patch_size the side of the grid, T tokens. Points are (x, y) in pixels of the network's input, the
centre of the first pixel at (0.5, 0.5).
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from us43d.model.attention import biased_attention

__all__ = ["PRESETS", "ModelConfig", "UltraSam"]

#: Labels of a prompt token: padding, negative and positive point, upper left and lower right corner of a box.
PADDING, NEGATIVE, POSITIVE, UPPER_LEFT, LOWER_RIGHT = -1, 0, 1, 2, 3


class ModelConfig(BaseModel):
    """All that shapes the model; stored with the weights.

    mlp_residual: "single" is Meta's and MedSAM's decoder, q = norm(q + mlp(q)); "double" is UltraSam's, which adds the
    residual twice, q = norm(2q + mlp(q)).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: int = Field(default=1024, gt=0, le=16384)
    patch_size: int = Field(default=16, gt=0, le=1024)
    embed_dim: int = Field(default=768, gt=0, le=16384)
    depth: int = Field(default=12, gt=0, le=256)
    heads: int = Field(default=12, gt=0, le=1024)
    mlp_ratio: float = Field(default=4.0, gt=0, le=64)
    window: int = Field(default=14, gt=0, le=1024)
    global_blocks: tuple[int, ...] = (2, 5, 8, 11)
    prompt_dim: int = Field(default=256, gt=0, le=16384)
    decoder_depth: int = Field(default=2, gt=0, le=256)
    decoder_heads: int = Field(default=8, gt=0, le=1024)
    decoder_mlp: int = Field(default=2048, gt=0, le=131072)
    decoder_dropout: float = Field(default=0.0, ge=0, lt=1)
    iou_hidden: int = Field(default=256, gt=0, le=16384)
    mlp_residual: Literal["single", "double"] = "single"
    encoder_eps: float = 1e-6
    decoder_eps: float = 1e-5
    fourier_scale: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _divisible(self) -> "ModelConfig":
        for whole, part in (
            ("image_size", "patch_size"), ("embed_dim", "heads"), ("prompt_dim", "decoder_heads"),
        ):  # fmt: skip
            if getattr(self, whole) % getattr(self, part):
                raise ValueError(f"{whole} {getattr(self, whole)} is no multiple of {part} {getattr(self, part)}")
        if self.prompt_dim % 8 or (self.prompt_dim // 2) % self.decoder_heads:
            raise ValueError(f"prompt_dim {self.prompt_dim} does not fit {self.decoder_heads} heads of half its width")
        if outside := [block for block in self.global_blocks if not 0 <= block < self.depth]:
            raise ValueError(f"global_blocks {outside} lie outside of the {self.depth} blocks")
        return self

    @property
    def grid(self) -> int:
        """Side of the embedding's grid."""
        return self.image_size // self.patch_size

    @property
    def mask_size(self) -> int:
        """Side of the low-resolution logits and of mask prompts."""
        return 4 * self.grid


#: ViT-B, L and H are Meta's; tiny has the same parts at a size that learns on two CPU cores in minutes.
PRESETS: dict[str, ModelConfig] = {
    "vit_b": ModelConfig(),
    "vit_l": ModelConfig(embed_dim=1024, depth=24, heads=16, global_blocks=(5, 11, 17, 23)),
    "vit_h": ModelConfig(embed_dim=1280, depth=32, heads=16, global_blocks=(7, 15, 23, 31)),
    "ultrasam": ModelConfig(mlp_residual="double", decoder_dropout=0.1),
    "tiny": ModelConfig(
        image_size=128,
        patch_size=8,
        embed_dim=96,
        depth=4,
        heads=3,
        window=8,
        global_blocks=(1, 3),
        prompt_dim=64,
        decoder_heads=4,
        decoder_mlp=256,
        iou_hidden=64,
        fourier_scale=0.5,
    ),
}


class LayerNorm2d(nn.Module):
    """Layer normalisation over the channels of (B, C, H, W)."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).square().mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(variance + self.eps)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class Mlp(nn.Module):
    """Two linear layers with an activation between, dropout after each."""

    def __init__(self, dim: int, hidden: int, act: Callable[[Tensor], Tensor], dropout: float = 0.0) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, hidden)
        self.lin2 = nn.Linear(hidden, dim)
        self.act, self.dropout = act, dropout

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(self.act(self.lin1(x)), self.dropout, self.training)
        return F.dropout(self.lin2(x), self.dropout, self.training)


class Head(nn.Module):
    """Three linear layers with ReLU between."""

    def __init__(self, dim: int, hidden: int, out: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(dim, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, out)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


# ------------------------------------------------------------------------------------------------------ image encoder


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
        """(B, H, W, dim) → the same."""
        batch, height, width, dim = x.shape
        qkv = self.qkv(x).view(batch, height * width, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        out = biased_attention(q, k, v, _relative(self.rel_pos_h, height), _relative(self.rel_pos_w, width))
        return self.proj(out.transpose(1, 2).reshape(batch, height, width, dim))


def _relative(table: Tensor, side: int) -> Tensor:
    """(side, side, d): row i, column k is the embedding of the offset i − k; a table of another size is resampled."""
    if table.shape[0] != 2 * side - 1:
        table = F.interpolate(table.T[None], size=2 * side - 1, mode="linear")[0].T
    at = torch.arange(side, device=table.device)
    return table[at[:, None] - at[None, :] + side - 1]


class EncoderBlock(nn.Module):
    def __init__(self, config: ModelConfig, window: int) -> None:
        """window: side of the windows attention stays in; 0 attends over the whole grid."""
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
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.embed_dim, config.patch_size, config.patch_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).permute(0, 2, 3, 1)


class ImageEncoder(nn.Module):
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
        """(B, 3, S, S) normalised RGB → (B, C, G, G)."""
        x = self.patch_embed(x) + self.pos_embed
        for block in self.blocks:
            if self.checkpointing and self.training:
                x = torch.utils.checkpoint.checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return self.neck(x.permute(0, 3, 1, 2))


# ----------------------------------------------------------------------------------------------------- prompt encoder


class FourierPositions(nn.Module):
    """Random Fourier features of coordinates in 0..1 (Tancik et al. 2020)."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, dim: int, scale: float) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", scale * torch.randn(2, dim // 2))

    def forward(self, xy: Tensor) -> Tensor:
        """(…, 2) → (…, dim)."""
        # In float32 whatever the model's precision, as bfloat16 tells no two neighbouring pixels of 1024 apart; written
        # out, because autocast would compute a matrix product in bfloat16.
        x, y = (2 * xy.float() - 1).unsqueeze(-1).unbind(-2)
        across, down = self.positional_encoding_gaussian_matrix.float()
        angle = 2 * math.pi * (x * across + y * down)
        return torch.cat([angle.sin(), angle.cos()], dim=-1)


class PromptEncoder(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim, eps = config.prompt_dim, config.encoder_eps
        self.config = config
        self.pe_layer = FourierPositions(dim, config.fourier_scale)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, dim) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, 4, 2, 2), LayerNorm2d(4, eps), nn.GELU(),
            nn.Conv2d(4, 16, 2, 2), LayerNorm2d(16, eps), nn.GELU(),
            nn.Conv2d(16, dim, 1),
        )  # fmt: skip
        self.no_mask_embed = nn.Embedding(1, dim)

    def sparse(self, points: Tensor, labels: Tensor) -> Tensor:
        """points (P, N, 2), labels (P, N) → tokens (P, N, C): position code plus what kind of point it is."""
        code = self.pe_layer(points / self.config.image_size)
        kinds = torch.cat([each.weight for each in self.point_embeddings])  # type: ignore[misc]
        tokens = code + kinds[labels.clamp(min=0)]
        return torch.where((labels == PADDING)[..., None], self.not_a_point_embed.weight[0], tokens)

    def dense(self, mask: Tensor | None) -> Tensor:
        """Mask logits (P, 1, 4G, 4G) → (P, C, G, G); without a mask (1, C, 1, 1)."""
        if mask is None:
            return self.no_mask_embed.weight[0].view(1, -1, 1, 1)
        return self.mask_downscaling(mask)

    def grid(self) -> Tensor:
        """Position code of the embedding's cells, (G·G, C)."""
        side = self.config.grid
        at = (torch.arange(side, device=self.no_mask_embed.weight.device, dtype=torch.float32) + 0.5) / side
        y, x = torch.meshgrid(at, at, indexing="ij")
        return self.pe_layer(torch.stack([x, y], dim=-1).view(-1, 2))


# ------------------------------------------------------------------------------------------------------- mask decoder


class DecoderAttention(nn.Module):
    """Attention between tokens and image, in a narrower space where downsample > 1."""

    def __init__(self, dim: int, heads: int, downsample: int = 1) -> None:
        super().__init__()
        self.heads, inner = heads, dim // downsample
        self.q_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(dim, inner)
        self.v_proj = nn.Linear(dim, inner)
        self.out_proj = nn.Linear(inner, dim)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        def split(x: Tensor) -> Tensor:
            return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        out = F.scaled_dot_product_attention(split(self.q_proj(q)), split(self.k_proj(k)), split(self.v_proj(v)))
        return self.out_proj(out.transpose(1, 2).flatten(2))


class DecoderBlock(nn.Module):
    """Tokens among themselves, tokens to image, MLP, image to tokens."""

    def __init__(self, config: ModelConfig, first: bool) -> None:
        super().__init__()
        dim, heads, eps = config.prompt_dim, config.decoder_heads, config.decoder_eps
        self.first, self.residual = first, 2.0 if config.mlp_residual == "double" else 1.0
        self.self_attn = DecoderAttention(dim, heads)
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.cross_attn_token_to_image = DecoderAttention(dim, heads, 2)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, config.decoder_mlp, F.relu, config.decoder_dropout)
        self.norm3 = nn.LayerNorm(dim, eps=eps)
        self.norm4 = nn.LayerNorm(dim, eps=eps)
        self.cross_attn_image_to_token = DecoderAttention(dim, heads, 2)

    def forward(self, q: Tensor, k: Tensor, q_code: Tensor, k_code: Tensor) -> tuple[Tensor, Tensor]:
        q = self.self_attn(q, q, q) if self.first else q + self.self_attn(q + q_code, q + q_code, q)
        q = self.norm1(q)
        q = self.norm2(q + self.cross_attn_token_to_image(q + q_code, k + k_code, k))
        q = self.norm3(self.residual * q + self.mlp(q))
        k = self.norm4(k + self.cross_attn_image_to_token(k + k_code, q + q_code, q))
        return q, k


class TwoWayTransformer(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderBlock(config, n == 0) for n in range(config.decoder_depth))
        self.final_attn_token_to_image = DecoderAttention(config.prompt_dim, config.decoder_heads, 2)
        self.norm_final_attn = nn.LayerNorm(config.prompt_dim, eps=config.decoder_eps)

    def forward(self, image: Tensor, image_code: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """image (P, G·G, C), tokens (P, T, C) → tokens, image of the same shapes."""
        q, k = tokens, image
        for layer in self.layers:
            q, k = layer(q, k, tokens, image_code)
        q = self.norm_final_attn(q + self.final_attn_token_to_image(q + tokens, k + image_code, k))
        return q, k


class MaskDecoder(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.prompt_dim
        self.transformer = TwoWayTransformer(config)
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(4, dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 4, 2, 2), LayerNorm2d(dim // 4, config.encoder_eps), nn.GELU(),
            nn.ConvTranspose2d(dim // 4, dim // 8, 2, 2), nn.GELU(),
        )  # fmt: skip
        self.output_hypernetworks_mlps = nn.ModuleList(Head(dim, dim, dim // 8) for _ in range(4))
        self.iou_prediction_head = Head(dim, config.iou_hidden, 4)

    def forward(self, image: Tensor, image_code: Tensor, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """image (P, C, G, G), prompts (P, N, C) → logits (P, 4, 4G, 4G), predicted IoU (P, 4)."""
        count, dim, side, _ = image.shape
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight]).expand(count, -1, -1)
        tokens = torch.cat([own.to(prompts.dtype), prompts], dim=1)
        q, k = self.transformer(image.flatten(2).transpose(1, 2), image_code, tokens)
        up = self.output_upscaling(k.transpose(1, 2).reshape(count, dim, side, side))
        weights = torch.stack([mlp(q[:, 1 + n]) for n, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1)
        logits = (weights @ up.flatten(2)).view(count, 4, *up.shape[2:])
        return logits, self.iou_prediction_head(q[:, 0])


class UltraSam(nn.Module):
    """The whole model. `encode` once per image, `decode` for every prompt."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.image_encoder = ImageEncoder(config)
        self.prompt_encoder = PromptEncoder(config)
        self.mask_decoder = MaskDecoder(config)

    @classmethod
    def random(cls, config: ModelConfig, seed: int) -> "UltraSam":
        """Random weights to train from scratch, always the same for a seed.

        PyTorch's own initialisation, but for what a small model would otherwise spend most of its training to find: the
        decoder's cross-attention starts with equal, orthogonal projections of queries and keys, so that a token looks
        where its position code points; and the encoder's position embedding starts as that same code, so that the
        features of a place tell where it is.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = cls(config)
            turn = nn.init.orthogonal_(torch.empty(config.prompt_dim, config.embed_dim))
            embedding = model.image_encoder.pos_embed
            embedding.data.copy_((model.prompt_encoder.grid() @ turn).view_as(embedding))
            for name, module in model.mask_decoder.named_modules():
                if isinstance(module, DecoderAttention) and "self_attn" not in name:
                    nn.init.orthogonal_(module.q_proj.weight)
                    module.k_proj.weight.data.copy_(module.q_proj.weight)
        return model

    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) normalised RGB → embedding (B, C, G, G)."""
        return self.image_encoder(images)

    def decode(
        self, embedding: Tensor, points: Tensor, labels: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Masks for P prompts.

        embedding: (P, C, G, G), the image's for each prompt. points: (P, N, 2). labels: (P, N) int, -1 padding, 0
        negative, 1 positive, 2 and 3 the corners of a box. mask: (P, 1, 4G, 4G) logits of a former pass.
        Returns logits (P, 4, 4G, 4G) and predicted IoU (P, 4); the first is for unambiguous prompts.
        """
        image = embedding + self.prompt_encoder.dense(mask)
        code = self.prompt_encoder.grid().to(image.dtype)
        logits, iou = self.mask_decoder(image, code, self.prompt_encoder.sparse(points, labels).to(image.dtype))
        return logits, iou
