"""Average precision of detections, compared with pycocotools' own evaluation."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools import mask as tool
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from us43d import specimen
from us43d.evaluate.detection import average_precision


def described(mask: np.ndarray) -> dict:
    packed = tool.encode(np.asfortranarray(mask.view(np.uint8)))
    return {"segmentation": {"size": list(mask.shape), "counts": packed["counts"].decode()},
            "bbox": tool.toBbox(packed).tolist(), "area": int(tool.area(packed))}  # fmt: skip


@pytest.fixture(scope="module")
def scene() -> tuple[dict, list[dict]]:
    """Two categories and one that occurs nowhere; masks that are missed, doubled, moved and made up."""
    rng = np.random.default_rng(0)
    truth = {"images": [], "annotations": [], "categories": [{"id": n, "name": str(n)} for n in (1, 4, 9)]}
    results = []
    for n in range(12):
        truth["images"].append({"id": n + 1, "height": 40, "width": 50})
        for _ in range(rng.integers(0, 4)):
            mask, category = specimen.blob((40, 50), rng, 0.3), int(rng.choice([1, 4]))
            truth["annotations"].append({"id": len(truth["annotations"]) + 1, "image_id": n + 1, "iscrowd": 0,
                                         "category_id": category} | described(mask))  # fmt: skip
            for _ in range(rng.integers(0, 3)):
                moved = np.roll(mask, rng.integers(-2, 3, 2), (0, 1))
                results.append({"image_id": n + 1, "category_id": category, "score": float(rng.random())}
                               | described(moved))  # fmt: skip
        results.append({"image_id": n + 1, "category_id": 1, "score": float(rng.random())}
                       | described(specimen.blob((40, 50), rng, 0.2)))  # fmt: skip
    return truth, results


@pytest.mark.parametrize("kind", ["segm", "bbox"])
def test_average_precision_is_that_of_pycocotools(kind: str, scene: tuple[dict, list[dict]]) -> None:
    truth, results = scene
    found = average_precision(truth, results)[kind]
    with contextlib.redirect_stdout(io.StringIO()):
        gold = COCO()
        gold.dataset = {"info": {}} | truth
        gold.createIndex()
        judge = COCOeval(gold, gold.loadRes([dict(result) for result in results]), kind)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    assert 0.1 < judge.stats[0] < 0.9
    assert [found["map"], found["ap50"], found["ap75"]] == pytest.approx(judge.stats[:3].tolist(), abs=1e-9)
    for at, number in enumerate(judge.params.catIds):
        own = judge.eval["precision"][:, :, at, 0, -1]
        if number == 9:
            assert np.isnan(found["categories"][9]["map"])
        else:
            assert found["categories"][number]["map"] == pytest.approx(own.mean(), abs=1e-9)
            assert found["categories"][number]["ap75"] == pytest.approx(own[5].mean(), abs=1e-9)


def test_no_detection_at_all(scene: tuple[dict, list[dict]]) -> None:
    found = average_precision(scene[0], [])
    assert found["segm"]["map"] == found["bbox"]["ap50"] == 0
    assert found["segm"]["categories"][4]["map"] == 0
    assert np.isnan(found["segm"]["categories"][9]["map"])
