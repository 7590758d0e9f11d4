"""Mixed precision in bf16 or fp16."""

import torch

__all__ = ["autocast", "computed"]

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
#: Features of processors that compute with bf16.
_NATIVE = ("avx512_bf16", "amx_bf16")


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return autocast for a precision of `TrainConfig` on a device; disabled for float32."""
    half = _HALF.get(computed(device, precision))
    return torch.autocast(device.type, half or torch.bfloat16, enabled=half is not None)


def computed(device: torch.device, precision: str) -> str:
    """Return the precision in which a device computes: float32 in place of bf16 on a processor that emulates it.

    A processor with AVX2 alone takes 8 times as long in bf16 (docs/benchmarks.md). Versions of PyTorch that do not tell
    the features of the processor compute in float32, too.
    """
    if device.type != "cpu" or precision != "bf16":
        return precision
    features: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return precision if any(features.get(name) for name in _NATIVE) else "float32"
