"""Training runs on a machine that has torch, numpy, OpenCV and pydantic, but nothing that only curation needs."""

import subprocess
import sys
from pathlib import Path

import us43d

_BLOCKED = (
    "nibabel", "SimpleITK", "h5py", "openpyxl", "pandas", "pyarrow", "requests", "typer", "rich",
    "filelock", "faster_coco_eval",
)  # fmt: skip
_SCRIPT = f"""
import sys
for name in {_BLOCKED!r}:
    sys.modules[name] = None  # an import of it raises ImportError

import json
from pathlib import Path
import cv2
import numpy as np
import torch
torch.set_num_threads(1)
import us43d.model.attention, us43d.train.checkpoint, us43d.model.flops, us43d.train.journal, us43d.model.lora
from us43d.coco import own as coco
from us43d.train.config import PRESETS, read
from us43d.train.dataset import CorpusDataset
from us43d.train.loop import train
from us43d.model.predictor import Predictor

folder = Path(sys.argv[1])
rng = np.random.default_rng(0)
for n in range(8):
    cv2.imwrite(str(folder / f"{{n}}.png"), rng.integers(0, 255, (40, 50), np.uint8))
(folder / "data.json").write_text(json.dumps({{
    "images": [{{"id": n, "file_name": f"{{n}}.png", "height": 40, "width": 50}} for n in range(8)],
    "annotations": [{{"id": n, "image_id": n, "category_id": 1, "segmentation": [[5, 5, 30, 5, 30, 30, 5, 30]]}}
                    for n in range(8)],
    "categories": [{{"id": 1, "name": "lesion"}}],
}}))
corpus = coco.read(folder / "data.json", folder / "corpus")
assert len(CorpusDataset(corpus)) == 8
result = train(read(PRESETS["tiny"]).shortened(2), corpus, folder / "run")
predictor = Predictor.from_weights(result.weights)
predictor.set_image(rng.integers(0, 255, (40, 50), np.uint8))
assert predictor.predict(box=(5, 5, 30, 30)).mask.shape == (40, 50)
print(sorted(name for name in sys.modules if name.startswith("us43d.recipes") or name == "us43d.registry"))
"""


def test_training_alone(tmp_path: Path) -> None:
    root = Path(us43d.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(tmp_path)], capture_output=True, text=True, timeout=120, cwd=root
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
