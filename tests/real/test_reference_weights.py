"""Every tensor's name and shape as listed for the released model, and its stand-in in stock SamModel."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from us43d.model import names, weights
from us43d.model.network import ModelConfig, UltraSam

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module")
def reference() -> Path:
    folder = Path(__file__).resolve().parents[3] / "shared" / "reference"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here: the reference numbers are kept beside the checkout")
    return folder


def test_names_and_shapes_of_vit_b_in_all_three_forms(reference: Path) -> None:
    rows = list(csv.DictReader((reference / "keys.csv").read_text().splitlines()))
    with torch.device("meta"):
        state = dict(UltraSam(ModelConfig()).state_dict())

    def shape(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in text.split("x"))

    assert {name: tuple(value.shape) for name, value in state.items()} == {
        row["meta_sam_key"]: shape(row["shape"]) for row in rows
    }
    ultrasam = names.to_ultrasam(state)
    assert {name: tuple(value.shape) for name, value in ultrasam.items()} == {
        row["ultrasam_key"]: shape(row["ultrasam_shape"]) for row in rows
    }
    assert (len(state), len(ultrasam)) == (314, 293)
    listed = {name for row in rows for name in row["hf_sammodel_key"].split(" | ")}
    assert set(names.to_huggingface(state)) == listed


def test_slices_of_stacked_tensors(reference: Path) -> None:
    rows = list(csv.DictReader((reference / "keys.csv").read_text().splitlines()))
    small = ModelConfig(image_size=64, embed_dim=8, depth=1, heads=1, global_blocks=(0,), decoder_mlp=8)
    state = dict(UltraSam.random(small, 0).state_dict())
    ultrasam = names.to_ultrasam(state)
    seen = 0
    for row in rows:
        if row["ultrasam_slice"] and row["meta_sam_key"] in state:
            first, last = (int(part) for part in row["ultrasam_slice"].removeprefix("rows ").split(":"))
            stacked, own = ultrasam[row["ultrasam_key"]], state[row["meta_sam_key"]]
            width = len(stacked) / int(row["ultrasam_shape"].split("x")[0])
            assert torch.equal(stacked[round(first * width) : round(last * width)], own), row["meta_sam_key"]
            seen += 1
    assert seen >= 25


def test_the_original_numbers_come_out_of_stock_sam(reference: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: pip install 'us43d[dev]'")
    torch.set_num_threads(2)
    held = weights.load(reference / "tiny" / "tiny_ultrasam_random.pth")
    weights.export(held, tmp_path / "hf", "huggingface")
    theirs = transformers.SamModel.from_pretrained(tmp_path / "hf").eval()
    for image in (0, 9):
        embedding = torch.from_numpy(np.load(reference / "tiny" / f"image_{image}.npz")["embedding"])[None]
        truth = np.load(reference / "tiny" / f"case_{image}_box_norefine.npz")
        box = torch.from_numpy(truth["box_model"]).view(1, 1, 4)
        # SamModel adds half a pixel to what it is given; box_model has it already.
        with torch.inference_mode():
            found = theirs(image_embeddings=embedding, input_boxes=box - 0.5, multimask_output=True)
        assert np.abs(found.pred_masks[0, 0].numpy() - truth["pass1_logits_all"][1:]).max() <= 0.02
        assert np.abs(found.iou_scores[0, 0].numpy() - truth["pass1_iou_all"][1:]).max() <= 5e-4
