"""Objects followed through clips of real images: `Tracker` beside a network prompted with boxes alone, and no motion.

    python benchmarks/clips.py FOLDER --frames 50 --noise 0.25 --grain 1.5

FOLDER holds val.json (COCO) and images/. Every image becomes a clip in which the structure beats (scaled by up to 24 %
with a period of 25 frames), the frame moves by up to 4 % of its shorter side, and fresh multiplicative noise is added.
The first mask is the network's answer to the exact box.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from us43d.evaluate.metrics import overlap
from us43d.model import propagate, weights
from us43d.model.predictor import Prediction, Predictor


def instances(folder: Path, every: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
    """Yield grey images with the mask of their first annotation."""
    content = json.loads((folder / "val.json").read_text())
    images = {image["id"]: image for image in content["images"]}
    first = {one["image_id"]: one for one in reversed(content["annotations"])}
    for number in sorted(first)[::every]:
        image, outline = images[number], first[number]["segmentation"]
        if isinstance(outline, list):
            outline = coco_mask.merge(coco_mask.frPyObjects(outline, image["height"], image["width"]))
        grey = cv2.imread(str(folder / "images" / image["file_name"]), cv2.IMREAD_GRAYSCALE)
        yield np.asarray(grey, np.uint8), coco_mask.decode(outline).astype(bool)


def clip(
    image: NDArray[np.uint8], mask: NDArray[np.bool_], frames: int, noise: float, grain: float
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
    """Yield frames with their masks."""
    rng, (rows, columns) = np.random.default_rng(0), mask.shape
    y, x = (places.mean() for places in np.nonzero(mask))
    for number in range(frames):
        turn = 2 * np.pi * number / 25
        scale = 1 + 0.12 * (np.cos(turn) - 1)
        across, down = (part * min(mask.shape) * np.sin(turn / slow) for part, slow in ((0.04, 1.7), (0.03, 1.3)))
        matrix = np.array([[scale, 0, x - scale * x + across], [0, scale, y - scale * y + down]])
        moved = cv2.warpAffine(image, matrix, (columns, rows), borderMode=cv2.BORDER_REPLICATE)
        truth = cv2.warpAffine(255 * mask.astype(np.uint8), matrix, (columns, rows)) > 127
        speckle = cv2.GaussianBlur(rng.normal(0, 1, mask.shape).astype(np.float32), (0, 0), grain)
        yield np.clip(moved * (1 + noise * speckle / speckle.std()), 0, 255).astype(np.uint8), truth


def boxes_alone(predictor: Predictor, first: Prediction, frame: NDArray[np.uint8]) -> Callable[[Any], Any]:
    """Make a tracker that never uses the flow."""
    tracker = propagate.Tracker(predictor, first, frame)

    def follow(now: NDArray[np.uint8]) -> propagate.Tracked:
        propagate.UNRELIABLE, kept = 0.0, propagate.UNRELIABLE
        try:
            return tracker.follow(now)
        finally:
            propagate.UNRELIABLE = kept

    return follow


def main() -> None:
    """Print the mean Dice of all frames after the first, of the last ten, and the worst of these by image."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--noise", type=float, default=0.15, help="standard deviation, as a fraction")
    parser.add_argument("--grain", type=float, default=1.0, help="blur of the noise, in pixels")
    parser.add_argument("--every", type=int, default=40, help="take every n-th image")
    args = parser.parse_args()
    predictor = Predictor.from_weights(weights.shipped())
    rows: dict[str, list[list[float]]] = {"unmoved": [], "boxes alone": [], "Tracker": []}
    for image, mask in instances(args.folder, args.every):
        (frame, truth), *later = clip(image, mask, args.frames, args.noise, args.grain)
        x, y, width, height = cv2.boundingRect(truth.view(np.uint8))
        predictor.set_image(frame)
        first = predictor.predict(box=(x, y, x + width, y + height))
        boxes, tracker = boxes_alone(predictor, first, frame), propagate.Tracker(predictor, first, frame)
        for name, follow in (("unmoved", None), ("boxes alone", boxes), ("Tracker", tracker.follow)):
            masks = [first.mask if follow is None else follow(now).mask for now, _ in later]
            rows[name].append([overlap(mask, truth)[0] for mask, (_, truth) in zip(masks, later, strict=True)])
    print(f"{len(rows['unmoved'])} images, {args.frames} frames, noise {args.noise:g}, grain {args.grain:g}")
    for name, dice in rows.items():
        values = np.array(dice)
        ends = values[:, -10:].mean(1)
        print(f"{name:12} mean {values.mean():.3f}  last ten {ends.mean():.3f}  worst image {ends.min():.3f}")


if __name__ == "__main__":
    main()
