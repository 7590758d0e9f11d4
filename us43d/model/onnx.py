"""Weights as ONNX: an encoder run once per image, a decoder run for every prompt, and the second look.

ONNX knows no absent input. The decoder's mask is switched by `has_mask`, as in SAM's own export; without a mask to
correct, `former` of the second look is filled with −100, whose sigmoid is 0.
"""

import json
import logging
import tempfile
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from us43d import atomic
from us43d.errors import UsageError
from us43d.model.config import MEAN, STD
from us43d.model.credits import carried
from us43d.model.look import MARGIN
from us43d.model.network import Features, UltraSam
from us43d.model.weights import CONFIG, Loaded

__all__ = ["export_onnx"]

#: First opset with GroupNormalization as PyTorch computes it is 21; older runtimes read 18, where it is decomposed.
OPSET = 18
#: Bytes of weights from which they lie in a file beside the graph: a protobuf ends at 2 GB.
BESIDE = 1_900_000_000
#: Warnings of PyTorch's exporter that do not concern the graphs: start of the message as a pattern, category.
HARMLESS: tuple[tuple[str, type[Warning]], ...] = (
    (r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning),  # raised by PyTorch's own code
    ("# ONNX model has different number of inputs", UserWarning),  # the names of axes; they are dynamic all the same
    ("# The axis name: .* will not be used", UserWarning),  # two inputs share an axis, as they should
)


class _Encoder(nn.Module):
    def __init__(self, model: UltraSam) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        features = self.model.encode(image)
        return (features.embedding, *features.fine)


class _Decoder(nn.Module):
    def __init__(self, model: UltraSam) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, embedding: Tensor, fine: list[Tensor], points: Tensor, labels: Tensor, mask: Tensor, given: Tensor
    ) -> tuple[Tensor, ...]:
        """given: (1,), 1 if the mask counts, else 0."""
        features = Features(embedding, tuple(fine)).expand(points.shape[0])
        encoder = self.model.prompt_encoder
        # `decode` adds the code of "no mask", which a mask takes the place of.
        masked = features.embedding + given * (encoder.dense(mask) - encoder.dense(None))
        decoded = self.model.decode(Features(masked, features.fine), points, labels)
        return tuple(value for value in decoded if value is not None)


class _Look(nn.Module):
    def __init__(self, model: UltraSam) -> None:
        super().__init__()
        self.look = model.second_look

    def forward(
        self, crops: Tensor, windows: Tensor, points: Tensor, labels: Tensor, first: Tensor, former: Tensor
    ) -> tuple[Tensor, Tensor]:
        assert self.look is not None
        return self.look(crops, windows, points, labels, first, former)


def export_onnx(
    loaded: Loaded, path: Path, source: Path, public: str | None = None, *, int8: bool = False
) -> tuple[str, ...]:
    """Write encoder.onnx, decoder.onnx, look.onnx for models with a second look, and what goes with them.

    Args:
        loaded: The weights.
        path: The folder to write; it appears when all of it is complete.
        source: Where the weights were read; its model card, licence and references are copied.
        public: Name of the public weights that these are.
        int8: Quantise the weights of convolutions and matrix products to 8 bits, and their inputs at run time: smaller
            files, not a faster model.

    Returns:
        What a person should know.

    Raises:
        UsageError: The packages of the extra `onnx` are missing.
    """
    needed = ("onnx", "onnxscript", *(("onnxruntime",) if int8 else ()))
    if missing := [name for name in needed if find_spec(name) is None]:
        raise UsageError(f"Export to ONNX needs {' and '.join(missing)}.", next="pip install 'us43d[onnx]'")
    model = loaded.model()
    public = public or loaded.meta.get("public")
    with atomic.new_folder(path) as temporary:
        if int8:
            with tempfile.TemporaryDirectory(dir=temporary) as scratch:
                tensors = _graphs(model, Path(scratch))
                _quantise(Path(scratch), temporary)
        else:
            tensors = _graphs(model, temporary)
        licence, copied = carried(loaded, source, temporary, public)
        config = {
            "us43d": loaded.config.model_dump(mode="json"), "meta": loaded.meta, "licence": licence,
            "mean": MEAN, "std": STD, "graphs": tensors, "precision": "int8" if int8 else "float32",
        }  # fmt: skip
        (temporary / CONFIG).write_text(json.dumps(config, indent=1, sort_keys=True), "utf-8")
        (temporary / "README.md").write_text(_readme(loaded, tensors, licence, copied, int8), "utf-8")
    return () if copied else ("no model card lies beside these weights",)


