"""Prompts for whole inputs, and what is written of them: masks, COCO RLE, label volumes, overlays."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from us43d import atomic, report
from us43d.errors import UsageError
from us43d.masks import rle
from us43d.model.predictor import BATCH, Postprocess, Predictor, point_prompts
from us43d.pictures.media import Frame, Media, volume_of

__all__ = ["Prompt", "Prompts", "Segment", "Writer", "everything", "prompted", "read_prompts"]


class Prompt(NamedTuple):
    """What is to be segmented: a box (x0, y0, x1, y1), points with labels (1 inside, 0 outside), or both."""

    box: tuple[float, float, float, float] | None = None
    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()


class Segment(NamedTuple):
    """A mask (h, w) bool that was found, its predicted IoU, and for what."""

    prompt: Prompt
    mask: NDArray[np.bool_]
    score: float


#: File name → (frame, prompt); the frame is None where a prompt holds for all of them.
Prompts: TypeAlias = dict[str, list[tuple[int | None, Prompt]]]

# ---------------------------------------------------------------------------------------------------------- segmenting


def prompted(
    predictor: Predictor, prompts: Iterable[Prompt], *, refine: int = 1, postprocess: Postprocess = "sharp"
) -> list[Segment]:
    """A mask for each prompt on the picture that is set. Raises UsageError for prompts that lie outside of it."""
    segments = []
    for each in prompts:
        found = predictor.predict(
            box=each.box, points=each.points, labels=each.labels, refine=refine, postprocess=postprocess
        )
        segments.append(Segment(each, found.mask, found.score))
    return segments


def everything(
    predictor: Predictor,
    *,
    grid: int = 16,
    min_score: float = 0.5,
    overlap: float = 0.7,
    refine: int = 1,
    postprocess: Postprocess = "sharp",
) -> list[Segment]:
    """What a grid of points finds on the picture that is set, the best first, each thing once.

    grid: points along the longer side. min_score: least predicted IoU. overlap: of two masks whose IoU is larger, the
    one with the lower score is left out (non-maximum suppression).
    """
    from pycocotools import mask as coco

    encoded = predictor.encoded
    if encoded is None:
        raise UsageError("No image is set.", next="predictor.set_image(picture)")
    rows, columns = encoded.shape
    across, down = (max(1, round(grid * side / max(rows, columns))) for side in (columns, rows))
    at = [
        ((i + 0.5) * columns / across - 0.5, (j + 0.5) * rows / down - 0.5) for j in range(down) for i in range(across)
    ]
    kept: list[tuple[float, dict[str, Any], Prompt]] = []
    for start in range(0, len(at), BATCH):  # packed at once, as all masks of a large picture do not fit
        some = at[start : start + BATCH]
        points, labels = point_prompts(torch.tensor(some, dtype=torch.float64), encoded.scale)
        found = predictor.segment(
            encoded, points.to(predictor.device), labels.to(predictor.device), refine=refine, postprocess=postprocess
        )
        for place, each in zip(some, found, strict=True):
            if each.score >= min_score and each.mask.any():
                packed = coco.encode(np.asfortranarray(each.mask.view(np.uint8)))
                kept.append((each.score, packed, Prompt(points=(place,), labels=(1,))))
    kept.sort(key=lambda each: -each[0])
    chosen: list[int] = []
    shared = coco.iou([p for _, p, _ in kept], [p for _, p, _ in kept], [0] * len(kept)) if kept else np.zeros((0, 0))
    for n in range(len(kept)):
        if all(shared[n, other] <= overlap for other in chosen):
            chosen.append(n)
    return [Segment(kept[n][2], rle.decode(kept[n][1]["counts"], rows, columns), kept[n][0]) for n in chosen]


def read_prompts(path: Path) -> Prompts:
    """The prompts in a COCO file.

    An annotation's `bbox` [x, y, width, height] is a box, its `keypoints` [x, y, v, …] are points inside where v > 0.
    An image may have a `frame`, from 0, as in predictions.json. Raises UsageError for a file that is none, or
    annotations that show nothing.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        places = {each["id"]: (Path(each["file_name"]).name, each.get("frame")) for each in content["images"]}
        found: Prompts = {name: [] for name, _ in places.values()}
        for each in content["annotations"]:
            name, frame = places[each["image_id"]]
            found[name].append((frame, _annotated(each)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is no COCO file with prompts: {error!r}.") from error
    return found


def _annotated(annotation: dict[str, Any]) -> Prompt:
    box = None
    if annotation.get("bbox"):
        x, y, width, height = (float(value) for value in annotation["bbox"])
        box = (x, y, x + width, y + height)
    flat = [float(value) for value in annotation.get("keypoints") or ()]
    if len(flat) % 3:
        raise ValueError(f"annotation {annotation.get('id')} has {len(flat)} numbers of keypoints, no triples")
    points = tuple((x, y) for x, y, v in zip(flat[::3], flat[1::3], flat[2::3], strict=True) if v > 0)
    if box is None and not points:
        raise ValueError(f"annotation {annotation.get('id')} has neither bbox nor keypoints")
    return Prompt(box, points, (1,) * len(points))


# ------------------------------------------------------------------------------------------------------------- writing


class Writer:
    """Writes below a folder what was found, frame after frame.

    masks/<frame>_<n>.png       0 and 255, one per prompt
    overlays/<frame>.png        outlines and prompts on the picture
    <input>_labels.nii.gz       of a NIfTI input: 0, and n where prompt n found something; the better score on top
    predictions.json            COCO: images, and annotations with compressed RLE, score and prompt
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self._volume: tuple[Path, Any, NDArray[np.uint16]] | None = None

    def add(self, media: Media, frame: Frame, segments: list[Segment]) -> None:
        """One frame's masks. Raises StorageError."""
        from pycocotools import mask as coco

        height, width = frame.picture.shape[:2]
        image = {"id": len(self.images) + 1, "file_name": media.path.name, "frame": frame.number, "width": width,
                 "height": height}  # fmt: skip
        self.images.append(image)
        for n, each in enumerate(segments, 1):
            self._png(f"masks/{frame.name}_{n}.png", each.mask.view(np.uint8) * 255)
            packed = coco.encode(np.asfortranarray(each.mask.view(np.uint8)))
            prompt = {"box": each.prompt.box, "points": each.prompt.points, "labels": each.prompt.labels}
            self.annotations.append(
                {
                    "id": len(self.annotations) + 1, "image_id": image["id"], "category_id": 1, "iscrowd": 0,
                    "segmentation": {"size": [height, width], "counts": packed["counts"].decode("ascii")},
                    "bbox": [int(value) for value in coco.toBbox(packed)], "area": int(coco.area(packed)),
                    "score": each.score, "prompt": {key: value for key, value in prompt.items() if value},
                    "mask": f"masks/{frame.name}_{n}.png",
                }
            )  # fmt: skip
        self._png(f"overlays/{frame.name}.png", _overlay(frame.picture, segments)[:, :, ::-1])
        if media.kind == "nifti":
            self._label(media, frame.number, segments)

    def finish(self, media: Media) -> None:
        """Write what belongs to an input as a whole."""
        if self._volume is not None and self._volume[0] == media.path:
            import nibabel

            _, image, labels = self._volume
            shaped = labels.reshape(image.shape, order="F")
            made = nibabel.nifti1.Nifti1Image(shaped, image.affine, image.header)
            made.set_data_dtype(np.uint16)
            made.header.set_slope_inter(1, 0)
            path = self.folder / f"{media.name}_labels.nii.gz"
            with atomic.storage_errors(path, "What was written before is complete."):
                temporary = path.with_name(f".{path.name}")
                nibabel.loadsave.save(made, temporary)
                temporary.replace(path)
            self._volume = None

    def close(self) -> Path:
        """Write predictions.json and return its path."""
        content = {
            "images": self.images,
            "annotations": self.annotations,
            "categories": [{"id": 1, "name": "structure"}],
        }
        return self._write("predictions.json", json.dumps(content, indent=1).encode())

    def _label(self, media: Media, index: int, segments: list[Segment]) -> None:
        if self._volume is None or self._volume[0] != media.path:
            image = volume_of(media.path)
            frames = math.prod(image.shape[2:])
            self._volume = media.path, image, np.zeros((*image.shape[:2], frames), np.uint16)
        slice_ = self._volume[2][:, :, index]
        for n in sorted(range(len(segments)), key=lambda n: segments[n].score):
            slice_[segments[n].mask.T] = n + 1

    def _png(self, name: str, pixels: NDArray[Any]) -> None:
        _, data = cv2.imencode(".png", np.ascontiguousarray(pixels))
        self._write(name, data.tobytes())

    def _write(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        with atomic.storage_errors(path, "What was written before is complete."):
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic.write_bytes(path, data, durable=False)
        return path


def _overlay(picture: NDArray[Any], segments: list[Segment]) -> NDArray[np.uint8]:
    """The picture, at least 640 pixels long, with outlines; prompts are drawn where there is one mask alone."""
    masks = np.stack([each.mask for each in segments]) if segments else np.zeros((0, *picture.shape[:2]), bool)
    prompt = segments[0].prompt if len(segments) == 1 else Prompt()
    points = [(x, y, label) for (x, y), label in zip(prompt.points, prompt.labels, strict=True)]
    return report.overlay(picture, {"found": masks}, prompt.box, points, side=max(640, *picture.shape[:2]))
