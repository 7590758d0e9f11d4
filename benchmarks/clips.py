"""Objects followed through clips of real images: `Tracker` beside a network prompted with boxes alone, and no motion.

    python benchmarks/clips.py FOLDER --frames 50 --noise 0.25 --grain 1.5
    python benchmarks/clips.py FOLDER --frames 26 --between

FOLDER holds val.json (COCO) and images/. Every image becomes a clip in which the structure beats (scaled by up to 24 %
with a period of 25 frames), the frame moves by up to 4 % of its shorter side, and fresh multiplicative noise is added.
The first mask is the network's answer to the exact box. With --between, the first and the last frame are labelled
exactly, and the frames between them are filled, as on the page of `us43d label`.
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
from us43d.view.assistant import Assistant
from us43d.view.between import Gap, interpolated


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


def boxed(predictor: Predictor, frame: NDArray[np.uint8], expected: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Segment a frame with boxes around an expected mask; that mask where no answer agrees with it."""
    answers = propagate._answers(predictor, predictor.encode(frame), expected, propagate.MARGINS)
    good = [(one.score, number) for number, one in enumerate(answers) if overlap(one.mask, expected)[1] >= 0.5]
    return answers[max(good)[1]].mask if good else expected


def filled(
    predictor: Predictor, frames: list[NDArray[np.uint8]], first: NDArray[np.bool_], last: NDArray[np.bool_]
) -> dict[str, list[NDArray[np.bool_]]]:
    """Fill the frames between two labelled ones in four ways."""
    assistant, end = Assistant(lambda: predictor, frames.__getitem__), len(frames) - 1
    gap, inner = Gap(assistant, 0, end, [(first, last)]), range(1, end)
    assert gap.ways is not None
    shape = [interpolated(first, last, number / end) for number in inner]
    both = [gap.at(number)[0].mask for number in inner]
    forth = [gap.ways[0].at(number)[0] for number in inner]
    assistant.close()
    return {
        "interpolated": shape,
        "boxes of these": [boxed(predictor, frames[n], mask) for n, mask in zip(inner, shape, strict=True)],
        "followed": [first if mask is None else mask for mask in forth],
        "from both": both,
    }


def main() -> None:
    """Print the mean Dice of all frames after the first, of the last ten, and the worst of these by image."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--noise", type=float, default=0.15, help="standard deviation, as a fraction")
    parser.add_argument("--grain", type=float, default=1.0, help="blur of the noise, in pixels")
    parser.add_argument("--every", type=int, default=40, help="take every n-th image")
    parser.add_argument("--between", action="store_true", help="fill the frames between the first and the last")
    args = parser.parse_args()
    predictor = Predictor.from_weights(weights.shipped())
    rows: dict[str, list[list[float]]] = {}
    for image, mask in instances(args.folder, args.every):
        (frame, truth), *later = clip(image, mask, args.frames, args.noise, args.grain)
        if args.between:
            answers = filled(predictor, [frame, *(now for now, _ in later)], truth, later[-1][1])
            later = later[:-1]
        else:
            x, y, width, height = cv2.boundingRect(truth.view(np.uint8))
            predictor.set_image(frame)
            first = predictor.predict(box=(x, y, x + width, y + height))
            boxes, tracker = boxes_alone(predictor, first, frame), propagate.Tracker(predictor, first, frame)
            answers = {
                "unmoved": [first.mask] * len(later),
                "boxes alone": [boxes(now).mask for now, _ in later],
                "Tracker": [tracker.follow(now).mask for now, _ in later],
            }
        for name, masks in answers.items():
            dice = [overlap(mask, truth)[0] for mask, (_, truth) in zip(masks, later, strict=True)]
            rows.setdefault(name, []).append(dice)
    print(f"{len(next(iter(rows.values())))} images, {args.frames} frames, noise {args.noise:g}, grain {args.grain:g}")
    for name, dice in rows.items():
        values = np.array(dice)
        ends = values[:, -10:].mean(1)
        print(f"{name:14} mean {values.mean():.3f}  last ten {ends.mean():.3f}  worst image {ends.min():.3f}")


if __name__ == "__main__":
    main()
