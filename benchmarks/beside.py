"""What the benchmarks of the model share: the same weights in us43d and in transformers, turns, memory, a table."""

import ctypes
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from us43d.model import flops, weights
from us43d.model.network import PRESETS, Decoded, Features, ModelConfig, UltraSam

OURS, SDPA, EAGER = "us43d", "transformers sdpa", "transformers eager"


class Stock(nn.Module):
    """transformers' SamModel with our two methods, for one box an image."""

    def __init__(self, folder: Path, attention: str) -> None:
        super().__init__()
        import transformers  # takes seconds, and not every benchmark compares with it

        self.sam = transformers.SamModel.from_pretrained(folder, attn_implementation=attention)

    def encode(self, images: Tensor) -> Features:
        return Features(self.sam.vision_encoder(images).last_hidden_state)

    def decode(self, features: Features, points: Tensor, labels: Tensor, mask: Tensor | None = None) -> Decoded:
        """It computes all four masks and returns three; the first of them is used as mask 0."""
        boxes = points.reshape(-1, 1, 4)
        image = features.embedding
        output = self.sam(image_embeddings=image, input_boxes=boxes, input_masks=mask, multimask_output=True)
        masks, iou = output.pred_masks[:, 0], output.iou_scores[:, 0]
        return Decoded(torch.cat([masks[:, :1], masks], 1), torch.cat([iou[:, :1], iou], 1), None)


def shape(name: str, size: int | None) -> ModelConfig:
    """A preset, for images of another size if one is given."""
    config = PRESETS[name]
    return ModelConfig.model_validate(config.model_dump() | ({"image_size": size} if size else {}))


def models(config: ModelConfig, device: str, names: list[str]) -> dict[str, Any]:
    """The same random weights in each."""
    if names:
        import transformers

        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
    ours = UltraSam.random(config, 0)
    for block in ours.image_encoder.blocks:  # they begin as zeros, which would hide a difference
        for table in (block.attn.rel_pos_h, block.attn.rel_pos_w):
            nn.init.trunc_normal_(table, std=0.1)
    named: dict[str, Any] = {OURS: ours}
    with tempfile.TemporaryDirectory() as folder:
        weights.export(weights.Loaded(ours.state_dict(), config, "us43d"), Path(folder) / "sam", "huggingface")
        for name in names:
            named[name] = Stock(Path(folder) / "sam", name.split()[-1])
    return {name: model.to(device) for name, model in named.items()}


class Turns:
    """Seconds and peak memory of several ways of doing the same, which take turns."""

    def __init__(self, device: str) -> None:
        self.on_gpu = device.startswith("cuda")
        self.seconds: dict[str, list[float]] = {}
        self.bytes: dict[str, int] = {}

    def run(self, ways: dict[str, Callable[[], object]], rounds: int) -> None:
        """A first round measures memory; then so many are timed."""
        for name, way in ways.items():
            with self._memory(name):
                way()
        self.seconds = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                self._wait()
                start_time = time.perf_counter()
                way()
                self._wait()
                self.seconds[name].append(time.perf_counter() - start_time)

    def _wait(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize()

    @contextmanager
    def _memory(self, name: str) -> Iterator[None]:
        """Peak memory beyond that held before: with gradients, without weights."""
        if self.on_gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            yield
            self.bytes[name] = torch.cuda.max_memory_allocated() - before
        else:
            ctypes.CDLL(None).malloc_trim(0)  # what is free goes back to the system, else it would hide what is used
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins at what is held now
            before = _status("VmRSS")
            yield
            self.bytes[name] = _status("VmHWM") - before

    def table(self, images: int, operations: float, peak: float | None) -> str:
        """Rows of a Markdown table; ratios are the medians of the rounds' ratios to ours. operations: of one way."""
        lines = [
            "| way | seconds | images/s | its time to ours | peak memory | its memory to ours | MFU |",
            "|---|---|---|---|---|---|---|",
        ]
        for name, seconds in self.seconds.items():
            middle = statistics.median(seconds)
            used = f"{operations / middle / peak:.1%}" if peak else "–"
            lines.append(
                f"| {name} | {middle:.3g} | {images / middle:.3g} | {self.ratio(name):.2f} "
                f"| {self.bytes[name] / 1e9:.2f} GB | {self.bytes[name] / self.bytes[OURS]:.2f} | {used} |"
            )
        return "\n".join(lines)

    def ratio(self, name: str) -> float:
        return statistics.median(a / b for a, b in zip(self.seconds[name], self.seconds[OURS], strict=True))


def _status(key: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def peak(device: str, precision: str) -> float | None:
    """Operations per second to which MFU is related: those of bf16 on a GPU that is known."""
    return flops.peak(torch.cuda.get_device_name(device)) if device != "cpu" and precision == "bf16" else None


def place(device: str) -> str:
    if device != "cpu":
        return torch.cuda.get_device_name(device)
    load = Path("/proc/loadavg").read_text().split()[0]
    return f"CPU, {torch.get_num_threads()} thread(s), load average {load}"
