"""HC18: 999 fetal heads, each drawn as the outline of an ellipse, with pixel size and head circumference in a table."""

from collections.abc import Iterator
from pathlib import Path

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.facts import source

SIZE, CIRCUMFERENCE = "pixel size(mm)", "head circumference (mm)"


def read(raw: RawTree) -> Iterator[Sample]:
    table = raw.index(raw.one("**/training_set_pixel_size_and_HC.csv"), "filename", (SIZE, CIRCUMFERENCE))
    for key in raw.glob("**/*HC.png"):  # in training_set/, which some unpackers do not make
        if "test_set/" in key:
            continue
        name = Path(key).name
        with raw.reading(f"training_set/{name}"):
            pixel, circumference = table[name].number(SIZE), table[name].number(CIRCUMFERENCE)
            outline = lazy(masks.grey, raw.path(f"{key[:-4]}_Annotation.png"))
            yield Sample(
                key=f"training_set/{name}",
                image=raw.path(key),
                masks={"fetal_head": lazy(masks.ellipse, outline, pixel, circumference)},
                group=name.partition("_")[0],
                split="train",
                spacing_mm=(pixel, pixel),
                tags={"hc_mm": circumference},
            )


RECIPE = source(__name__, read)
