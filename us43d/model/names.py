"""Names of the same tensors in other forms: Meta's, UltraSam's mmengine checkpoint, Hugging Face's SamModel."""

import re
from typing import TypeAlias

import torch
from torch import Tensor

from us43d.errors import WeightsError, listed
from us43d.model.config import ModelConfig
from us43d.model.network import UltraSam

__all__ = ["from_huggingface", "from_ultrasam", "to_huggingface", "to_ultrasam"]

State: TypeAlias = dict[str, Tensor]

# (Meta's name, UltraSam's); the decoder's attention, the token table and the prompt encoder need more than a name.
_ULTRASAM = (
    (r"image_encoder\.patch_embed\.proj\.", "backbone.patch_embed.projection."),
    (r"image_encoder\.pos_embed", "backbone.pos_embed"),
    (r"image_encoder\.neck\.", "backbone.channel_reduction."),
    (r"image_encoder\.blocks\.(\d+)\.norm([12])\.", r"backbone.layers.\1.ln\2."),
    (r"image_encoder\.blocks\.(\d+)\.attn\.", r"backbone.layers.\1.attn."),
    (r"image_encoder\.blocks\.(\d+)\.mlp\.lin1\.", r"backbone.layers.\1.ffn.layers.0.0."),
    (r"image_encoder\.blocks\.(\d+)\.mlp\.lin2\.", r"backbone.layers.\1.ffn.layers.1."),
    (r"mask_decoder\.transformer\.layers\.(\d+)\.mlp\.lin1\.", r"decoder.layers.\1.mlp.layers.0.0."),
    (r"mask_decoder\.transformer\.layers\.(\d+)\.mlp\.lin2\.", r"decoder.layers.\1.mlp.layers.1."),
    (r"mask_decoder\.transformer\.norm_final_attn\.", "decoder.post_norm."),
    (r"mask_decoder\.transformer\.", "decoder."),
    (r"mask_decoder\.(output_upscaling|output_hypernetworks_mlps|iou_prediction_head)\.", r"bbox_head.\1."),
)
_LABELS = "prompt_encoder.label_encoder.label_embedding.weight"
# Rows of UltraSam's one table of labels.
_ROWS = {
    "prompt_encoder.no_mask_embed.weight": (0, 1),
    "prompt_encoder.point_embeddings.0.weight": (1, 2),
    "prompt_encoder.point_embeddings.1.weight": (2, 3),
    "prompt_encoder.point_embeddings.2.weight": (3, 4),
    "prompt_encoder.point_embeddings.3.weight": (4, 5),
    "prompt_encoder.not_a_point_embed.weight": (5, 6),
    "mask_decoder.mask_tokens.weight": (6, 10),
    "mask_decoder.iou_token.weight": (10, 11),
}
_HUGGINGFACE = (
    (r"image_encoder\.patch_embed\.proj\.", "vision_encoder.patch_embed.projection."),
    (r"image_encoder\.pos_embed", "vision_encoder.pos_embed"),
    (r"image_encoder\.neck\.0\.", "vision_encoder.neck.conv1."),
    (r"image_encoder\.neck\.1\.", "vision_encoder.neck.layer_norm1."),
    (r"image_encoder\.neck\.2\.", "vision_encoder.neck.conv2."),
    (r"image_encoder\.neck\.3\.", "vision_encoder.neck.layer_norm2."),
    (r"image_encoder\.blocks\.(\d+)\.norm([12])\.", r"vision_encoder.layers.\1.layer_norm\2."),
    (r"image_encoder\.blocks\.", "vision_encoder.layers."),
    (r"prompt_encoder\.point_embeddings\.", "prompt_encoder.point_embed."),
    (r"prompt_encoder\.mask_downscaling\.0\.", "prompt_encoder.mask_embed.conv1."),
    (r"prompt_encoder\.mask_downscaling\.1\.", "prompt_encoder.mask_embed.layer_norm1."),
    (r"prompt_encoder\.mask_downscaling\.3\.", "prompt_encoder.mask_embed.conv2."),
    (r"prompt_encoder\.mask_downscaling\.4\.", "prompt_encoder.mask_embed.layer_norm2."),
    (r"prompt_encoder\.mask_downscaling\.6\.", "prompt_encoder.mask_embed.conv3."),
    (r"(mask_decoder\.transformer\.layers\.\d+)\.norm(\d)\.", r"\1.layer_norm\2."),
    (r"mask_decoder\.transformer\.norm_final_attn\.", "mask_decoder.transformer.layer_norm_final_attn."),
    (r"mask_decoder\.output_upscaling\.0\.", "mask_decoder.upscale_conv1."),
    (r"mask_decoder\.output_upscaling\.1\.", "mask_decoder.upscale_layer_norm."),
    (r"mask_decoder\.output_upscaling\.3\.", "mask_decoder.upscale_conv2."),
    (r"(mask_decoder\.(?:output_hypernetworks_mlps\.\d|iou_prediction_head))\.layers\.0\.", r"\1.proj_in."),
    (r"(mask_decoder\.(?:output_hypernetworks_mlps\.\d|iou_prediction_head))\.layers\.1\.", r"\1.layers.0."),
    (r"(mask_decoder\.(?:output_hypernetworks_mlps\.\d|iou_prediction_head))\.layers\.2\.", r"\1.proj_out."),
)
_GAUSS = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
_HF_GAUSS = ("shared_image_embedding.positional_embedding", "prompt_encoder.shared_embedding.positional_embedding")


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, to in rules:
        if re.match(pattern, name):
            return re.sub(f"^{pattern}", to, name)
    return name


