"""The processes of a training run: several under torchrun, one otherwise."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from us43d.errors import ConfigError

__all__ = ["Team", "assembled"]


@dataclass(frozen=True)
class Team:
    """Processes of a run.

    Attributes:
        rank: Number of this process, from 0; process 0 writes.
        world: Number of processes.
        device: Device of this process.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    @property
    def on_gpu(self) -> bool:
        """Whether the device is an NVIDIA GPU."""
        return self.device.type == "cuda"

    @property
    def precise(self) -> torch.dtype:
        """Data type of sums on the device; Apple's GPUs do not support float64."""
        return torch.float32 if self.device.type == "mps" else torch.float64

    def sums(self, values: Sequence[float]) -> list[float]:
        """Sum numbers of the host over all processes, without waiting for a GPU."""
        return [float(value) for value in self.summed(torch.tensor(values, dtype=torch.float64)).tolist()]

    def summed(self, values: Tensor) -> Tensor:
        """Sum a tensor over all processes, on its device and in place; the host does not wait for a GPU."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def gathered(self, mine: Any) -> list[Any]:
        """Collect an object from each process, ordered by rank."""
        if self.world == 1:
            return [mine]
        out = [None] * self.world
        dist.all_gather_object(out, mine)
        return out


@contextlib.contextmanager
def assembled(device: str) -> Iterator[Team]:
    """Join the processes of a run, as given by torchrun's variables: NCCL between GPUs, Gloo between CPUs.

    Args:
        device: "cpu", "cuda", "cuda:N" or "mps".

    Yields:
        The team.

    Raises:
        ConfigError: The device does not exist.
    """
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if device.startswith("cuda"):
        if device == "cuda" or world > 1:
            device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        count = torch.cuda.device_count()
        if int(device.partition(":")[2]) >= count:
            raise ConfigError(f"Device {device} not found: PyTorch finds {count} GPUs.", next="us43d doctor")
        torch.cuda.set_device(device)
    if world == 1:
        yield Team(0, 1, torch.device(device))
        return
    # Numbers on the host are summed with Gloo, so that the host does not wait for the GPU.
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Team(rank, world, torch.device(device))
    finally:
        dist.destroy_process_group()
