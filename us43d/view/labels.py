"""A labelling session: masks by image, saved at once as a COCO file that training reads (`us43d train --data`).

    <out>/labels.json    COCO: images with patient_id, annotations with compressed RLE, categories
    <out>/images/        the images that were labelled

The file is replaced as a whole under a temporary name, so that it is complete at every moment. An image has a revision,
the digest of what is saved; a window that saves another revision than it read is refused, and reads again.
"""

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from us43d import atomic, limits
from us43d.errors import Busy, Us43dError, UsageError, listed
from us43d.harmonize.taxonomy import taxonomy
from us43d.masks import rle
from us43d.splits.review import Fix
from us43d.view import thumbs
from us43d.view.inputs import Item, Window

__all__ = ["Changed", "Inputs", "Labels"]

#: Ids of structures the taxonomy lacks begin here.
_OWN_STRUCTURES = 1_000_000
#: Structure of what was drawn before a name was typed; it is kept, and cannot be marked as reviewed.
_UNNAMED = "unnamed"
_ORIGINS = ("person", "model", "propagated", "build")
_LONGEST_NAME = 80
#: Objects of an image; ids of annotations leave room for as many.
_MOST_OBJECTS = 1000


class Inputs(Protocol):
    """`us43d.view.inputs` has the images to label."""

    items: list[Item]

    def read(self, number: int, window: Window | None = None) -> NDArray[np.uint8]: ...

    def range(self, number: int) -> Window | None: ...

    def original(self, number: int) -> Path | None: ...


class Confirmed(Protocol):
    """Where the masks that a person confirmed are kept besides: see `us43d.view.fixes`."""

    def held(self) -> dict[int, Fix]: ...

    def of(self, number: int) -> Fix | None: ...

    def record(self, number: int, objects: Sequence[Mapping[str, Any]]) -> None: ...

    def withdraw(self, number: int) -> None: ...


class Changed(Us43dError):
    """Another window saved the image first."""