def _graphs(model: UltraSam, folder: Path) -> dict[str, dict[str, list[str]]]:
    """Write the graphs; returns the names of their inputs and outputs."""
    config = model.config
    side, low, look = config.image_size, config.mask_size, config.look_size
    # Sizes of examples that differ from one another and from 1, so that none is taken for another or for a constant.
    count, dots = torch.export.Dim("prompts"), torch.export.Dim("points")
    image = torch.zeros(1, 3, side, side)
    with torch.inference_mode():
        embedding, *fine = (value.clone() for value in _Encoder(model)(image))
    points, labels = torch.full((3, 5, 2), side / 2), torch.ones(3, 5, dtype=torch.int64)
    placed: tuple[Any, ...] = ({0: count, 1: dots}, {0: count, 1: dots})
    strides = [f"fine{config.patch_size // 2 ** (n + 1)}" for n in range(len(fine))]
    names = {}
    features = ["embedding", *strides]
    names["encoder"] = _graph(_Encoder(model), folder / "encoder.onnx", (image,), ["image"], features, (None,))
    names["decoder"] = _graph(
        _Decoder(model), folder / "decoder.onnx",
        (embedding, fine, points, labels, torch.zeros(3, 1, low, low), torch.zeros(1)),
        [*features, "points", "labels", "mask", "has_mask"],
        ["logits", "iou", *(["presence"] if config.structures else [])],
        (None, [None] * len(fine), *placed, {0: count}, None),
    )  # fmt: skip
    if model.second_look is not None:
        former = {0: count, 1: torch.export.Dim("former_rows"), 2: torch.export.Dim("former_columns")}
        windows = torch.tensor([[0.1, 0.2, 0.7, 0.9]]).repeat(3, 1)
        names["look"] = _graph(
            _Look(model), folder / "look.onnx",
            (torch.zeros(3, 3, look, look), windows, points, labels, torch.zeros(3, low, low),
             torch.zeros(3, side, side + 1)),
            ["crops", "windows", "points", "labels", "first", "former"], ["logits", "iou"],
            ({0: count}, {0: count}, *placed, {0: count}, former),
        )  # fmt: skip
    return names


def _graph(
    module: nn.Module,
    file: Path,
    arguments: tuple[Any, ...],
    inputs: list[str],
    outputs: list[str],
    shapes: tuple[Any, ...],
) -> dict[str, list[str]]:
    size = sum(value.numel() * value.element_size() for value in module.parameters())
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            for message, category in HARMLESS:
                warnings.filterwarnings("ignore", message, category)
            torch.onnx.export(
                module.eval(), arguments, file, input_names=inputs, output_names=outputs, opset_version=OPSET,
                dynamic_shapes=shapes, dynamo=True, external_data=size > BESIDE, verbose=False,
            )  # fmt: skip
    finally:
        quiet.setLevel(level)
    return {"inputs": inputs, "outputs": outputs}


def _quantise(graphs: Path, out: Path) -> None:
    """Write float32 graphs again with weights of 8 bits, one scale per output channel (dynamic quantisation).

    The weights use 7 of the 8 bits: processors without VNNI add products in 16 bits, which overflow with 8.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    root = logging.getLogger()
    root.addFilter(_not_advice)
    try:
        for file in sorted(graphs.glob("*.onnx")):
            quantize_dynamic(file, out / file.name, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)
    finally:
        root.removeFilter(_not_advice)


def _not_advice(record: logging.LogRecord) -> bool:
    """Reject onnxruntime's advice to optimise graphs first: it is logged for every graph, whatever the result."""
    return not record.getMessage().startswith("Please consider to run pre-processing before quantization.")


