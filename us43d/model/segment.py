"""Prompts for whole inputs, and what is written of them: masks, COCO RLE, label volumes, overlays."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from us43d import atomic, report
from us43d.coco import schema
from us43d.errors import UsageError, listed
from us43d.masks import rle
from us43d.model.predictor import Encoded, Postprocess, Predictor, at_once, point_prompts
from us43d.pictures.media import Frame, Media
from us43d.pictures.volume import nifti

__all__ = [
    "MIN_SCORE", "MIN_STABILITY", "PRESENT", "Prompt", "Prompts", "Segment", "Writer", "everything", "matched",
    "prompted", "read_prompts", "stability", "whole", "within",
]  # fmt: skip


class Prompt(NamedTuple):
    """What is to be segmented: a box (x0, y0, x1, y1), points with labels (1 inside, 0 outside), or both; or a
    structure of the taxonomy, by its id."""

    box: tuple[float, float, float, float] | None = None
    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    structure: int | None = None


class Segment(NamedTuple):
    """The mask predicted for a prompt, compressed, as many masks of a large image do not fit into memory.

    rle: COCO's compressed RLE. shape: (rows, columns). score: predicted IoU. category: id of the structure where the
    model names one.
    """

    prompt: Prompt
    rle: bytes
    shape: tuple[int, int]
    score: float
    category: int = 1

    @classmethod
    def of(cls, prompt: Prompt, mask: NDArray[np.bool_], score: float, category: int = 1) -> "Segment":
        """Compress a mask (h, w)."""
        from pycocotools import mask as coco

        packed = coco.encode(np.asfortranarray(mask.view(np.uint8)))
        return cls(prompt, bytes(packed["counts"]), (mask.shape[0], mask.shape[1]), score, category)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The mask (h, w), decoded anew at every call."""
        return rle.decode(self.rle, *self.shape)

    @property
    def coco(self) -> dict[str, Any]:
        """The mask as pycocotools takes it."""
        return {"size": list(self.shape), "counts": self.rle}


#: (x0, y0, x1, y1) in pixels, x1 and y1 excluded.
Region: TypeAlias = tuple[int, int, int, int]

#: Probability from which on a structure counts as present.
PRESENT = 0.5
#: Thresholds of `everything`, chosen for us43d-small with 600 point prompts on 24 validation images: they keep 94 % of
#: the masks whose IoU with a true one is above 0.8, and 2 % of those below 0.3; of a black image and of noise, none.
#: SAM's own model is run with 0.88 and 0.95.
MIN_SCORE, MIN_STABILITY = 0.8, 0.8
#: The longer side of an overlay is at most so many pixels.
_OVERLAY = 2048

#: File name → (frame, prompt); the frame is None where a prompt holds for all of them.
Prompts: TypeAlias = dict[str, list[tuple[int | None, Prompt]]]

# ---------------------------------------------------------------------------------------------------------- segmenting


def prompted(
    predictor: Predictor, prompts: Iterable[Prompt], *, refine: int = 1, postprocess: Postprocess = "sharp"
) -> list[Segment]:
    """Segment what each prompt shows on the image that is set.

    A structure that the model takes for absent (presence below PRESENT) has no segment.

    Raises:
        UsageError: For prompts that lie outside of the image.
    """
    segments = []
    for prompt in prompts:
        predicted = predictor.predict(
            box=prompt.box, points=prompt.points, labels=prompt.labels, structure=prompt.structure, refine=refine,
            postprocess=postprocess,
        )  # fmt: skip
        if predicted.presence < PRESENT:
            continue
        segments.append(Segment.of(prompt, predicted.mask, predicted.score))
    return segments


def within(prompt: Prompt, region: Region) -> Prompt:
    """Move a prompt to the coordinates of a region of the image. Raises UsageError if it lies outside."""
    x0, y0, x1, y1 = region
    points = [*prompt.points, *([prompt.box[:2]] if prompt.box else [])]
    ends = [*prompt.points, *([prompt.box[2:]] if prompt.box else [])]
    if any(x >= x1 or y >= y1 for x, y in points) or any(x < x0 or y < y0 for x, y in ends):
        raise UsageError(
            f"A prompt lies outside of the ultrasound region {x0},{y0},{x1},{y1}.",
            next="the same without --crop-sector",
        )
    return _moved(prompt, -x0, -y0)


def whole(segment: Segment, region: Region, shape: tuple[int, int]) -> Segment:
    """Put a segment of a region into the image of (rows, columns) that the region was cut from."""
    x0, y0, x1, y1 = region
    mask = np.zeros(shape, bool)
    mask[y0:y1, x0:x1] = segment.mask
    return Segment.of(_moved(segment.prompt, x0, y0), mask, segment.score)


