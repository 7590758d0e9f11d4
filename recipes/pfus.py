"""PFUS1: sweeps of the pelvic floor of 110 patients; outlines of eight structures on every frame. Beyond US-43d."""

from collections.abc import Iterator

from us43d.contract import Polygon, RawTree, Sample
from us43d.errors import UnreadableFile
from us43d.facts import source

NAMES = ("Pubis", "Urethra", "Bladder", "Uterus", "Vagina", "Anus", "Rectum", "Levator ani muscle")
LABELS = {name: name.lower().replace(" ", "_") for name in NAMES}


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("P000")
    for key in tree.glob("P*/frame_*.png"):
        patient, name = key.split("/")
        number = name.removeprefix("frame_").removesuffix(".png")
        if not number.isdecimal():
            continue  # and the build says that the file was not read
        with tree.reading(key):
            yield Sample(
                key=key,
                image=tree.path(key),
                instances=outlines(tree, f"{key[:-4]}.json"),
                group=patient,
                frame=int(number),
            )


def outlines(tree: RawTree, key: str) -> dict[str, list[Polygon]]:
    """Return label → outlines of a frame; they may overlap, and each is one annotation."""
    polygons: dict[str, list[Polygon]] = {}
    try:
        for entry in tree.json(key):
            points = tuple((float(x), float(y)) for x, y in entry["pol"])
            polygons.setdefault(LABELS[entry["label"]], []).append(Polygon(points))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UnreadableFile(f"{key} in {tree.root} does not hold the outlines of a frame: {error!r}.") from error
    return polygons


RECIPE = source(__name__, read)
