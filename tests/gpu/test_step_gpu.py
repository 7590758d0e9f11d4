"""A training step on a GPU never makes the host wait for it."""

from collections.abc import Callable, Iterator

import pytest
import torch

from us43d.model.network import ModelConfig, UltraSam
from us43d.train.config import TrainConfig
from us43d.train.data import Batch
from us43d.train.losses import Objective


@pytest.fixture
def _no_waiting() -> Iterator[None]:
    """Make every wait an error that PyTorch itself raises."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device is here")
    yield
    torch.cuda.set_sync_debug_mode("default")


def stepper(device: str) -> Callable[[], torch.Tensor]:
    """A function that takes a training step on two images with a box, and returns the sums of its losses."""
    model_config = ModelConfig(image_size=256, embed_dim=128, heads=2, depth=2, global_blocks=(1,))
    config = TrainConfig(model=model_config, batch=2, micro_batch=2)
    model = UltraSam.random(model_config, 0).to(device).train()
    objective = Objective(model, config)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    small = model_config.mask_size
    targets = torch.zeros(2, small, small, dtype=torch.uint8)
    targets[:, small // 4 : small // 2, small // 4 : small // 2] = 255
    batch = Batch.without_look(
        torch.randint(0, 256, (2, 256, 256, 3), dtype=torch.uint8),
        torch.full((2, 2), 256),
        targets,
        torch.tensor([[64.0, 64.0], [128.0, 128.0]]).expand(2, 2, 2).contiguous(),
        torch.tensor([2, 3]).expand(2, 2).contiguous(),
        torch.arange(2),
    )
    if device == "cuda":
        batch = Batch(*(tensor.pin_memory() for tensor in batch))

    def step() -> torch.Tensor:
        loss, sums = objective(batch.to(torch.device(device)))
        (loss / 2).backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return torch.cat([sums.double(), norm.double()[None]])

    return step


def test_the_step_is_one_of_today() -> None:
    """What the test below takes to a GPU runs on a CPU, so that it does not fall behind the code unseen."""
    sums = stepper("cpu")()
    assert torch.isfinite(sums).all()
    assert sums[0] > 0


@pytest.mark.gpu
@pytest.mark.usefixtures("_no_waiting")
def test_a_step_does_not_wait() -> None:
    step = stepper("cuda")
    step()  # kernels are compiled and chosen by the clock, which waits
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    sums = step()
    torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(sums).all()
