"""Count the arithmetic operations of a model and the peak of a device, for the model FLOPs utilization (MFU).

A multiplication and an addition count as two operations. Norms, activations and interpolations are not counted (< 1 %).
"""

from itertools import pairwise

from us43d.model.config import ModelConfig
from us43d.model.look import SEEN

__all__ = ["decoder", "encoder", "look", "peak", "step"]

#: Dense bf16 operations per second: NVIDIA's data sheets, sparsity excepted. The first name that fits counts.
_PEAK = (
    ("H100 PCIe", 756e12), ("H100 NVL", 835e12), ("GH200", 989e12), ("H100", 989e12), ("H200", 989e12),
    ("A100", 312e12), ("L40S", 362e12), ("L4", 121e12), ("B200", 2250e12),
)  # fmt: skip


def peak(device_name: str) -> float | None:
    """Return the dense bf16 operations per second of a GPU; None for a GPU that is not in the table."""
    return next((value for name, value in _PEAK if name in device_name), None)


def encoder(config: ModelConfig) -> float:
    """Of one image's forward pass. Windows are counted with their padding, as they are computed."""
    if config.encoder == "conv":
        return _conv_encoder(config)
    grid, dim = config.grid, config.embed_dim
    cells = grid * grid
    total = 2.0 * cells * 3 * config.patch_size**2 * dim
    for block in range(config.depth):
        side = grid if block in config.global_blocks else config.window
        tokens = (-(-grid // side) * side) ** 2
        total += 2 * tokens * dim * 4 * dim  # qkv, proj
        total += 4 * tokens * side * side * dim + 4 * tokens * side * dim  # attention, relative positions
        total += 4 * cells * dim * int(dim * config.mlp_ratio)
    return total + 2 * cells * (dim * config.prompt_dim + 9 * config.prompt_dim**2)


def _conv_encoder(config: ModelConfig) -> float:
    widths, dim = config.widths, config.prompt_dim
    total, side, into = 0.0, config.image_size, 3
    cells = []
    for out, blocks in zip(widths, config.blocks, strict=True):
        side //= 2
        cells.append(side * side)
        total += 2 * 9 * side * side * (into * out + 2 * blocks * out * out)
        into = out
    total += 2 * (cells[3] * (widths[3] * dim + 9 * dim * dim) + cells[4] * widths[4] * dim)
    return total + 2 * (cells[2] * widths[2] * (dim // 4) + cells[1] * widths[1] * (dim // 8))


def look(config: ModelConfig) -> float:
    """Count the operations of the second look's forward pass on one crop; 0 for a model without it."""
    if not config.look:
        return 0.0
    widths, cells = config.look, config.look_size**2
    total = 2.0 * 9 * cells * (SEEN * widths[0] + widths[0] ** 2) + 2 * cells * widths[0]
    for narrow, wide in pairwise(widths):
        total += 2 * 9 * cells * 3 * narrow**2 + 2 * cells * wide * narrow  # join and up
        cells //= 4
        total += 2 * 9 * cells * (narrow * wide + wide**2)  # down
    return total + 2 * widths[-1] * (widths[-1] + 1)


def decoder(config: ModelConfig, prompts: int = 2) -> float:
    """Count the operations of the decoder's forward pass for one prompt of `prompts` tokens."""
    tokens = prompts + 1 + config.masks + (config.structures > 0)
    cells, dim = config.grid**2, config.prompt_dim
    half = dim // 2
    across = 4.0 * (tokens + cells) * dim * half + 4 * tokens * cells * half
    layer = 8 * tokens * dim * dim + 4 * tokens**2 * dim + 4 * tokens * dim * config.decoder_mlp + 2 * across
    up = (
        2 * cells * dim * (dim // 4) * 4
        + 2 * 4 * cells * (dim // 4) * (dim // 8) * 4
        + 2 * 16 * cells * config.masks * (dim // 8)
    )
    heads = 2 * config.masks * (2 * dim * dim + dim * (dim // 8)) + 2 * (
        dim * config.iou_hidden + config.iou_hidden**2 + config.masks * config.iou_hidden
    )
    if config.structures:
        heads += 2 * (dim * config.iou_hidden + config.iou_hidden**2 + config.iou_hidden)
    return config.decoder_depth * layer + across + up + heads


def step(config: ModelConfig, images: int, prompts: int) -> float:
    """Count the operations of a training step with two decoder passes; a backward pass costs twice its forward pass."""
    return 3 * (images * encoder(config) + prompts * (2 * decoder(config) + look(config)))
