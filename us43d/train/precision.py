"""Mixed precision in bf16 or fp16."""

import torch

__all__ = ["autocast"]

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return autocast for a precision of `TrainConfig` on a device; disabled for float32."""
    return torch.autocast(device.type, _HALF.get(precision, torch.bfloat16), enabled=precision in _HALF)