def _moved(prompt: Prompt, x: float, y: float) -> Prompt:
    x0, y0, x1, y1 = prompt.box or (0.0, 0.0, 0.0, 0.0)
    box = (x0 + x, y0 + y, x1 + x, y1 + y) if prompt.box else None
    return Prompt(box, tuple((px + x, py + y) for px, py in prompt.points), prompt.labels)


def everything(
    predictor: Predictor,
    *,
    grid: int = 16,
    min_score: float = MIN_SCORE,
    min_stability: float = MIN_STABILITY,
    stability_offset: float = 1.0,
    overlap: float = 0.7,
    refine: int = 1,
    postprocess: Postprocess = "sharp",
) -> list[Segment]:
    """Segment the image that is set from a grid of points; the best masks first, each object once.

    Args:
        predictor: Its image is segmented.
        grid: Points along the longer side.
        min_score: Lowest predicted IoU.
        min_stability: Lowest `stability`.
        stability_offset: Of `stability`, in logits.
        overlap: Of two masks whose IoU is higher, the one with the lower score is excluded (non-maximum suppression).
        refine: As in `Predictor.predict`.
        postprocess: As in `Predictor.predict`.
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
    kept: list[Segment] = []
    step, side = at_once(encoded.shape), predictor.model.config.image_size
    for start in range(0, len(at), step):
        some = at[start : start + step]
        points, labels = point_prompts(torch.tensor(some, dtype=torch.float64), encoded.scale)
        predictions = predictor.segment(
            encoded, points.to(predictor.device), labels.to(predictor.device), refine=refine, postprocess=postprocess
        )
        for place, predicted in zip(some, predictions, strict=True):
            if predicted.score < min_score or not predicted.mask.any():
                continue
            if stability(_inside(predicted.logits, encoded, side), stability_offset) >= min_stability:
                kept.append(Segment.of(Prompt(points=(place,), labels=(1,)), predicted.mask, predicted.score))
    kept.sort(key=lambda segment: -segment.score)
    packed = [segment.coco for segment in kept]
    shared = coco.iou(packed, packed, [0] * len(packed)) if packed else np.zeros((0, 0))
    chosen: list[int] = []
    for n in range(len(kept)):
        if all(shared[n, other] <= overlap for other in chosen):
            chosen.append(n)
    return [kept[n] for n in chosen]


def stability(logits: NDArray[np.float32], offset: float) -> float:
    """IoU of the masks at the thresholds +offset and −offset, 0 if both are empty (Kirillov et al. 2023)."""
    either = int((logits > -offset).sum())
    return int((logits > offset).sum()) / either if either else 0.0


def _inside(logits: NDArray[np.float32], encoded: Encoded, side: int) -> NDArray[np.float32]:
    """The logits of the whole frame without the padding below and to the right of the image."""
    rows, columns = (math.ceil(length * logits.shape[0] / side) for length in encoded.inner)
    return logits[:rows, :columns]


def read_prompts(path: Path) -> Prompts:
    """Read the prompts of a COCO file.

    An annotation's `bbox` [x, y, width, height] is a box, its `keypoints` [x, y, v, …] are points inside where v > 0.
    An image may have a `frame`, from 0, as in predictions.json. Images without an annotation are left out.

    Raises:
        UsageError: With all faults, if the file is not a COCO file, or an annotation has neither a box nor a point.
    """
    prompts: Prompts = {}
    for place, shown in schema.load_prompts(path):
        box = None
        if shown.bbox:
            x, y, width, height = shown.bbox
            box = (x, y, x + width, y + height)
        flat = shown.keypoints or []
        points = tuple((x, y) for x, y, v in zip(flat[::3], flat[1::3], flat[2::3], strict=True) if v > 0)
        prompts.setdefault(place.file_name, []).append((place.frame, Prompt(box, points, (1,) * len(points))))
    return prompts


def matched(prompts: Prompts, files: Sequence[str], path: Path) -> dict[str, list[tuple[int | None, Prompt]]]:
    """Give the prompts of a COCO file to the files they are for.

    A name in the file stands for the file of the same relative path; else for the only one whose path ends with it, or
    which it ends with (`scans/a.png` and `a.png`). Equal base names in different folders are never mixed.

    Args:
        prompts: Of `read_prompts`.
        files: Relative paths of the inputs, with slashes.
        path: The COCO file, for messages.

    Raises:
        UsageError: If a name stands for no file or several, or several names for one file.
    """
    by_base: dict[str, list[str]] = {}
    for file in files:
        by_base.setdefault(PurePosixPath(file).name, []).append(file)
    chosen: dict[str, str] = {}
    missing: list[str] = []
    several: list[str] = []
    for name in prompts:
        plain = name.replace("\\", "/").removeprefix("./")
        candidates = by_base.get(PurePosixPath(plain).name, [])
        ends = [file for file in candidates if f"/{plain}".endswith(f"/{file}") or f"/{file}".endswith(f"/{plain}")]
        exact = [file for file in candidates if file == plain] or ends
        if len(exact) == 1:
            chosen[name] = exact[0]
        else:
            (several if exact else missing).append(name)
    if missing:
        raise UsageError(f"{path} has prompts for {len(missing)} files that are not there: {listed(missing, 5)}.")
    taken = Counter(chosen.values())
    several += [name for name, file in chosen.items() if taken[file] > 1]
    if several:
        raise UsageError(
            f"{path} has file names that do not tell files apart: {listed(several, 5)}. "
            "Write file_name as the path below the input folder."
        )
    if not chosen:
        raise UsageError(f"{path} has no prompt for any file.")
    return {chosen[name]: those for name, those in prompts.items()}


# ------------------------------------------------------------------------------------------------------------- writing


class Writer:
    """Writes below a folder what was found, frame after frame.

    masks/<frame>_<n>.png       0 and 255, one per prompt
    overlays/<frame>.png        outlines and prompts on the picture
    <input>_labels.nii.gz       of a NIfTI input: 0, and n where prompt n found something; the better score on top
    predictions.json            COCO: images, with `spacing_mm` [x, y] where the file gives it, and annotations with
                                compressed RLE, score and prompt
    """

    def __init__(self, folder: Path, categories: Mapping[int, str] | None = None) -> None:
        """categories: id → name of the structures that segments name; one for all if None."""
        self.folder = folder
        self.categories = dict(categories or {1: "structure"})
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.stills: set[str] = set()
        self._volume: tuple[Path, Any, NDArray[np.uint16]] | None = None

    def add(self, media: Media, frame: Frame, segments: list[Segment]) -> None:
        """One frame's masks. Raises StorageError."""
        from pycocotools import mask as coco

        height, width = frame.pixels.shape[:2]
        image = {"id": len(self.images) + 1, "file_name": media.relative, "frame": frame.number, "width": width,
                 "height": height}  # fmt: skip
        if media.spacing:
            image["spacing_mm"] = list(media.spacing)
        self.images.append(image)
        if media.count == 1 and media.kind == "image":
            self.stills.add(media.relative)
        for n, segment in enumerate(segments, 1):
            self._png(f"masks/{frame.name}_{n}.png", segment.mask.view(np.uint8) * 255)
            prompt = {
                "box": segment.prompt.box,
                "points": segment.prompt.points,
                "labels": segment.prompt.labels,
                "structure": segment.prompt.structure,
            }
            self.annotations.append(
                {
                    "id": len(self.annotations) + 1, "image_id": image["id"], "iscrowd": 0,
                    "category_id": segment.category,
                    "segmentation": {"size": [height, width], "counts": segment.rle.decode("ascii")},
                    "bbox": [int(value) for value in coco.toBbox(segment.coco)], "area": int(coco.area(segment.coco)),
                    "score": segment.score, "prompt": {key: value for key, value in prompt.items() if value},
                    "mask": f"masks/{frame.name}_{n}.png",
                }
            )  # fmt: skip
        self._png(f"overlays/{frame.name}.png", _overlay(frame.pixels, segments)[:, :, ::-1])
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
            "categories": [{"id": number, "name": name} for number, name in self.categories.items()],
        }
        return self._write("predictions.json", json.dumps(content, indent=1).encode())

    def _label(self, media: Media, index: int, segments: list[Segment]) -> None:
        if self._volume is None or self._volume[0] != media.path:
            image = nifti(media.path)
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


class _Masks(Sequence[NDArray[np.bool_]]):
    """Masks of segments, decoded one at a time."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        self.segments = segments

    def __len__(self) -> int:
        return len(self.segments)

    def __getitem__(self, index: Any) -> Any:
        return self.segments[index].mask


def _overlay(picture: NDArray[Any], segments: list[Segment]) -> NDArray[np.uint8]:
    """The picture, at least 640 and at most 2048 pixels long, with outlines; prompts are drawn where there is one mask
    alone."""
    prompt = segments[0].prompt if len(segments) == 1 else Prompt()
    points = [(x, y, label) for (x, y), label in zip(prompt.points, prompt.labels, strict=True)]
    side = min(_OVERLAY, max(640, *picture.shape[:2]))
    return report.overlay(picture, {"found": _Masks(segments)}, prompt.box, points, side=side)
