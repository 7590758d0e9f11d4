"""SAM 2: SA-1B style images, and folders of frames for videos and volumes.

    <split>/images/<name>.jpg, <name>.json                        SA1BRawDataset
    <split>/images.txt, videos.txt                                their file_list_txt: what has annotations
    <split>/videos/JPEGImages/<video>/<frame>.jpg                 PNGRawDataset(is_palette=False), predictor
    <split>/videos/Annotations/<video>/<object>/<frame>.png       one object for each structure

Frames of one video or volume are images whose keys are "<file>#<frame>"; where several are exported they are a video.
"""

from collections import Counter
from typing import Any

import cv2
import numpy as np

from us43d.export.frames import frame_of, video_name
from us43d.export.run import Block, Finish, Format, png
from us43d.export.selection import Item, Selection
from us43d.export.storage import Store
from us43d.harmonize.shards import canonical_json

__all__ = ["Sam2"]

#: Quality of images that were not published as JPEG; chroma is not subsampled.
_QUALITY = 95


class Sam2(Format):
    fidelity = (
        "Masks of images are RLE and come back equal (IoU 1); masks of frames are the union of a structure (IoU 1). "
        "SAM 2 reads JPEG alone: images not published as JPEG are encoded without chroma subsampling at quality "
        f"{_QUALITY}, which is lossy (counted)."
    )

    def prepare(self, selection: Selection, store: Store) -> None:
        names = Counter[tuple[str, str]]()
        for split, rows in selection.rows.items():
            for row in rows.tolist():
                source = selection.sources[int(selection.corpus.images["source"][row])]["slug"]
                if (place := frame_of(selection.corpus.key(row))) is not None:
                    names[split, video_name(source, place[0])] += 1
        self.videos = {name: frames for name, frames in names.items() if frames > 1}

    def block(self, block: Block) -> None:
        for item in block.items():
            place = frame_of(item.key)
            video = video_name(item.source["slug"], place[0]) if place else ""
            if place and (item.split, video) in self.videos:
                self._frame(block, item, video, place[1])
            else:
                self._image(block, item)

    def _image(self, block: Block, item: Item) -> None:
        file = f"{item.split}/images/{item.name}"
        self._jpeg(block, item, f"{file}.jpg")
        block.write(f"{file}.json", canonical_json(_sa1b(item)))
        block.row(item, f"{file}.jpg")
        if item.shapes:
            block.line(f"{item.split}/images.txt", item.name)
        else:
            block.count("images without annotation, not in images.txt")
        block.count("images")

    def _frame(self, block: Block, item: Item, video: str, frame: int) -> None:
        folder = f"{item.split}/videos"
        file = f"{folder}/JPEGImages/{video}/{frame:05}.jpg"
        self._jpeg(block, item, file)
        block.row(item, file)
        for category in sorted({shape.category for shape in item.shapes}):
            name = f"{folder}/Annotations/{video}/{category + 1:03}/{frame:05}.png"
            block.write(name, png(item.union(category)))
        block.count_merged(item)
        if item.shapes:
            block.line(f"{item.split}/videos.txt", video)
        block.count("frames of videos")

    def _jpeg(self, block: Block, item: Item, name: str) -> None:
        if not item.resized and item.suffix in (".jpg", ".jpeg"):
            block.image(item, name)
            return
        block.write(name, jpeg(block.picture(item)))
        block.count(f"images encoded as JPEG at quality {_QUALITY}")

    def finish(self, finish: Finish) -> None:
        objects = {f"{c.position + 1:03}": c.name for c in finish.selection.categories}
        finish.write("objects.json", canonical_json(objects))
        for split in finish.selection.rows:
            for name in (f"{split}/images.txt", f"{split}/videos.txt"):
                if listed := dict.fromkeys(finish.lines(name)):
                    finish.write(name, "".join(f"{entry}\n" for entry in listed).encode())

    def usage(self, finish: Finish) -> str:
        split = next(iter(finish.selection.rows))
        lines = ["# training configuration of SAM 2, dataset.video_dataset:"]
        if next(finish.lines(f"{split}/images.txt"), None):
            images, listing = finish.literal(split, "images"), finish.literal(split, "images.txt")
            lines.append(
                f"#   images: SA1BRawDataset(img_folder={images}, gt_folder={images}, file_list_txt={listing})"
            )
        if next(finish.lines(f"{split}/videos.txt"), None):
            frames, masks = (finish.literal(split, "videos", name) for name in ("JPEGImages", "Annotations"))
            lengths = [length for (own_split, _), length in self.videos.items() if own_split == split]
            lines += [
                f"#   videos: PNGRawDataset(img_folder={frames}, gt_folder={masks}, "
                f"file_list_txt={finish.literal(split, 'videos.txt')}, is_palette=False)",
                f"#     they have {min(lengths)} to {max(lengths)} frames; SAM 2 skips those with fewer than "
                "num_frames (8 in its configurations)",
                "# video predictor: predictor.init_state(video_path=<a folder of JPEGImages>)",
            ]
        return "\n".join(lines) + "\n"


def jpeg(pixels: Any) -> bytes:
    """Encode (h, w) or (h, w, 3) RGB uint8 as JPEG without chroma subsampling."""
    bgr = np.ascontiguousarray(pixels[..., ::-1]) if pixels.ndim == 3 else pixels
    how = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    whole, data = cv2.imencode(".jpg", bgr, how)
    if not whole:
        raise ValueError(f"OpenCV cannot encode {pixels.shape} {pixels.dtype} as JPEG")
    return bytes(data.tobytes())


def _sa1b(item: Item) -> dict[str, Any]:
    """Return the JSON of an image in SA-1B's form, with the scores of perfect masks, as experts drew them."""
    return {
        "image": {"image_id": item.number, "width": item.width, "height": item.height, "file_name": f"{item.name}.jpg"},
        "annotations": [
            {
                "id": shape.number,
                "segmentation": {"size": [item.height, item.width], "counts": shape.counts.decode("ascii")},
                "bbox": list(shape.bbox),
                "area": shape.area,
                "predicted_iou": 1.0,
                "stability_score": 1.0,
                "crop_box": [0, 0, item.width, item.height],
                "point_coords": [_inside(item, shape)],
                "structure": item.selection.categories[shape.category].name,
            }
            for shape in item.shapes
        ],
        "us43d": {"id": item.id, "source": item.source["name"], "key": item.key, "group": item.group},
    }


def _inside(item: Item, shape: Any) -> list[float]:
    """Return the pixel (x, y) furthest from the boundary of a mask."""
    padded = cv2.copyMakeBorder(item.mask(shape).view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_5)
    y, x = np.unravel_index(int(distance.argmax()), distance.shape)
    return [float(x - 1), float(y - 1)]
