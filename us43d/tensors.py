"""Samples as a PyTorch dataset and as a Hugging Face dataset; imported when asked for."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from us43d.masks import rle
from us43d.pictures.levels import eight_bits

if TYPE_CHECKING:
    import datasets

    from us43d.loading import Samples

__all__ = ["TorchSamples", "hugging_face"]

_TEXTS = ("source", "licence", "key", "group", "split")


class TorchSamples(Dataset[dict[str, Any]]):
    """Samples as tensors; see `Samples.to_torch`."""

    def __init__(self, samples: "Samples") -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = self.samples[index]
        pixels = eight_bits(sample.image)
        image = torch.from_numpy(np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)))
        height, width = pixels.shape[:2]
        masks = np.zeros((len(sample.annotations), height, width), bool)
        boxes = np.zeros((len(sample.annotations), 4), np.float32)
        for n, annotation in enumerate(sample.annotations):
            masks[n] = _mask(annotation)
            x, y, w, h = annotation["bbox"]
            boxes[n] = x, y, x + w, y + h
        return {
            "image": image,
            "masks": torch.from_numpy(masks),
            "labels": torch.tensor([annotation["category_id"] for annotation in sample.annotations], dtype=torch.int64),
            "boxes": torch.from_numpy(boxes),
            "image_id": sample.meta["id"],
            "group": sample.meta["us43d"]["group"],
        }


def hugging_face(samples: "Samples") -> "datasets.Dataset":
    """Make a Hugging Face dataset, as `Samples.to_hf` does.

    Images stay files; masks are PNG bytes, written to the cache of `datasets` one by one.
    """
    import datasets

    names = sorted(set(samples.structures.values()))
    features = datasets.Features({
        "image": datasets.Image(),
        "masks": datasets.List(datasets.Image()),
        "structures": datasets.List(datasets.ClassLabel(names=names)),
        "boxes": datasets.List(datasets.List(datasets.Value("int32"), length=4)),
        "areas": datasets.List(datasets.Value("int64")),
        "diagnoses": datasets.List(datasets.Value("string")),
        "id": datasets.Value("int64"),
        **{name: datasets.Value("string") for name in _TEXTS},
        "spacing_mm": datasets.List(datasets.Value("float32")),
    })  # fmt: skip
    if not len(samples):  # `from_generator` refuses it
        return datasets.Dataset.from_dict({name: [] for name in features}, features)
    made: datasets.Dataset = datasets.Dataset.from_generator(
        _records, features=features, gen_kwargs={"samples": samples}
    )
    return made


def _records(samples: "Samples") -> Iterator[dict[str, Any]]:
    for sample in samples:
        own = sample.meta["us43d"]
        yield {
            "image": {"path": str(sample.path), "bytes": None},
            "masks": [{"bytes": _png(_mask(annotation)), "path": None} for annotation in sample.annotations],
            "structures": [sample.names[annotation["category_id"]] for annotation in sample.annotations],
            "boxes": [annotation["bbox"] for annotation in sample.annotations],
            "areas": [annotation["area"] for annotation in sample.annotations],
            "diagnoses": [annotation["us43d"]["diagnosis"] or "" for annotation in sample.annotations],
            "id": sample.meta["id"],
            **{name: own[name] for name in _TEXTS},
            "spacing_mm": list(own["spacing_mm"] or ()),
        }


def _mask(annotation: dict[str, Any]) -> Any:
    height, width = annotation["segmentation"]["size"]
    return rle.decode(annotation["segmentation"]["counts"].encode("ascii"), height, width)


def _png(mask: Any) -> bytes:
    whole, data = cv2.imencode(".png", np.ascontiguousarray(mask).astype(np.uint8) * np.uint8(255))
    if not whole:
        raise ValueError(f"OpenCV cannot encode a mask of {mask.shape} as PNG")
    return bytes(data.tobytes())
