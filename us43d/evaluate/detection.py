"""COCO's average precision of segmented instances."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from us43d.harmonize.corpus import SPECK, Corpus

__all__ = ["average_precision", "reference"]


def reference(corpus: Corpus, images: Sequence[int], categories: Mapping[int, str]) -> dict[str, Any]:
    """Make the reference COCO dataset for detections; specks are excluded, as in training.

    Args:
        corpus: The corpus.
        images: Rows of `images`, including those without annotation, on which every detection is wrong.
        categories: Id → name of the structures to detect.

    Returns:
        A COCO dataset with compressed RLE.
    """
    content: dict[str, Any] = {
        "images": [], "annotations": [], "categories": [{"id": n, "name": name} for n, name in categories.items()],
    }  # fmt: skip
    for row in images:
        image = corpus.images[row]
        size = [int(image["height"]), int(image["width"])]
        content["images"].append({"id": int(image["id"]), "height": size[0], "width": size[1]})
        for place in corpus.of(row):
            annotation = corpus.annotations[place]
            if annotation["flags"] & SPECK or int(annotation["category"]) not in categories:
                continue
            content["annotations"].append({
                "id": len(content["annotations"]) + 1, "image_id": int(image["id"]), "iscrowd": 0,
                "category_id": int(annotation["category"]), "area": int(annotation["area"]),
                "bbox": annotation["bbox"].tolist(),
                "segmentation": {"size": size, "counts": corpus.rle(place).decode("ascii")},
            })  # fmt: skip
    return content


def average_precision(truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Compute COCO's average precision over at most 100 detections of an image and category.

    Args:
        truth: A COCO dataset with at least one annotation.
        results: Detections in COCO's form: image_id, category_id, segmentation, bbox, score.

    Returns:
        "bbox" and "segm" → map (mean over IoU 0.50:0.95), ap50, ap75, and `categories`: id → the same three. Categories
        without an annotation do not count; their values are NaN.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    gold = COCO(dict(truth), use_deepcopy=True)
    values: dict[str, dict[str, Any]] = {}
    for kind in ("bbox", "segm"):
        if not results:
            none = dict.fromkeys(("map", "ap50", "ap75"), 0.0)
            shown = {int(annotation["category_id"]) for annotation in truth["annotations"]}
            empty = {int(one["id"]): none if one["id"] in shown else dict.fromkeys(none, float("nan"))
                     for one in truth["categories"]}  # fmt: skip
            values[kind] = none | {"categories": empty}
            continue
        judge = COCOeval_faster(gold, gold.loadRes([dict(result) for result in results]), kind)
        judge.run()
        # (IoU thresholds, recalls, categories, areas, numbers of detections); −1 without a reference annotation.
        precision = judge.eval["precision"][:, :, :, 0, -1]
        by = {int(n): _three(precision[:, :, at]) for at, n in enumerate(judge.params.catIds)}
        values[kind] = dict(zip(("map", "ap50", "ap75"), (float(v) for v in judge.stats[:3]), strict=True))
        values[kind]["categories"] = by
    return values


def _three(precision: NDArray[np.float64]) -> dict[str, float]:
    """(IoU thresholds, recalls) → map, ap50, ap75."""
    if precision.max() < 0:
        return dict.fromkeys(("map", "ap50", "ap75"), float("nan"))
    return {"map": float(precision.mean()), "ap50": float(precision[0].mean()), "ap75": float(precision[5].mean())}
