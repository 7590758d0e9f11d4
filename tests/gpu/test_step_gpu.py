"""A training step on a GPU never makes the host wait for it."""

from collections.abc import Iterator

import pytest
import torch

from us43d.model.network import ModelConfig, UltraSam
from us43d.train.config import TrainConfig
from us43d.train.data import Batch
from us43d.train.losses import Objective

pytestmark = pytest.mark.gpu


@pytest.fixture
def _no_waiting() -> Iterator[None]:
    """Make every wait an error that PyTorch itself raises."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device is here")
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.usefixtures("_no_waiting")
def test_a_step_does_not_wait() -> None:
    model_config = ModelConfig(image_size=256, embed_dim=128, heads=2, depth=2, global_blocks=(1,))
    config = TrainConfig(model=model_config, batch=2, micro_batch=2)
    model = UltraSam.random(model_config, 0).cuda().train()
    objective = Objective(model, config)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    small = model_config.mask_size
    targets = torch.zeros(2, small, small, dtype=torch.uint8)
    targets[:, small // 4 : small // 2, small // 4 : small // 2] = 255
    batch = Batch(
        images=torch.randint(0, 256, (2, 256, 256, 3), dtype=torch.uint8),
        inner=torch.full((2, 2), 256),
        targets=targets,
        points=torch.tensor([[64.0, 64.0], [128.0, 128.0]]).expand(2, 2, 2).contiguous(),
        labels=torch.tensor([2, 3]).expand(2, 2).contiguous(),
        image_of=torch.arange(2),
        target_of=torch.arange(2),
    )
    pinned = Batch(*(each.pin_memory() for each in batch))

    def step() -> torch.Tensor:
        loss, sums = objective(pinned.to(torch.device("cuda")))
        (loss / 2).backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return torch.cat([sums.double(), norm.double()[None]])

    step()  # kernels are compiled and chosen by the clock, which waits
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    sums = step()
    torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(sums).all()
