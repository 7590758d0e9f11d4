"""FSHD-Heckmatt: cross-sections of muscles of 290 people, one muscle outlined in each. Beyond US-43d."""

from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.errors import RawDataError
from us43d.facts import source


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("images")
    for key in tree.glob("images/*.png"):
        name = key.rpartition("/")[2]
        with tree.reading(name):
            words = name.rpartition(".")[0].split("_")
            if len(words) != 4:
                raise RawDataError(f"{tree.path(key)} is not called <patient>_<muscle>_<side>_<grade>.png.")
            patient, muscle, side, grade = words
            yield Sample(
                key=name,
                image=tree.path(key),
                # Whether masks have two values is not published; `binary` names the values of a file that has more.
                masks={"muscle": lazy(masks.binary, tree.path(f"masks/{name}"))},
                group=patient,
                tags={"muscle": muscle, "side": side, "heckmatt": grade},
            )


RECIPE = source(__name__, read)
