"""Segment whole inputs with prompts, and write the results: masks, COCO RLE, label volumes, overlays."""

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
from us43d.errors import UsageError, counted, listed
from us43d.masks import rle
from us43d.model.geometry import point_prompts
from us43d.model.predictor import Encoded, Postprocess, Predictor, at_once
from us43d.pictures.media import Frame, Media
from us43d.pictures.outputs import PREDICTIONS, Outputs
from us43d.pictures.volume import nifti
from us43d.rawtree import folded

__all__ = [
    "MIN_SCORE", "MIN_STABILITY", "NAMELESS", "PRESENT", "Prompt", "Prompts", "Segment", "Writer", "everything",
    "matched", "prompted", "read_prompts", "stability", "whole", "within",
]  # fmt: skip


class Prompt(NamedTuple):
    """A box prompt, point prompts or both; or the name of a structure.

    Attributes:
        box: (x0, y0, x1, y1) in pixels of the image.
        points: (x, y) in pixels of the image.
        labels: One per point: 1 inside, 0 outside.
        structure: Id of a structure of the taxonomy.
        size: (width, height) of the image for which the prompt was made; None if unknown.
    """

    box: tuple[float, float, float, float] | None = None
    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    structure: int | None = None
    size: tuple[int, int] | None = None

    def check_size(self, height: int, width: int) -> None:
        """Raise UsageError if the prompt was made for an image of another size."""
        if self.size not in (None, (width, height)):
            made = " × ".join(map(str, self.size or ()))
            raise UsageError(f"The image has {width} × {height} pixels, but its prompts are for {made}.")

    def is_beyond(self, height: int, width: int) -> bool:
        """Return whether over a quarter of the box, but not all of it, is outside of an image of this size."""
        if self.box is None:
            return False
        x0, y0, x1, y1 = self.box
        inside = max(0.0, min(x1, width) - max(x0, 0)) * max(0.0, min(y1, height) - max(y0, 0))
        return 0 < inside < 0.75 * (x1 - x0) * (y1 - y0)


class Segment(NamedTuple):
    """The mask predicted for a prompt, compressed: many masks of a large image do not fit into memory.

    Attributes:
        prompt: The prompt.
        rle: COCO's compressed RLE.
        shape: (rows, columns) of the image.
        score: Predicted IoU.
        category: Id of the structure, for models that predict structures and for prompts by name.
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
        return cls(prompt, bytes(packed["counts"]), (mask.shape[0], mask.shape[1]), score, prompt.structure or category)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The mask (h, w) bool, decoded at each access."""
        return rle.decode(self.rle, *self.shape)

    @property
    def coco(self) -> dict[str, Any]:
        """The mask in pycocotools' form."""
        return {"size": list(self.shape), "counts": self.rle}


#: (x0, y0, x1, y1) in pixels, x1 and y1 excluded.
Region: TypeAlias = tuple[int, int, int, int]

#: Lowest probability at which a structure counts as present.
PRESENT = 0.5
#: Thresholds of `everything`, chosen for us43d-small with 600 point prompts on 24 validation images: they keep 94 % of
#: the masks whose IoU with a reference mask is above 0.8, 2 % of those below 0.3, and none of a black image or of
#: noise. SAM's defaults for its own model are 0.88 and 0.95.
MIN_SCORE, MIN_STABILITY = 0.8, 0.8
#: Categories of a `Writer` whose segments have no names.
NAMELESS = {1: "structure"}
#: Largest length of an overlay's longer side, in pixels.
_OVERLAY = 2048

#: File name → (frame, prompt); frame None applies to all frames.
Prompts: TypeAlias = dict[str, list[tuple[int | None, Prompt]]]

# ---------------------------------------------------------------------------------------------------------- segmenting


