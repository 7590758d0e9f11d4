"""A little corpus, made of a COCO file, and a configuration that trains on it in a second."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from us43d import specimen
from us43d.coco import own as coco
from us43d.coco.segmentation import encode
from us43d.harmonize.corpus import Corpus
from us43d.model.network import ModelConfig
from us43d.train.config import TrainConfig

SHAPES = ((60, 90), (80, 64), (50, 50), (64, 100))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def coco_file(folder: Path, images: int = 24, seed: int = 0) -> Path:
    """Images of several shapes with one or two lobed blobs each; two images to a group. Returns the COCO file."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    listing, annotations = [], []
    for n in range(images):
        height, width = SHAPES[n % len(SHAPES)]
        cells = ((0, 0, 0.5, 1), (0.5, 0, 1, 1)) if n % 3 == 0 else ((0, 0, 1, 1),)
        masks = [specimen.blob((height, width), rng, 0.3, cell) for cell in cells]
        picture = specimen.speckle((height, width), masks, rng)
        cv2.imwrite(str(folder / f"{n:03}.png"), picture)
        listing.append(
            {"id": n + 1, "file_name": f"{n:03}.png", "height": height, "width": width, "group": f"g{n // 2}"}
        )
        for k, mask in enumerate(masks):
            counts = {"size": [height, width], "counts": encode(mask).decode()}
            annotations.append(
                {"id": 10 * n + k + 1, "image_id": n + 1, "category_id": 1 + k, "segmentation": counts, "iscrowd": 0}
            )
    content = {
        "images": listing,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "lesion"}, {"id": 2, "name": "cyst"}],
    }
    (folder / "data.json").write_text(json.dumps(content))
    return folder / "data.json"


@pytest.fixture(scope="session")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("blobs")
    return coco.read(coco_file(folder / "images"), folder / "corpus")


SMALL = TrainConfig(
    name="small",
    model=ModelConfig(
        image_size=64, patch_size=8, embed_dim=24, depth=2, heads=2, window=4, global_blocks=(1,), prompt_dim=16,
        decoder_heads=2, decoder_mlp=32, iou_hidden=16,
    ),
    zoom=0.3, contrast=0.1, instances=2, repeats=2, batch=4, micro_batch=4, steps=12, warm_up=2, learning_rate=1e-3,
    clip=1.0, milestones=(8,), ema=0.9, precision="float32", workers=0, validate_every=100, validation_images=2,
    save_every=4, log_every=1,
)  # fmt: skip


@pytest.fixture
def small() -> TrainConfig:
    return SMALL