def _skeleton(count: int, depth: int) -> list[str]:
    """List Meta's names for a model with `count` encoder blocks and `depth` decoder layers."""
    config = ModelConfig(
        image_size=16, patch_size=8, embed_dim=8, depth=count, heads=1, global_blocks=(), prompt_dim=16,
        decoder_depth=depth, decoder_mlp=8, iou_hidden=8,
    )  # fmt: skip
    with torch.device("meta"):
        return list(UltraSam(config).state_dict())


def _sizes(raw: State, encoder: str, decoder: str) -> tuple[int, int]:
    def largest(pattern: str) -> int:
        return max((int(m[1]) for name in raw if (m := re.match(pattern, name))), default=0) + 1

    return largest(encoder), largest(decoder)


def _attention(name: str) -> tuple[str, str, str] | None:
    """Split Meta's name of a decoder attention projection into (module, q|k|v, weight|bias); None for other names."""
    match = re.match(r"(mask_decoder\.transformer\..*attn.*)\.([qkv])_proj\.(weight|bias)$", name)
    return (match[1], match[2], match[3]) if match else None


def from_ultrasam(raw: State) -> State:
    """Rename the tensors of UltraSam's mmengine checkpoint. Raises WeightsError for missing or unexpected tensors."""
    state: State = {}
    names = _skeleton(*_sizes(raw, r"backbone\.layers\.(\d+)\.", r"decoder\.layers\.(\d+)\."))
    used = set()

    def take(name: str) -> Tensor:
        if name not in raw:
            raise WeightsError(f"The tensor {name} is missing: the UltraSam file is incomplete.")
        used.add(name)
        return raw[name]

    for name in names:
        if name in _ROWS:
            state[name] = take(_LABELS)[slice(*_ROWS[name])]
        elif (projection := _attention(name)) is not None:
            module = _renamed(projection[0] + ".", _ULTRASAM)
            if projection[2] == "weight":
                state[name] = take(f"{module}attn.{projection[1]}_proj_weight")
            else:
                state[name] = take(f"{module}attn.in_proj_bias").chunk(3)["qkv".index(projection[1])]
        elif name.endswith(("out_proj.weight", "out_proj.bias")):
            module, _, rest = name.rpartition("out_proj.")
            state[name] = take(f"{_renamed(module, _ULTRASAM)}attn.out_proj.{rest}")
        else:
            state[name] = take(_renamed(name, _ULTRASAM))
    if left := raw.keys() - used:
        raise WeightsError(f"{len(left)} tensors of the UltraSam file are unexpected: {listed(sorted(left), 5)}.")
    return {name: value.clone() for name, value in state.items()}


def to_ultrasam(state: State) -> State:
    """Rename Meta's tensors to those of UltraSam's mmengine checkpoint."""
    raw: State = {_LABELS: torch.cat([state[n] for n, _ in sorted(_ROWS.items(), key=lambda item: item[1])])}
    for name, value in state.items():
        if name in _ROWS:
            continue
        if (projection := _attention(name)) is not None:
            module = _renamed(projection[0] + ".", _ULTRASAM)
            if projection[2] == "weight":
                raw[f"{module}attn.{projection[1]}_proj_weight"] = value
            else:
                raw[f"{module}attn.in_proj_bias"] = torch.cat([state[f"{projection[0]}.{x}_proj.bias"] for x in "qkv"])
        elif name.endswith(("out_proj.weight", "out_proj.bias")):
            module, _, rest = name.rpartition("out_proj.")
            raw[f"{_renamed(module, _ULTRASAM)}attn.out_proj.{rest}"] = value
        else:
            raw[_renamed(name, _ULTRASAM)] = value
    return raw


def from_huggingface(raw: State) -> State:
    """Rename the tensors of a SamModel. Raises WeightsError if one is missing."""
    state: State = {}
    depth = r"mask_decoder\.transformer\.layers\.(\d+)\."
    for name in _skeleton(*_sizes(raw, r"vision_encoder\.layers\.(\d+)\.", depth)):
        source = (
            next((n for n in _HF_GAUSS if n in raw), _HF_GAUSS[0]) if name == _GAUSS else _renamed(name, _HUGGINGFACE)
        )
        if source not in raw:
            raise WeightsError(f"The tensor {source} is missing: the SamModel file is incomplete.")
        state[name] = raw[source]
    return state


def to_huggingface(state: State) -> State:
    """Rename Meta's tensors to those of a SamModel."""
    raw = {_renamed(name, _HUGGINGFACE): value for name, value in state.items() if name != _GAUSS}
    return raw | dict.fromkeys(_HF_GAUSS, state[_GAUSS])
