"""Read image classifiers trained on photographs (ViT of ImageNet), as initial weights of a ViT encoder.

Patches, position embedding and blocks are used. Relative positions start at 0, neck, prompt encoder and decoder at
random, as none of them is in such a file; the class token, the last norm and the classifier are not used.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

from us43d.errors import WeightsError
from us43d.model.config import MEAN, STD, ModelConfig

__all__ = ["encoder_state", "is_vit", "resized", "shape_of"]

_PREFIX = re.compile(r"^(?:module\.)?(?:backbone\.|vit\.)?")
_PATCHES = ("patch_embed.projection", "embeddings.patch_embeddings.projection")
_POSITIONS = ("pos_embed", "embeddings.position_embeddings")
_BLOCK = re.compile(r"(?:encoder\.layer|layers)\.(\d+)\.(.+)\.(weight|bias)$")
#: Modules of a block in mmpretrain and in transformers (before and since version 5) → Meta's names; q, k, v are joined.
_MODULES = {
    "ln1": "norm1", "ln2": "norm2", "attn.qkv": "attn.qkv", "attn.proj": "attn.proj",
    "ffn.layers.0.0": "mlp.lin1", "ffn.layers.1": "mlp.lin2",
    "layernorm_before": "norm1", "layernorm_after": "norm2", "attention.output.dense": "attn.proj",
    "attention.o_proj": "attn.proj", "intermediate.dense": "mlp.lin1", "output.dense": "mlp.lin2",
    "mlp.fc1": "mlp.lin1", "mlp.fc2": "mlp.lin2",
    "attention.attention.query": "q", "attention.attention.key": "k", "attention.attention.value": "v",
    "attention.q_proj": "q", "attention.k_proj": "k", "attention.v_proj": "v",
}  # fmt: skip


def is_vit(raw: Mapping[str, Tensor]) -> bool:
    """Return whether tensors are those of a ViT of mmpretrain or transformers, not of UltraSam's SAM."""
    names = {_PREFIX.sub("", name) for name in raw}
    return "cls_token" in names or "embeddings.cls_token" in names


def encoder_state(raw: Mapping[str, Tensor], path: Any, preprocessing: Mapping[str, Any]) -> dict[str, Tensor]:
    """Convert the tensors of a ViT to Meta's names of the image encoder.

    mmpretrain's ViT expects pixels normalised as SAM's. The patch projection of transformers' is changed so that the
    encoder takes such pixels, with equal results.

    Args:
        raw: Tensors of the file.
        path: The file, for messages.
        preprocessing: Content of preprocessor_config.json, for image_mean and image_std; empty without the file.

    Raises:
        WeightsError: A tensor is missing or of an unexpected shape.
    """
    named = {_PREFIX.sub("", name): value for name, value in raw.items()}
    state: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in named.items():
        if (match := _BLOCK.fullmatch(name)) and match[2] in _MODULES:
            module, block = _MODULES[match[2]], f"image_encoder.blocks.{match[1]}"
            if module in ("q", "k", "v"):
                parts.setdefault(f"{block}.attn.qkv.{match[3]}", {})[module] = value
            else:
                state[f"{block}.{module}.{match[3]}"] = value
    try:
        state |= {name: torch.cat([of[letter] for letter in "qkv"]) for name, of in parts.items()}
        patches = next(name for name in _PATCHES if f"{name}.weight" in named)
        weight, bias = named[f"{patches}.weight"].float(), named[f"{patches}.bias"].float()
        positions = named[next(name for name in _POSITIONS if name in named)]
        side = int((positions.shape[1] - 1) ** 0.5)
        state["image_encoder.pos_embed"] = positions[:, 1:].reshape(1, side, side, positions.shape[2])
        if patches == _PATCHES[1]:
            scale = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3} | dict(preprocessing)  # transformers' defaults
            mean, deviation = (255 * torch.tensor(scale[f"image_{key}"]).float() for key in ("mean", "std"))
            bias = bias + torch.einsum("ochw,c->o", weight, (torch.tensor(MEAN) - mean) / deviation)
            weight = weight * (torch.tensor(STD) / deviation)[:, None, None]
    except (KeyError, StopIteration, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} is not a complete ViT with a square grid of patches: {error!r}.") from error
    return state | {"image_encoder.patch_embed.proj.weight": weight, "image_encoder.patch_embed.proj.bias": bias}


def shape_of(state: Mapping[str, Tensor], heads: Any, path: Any) -> ModelConfig:
    """Return SAM's architecture with the ViT of `encoder_state`.

    Args:
        state: Result of `encoder_state`.
        heads: Attention heads, of the file's configuration; with None, one for 64 channels.
        path: The file, for messages.

    Raises:
        WeightsError: The tensors or the number of heads do not make a ViT.
    """
    try:
        dim, _, patch, _ = state["image_encoder.patch_embed.proj.weight"].shape
        depth = sum(name.endswith("attn.qkv.weight") for name in state)
        hidden = state["image_encoder.blocks.0.mlp.lin1.weight"].shape[0]
        every = max(1, depth // 4)
        return ModelConfig(
            patch_size=patch, embed_dim=dim, depth=depth, heads=max(1, dim // 64) if heads is None else heads,
            mlp_ratio=hidden / dim, global_blocks=tuple(range(every - 1, depth, every)),
        )  # fmt: skip
    except (KeyError, ValueError, ValidationError) as error:
        raise WeightsError(f"{path} is not a ViT that SAM's encoder can start from: {error}.") from error


def resized(state: Mapping[str, Tensor], grid: int) -> dict[str, Tensor]:
    """Resample the position embedding to a grid of grid × grid patches (bicubic)."""
    name = "image_encoder.pos_embed"
    positions = state[name].float().permute(0, 3, 1, 2)
    if positions.shape[-1] != grid:
        positions = F.interpolate(positions, (grid, grid), mode="bicubic", align_corners=False, antialias=False)
    return dict(state) | {name: positions.permute(0, 2, 3, 1).contiguous()}