class Labels:
    """The labels of some images. facts: number → more facts of an image for its `us43d` field. fixes: where those of a
    source are recorded once they are confirmed; labels.json has the drafts.

    Raises Busy if another server has the folder open, UsageError if labels.json there is not a file of labels.
    """

    def __init__(
        self, inputs: Inputs, out: Path, facts: Callable[[int], dict[str, Any]] | None = None,
        fixes: Confirmed | None = None,
    ) -> None:  # fmt: skip
        self.inputs, self.out, self.fixes = inputs, out, fixes
        self.file = out / "labels.json"
        self._facts = facts or (lambda number: {})
        self._lock = threading.RLock()
        self._chunks: dict[int, tuple[str, str]] = {}
        #: Number of an item → its record: objects, patient, reviewed, size.
        self.records: dict[int, dict[str, Any]] = {}
        self._ids: dict[int, int] = {}
        self._others: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
        self._categories: dict[str, dict[str, Any]] = {
            c.name: {"id": c.id, "name": c.name, "supercategory": c.organ} for c in taxonomy().categories
        }
        self._used: set[str] = set()
        with atomic.storage_errors(out, "Nothing was changed on disk."):
            self._made = not out.exists()
            out.mkdir(parents=True, exist_ok=True)
            self._only_one = FileLock(out / ".lock", thread_local=False)  # the server's thread releases it
            try:
                self._only_one.acquire(timeout=0)
            except Timeout as error:
                raise Busy(f"{out} is open in another us43d label.", next="use its page, or end it first") from error
            for left in out.glob(f".{self.file.name}.*.tmp"):  # of a server that was killed while it saved
                left.unlink()
        try:
            self._load()
        except BaseException:
            self._only_one.release()
            raise

    def close(self) -> None:
        """Let others open the folder; a new one in which nothing was saved is removed."""
        if self._made and not self.file.exists():
            with suppress(OSError):  # other files were put there, or the system keeps open ones
                (self.out / ".lock").unlink()
                self.out.rmdir()
        self._only_one.release()

    # ---------------------------------------------------------------------------------------------------------- reading

    def _load(self) -> None:
        try:
            content = limits.parsed_json(self.file.read_bytes().decode("utf-8-sig"))
            images, annotations = list(content["images"]), list(content["annotations"])
            for entry in content["categories"]:
                self._categories[str(entry["name"])] = {
                    "id": int(entry["id"]), "name": str(entry["name"]),
                    "supercategory": str(entry.get("supercategory", "")),
                }  # fmt: skip
            names = {entry["id"]: name for name, entry in self._categories.items()}
            place = {(item.input, item.frame): n for n, item in enumerate(self.inputs.items)}
            by_image: dict[int, list[dict[str, Any]]] = {}
            for annotation in annotations:
                by_image.setdefault(int(annotation["image_id"]), []).append(annotation)
            for image in images:
                own = image["us43d"]
                number = place.get((own["input"], own["frame"]))
                stored = by_image.get(int(image["id"]), [])
                if number is None:  # a file that is not there today keeps its labels
                    self._others[0].append(image)
                    self._others[1].extend(stored)
                    continue
                self._ids[number] = int(image["id"])
                self.records[number] = {
                    "objects": [
                        {"structure": names[int(a["category_id"])], "rle": a["segmentation"]["counts"],
                         "origin": a["us43d"]["origin"]}
                        for a in stored
                    ],
                    "patient": str(image["patient_id"]), "reviewed": bool(own["reviewed"]),
                    "size": (int(image["height"]), int(image["width"])), "file": str(image["file_name"]),
                }  # fmt: skip
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{self.file} was not written by us43d label: {error!r}.",
                next=f"us43d label … --out ANOTHER_FOLDER, or move {self.file} away",
            ) from error
        self._used = {entry["structure"] for record in self.records.values() for entry in record["objects"]}
        self._used |= {names[int(a["category_id"])] for a in self._others[1]}
        for number in self.records:
            self._chunks[number] = self._chunk(number)

    def structures(self) -> list[dict[str, Any]]:
        """Return all names to choose from: those of the taxonomy and new ones; those in use first."""
        used = self._used | set(getattr(self.inputs, "structures", ()))
        with self._lock:
            entries = [
                {"name": name, "organ": entry["supercategory"], "colour": thumbs.colour(entry["id"]),
                 "used": name in used}
                for name, entry in self._categories.items()
                if name != _UNNAMED
            ]  # fmt: skip
        return sorted(entries, key=lambda entry: (not entry["used"], entry["name"]))

    def summary(self) -> list[dict[str, Any]]:
        """Return one entry per item: name, objects, reviewed, group."""
        fixes = self.fixes.held() if self.fixes else None
        with self._lock:
            return [
                {"name": item.name, "input": item.input, "frame": item.frame, "group": item.group, "id": item.id,
                 "objects": len(self.records[n]["objects"]) if n in self.records else 0,
                 "draft": n in self.records and any(o["origin"] == "propagated" for o in self.records[n]["objects"]),
                 "reviewed": n in fixes if fixes is not None else n in self.records and self.records[n]["reviewed"]}
                for n, item in enumerate(self.inputs.items)
            ]  # fmt: skip

    def state(self, number: int) -> dict[str, Any]:
        """Return an image's revision, objects, patient and whether it was reviewed."""
        item = self.inputs.items[number]
        with self._lock:
            record = self.records.get(number)
            start = getattr(self.inputs, "objects", None)
            objects = record["objects"] if record else start(number) if start else []
            reviewed = bool(record and record["reviewed"])
            if self.fixes and (record is None or reviewed):
                fix = self.fixes.of(number)
                reviewed = fix is not None
                if fix:
                    objects = [mask._asdict() | {"origin": "person"} for mask in fix.masks]
            return {
                "number": number, "name": item.name, "revision": self._revision(number), "objects": objects,
                "patient": record["patient"] if record else item.patient,
                "reviewed": reviewed, "spacing": item.spacing or [],
                "saved": record is not None, "id": item.id,
            }  # fmt: skip

    # ----------------------------------------------------------------------------------------------------------- saving

    def save(
        self, number: int, revision: int, objects: Iterable[dict[str, Any]], *, patient: str | None = None,
        reviewed: bool = False,
    ) -> int:  # fmt: skip
        """Save the objects of an image; returns its new revision.

        Raises Changed if another window saved it since, UsageError for an invalid mask or name, StorageError.
        """
        item = self.inputs.items[number]
        with self._lock:
            if revision != self._revision(number):
                raise Changed(f"{item.name} was changed in another window.")
        size = self.records[number]["size"] if number in self.records else self.inputs.read(number).shape[:2]
        checked = [_checked(entry, size) for entry in objects]
        if len(checked) >= _MOST_OBJECTS:
            raise UsageError(f"An image takes fewer than {_MOST_OBJECTS} objects, not {len(checked)}.")
        if reviewed and any(entry["structure"] == _UNNAMED for entry in checked):
            raise UsageError("An object has no name of a structure.")
        known = {_UNNAMED, *(category.name for category in taxonomy().categories)} if self.fixes else None
        if known is not None and (unknown := sorted({entry["structure"] for entry in checked} - known)):
            raise UsageError(
                f"{listed(unknown)}: not in the taxonomy, and masks of a source take no other names.",
                next="us43d taxonomy",
            )
        owner = (item.patient if patient is None else patient).strip()[:_LONGEST_NAME] or item.patient
        with self._lock:
            if revision != self._revision(number):
                raise Changed(f"{item.name} was changed in another window.")
            before = self.records.get(number)
            self._put(number, {"objects": checked, "patient": owner, "reviewed": reviewed, "size": tuple(size)})
            try:
                self._write()
                if self.fixes and reviewed:
                    self.fixes.record(number, checked)
                elif self.fixes and before and before["reviewed"]:
                    self.fixes.withdraw(number)
            except BaseException:
                if before is None:
                    self.records.pop(number, None)
                    self._chunks.pop(number, None)
                else:
                    self.records[number] = before
                    self._chunks[number] = self._chunk(number)
                raise
            return self._revision(number)

    def _revision(self, number: int) -> int:
        """Return the digest of what is saved of an image, which a restart does not change; 0 if nothing is saved."""
        chunk = "\n".join(self._chunks.get(number, ()))
        return int(hashlib.sha256(chunk.encode()).hexdigest()[:12], 16) if chunk else 0  # a number of JavaScript

    def _put(self, number: int, record: dict[str, Any]) -> None:
        for entry in record["objects"]:
            name = entry["structure"]
            self._used.add(name)
            if name not in self._categories:
                top = max([_OWN_STRUCTURES, *(c["id"] for c in self._categories.values())])
                self._categories[name] = {"id": top + 1, "name": name, "supercategory": ""}
        if number not in self._ids:
            used = [*self._ids.values(), *(int(image["id"]) for image in self._others[0])]
            self._ids[number] = max(used, default=0) + 1
        record["file"] = self.records[number]["file"] if number in self.records else self._kept(number)
        self.records[number] = record
        self._chunks[number] = self._chunk(number)

    def _kept(self, number: int) -> str:
        """Put an image into the folder; returns its name there."""
        item, original = self.inputs.items[number], self.inputs.original(number)
        safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in item.name)[:80].lstrip(".") or "image"
        stem = f"{safe}-{hashlib.sha256(f'{item.input} {item.frame}'.encode()).hexdigest()[:8]}"
        name = f"images/{stem}{original.suffix.lower() if original else '.png'}"
        with atomic.storage_errors(self.out, "Labels saved before are complete."):
            (self.out / "images").mkdir(exist_ok=True)
            if original:
                atomic.link_or_copy(original, self.out / name)
            else:
                atomic.write_bytes(self.out / name, thumbs.png(self.inputs.read(number)))
        return name

    def _chunk(self, number: int) -> tuple[str, str]:
        """Return an image's entries of the COCO file, as JSON without the brackets."""
        item, record, image = self.inputs.items[number], self.records[number], self._ids[number]
        height, width = record["size"]
        entry = {
            "id": image, "file_name": record["file"], "width": width, "height": height, "patient_id": record["patient"],
            "us43d": {
                "input": item.input, "frame": item.frame, "reviewed": record["reviewed"],
                "spacing_mm": list(item.spacing) if item.spacing else None, **self._facts(number),
            },
        }  # fmt: skip
        annotations = []
        for n, drawing in enumerate(record["objects"]):
            mask = rle.decode(drawing["rle"].encode("ascii"), height, width)
            x, y, w, h = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
            annotations.append(
                {"id": image * _MOST_OBJECTS + n, "image_id": image,
                 "category_id": self._categories[drawing["structure"]]["id"],
                 "segmentation": {"size": [height, width], "counts": drawing["rle"]}, "area": int(mask.sum()),
                 "bbox": [x, y, w, h], "iscrowd": 0, "us43d": {"origin": drawing["origin"]}}
            )  # fmt: skip
        return json.dumps(entry, ensure_ascii=False), ",\n".join(json.dumps(a) for a in annotations)

    def _write(self) -> None:
        order = sorted(self._chunks)
        images = [self._chunks[n][0] for n in order] + [
            json.dumps(image, ensure_ascii=False) for image in self._others[0]
        ]
        annotations = [self._chunks[n][1] for n in order if self._chunks[n][1]]
        annotations += [json.dumps(annotation) for annotation in self._others[1]]
        used = sorted((c for name, c in self._categories.items() if name in self._used), key=lambda c: int(c["id"]))
        parts = [f'"{name}": [\n' + ",\n".join(entries) + "\n]" for name, entries in (
            ("images", images), ("annotations", annotations),
            ("categories", [json.dumps(c, ensure_ascii=False) for c in used]),
        )]  # fmt: skip
        with atomic.storage_errors(self.file, "Labels saved before are complete."):
            atomic.write_bytes(self.file, ("{" + ",\n".join(parts) + "}\n").encode())


def _checked(entry: Any, size: tuple[int, ...]) -> dict[str, Any]:
    """Return an object that a page sent.

    Raises:
        UsageError: If it is invalid.
    """
    try:
        name, text, origin = entry["structure"], entry["rle"], entry.get("origin", "person")
        if not isinstance(name, str) or not isinstance(text, str) or origin not in _ORIGINS:
            raise ValueError("a name and a mask are needed")
        name = " ".join(name.split())
        if not name or len(name) > _LONGEST_NAME or not name.isprintable():
            raise ValueError(f"{name[:_LONGEST_NAME]!r} cannot name a structure")
        mask = rle.decode(text.encode("ascii"), size[0], size[1])
        if not mask.any():
            raise ValueError("the mask is empty")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UsageError(f"Invalid object: {error}.") from error
    return {"structure": name, "rle": text, "origin": origin}
