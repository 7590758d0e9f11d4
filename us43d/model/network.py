"""The promptable model: image encoder, prompt encoder and mask decoder of SAM (Kirillov et al. 2023) and of UltraSam.

Parameters have the names of Meta's checkpoints. Shapes: B images, P prompted instances, C channels of the embedding,
G = image_size / patch_size the side of the grid, T tokens. Points are (x, y) in pixels of the network's input, the
centre of the first pixel at (0.5, 0.5).
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from us43d.model.config import PRESETS, ModelConfig
from us43d.model.conv import ConvEncoder
from us43d.model.layers import Features, Head, LayerNorm2d, Mlp
from us43d.model.look import SecondLook
from us43d.model.vit import ImageEncoder

__all__ = ["PRESETS", "Decoded", "Features", "ModelConfig", "UltraSam"]

#: Labels of a prompt token: padding, negative and positive point, upper left and lower right corner of a box. A label
#: from STRUCTURE on names a structure: STRUCTURE + its id in the taxonomy; such a token has no position.
PADDING, NEGATIVE, POSITIVE, UPPER_LEFT, LOWER_RIGHT, STRUCTURE = -1, 0, 1, 2, 3, 4


class Decoded(NamedTuple):
    """Output of the decoder for P prompts.

    Attributes:
        logits: (P, M, 4G, 4G) of M masks per prompt.
        iou: (P, M), the predicted IoU.
        presence: (P,), logits of the structure being present; None for a model without structures.
    """

    logits: Tensor
    iou: Tensor
    presence: Tensor | None


# ----------------------------------------------------------------------------------------------------- prompt encoder


class FourierPositions(nn.Module):
    """Random Fourier features of coordinates in 0..1 (Tancik et al. 2020)."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, dim: int, scale: float) -> None:
        super().__init__()
        # In one call, which `weights.Unfilled` skips; arithmetic on the meta device imports torch._dynamo.
        self.register_buffer("positional_encoding_gaussian_matrix", torch.empty(2, dim // 2).normal_(std=scale))

    def forward(self, xy: Tensor) -> Tensor:
        """Encode (x, y) coordinates (…, 2) in 0..1 as (…, dim)."""
        # Always float32: bfloat16 cannot distinguish neighbouring pixels of 1024. Written out, because autocast would
        # compute a matrix product in bfloat16.
        x, y = (2 * xy.float() - 1).unsqueeze(-1).unbind(-2)
        across, down = self.positional_encoding_gaussian_matrix.float()
        angle = 2 * math.pi * (x * across + y * down)
        return torch.cat([angle.sin(), angle.cos()], dim=-1)


class PromptEncoder(nn.Module):
    """SAM's prompt encoder, with an embedding per structure where the model has structures."""

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
        if config.structures:
            self.structure_embeddings = nn.Embedding(config.structures, dim)

    def sparse(self, points: Tensor, labels: Tensor) -> Tensor:
        """Encode points (P, N, 2) with labels (P, N) as tokens (P, N, C): position encoding plus label embedding."""
        code = self.pe_layer(points / self.config.image_size)
        kinds = torch.cat([embedding.weight for embedding in self.point_embeddings])  # type: ignore[misc]
        tokens = code + kinds[labels.clamp(NEGATIVE, LOWER_RIGHT)]
        if self.config.structures:
            named = self.structure_embeddings((labels - STRUCTURE).clamp(min=0))
            tokens = torch.where((labels >= STRUCTURE)[..., None], named, tokens)
        return torch.where((labels == PADDING)[..., None], self.not_a_point_embed.weight[0], tokens)

    def dense(self, mask: Tensor | None) -> Tensor:
        """Encode mask logits (P, 1, 4G, 4G) as (P, C, G, G); without a mask (1, C, 1, 1)."""
        if mask is None:
            return self.no_mask_embed.weight[0].view(1, -1, 1, 1)
        return self.mask_downscaling(mask)

    def grid(self) -> Tensor:
        """Compute the position encoding (G·G, C) of the embedding's cells."""
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
        self.scale = (inner // heads) ** -0.5
        self.q_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(dim, inner)
        self.v_proj = nn.Linear(dim, inner)
        self.out_proj = nn.Linear(inner, dim)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        """Attend from q to k. keep: (P, 1, 1, T) bool, keys to attend to; all if None."""
        q, k, v = self.per_head(self.q_proj(q)), self.per_head(self.k_proj(k)), self.per_head(self.v_proj(v))
        out = F.scaled_dot_product_attention(q, k, v, keep)
        return self.out_proj(out.transpose(1, 2).flatten(2))

    def few(self, tokens: Tensor) -> bool:
        """Return whether the tokens (P, T, C) are so few that projecting them on the image's channels is cheaper.

        Scores are then products of the image with projected tokens, and the image itself is not projected: the same
        values but for rounding. For inference in float32, where rounding is small, on a CPU, where it was measured; an
        exported graph has no branches.
        """
        exact = tokens.dtype == torch.float32 and not torch.is_autocast_enabled("cpu") and tokens.device.type == "cpu"
        plain = torch.is_grad_enabled() or torch.compiler.is_exporting()
        return exact and not plain and self.heads * tokens.shape[1] <= self.k_proj.out_features

    def per_head(self, x: Tensor) -> Tensor:
        """Split (P, T, heads · D) into (P, heads, T, D)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class TokensToImage(DecoderAttention):
    """Attention from few tokens to the many cells of the image."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        if not self.few(q):
            return super().forward(q, k, v, keep)
        # The bias of k_proj adds the same to all scores of a token, which softmax ignores.
        queries = self.per_head(self.q_proj(q) * self.scale) @ self.k_proj.weight.unflatten(0, (self.heads, -1))
        weights = (queries.flatten(1, 2) @ k.transpose(1, 2)).softmax(-1)  # (P, heads · T, G·G)
        values = (weights @ v).unflatten(1, (self.heads, -1))
        out = values @ self.v_proj.weight.unflatten(0, (self.heads, -1)).transpose(1, 2)
        return self.out_proj(out.transpose(1, 2).flatten(2) + self.v_proj.bias)


class ImageToTokens(DecoderAttention):
    """Attention from the many cells of the image to few tokens."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        if not self.few(k):
            return super().forward(q, k, v, keep)
        keys = self.per_head(self.k_proj(k) * self.scale)
        queries = keys @ self.q_proj.weight.unflatten(0, (self.heads, -1))
        offset = keys @ self.q_proj.bias.view(self.heads, -1, 1)
        scores = torch.baddbmm(offset.flatten(1, 2), queries.flatten(1, 2), q.transpose(1, 2))
        scores = scores.unflatten(1, (self.heads, -1))  # (P, heads, T, G·G)
        if keep is not None:
            scores = scores.masked_fill(~keep.transpose(2, 3), -math.inf)
        values = self.per_head(self.v_proj(v)) @ self.out_proj.weight.unflatten(1, (self.heads, -1)).permute(1, 2, 0)
        weights = scores.softmax(2).flatten(1, 2).transpose(1, 2)
        return torch.baddbmm(self.out_proj.bias, weights, values.flatten(1, 2))


class DecoderBlock(nn.Module):
    """Attention among tokens, from tokens to image, MLP, attention from image to tokens."""

    def __init__(self, config: ModelConfig, first: bool) -> None:
        super().__init__()
        dim, heads, eps = config.prompt_dim, config.decoder_heads, config.decoder_eps
        self.first, self.residual = first, 2.0 if config.mlp_residual == "double" else 1.0
        self.self_attn = DecoderAttention(dim, heads)
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.cross_attn_token_to_image = TokensToImage(dim, heads, 2)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, config.decoder_mlp, F.relu, config.decoder_dropout)
        self.norm3 = nn.LayerNorm(dim, eps=eps)
        self.norm4 = nn.LayerNorm(dim, eps=eps)
        self.cross_attn_image_to_token = ImageToTokens(dim, heads, 2)

    def forward(
        self, q: Tensor, k: Tensor, q_code: Tensor, k_code: Tensor, keep: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        q = self.self_attn(q, q, q, keep) if self.first else q + self.self_attn(q + q_code, q + q_code, q, keep)
        q = self.norm1(q)
        q = self.norm2(q + self.cross_attn_token_to_image(q + q_code, k + k_code, k))
        q = self.norm3(self.residual * q + self.mlp(q))
        k = self.norm4(k + self.cross_attn_image_to_token(k + k_code, q + q_code, q, keep))
        return q, k


class TwoWayTransformer(nn.Module):
    """SAM's two-way transformer between tokens and image."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderBlock(config, n == 0) for n in range(config.decoder_depth))
        self.final_attn_token_to_image = TokensToImage(config.prompt_dim, config.decoder_heads, 2)
        self.norm_final_attn = nn.LayerNorm(config.prompt_dim, eps=config.decoder_eps)

    def forward(self, image: Tensor, image_code: Tensor, tokens: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
        """Update tokens (P, T, C) and image (P, G·G, C); shapes are kept. keep: tokens to attend to; all if None."""
        q, k = tokens, image
        for layer in self.layers:
            q, k = layer(q, k, tokens, image_code, keep)
        q = self.norm_final_attn(q + self.final_attn_token_to_image(q + tokens, k + image_code, k))
        return q, k


class MaskDecoder(nn.Module):
    """SAM's mask decoder, with a presence token where the model has structures."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.prompt_dim
        self.transformer = TwoWayTransformer(config)
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(config.masks, dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 4, 2, 2), LayerNorm2d(dim // 4, config.encoder_eps), nn.GELU(),
            nn.ConvTranspose2d(dim // 4, dim // 8, 2, 2), nn.GELU(),
        )  # fmt: skip
        self.output_hypernetworks_mlps = nn.ModuleList(Head(dim, dim, dim // 8) for _ in range(config.masks))
        self.iou_prediction_head = Head(dim, config.iou_hidden, config.masks)
        if config.structures:
            self.presence_token = nn.Embedding(1, dim)
            self.presence_head = Head(dim, config.iou_hidden, 1)
        self.config = config

    def forward(
        self,
        image: Tensor,
        image_code: Tensor,
        prompts: Tensor,
        fine: tuple[Tensor, ...] = (),
        padding: Tensor | None = None,
    ) -> Decoded:
        """Decode prompts on images.

        Args:
            image: (P, C, G, G), the embedding of each prompt's image.
            image_code: (G·G, C), position encoding of the cells.
            prompts: (P, N, C), tokens.
            fine: `Features.fine` of each prompt's image.
            padding: (P, N) bool, tokens to ignore; None to use all.
        """
        count, dim, side, _ = image.shape
        masks = self.config.masks
        tables = [self.iou_token.weight, self.mask_tokens.weight]
        if self.config.structures:
            tables.append(self.presence_token.weight)
        own = torch.cat(tables).expand(count, -1, -1)
        tokens = torch.cat([own.to(prompts.dtype), prompts], dim=1)
        keep = None if padding is None else F.pad(~padding, (own.shape[1], 0), value=True)[:, None, None]
        q, k = self.transformer(image.flatten(2).transpose(1, 2), image_code, tokens, keep)
        grid = k.transpose(1, 2).reshape(count, dim, side, side)
        if fine:
            larger, norm, act, largest, last_act = self.output_upscaling
            up = last_act(largest(act(norm(larger(grid) + fine[0]))) + fine[1])
        else:
            up = self.output_upscaling(grid)
        weights = torch.stack([mlp(q[:, 1 + n]) for n, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1)
        logits = (weights @ up.flatten(2)).view(count, masks, *up.shape[2:])
        presence = self.presence_head(q[:, 1 + masks])[:, 0] if self.config.structures else None
        return Decoded(logits, self.iou_prediction_head(q[:, 0]), presence)


class UltraSam(nn.Module):
    """The complete model: call `encode` once per image and `decode` for its prompts.

    Attributes:
        config: The architecture.
        image_encoder: ViT or convolutional encoder.
        prompt_encoder: Encoder of boxes, points, structures and masks.
        mask_decoder: Decoder of masks and predicted IoU.
        second_look: Refinement on a crop; None for a model without it.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.image_encoder: ImageEncoder | ConvEncoder = (
            ConvEncoder(config) if config.encoder == "conv" else ImageEncoder(config)
        )
        self.prompt_encoder = PromptEncoder(config)
        self.mask_decoder = MaskDecoder(config)
        self.second_look = SecondLook(config) if config.look else None
        if config.encoder == "conv":
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def random(cls, config: ModelConfig, seed: int) -> "UltraSam":
        """Create a model with random weights, to train from scratch.

        Initialization is PyTorch's with two exceptions, which a small model would otherwise need most of its training
        to learn. The decoder's cross-attention starts with equal, orthogonal projections of queries and keys, so that a
        token attends to the place its position encoding denotes. The encoder's position embedding starts as the same
        encoding, so that features carry their position.

        Args:
            config: The architecture.
            seed: Equal seeds give equal weights.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = cls(config)
            if isinstance(model.image_encoder, ImageEncoder):
                turn = nn.init.orthogonal_(torch.empty(config.prompt_dim, config.embed_dim))
                embedding = model.image_encoder.pos_embed
                embedding.data.copy_((model.prompt_encoder.grid() @ turn).view_as(embedding))
            for name, module in model.mask_decoder.named_modules():
                if isinstance(module, DecoderAttention) and "self_attn" not in name:
                    nn.init.orthogonal_(module.q_proj.weight)
                    module.k_proj.weight.data.copy_(module.q_proj.weight)
        return model

    def encode(self, images: Tensor) -> Features:
        """Encode images.

        Args:
            images: (B, 3, S, S) normalized RGB, S = image_size.
        """
        if isinstance(self.image_encoder, ConvEncoder):
            return self.image_encoder(images.contiguous(memory_format=torch.channels_last))
        return Features(self.image_encoder(images))

    def decode(
        self,
        features: Features,
        points: Tensor,
        labels: Tensor,
        mask: Tensor | None = None,
        code: Tensor | None = None,
    ) -> Decoded:
        """Predict the masks of P prompts.

        Args:
            features: Of each prompt's image (`Features.take`, `Features.expand`).
            points: (P, N, 2), (x, y) in pixels of the network's input.
            labels: (P, N) int: PADDING, NEGATIVE, POSITIVE, UPPER_LEFT, LOWER_RIGHT, or STRUCTURE + id.
            mask: (P, 1, 4G, 4G), logits of an earlier pass.
            code: `PromptEncoder.grid`, where it is computed once for many prompts.

        Returns:
            M = `ModelConfig.masks` masks per prompt; of SAM's 4, the first is for unambiguous prompts.
        """
        image = features.embedding + self.prompt_encoder.dense(mask)
        code = (self.prompt_encoder.grid() if code is None else code).to(image.dtype)
        tokens = self.prompt_encoder.sparse(points, labels).to(image.dtype)
        # SAM attends to its padding tokens; a model with any number of prompt tokens must not.
        padding = labels == PADDING if self.config.structures else None
        return self.mask_decoder(image, code, tokens, features.fine, padding)
