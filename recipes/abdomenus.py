"""AbdomenUS: abdominal organs in ray-cast simulations from CT (AUS) and in real scans (RUS), masks coloured by organ."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from us43d import masks
from us43d.contract import RawTree, Remarked, Sample, Split, lazy
from us43d.facts import facts, source

COLOURS = facts("abdomenus").colours
#: Outside the field of view, and tissue of no organ (AUS only).
NOTHING = ((0, 0, 0), (10, 10, 10))
PARTS: dict[str, Split] = {"train": "train", "validation": "val", "val": "val", "test": "test"}


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("AUS", "RUS")
    stems = {key.rpartition(".")[0]: key for key in tree.glob("[AR]US/annotations/*/*.png")}
    patterns = [f"[AR]US/images/{subset}/*.{ending}" for subset in PARTS for ending in ("png", "jpg", "jpeg")]
    images = [key for pattern in patterns for key in tree.glob(pattern)]
    for key in sorted(images):
        source, _, subset, name = key.split("/")
        stem = name.rpartition(".")[0]
        mask = stems.get(f"{source}/annotations/{subset}/{stem}")
        painted = lazy(coloured, tree.path(mask)) if mask else None
        simulated = source == "AUS"
        yield Sample(
            key=key,
            image=tree.path(key),
            masks={label: lazy(masks.colour, painted, value, 0) for label, value in COLOURS.items()} if painted else {},
            group=f"AUS/{volume(stem)}" if simulated else "RUS",
            split=PARTS[subset],
            tags={"origin": "simulated" if simulated else "real"},
            drop=None if mask else "no mask is published for this image",
        )


def volume(stem: str) -> str:
    """Return the CT volume of a simulated image: "ct20" of "ct20-29"."""
    stem = stem.removeprefix("resized_")
    return stem.rpartition("-")[0] or stem


def coloured(path: Path) -> Any:
    """Return the RGB pixels of a mask file, without alpha."""
    picture = masks.rgb(path)
    strange = ~masks.colour(picture, NOTHING[0], 0)
    for known in (*NOTHING[1:], *COLOURS.values()):
        strange &= ~masks.colour(picture, known, 0)
    count = int(strange.sum())
    return Remarked(picture, (f"colours outside the code: {count} pixels, of no structure",)) if count else picture


def read_real(raw: RawTree) -> Iterator[Sample]:
    for sample in read(raw):
        simulated = sample.tags["origin"] == "simulated"
        yield replace(sample, drop="simulated (excluded by the paper profile)") if simulated else sample


RECIPE = source(__name__, read, paper=read_real)