def _readme(loaded: Loaded, tensors: Mapping[str, Any], licence: str, copied: list[str], int8: bool) -> str:
    config, sam = loaded.config, loaded.preprocessing == "sam"
    more = " + 0.5" if sam else ""
    resize = (
        "np.asarray(PIL.Image.fromarray(pixels).resize((width, height), 2))"
        if sam
        else "cv2.resize(pixels, (width, height))"
    )
    fitted = (
        f"height = width = {config.image_size}"
        if config.stretch
        else f"scale = {config.image_size} / max(rows, columns)\n"
        f"height, width = (max(1, int(n * scale{more})) for n in (rows, columns))"
    )
    best = "0" if config.masks == 1 else "1 + iou[0, 1:].argmax()"
    side, low = config.image_size, config.mask_size
    code = f"""import cv2, numpy as np, onnxruntime{", PIL.Image" if sam else ""}
encoder, decoder = (onnxruntime.InferenceSession(f"{{name}}.onnx") for name in ("encoder", "decoder"))
pixels, box = cv2.imread("scan.png")[:, :, ::-1].copy(), [[40, 30], [90, 80]]  # corners (x, y)
rows, columns = pixels.shape[:2]
{fitted}
image = np.zeros((1, 3, {side}, {side}), np.float32)
shown = ({resize} - np.float32({list(MEAN)})) / np.float32({list(STD)})
image[0, :, :height, :width] = shown.transpose(2, 0, 1)
inputs = dict(zip({tensors["encoder"]["outputs"]}, encoder.run(None, {{"image": image}})))
inputs["points"] = np.float32([box]) * np.float32([width / columns, height / rows]) + np.float32(0.5)
inputs["labels"] = np.int64([[2, 3]])
inputs |= {{"mask": np.zeros((1, 1, {low}, {low}), np.float32), "has_mask": np.zeros(1, np.float32)}}
logits, iou = decoder.run(["logits", "iou"], inputs)
up = cv2.resize(logits[0, {best}], ({side}, {side}))[:height, :width]
mask = cv2.resize(up, (columns, rows)) > 0"""
    resized = "stretched to" if config.stretch else "resized by its long side and padded with zeros to"
    labels = "−1 padding, 0 negative, 1 positive, 2 upper left and 3 lower right corner of a box"
    if config.structures:
        labels += ", 4 + the taxonomy's id for a structure by name (its place counts for nothing)"
    lines = [
        "# Weights in ONNX",
        f"Licence: {licence}. For research; not a medical device. "
        + (f"Carried over from the weights: {', '.join(copied)}." if copied else "The weights came without a card."),
        "## Preprocessing",
        f"8-bit RGB (grey three times), {resized} {side} × {side} with bilinear interpolation, "
        + ("antialiased, " if sam else "without antialiasing, ")
        + f"minus {list(MEAN)}, divided by {list(STD)} before the padding.",
        "Points are (x, y) in pixels of that square, the first pixel's centre at 0.5: x · scale + 0.5 for image pixels "
        f"that count from 0. Labels: {labels}. A prompt without a box or a name has one padding point at its end. "
        f"Prompts and points may be any number. `mask` holds logits of an earlier pass ({low} × {low}); it counts "
        "where `has_mask` is 1.",
        "## Box to mask",
        f"```python\n{code}\n```",
    ]
    if int8:
        lines += [
            "## Precision",
            "Weights of convolutions and matrix products have 8 bits; their inputs are quantised at run time. The "
            "files are smaller; on a CPU the graphs may run slower than in float32.",
        ]
    if config.look:
        lines += [
            "## Second look",
            "look.onnx refines a mask on a crop: cut the window (the box, or without one the box of the decoder's mask "
            f"and of the points inside; each side times {MARGIN}) out of the image, "
            f"resize it to {config.look_size} × {config.look_size} and normalise it as above (`crops`); `windows` are "
            "(x0, y0, x1, y1) in fractions of the image, `first` is logits[:, 0] of the decoder. `former` holds logits "
            "of the mask that clicks correct, of any size; fill it with −100 where there is none. The logits are those "
            "of the window; outside of it is background. The graph computes two networks for every prompt; the result "
            "of boxes alone is the mean of both, that of other prompts the first one's.",
        ]
    return "\n\n".join(lines) + "\n"
