"""The optimizer of a run: AdamW with weight decay on weight matrices only."""

from collections.abc import Sequence

import torch
from torch import nn

from us43d.train.config import TrainConfig

__all__ = ["adamw", "without_decay"]

#: Tables of absolute and relative positions in the image encoder.
_POSITIONS = frozenset({"pos_embed", "rel_pos_h", "rel_pos_w"})


def without_decay(model: nn.Module) -> set[str]:
    """Name the parameters without weight decay: biases, scales of norms, embeddings, position tables."""
    names = set()
    for place, module in model.named_modules():
        for name, value in module.named_parameters(recurse=False):
            if value.ndim <= 1 or isinstance(module, nn.Embedding) or name in _POSITIONS:
                names.add(f"{place}.{name}" if place else name)
    return names


def adamw(
    model: nn.Module, rates: Sequence[tuple[float, Sequence[nn.Parameter]]], config: TrainConfig, *, fused: bool
) -> torch.optim.AdamW:
    """Create the optimizer.

    Args:
        model: Its parameter names decide which parameters decay.
        rates: (factor of the learning rate, its parameters), from `Task.rates`.
        config: Learning rate and weight decay.
        fused: Use the fused kernel of a GPU.

    Returns:
        AdamW with up to two groups per rate; each group has its `factor`.
    """
    names = without_decay(model)
    spared = {id(value) for name, value in model.named_parameters() if name in names}
    groups = []
    for factor, parameters in rates:
        for decay in (True, False):
            chosen = [value for value in parameters if (id(value) not in spared) is decay]
            if chosen:
                groups.append(
                    {"params": chosen, "factor": factor, "weight_decay": config.weight_decay if decay else 0.0}
                )
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=fused)
