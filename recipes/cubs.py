"""CUBS: both common carotids of 1,088 people; the band between two drawn boundaries, in text files. Beyond US-43d."""

import datetime
from collections.abc import Iterator

from us43d.contract import Citation, Expect, Licence, PaperProfile, Polygon, RawTree, Recipe, Route, Sample
from us43d.errors import UnreadableFile

Points = list[tuple[float, float]]
FEWEST, FAR = 2, 1e5  # points of a boundary; pixels, beyond which no coordinate of a picture lies


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("IMAGES")
    for key in tree.glob("IMAGES/*.tif*"):
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
            tags={"side": side},
        )


def numbers(tree: RawTree, key: str) -> list[list[float]]:
    """The numbers of a text file, line by line; decimal commas are known to occur."""
    try:
        lines = [[float(word.replace(",", ".")) for word in line.split()] for line in tree.text(key).splitlines()]
    except ValueError as error:
        raise UnreadableFile(f"{key} in {tree.root} does not hold numbers: {error}.") from error
    found = [line for line in lines if line]
    if not found or not all(abs(value) < FAR for line in found for value in line):
        raise UnreadableFile(f"{key} in {tree.root} is empty or holds numbers that are no pixels.")
    return found


def boundary(tree: RawTree, key: str) -> Points:
    """A boundary from left to right: a line of x and a line of y, or a point in every line; MATLAB counts from 1."""
    lines = numbers(tree, key)
    flat = len(lines) == 2 and len(lines[0]) == len(lines[1])
    points = list(zip(*lines, strict=True)) if flat else [tuple(line) for line in lines]
    if len(points) < FEWEST or any(len(point) != 2 for point in points):
        raise UnreadableFile(
            f"{key} in {tree.root} is no boundary: neither x and y in two lines, nor a point per line."
        )
    return sorted((point[0] - 1, point[1] - 1) for point in points)


RECIPE = Recipe(
    name="CUBS",
    slug="cubs",
    row=None,
    aliases=("Carotid Ultrasound Boundary Study",),
    title="Carotid Ultrasound Boundary Study (CUBS): an open multicenter analysis of computerized intima-media thickness measurement systems and their clinical impact",
    organ="vessel",
    application="lumen-intima and media-adventitia boundaries (intima-media band) of the common carotid artery",
    media="image2d",
    homepage="https://data.mendeley.com/datasets/fpv535fss7/1",
    doi="10.17632/fpv535fss7.1",
    citations=(
        Citation(
            title="Carotid Ultrasound Boundary Study (CUBS): An Open Multicenter Analysis of Computerized Intima-Media Thickness Measurement Systems and Their Clinical Impact",
            venue="Ultrasound in Medicine and Biology",
            year=2021,
            doi="10.1016/j.ultrasmedbio.2021.03.022",
            bibtex="""@article{meiburger2021cubs,
  title={Carotid Ultrasound Boundary Study ({CUBS}): An Open Multicenter Analysis of Computerized Intima-Media Thickness Measurement Systems and Their Clinical Impact},
  author={Meiburger, Kristen M and others},
  journal={Ultrasound in Medicine and Biology},
  year={2021},
  doi={10.1016/j.ultrasmedbio.2021.03.022}
}""",
        ),
    ),
    licence=Licence(
        id="CC-BY-4.0",
        evidence="As a README of a public project gives it for the Mendeley record; the record itself was not seen.",
        url="https://creativecommons.org/licenses/by/4.0/",
    ),
    access="open",
    access_checked=datetime.date(2026, 11, 1),
    routes=(
        Route(
            kind="mendeley",
            record="fpv535fss7/1",
            url="https://data.mendeley.com/datasets/fpv535fss7/1",
            note="The clinical part; names and ids of its files come from Mendeley's public API.",
        ),
    ),
    labels={"intima_media": "carotid_intima_media"},
    group_kind="patient",
    group_rule="The file name before its last underscore, such as clin_0001: left and right carotid of one person.",
    expect=Expect(images=2176, annotated=2176, masks=2176, groups=1088),
    ignore={
        "*segmentations/[!m]*": "boundaries found by programs",
        "*segmentations/manual-a[!1]*": "boundaries and thicknesses of other observers",
        "*segmentations/manual-a1[!/]*": "boundaries the first observer drew a second time",
        "*segmentations/manual-a1/*_rect.txt": "the box that was measured",
        "*clinicaldatabase-cubs.*": "clinical data of the patients",
        "*readme*": "text",
    },
    paper=PaperProfile(note="Not in the published collection: there is no conversion to follow."),
    known_issues=(
        "There are no masks: the band is the polygon between the boundaries lumen-intima and media-adventitia of the first observer, which is our derivation.",
        "Boundaries are two lines, all x and then all y; one public reader takes a point per line, which is accepted too.",
        "Coordinates are taken to count from 1, as a MATLAB script that reads them does; a pixel is subtracted.",
        "The technical part (Mendeley m7ndn58sv6/1, other folders and names) is not read.",
        "CCAUI (US-43d) shows the same vessel, but outlines the whole artery.",
    ),
    sources=(
        "github tbrokowski/ultatron data/adapters/cubs.py",
        "https://data.mendeley.com/datasets/fpv535fss7/1 (as quoted in public code)",
    ),
    confidence="High: tree, names, counts of images and patients. Medium: layout of the boundary files, licence. Inferred: counting from 1, that every image has boundaries. Unknown: names and sizes of the archives.",
    read=read,
)
