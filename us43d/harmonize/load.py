"""`us43d.load("BUSI", split="train")`: a build as samples with image, masks and metadata."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from us43d import registry
from us43d.contract import Profile
from us43d.errors import BuildError, UsageError
from us43d.harmonize.corpus import SPLITS
from us43d.masks import read, rle
from us43d.paths import Home

__all__ = ["LoadedSample", "Samples", "latest", "load"]


@dataclass(frozen=True)
class LoadedSample:
    """One image of a build. path: its file. meta: what COCO holds of it (id, size; under "us43d" key, group, tags)."""

    path: Path
    meta: dict[str, Any]
    annotations: tuple[dict[str, Any], ...]
    names: dict[int, str]

    @cached_property
    def image(self) -> NDArray[Any]:
        """(h, w) grey or (h, w, 3) RGB; uint8 or uint16. Read when first asked for."""
        return read.image(self.path)

    @cached_property
    def masks(self) -> dict[str, list[NDArray[np.bool_]]]:
        """Structure → its masks, each (h, w) bool, one per annotation."""
        found: dict[str, list[NDArray[np.bool_]]] = {}
        for each in self.annotations:
            counts, (height, width) = each["segmentation"]["counts"], each["segmentation"]["size"]
            mask = rle.decode(counts.encode("ascii"), height, width)
            found.setdefault(self.names[each["category_id"]], []).append(mask)
        return found


class Samples(Sequence[LoadedSample]):
    """The images of a build or of one split of it, by key."""

    def __init__(self, build: Path, split: str | None = None) -> None:
        if split is not None and split not in SPLITS:
            raise UsageError(f"{split!r} is no split: one of {', '.join(SPLITS)}.")
        self.build = build
        self._samples: list[LoadedSample] = []
        for shard in sorted((build / "annotations").glob(f"{split or '*'}-*.json")):
            content = json.loads(shard.read_bytes())
            names = {category["id"]: category["name"] for category in content["categories"]}
            by_image: dict[int, list[dict[str, Any]]] = {}
            for each in content["annotations"]:
                by_image.setdefault(each["image_id"], []).append(each)
            self._samples += (
                LoadedSample(build / image["file_name"], image, tuple(by_image.get(image["id"], ())), names)
                for image in content["images"]
            )

    def __len__(self) -> int:
        return len(self._samples)

    @overload
    def __getitem__(self, index: int) -> LoadedSample: ...
    @overload
    def __getitem__(self, index: slice) -> list[LoadedSample]: ...
    def __getitem__(self, index: int | slice) -> LoadedSample | list[LoadedSample]:
        return self._samples[index]


def latest(home: Home, name: str, profile: Profile | None = None) -> Path | None:
    """The newest finished build of a source: whole before partial before specimen, the us43d profile before others.

    One that leaves nothing out by choice comes before one that does.
    """

    def rank(path: Path) -> tuple[bool | tuple[int, ...], ...]:
        said = path.name.split("-")
        revision = tuple(int(part) for part in said[0][1:].split("s") if part.isdigit())
        lesser = ("specimen", "partial", "skipping", "unfixed")
        return "us43d" in said, *(word not in said for word in lesser), revision

    pattern = "r*s*-*" if profile is None else f"r*s*-{profile}*"
    builds = (path.parent for path in home.builds(name).glob(f"{pattern}/dataset.json"))
    return max(builds, key=rank, default=None)


def load(name: str, split: str | None = None, *, home: str | Path | None = None, version: str | None = None) -> Samples:
    """The samples of a source that was built.

    name: any spelling of the source. split: train, val, test or excluded; all if None. version: the build's folder
    name; the newest full one if None. Raises UnknownName, UsageError, and BuildError if it was not built.
    """
    recipe = registry.find(name)
    place = Home.find(home)
    build = place.build(recipe.name, version) if version else latest(place, recipe.name)
    if build is None or not (build / "dataset.json").is_file():
        which = f" as {version}" if version else ""
        raise BuildError(f"{recipe.name} is not built{which} in {place.root}.", next=f"us43d build {recipe.name}")
    return Samples(build, split)
