"""CUBS: both common carotids of 1,088 people; the band between two drawn boundaries, in text files. Beyond US-43d."""

from collections.abc import Iterator

from us43d.contract import Polygon, RawTree, Sample
from us43d.errors import UnreadableFile
from us43d.facts import source

Points = list[tuple[float, float]]
FEWEST, FAR = 2, 1e5  # points of a boundary; pixels, an upper bound of coordinates


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("IMAGES")
    for key in tree.glob("IMAGES/*.tif*"):
        with tree.reading(key):
            stem = key.rpartition("/")[2].rpartition(".")[0]
            patient, _, side = stem.rpartition("_")
            inner, outer = (boundary(tree, f"SEGMENTATIONS/Manual-A1/{stem}-{name}.txt") for name in ("LI", "MA"))
            calibration = f"CF/{stem}_CF.txt"
            size = numbers(tree, calibration)[0][0] if tree.has(calibration) else 0.0
            yield Sample(
                key=key,
                image=tree.path(key),
                masks={"intima_media": Polygon((*inner, *reversed(outer)))},
                group=patient,
                spacing_mm=(size, size) if size > 0 else None,
                remarks=() if size > 0 else ("spacing unknown: its file of CF/ is missing or has none",),
                tags={"side": side},
            )


def numbers(tree: RawTree, key: str) -> list[list[float]]:
    """Return the numbers of a text file, line by line; decimal commas are known to occur."""
    try:
        lines = [[float(word.replace(",", ".")) for word in line.split()] for line in tree.text(key).splitlines()]
    except ValueError as error:
        raise UnreadableFile(f"{key} in {tree.root} does not hold numbers: {error}.") from error
    filled = [line for line in lines if line]
    if not filled or not all(abs(value) < FAR for line in filled for value in line):
        raise UnreadableFile(f"{key} in {tree.root} is empty or has values outside the range of pixel coordinates.")
    return filled


def boundary(tree: RawTree, key: str) -> Points:
    """A boundary from left to right: a line of x and a line of y, or a point in every line; MATLAB counts from 1."""
    lines = numbers(tree, key)
    flat = len(lines) == 2 and len(lines[0]) == len(lines[1])
    points = list(zip(*lines, strict=True)) if flat else [tuple(line) for line in lines]
    if len(points) < FEWEST or any(len(point) != 2 for point in points):
        raise UnreadableFile(
            f"{key} in {tree.root} is not a valid boundary: expected x and y in two lines, or a point per line."
        )
    return sorted((point[0] - 1, point[1] - 1) for point in points)


RECIPE = source(__name__, read)
