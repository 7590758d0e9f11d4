"""OpticNerveSheaths: 464 transorbital images cut around the optic nerve; the nerve with its sheath. Beyond US-43d."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from us43d import masks
from us43d.contract import RawTree, Remarked, Sample, lazy
from us43d.errors import UnreadableFile
from us43d.facts import source


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("IMAGES_256")
    for key in tree.glob("IMAGES_256/*.png"):
        truth = tree.path(f"LABELS_256/{key.rpartition('/')[2]}")
        yield Sample(key=key, image=tree.path(key), masks={"nerve_and_sheath": lazy(outlined, truth)})


def outlined(path: Path) -> Any:
    """Return all that is labelled, with a remark on the values: one, or one for the nerve and one for its sheath."""
    labels = masks.grey(path)
    values = masks.label_values(labels, path)
    if len(values) > 2:
        raise UnreadableFile(f"{path} holds {len(values)} values beside 0, where nerve and sheath are two at most.")
    return Remarked(labels != 0, tuple(f"label value {value} occurs" for value in values))


RECIPE = source(__name__, read)