def prompted(
    predictor: Predictor, prompts: Iterable[Prompt], *, refine: int = 1, postprocess: Postprocess = "sharp"
) -> list[Segment]:
    """Segment the image of `Predictor.set_image` with prompts.

    Args:
        predictor: Its image is segmented.
        prompts: The prompts.
        refine: As in `Predictor.predict`.
        postprocess: As in `Predictor.predict`.

    Returns:
        One segment per prompt; none for a structure with a presence below PRESENT.

    Raises:
        UsageError: A prompt is outside of the image.
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
    """Convert a prompt to coordinates of a region of the image. Raises UsageError for a prompt outside the region."""
    x0, y0, x1, y1 = region
    points = [*prompt.points, *([prompt.box[:2]] if prompt.box else [])]
    ends = [*prompt.points, *([prompt.box[2:]] if prompt.box else [])]
    if any(x >= x1 or y >= y1 for x, y in points) or any(x < x0 or y < y0 for x, y in ends):
        raise UsageError(
            f"A prompt is outside the ultrasound region {x0},{y0},{x1},{y1}.",
            next="the same without --crop-sector",
        )
    return _moved(prompt, -x0, -y0)


def whole(segment: Segment, region: Region, shape: tuple[int, int]) -> Segment:
    """Convert a segment of a region to the image of shape (rows, columns) from which the region was cropped."""
    x0, y0, x1, y1 = region
    mask = np.zeros(shape, bool)
    mask[y0:y1, x0:x1] = segment.mask
    return Segment.of(_moved(segment.prompt, x0, y0), mask, segment.score, segment.category)


def _moved(prompt: Prompt, x: float, y: float) -> Prompt:
    x0, y0, x1, y1 = prompt.box or (0.0, 0.0, 0.0, 0.0)
    box = (x0 + x, y0 + y, x1 + x, y1 + y) if prompt.box else None
    return prompt._replace(box=box, points=tuple((px + x, py + y) for px, py in prompt.points), size=None)


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
    """Segment all objects of the image of `Predictor.set_image` from a grid of points.

    Args:
        predictor: Its image is segmented.
        grid: Points along the longer side.
        min_score: Lowest predicted IoU.
        min_stability: Lowest `stability`.
        stability_offset: Offset of `stability`, in logits.
        overlap: Of two masks whose IoU is higher, the one with the lower score is excluded (non-maximum suppression).
        refine: As in `Predictor.predict`.
        postprocess: As in `Predictor.predict`.

    Returns:
        One segment per object, by descending score.

    Raises:
        UsageError: No image is set.
    """
    from pycocotools import mask as coco

    encoded = predictor.encoded
    if encoded is None:
        raise UsageError("No image is set.", next="predictor.set_image(image)")
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
    """Compute the IoU of the masks at thresholds +offset and −offset; 0 if both are empty (Kirillov et al. 2023)."""
    either = int((logits > -offset).sum())
    return int((logits > offset).sum()) / either if either else 0.0


def _inside(logits: NDArray[np.float32], encoded: Encoded, side: int) -> NDArray[np.float32]:
    """Remove the padding below and to the right of the image from logits of the whole frame."""
    rows, columns = (math.ceil(length * logits.shape[0] / side) for length in encoded.inner)
    return logits[:rows, :columns]


def read_prompts(path: Path) -> Prompts:
    """Read the prompts of a COCO file.

    An annotation's `bbox` [x, y, width, height] is a box prompt; its `keypoints` [x, y, v, …] with v > 0 are positive
    points. An image may have a `frame`, from 0, as in predictions.json. Images without an annotation are skipped.

    Args:
        path: The COCO file.

    Returns:
        File name → (frame, prompt).

    Raises:
        UsageError: The file is not a COCO file, or an annotation has neither a box nor a point; lists all faults.
    """
    prompts: Prompts = {}
    for place, shown in schema.load_prompts(path):
        box = None
        if shown.bbox:
            x, y, width, height = shown.bbox
            box = (x, y, x + width, y + height)
        flat = shown.keypoints or []
        points = tuple((x, y) for x, y, v in zip(flat[::3], flat[1::3], flat[2::3], strict=True) if v > 0)
        size = (place.width, place.height) if place.width and place.height else None
        prompt = Prompt(box, points, (1,) * len(points), size=size)
        prompts.setdefault(place.file_name, []).append((place.frame, prompt))
    return prompts


def matched(prompts: Prompts, files: Sequence[str], path: Path) -> dict[str, list[tuple[int | None, Prompt]]]:
    """Match the prompts of a COCO file to input files.

    A name matches the file with the same relative path; otherwise the only file whose path ends with the name, or with
    whose path the name ends (`scans/a.png` and `a.png`); then the same without regard to case and to how accents are
    composed. Equal base names in different folders are never mixed.

    Args:
        prompts: Result of `read_prompts`.
        files: Relative paths of the inputs, with slashes.
        path: The COCO file, for messages.

    Returns:
        Relative path → (frame, prompt).

    Raises:
        UsageError: A name matches no file or several files, or several names match one file.
    """
    by_base: dict[str, list[str]] = {}
    for file in files:
        by_base.setdefault(PurePosixPath(folded(file)).name, []).append(file)
    chosen: dict[str, str] = {}
    missing: list[str] = []
    several: list[str] = []
    for name in prompts:
        exact: list[str] = []
        for spelling, _ in schema.spellings(name):
            plain = spelling.removeprefix("./")
            candidates = by_base.get(PurePosixPath(folded(plain)).name, [])
            exact = (
                exact
                or [file for file in candidates if file == plain]
                or [file for file in candidates if _ends(plain, file)]
                or [file for file in candidates if _ends(folded(plain), folded(file))]
            )
        if len(exact) == 1:
            chosen[name] = exact[0]
        else:
            (several if exact else missing).append(name)
    if missing:
        raise UsageError(
            f"{path} has prompts for {counted(len(missing), 'file')} not found: {listed(missing, 5)}. The input has "
            f"{counted(len(files), 'file')}: {listed(files, 3)}."
        )
    uses = Counter(chosen.values())
    several += [name for name, file in chosen.items() if uses[file] > 1]
    if several:
        raise UsageError(
            f"{path} has ambiguous file names: {listed(several, 5)}. "
            "Write file_name as the path relative to the input folder."
        )
    if not chosen:
        raise UsageError(f"No prompts found in {path}.")
    return {chosen[name]: placed for name, placed in prompts.items()}


def _ends(a: str, b: str) -> bool:
    """Return whether one path ends with the other."""
    return f"/{a}".endswith(f"/{b}") or f"/{b}".endswith(f"/{a}")


# ------------------------------------------------------------------------------------------------------------- writing


class Writer:
    """Write predictions into a folder, frame by frame.

    masks/<frame>_<n>.png       0 and 255, one per prompt
    overlays/<frame>.png        outlines and prompts on the image
    <input>_labels.nii.gz       for a NIfTI input: 0, and n in the mask of prompt n; the higher score on top
    predictions.json            COCO: images, with `spacing_mm` [x, y] if the file has a spacing, and annotations with
                                compressed RLE, score and prompt; files: the names of all these files

    Predictions that are in the folder already are replaced: their files are removed at the end (`removed`), so that a
    folder never holds masks which its predictions.json does not know. Other files are never replaced.

    Args:
        folder: Destination.
        categories: Id → name of the structures of the segments; one category "structure" if None.
    """

    def __init__(self, folder: Path, categories: Mapping[int, str] | None = None) -> None:
        self.folder = folder
        self.categories = dict(categories or NAMELESS)
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.stills: set[str] = set()
        self.removed = 0
        self._outputs = Outputs(folder)
        self._outputs.claim(PREDICTIONS)
        self._volume: tuple[Path, Any, NDArray[np.uint16]] | None = None

    def add(self, media: Media, frame: Frame, segments: list[Segment]) -> None:
        """Write the masks of a frame. Raises StorageError."""
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
        """Write the label volume of a NIfTI input. Raises StorageError."""
        if self._volume is not None and self._volume[0] == media.path:
            import nibabel

            _, image, labels = self._volume
            shaped = labels.reshape(image.shape[:4], order="F")  # further axes are the values of a pixel
            made = type(image)(shaped, image.affine, image.header)
            made.set_data_dtype(np.uint16)
            made.header.set_slope_inter(1, 0)
            made.header.set_intent("none")  # of an image of vectors
            path = self._outputs.record(f"{media.name}_labels.nii.gz")
            with atomic.storage_errors(path, "Files written before are complete."):
                temporary = path.with_name(f".{path.name}")
                nibabel.loadsave.save(made, temporary)
                temporary.replace(path)
            self._volume = None

    def close(self) -> Path:
        """Write predictions.json, remove the files of earlier predictions and return its path. Raises StorageError."""
        content = {
            "images": self.images,
            "annotations": self.annotations,
            "categories": [{"id": number, "name": name} for number, name in self.categories.items()],
            "files": sorted(self._outputs.names),
        }
        path = self._outputs.write(PREDICTIONS, json.dumps(content, indent=1).encode())
        self.removed = self._outputs.close()
        return path

    def _label(self, media: Media, index: int, segments: list[Segment]) -> None:
        if self._volume is None or self._volume[0] != media.path:
            image = nifti(media.path)
            frames = math.prod(image.shape[2:4])
            self._volume = media.path, image, np.zeros((*image.shape[:2], frames), np.uint16)
        slice_ = self._volume[2][:, :, index]
        for n in sorted(range(len(segments)), key=lambda n: segments[n].score):
            slice_[segments[n].mask.T] = n + 1

    def _png(self, name: str, pixels: NDArray[Any]) -> None:
        _, data = cv2.imencode(".png", np.ascontiguousarray(pixels))
        self._outputs.write(name, data.tobytes())


class _Masks(Sequence[NDArray[np.bool_]]):
    """Sequence of segments' masks, decoded one at a time."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        self.segments = segments

    def __len__(self) -> int:
        return len(self.segments)

    def __getitem__(self, index: Any) -> Any:
        return self.segments[index].mask


def _overlay(image: NDArray[Any], segments: list[Segment]) -> NDArray[np.uint8]:
    """Draw outlines on an image with a longer side of 640 to 2048 pixels; prompts only if there is a single mask."""
    prompt = segments[0].prompt if len(segments) == 1 else Prompt()
    points = [(x, y, label) for (x, y), label in zip(prompt.points, prompt.labels, strict=True)]
    side = min(_OVERLAY, max(640, *image.shape[:2]))
    return report.overlay(image, {"found": _Masks(segments)}, prompt.box, points, side=side)
