"""MONAI's U-Nets: whole for the structure of every pixel; the plain one's encoder alone for classes of images."""

from pathlib import Path

import torch
from torch import Tensor, nn

from us43d.errors import UsageError, WeightsError
from us43d.model.network import ModelConfig
from us43d.train.config import TrainConfig
from us43d.train.tasks import images

__all__ = ["UNetEncoder", "initial", "network"]

#: Channels by level, MONAI's defaults; the last of the last convolutions.
_WIDTHS = (32, 32, 64, 128, 256, 32)
_PARTS = ("conv_0", "down_1", "down_2", "down_3", "down_4")


def network(out: int, kind: str = "unet", side: int = 0) -> nn.Module:
    """Create a U-Net (B, 3, S, S) → (B, out, S, S).

    Args:
        out: Number of channels of the result.
        kind: "unet" for MONAI's BasicUNet, "dynunet" for its DynUNet, the network of nnU-Net.
        side: S, which decides the levels of a dynunet by the rules of nnU-Net in two dimensions: halved as long as 4
            pixels are left (and S is divisible), 32 channels doubled up to 512 (Isensee et al. 2021, supplement).

    Raises:
        UsageError: MONAI is missing.
    """
    try:
        from monai.networks.nets.basic_unet import BasicUNet
        from monai.networks.nets.dynunet import DynUNet
    except ImportError as error:
        raise UsageError(f"The network {kind} needs MONAI.", next="pip install 'us43d[tasks]'") from error
    if kind == "unet":
        return BasicUNet(2, 3, out, _WIDTHS)
    halved = max(n for n in range(1, 9) if n == 1 or (side % 2**n == 0 and side >> n >= 4))
    strides = [1] + halved * [2]
    return DynUNet(2, 3, out, [3] * len(strides), strides, strides[1:],
                   filters=[min(32 * 2**level, 512) for level in range(len(strides))])  # fmt: skip


class UNetEncoder(nn.Module):
    """(B, 3, S, S) normalised RGB → (B, width, S/16, S/16).

    Args:
        config: Only the size of the input is used.
    """

    width = _WIDTHS[4]

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        whole = network(1)
        self.levels = nn.ModuleDict({name: getattr(whole, name) for name in _PARTS})

    def forward(self, x: Tensor) -> Tensor:
        for name in _PARTS:
            x = self.levels[name](x)
        return x


def initial(config: TrainConfig, init: Path | None) -> UNetEncoder:
    """Create the encoder with which a run begins: random, or that of a U-Net trained for `semantic`.

    Raises:
        UsageError: MONAI is missing.
        WeightsError: The weights are not those of such a U-Net.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        encoder = UNetEncoder(config.model)
    if init is not None:
        record, state = images.read(init)
        if (record.name, record.network) != ("semantic", "unet"):
            raise WeightsError(
                f"{init} are weights of the task {record.name}, not of a U-Net that begins a classification.",
                next="us43d train --task semantic --set network=unet",
            )
        names = {name: f"unet.{name.removeprefix('levels.')}" for name in encoder.state_dict()}
        images.fit(encoder, {own: state[name] for own, name in names.items() if name in state}, init)
    if config.frozen:
        encoder.requires_grad_(False)
    return encoder
