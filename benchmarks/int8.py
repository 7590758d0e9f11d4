"""Cost of dynamic INT8 quantisation of the ONNX graphs: Dice on validation images, size and time.

    python benchmarks/int8.py CORPUS IMAGES [--weights FOLDER]

Exports the weights with and without `--int8` and runs both on one thread of onnxruntime.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from us43d.harmonize.corpus import Corpus
from us43d.model import weights
from us43d.model.network import Decoded, Features, UltraSam
from us43d.model.onnx import export_onnx
from us43d.train.config import PRESETS
from us43d.train.validate import held_out, summary, validate


class Session:
    """An onnxruntime session on one thread that takes and gives tensors."""

    def __init__(self, file: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self.seconds, self.calls = 0.0, 0

    def __call__(self, **inputs: Tensor) -> list[Tensor]:
        feed = {name: value.numpy() for name, value in inputs.items()}
        began = time.perf_counter()
        outputs = self.session.run(None, feed)
        self.seconds, self.calls = self.seconds + time.perf_counter() - began, self.calls + 1
        return [torch.from_numpy(np.asarray(value)) for value in outputs]


class Graphs(UltraSam):
    """The model's methods, computed by ONNX graphs."""

    def use(self, folder: Path) -> "Graphs":
        self.sessions = {file.stem: Session(file) for file in folder.glob("*.onnx")}
        look = self.sessions.get("look")
        if look is not None:
            self.second_look = Look(look)  # type: ignore[assignment]
        return self

    def encode(self, images: Tensor) -> Features:
        embedding, *fine = self.sessions["encoder"](image=images)
        return Features(embedding, tuple(fine))

    def decode(self, features: Features, points: Tensor, labels: Tensor, mask: Tensor | None, *_: Tensor) -> Decoded:
        # What else the predictor hands over, the position code, is in the graph.
        low = self.config.mask_size
        names = [node.name for node in self.sessions["decoder"].session.get_inputs()][: 1 + len(features.fine)]
        shown = dict(zip(names, (features.embedding[:1], *(level[:1] for level in features.fine)), strict=True))
        given = torch.zeros(1) if mask is None else torch.ones(1)
        fed = torch.zeros(len(points), 1, low, low) if mask is None else mask
        outputs = self.sessions["decoder"](**shown, points=points, labels=labels, mask=fed, has_mask=given)
        return Decoded(outputs[0], outputs[1], outputs[2] if len(outputs) > 2 else None)


class Look(nn.Module):
    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session

    def forward(
        self,
        crops: Tensor,
        windows: Tensor,
        points: Tensor,
        labels: Tensor,
        first: Tensor,
        former: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        fed = torch.full((len(crops), 8, 8), -100.0) if former is None else former
        logits, iou = self.session(crops=crops, windows=windows, points=points, labels=labels, first=first, former=fed)
        return logits, iou


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--weights", type=Path, default=weights.shipped())
    options = parser.parse_args()
    torch.set_num_threads(1)
    corpus = Corpus.open(options.corpus, options.images)
    loaded = weights.load(options.weights)
    images = held_out(corpus, PRESETS["small"])
    print("| graphs | box Dice (macro) | point Dice (macro) | MB | encoder ms | decoder ms | look ms |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in ("float32", "int8"):
            export_onnx(loaded, folder / name, options.weights, int8=name == "int8")
            model: Any = Graphs(loaded.config).use(folder / name)
            means = summary(validate(model, corpus, images, torch.device("cpu"), "float32"), corpus)["macro"]
            size = sum(file.stat().st_size for file in (folder / name).glob("*.onnx")) / 1e6
            graphs = [model.sessions[graph] for graph in ("encoder", "decoder", "look")]
            times = " | ".join(f"{1000 * graph.seconds / graph.calls:.1f}" for graph in graphs)
            print(
                f"| {name} | {means['box_dice']:.4f} | {means['point_dice']:.4f} | {size:.1f} | {times} |", flush=True
            )


if __name__ == "__main__":
    main()
