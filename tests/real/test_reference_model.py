"""The original UltraSam software's numbers, from the PNG on (shared/reference)."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from us43d.model import weights
from us43d.model.geometry import box_prompts, normalised, point_prompts
from us43d.model.predictor import Predictor

pytestmark = pytest.mark.shared
CASES = [(image, prompt, refine) for image in (0, 9) for prompt in ("box", "point") for refine in (0, 1)]


@pytest.fixture(scope="module")
def tiny() -> Path:
    folder = Path(__file__).resolve().parents[3] / "shared" / "reference" / "tiny"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here: the reference numbers are kept beside the checkout")
    return folder


@pytest.fixture(scope="module")
def predictor(tiny: Path) -> Predictor:
    torch.set_num_threads(2)
    loaded = weights.load(tiny / "tiny_ultrasam_random.pth")
    assert (loaded.form, loaded.config.mlp_residual) == ("ultrasam", "double")
    return Predictor(loaded.model())


@pytest.fixture(scope="module")
def encoded(tiny: Path, predictor: Predictor) -> dict:
    return {n: predictor.encode(cv2.imread(str(tiny / f"image_{n}.png"))[:, :, ::-1]) for n in (0, 9)}


@pytest.mark.parametrize("image", [0, 9])
def test_resizing_and_encoding(tiny: Path, encoded: dict, image: int) -> None:
    truth = np.load(tiny / f"image_{image}.npz")
    picture = cv2.imread(str(tiny / f"image_{image}.png"))
    rows, columns = truth["resized_bgr_u8"].shape[1:]
    assert encoded[image].inner == (rows, columns)
    resized = cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_LINEAR).transpose(2, 0, 1)
    assert (resized == truth["resized_bgr_u8"]).all()
    assert normalised(picture[:, :, ::-1], 1024)[:, rows:].abs().max() == 0
    assert np.abs(encoded[image].features.embedding[0].numpy() - truth["embedding"]).max() < 1e-4


@pytest.mark.parametrize(("image", "prompt", "refine"), CASES)
def test_a_case_agrees(tiny: Path, predictor: Predictor, encoded: dict, image: int, prompt: str, refine: int) -> None:
    truth = np.load(tiny / f"case_{image}_{prompt}_{'refine' if refine else 'norefine'}.npz")
    scale = encoded[image].scale
    if prompt == "box":
        points, labels = box_prompts(torch.tensor(truth["gt_box_xyxy_orig"], dtype=torch.float64)[None], scale)
    else:
        points, labels = point_prompts(torch.tensor(truth["point_orig"]), scale)
    model = predictor.model
    with torch.inference_mode():
        tokens = model.prompt_encoder.sparse(points, labels)[0].numpy()
        assert np.abs(tokens - truth["pass1_tok_embed"][:2]).max() < 1e-5
        logits, iou, _ = model.decode(encoded[image].features, points, labels)
    assert np.abs(logits[0].numpy() - truth["pass1_logits_all"]).max() <= 5e-4
    assert np.abs(iou[0].numpy() - truth["pass1_iou_all"]).max() <= 1e-5
    found = predictor.segment(encoded[image], points, labels, refine=refine, postprocess="paper")[0]
    assert np.abs(found.logits - truth[f"pass{1 + refine}_sel_logits"][0]).max() <= 5e-4
    assert abs(found.score - truth["final_score"][0]) <= 1e-5
    assert (found.mask == truth["final_mask"]).all()


def test_the_single_residual_would_be_wrong(tiny: Path, encoded: dict) -> None:
    loaded = weights.load(tiny / "tiny_ultrasam_random.pth")
    single = weights.Loaded(loaded.state, loaded.config.model_copy(update={"mlp_residual": "single"}), "meta").model()
    truth = np.load(tiny / "case_0_box_norefine.npz")
    points, labels = box_prompts(torch.tensor(truth["gt_box_xyxy_orig"])[None], encoded[0].scale)
    with torch.inference_mode():
        logits, _, _ = single.decode(encoded[0].features, points, labels)
    assert np.abs(logits[0].numpy() - truth["pass1_logits_all"]).max() > 1
