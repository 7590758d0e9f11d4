"""Fast-U-Net: fetal abdomens (AC), and once more the heads of HC18 (HC), each half in its own RAR archives."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from us43d import masks
from us43d.contract import RawTree, Remarked, Sample, Split, lazy
from us43d.errors import UnreadableFile
from us43d.facts import source

#: Half → label, and what a mask's name has behind its image's.
HALVES = {"AC": ("fetal_abdomen", ""), "HC": ("fetal_head", "_Annotation")}
PARTS: tuple[Split, ...] = ("train", "val")


def read(raw: RawTree, *, as_paper: bool = False) -> Iterator[Sample]:
    """as_paper: count pure white only, and open it with a square of 12 pixels."""
    tree = raw.at(*HALVES)
    for half, (label, behind) in HALVES.items():
        images, outlines, split = dict[str, str](), dict[str, str](), dict[str, Split]()
        for key in tree.glob(f"{half}/**/*.png"):
            folder, _, name = key.rpartition("/")
            is_mask = "mask" in folder or name.endswith("_Annotation.png")
            (outlines if is_mask else images)[name[:-4]] = key
        for subset in PARTS if images else ():
            lines = tree.text(tree.one(f"{half}/*{subset}.txt")).splitlines()
            split |= {line.split()[0].rpartition("/")[2]: subset for line in lines if line.strip()}
        for name, key in sorted(images.items()):
            with tree.reading(f"{half}/{name}.png"):
                if f"{name}.png" not in split:
                    raise UnreadableFile(
                        f"{key} is in neither train.txt nor val.txt of {tree.prefix}{half} in {tree.root}."
                    )
                mask = tree.path(
                    outlines.get(name + behind, f"{half}/mask/{name}{behind}.png")
                )  # or missing, and so named
                white = lazy(masks.equal, lazy(masks.grey, mask), 255)
                cut = lazy(masks.binary, mask)
                yield Sample(
                    key=f"{half}/{name}.png",
                    image=tree.path(key),
                    masks={label: lazy(masks.opened, white, 12) if as_paper else lazy(filled, cut) if behind else cut},
                    group=f"{half}:{name.partition('_')[0] if half == 'HC' else name}",
                    split=split[f"{name}.png"],
                    tags={"set": half},
                )


def filled(mask: Any) -> Any:
    """Return a head as drawn; should it be a mere outline, as in HC18, the region within."""
    if not mask.any() or masks.opened(mask, 12).any():
        return mask
    region = masks.ellipse(mask)
    return Remarked(region.array, ("the head is drawn as an outline: filled", *region.remarks))


RECIPE = source(__name__, read, paper=partial(read, as_paper=True))
