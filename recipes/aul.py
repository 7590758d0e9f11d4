"""AUL: 735 livers, the organ and its mass drawn as polygons; a third polygon outlines the field of view."""

import datetime
import json
import math
from collections.abc import Iterator
from pathlib import PurePath

from us43d.contract import Citation, Expect, Licence, PaperProfile, Polygon, RawFile, RawTree, Recipe, Route, Sample
from us43d.errors import UnreadableFile

#: Their outline/ holds the polygon of the liver (UltraBench).
OUTLINE_IS_LIVER = {"Malignant/229", "Malignant/306"}


def read(raw: RawTree) -> Iterator[Sample]:
    for found in raw.glob("**/image/[0-9]*.jpg"):
        *above, kind, _, name = found.split("/")
        number = PurePath(name).stem
        folder = "/".join((*above, kind, "segmentation"))
        drawn = {part: f"{folder}/{part}/{number}.json" for part in ("liver", "mass", "outline")}
        shapes = {part: polygon(raw, file) for part, file in drawn.items() if raw.has(file)}
        view, remarks = shapes.pop("outline", None), []
        if f"{kind}/{number}" in OUTLINE_IS_LIVER and view:
            shapes["liver"], view = shapes.get("liver", view), None
            remarks.append("the liver was filed as the field of view")
        if view:
            remarks.append(f"field of view outlined: {len(view.points)} points, no structure")
        if "liver" not in shapes:
            remarks.append("no liver polygon")
        if "mass" in shapes:
            shapes[f"{kind.lower()}_mass"] = shapes.pop("mass")
        elif kind != "Normal":
            remarks.append("no mass polygon")
        yield Sample(
            key=f"{kind}/image/{name}",
            image=raw.path(found),
            masks=shapes,
            group=f"{kind}/{number}",
            tags={"diagnosis": kind.lower()},
            remarks=tuple(remarks),
        )


def polygon(raw: RawTree, key: str) -> Polygon:
    """The one polygon of a file: [[x, y], …] in pixels."""
    where = f"{raw.prefix}{key} in {raw.root}"
    try:
        points = tuple((float(x), float(y)) for x, y in json.loads(raw.text(key)))
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise UnreadableFile(f"{where} is no polygon: {error}.") from error
    if len(points) < 3 or not all(math.isfinite(x) and abs(x) < 1 << 15 for point in points for x in point):
        raise UnreadableFile(f"{where} is no polygon of three or more points in a picture.")
    return Polygon(points)


RECIPE = Recipe(
    name="AUL",
    slug="aul",
    row="AUL",
    aliases=("Annotated Ultrasound Liver images",),
    title="Annotated Ultrasound Liver images",
    organ="liver",
    application="liver and liver mass segmentation, mass classification",
    media="image2d",
    homepage="https://zenodo.org/records/7272660",
    doi="10.5281/zenodo.7272660",
    citations=(
        Citation(
            title="Improving artificial intelligence pipeline for liver malignancy diagnosis using ultrasound images and video frames",
            venue="Briefings in Bioinformatics 24(1): bbac569",
            year=2023,
            doi="10.1093/bib/bbac569",
            bibtex="""@article{xu2023improving,
  title={Improving artificial intelligence pipeline for liver malignancy diagnosis using ultrasound images and video frames},
  author={Xu, Yiming and Zheng, Bowen and Liu, Xiaohong and others},
  journal={Briefings in Bioinformatics},
  volume={24},
  number={1},
  pages={bbac569},
  year={2023},
  doi={10.1093/bib/bbac569}
}""",
        ),
    ),
    licence=Licence(
        id="CC-BY-4.0",
        evidence="Zenodo record 7272660, as a catalogue of open datasets reads it; the record also asks users to contact and credit the authors.",
    ),
    access="open",
    access_checked=datetime.date(2026, 11, 1),
    routes=(
        Route(
            kind="zenodo",
            record="7272660",
            url="https://zenodo.org/records/7272660",
            files=tuple(
                RawFile(name=f"{kind}.zip", url=f"https://zenodo.org/records/7272660/files/{kind}.zip?download=1")
                for kind in ("Benign", "Malignant", "Normal")
            ),
            note="Sizes and md5 come from the record's API. Its files-archive gives one zip that holds the three; it is read too.",
        ),
    ),
    labels={"liver": "liver", "benign_mass": "liver_lesion", "malignant_mass": "liver_lesion"},
    diagnoses={"benign_mass": "benign", "malignant_mass": "malignant"},
    group_kind="patient",
    group_rule="Each image is described as one of another patient (UltraBench), so class and number are the patient.",
    expect=Expect(
        images=735,
        annotated=734,  # with a liver; 735 are published, but the field of view counts there
        groups=735,
        tags={"diagnosis=benign": 200, "diagnosis=malignant": 435, "diagnosis=normal": 100},
    ),
    ignore={
        "*benign.zip": "unpacked beside",
        "*malignant.zip": "unpacked beside",
        "*normal.zip": "unpacked beside",
    },
    nested=("*benign.zip", "*malignant.zip", "*normal.zip"),
    paper=PaperProfile(
        note="Benign and malignant masses are one class. The published conversion also has the field of view as objects of a class 'outline', as the line meant to skip it tests the wrong part of the path; they are left out here too.",
        labels={"benign_mass": "mass", "malignant_mass": "mass"},
    ),
    known_issues=(
        "The polygon in outline/ is the field of view, no structure: it gets no label, and a remark.",
        "Malignant/229 and Malignant/306: outline/ holds the liver, and the true outline is missing; it is read as the liver.",
        "Malignant/374 has no liver polygon, the only one by UltraBench; whether it has a mass was not read.",
        "The liver polygon encloses the mass; both are kept as drawn.",
        "Text may be burnt in outside the fan; the outline polygon could blank it.",
    ),
    sources=(
        "github CAMMA-public/UltraSam datasets/datasets/AUL.py",
        "github zhuqh19/UltraSAM3 datasets/Liver/Scripts/convert_liver_annotated_to_coco.py",
        "github adamtupper/ultrabench src/ultrabench/process/aul.py, src/ultrabench/download/aul.py, data/splits/aul_*, wiki",
        "github TIanCat/open-medical-ultrasound-datasets datasets/05_liver_gallbladder/0503.yaml",
        "public code (AUL to SAM2 converter)",
    ),
    confidence="High for reading: tree, form of the JSON and counts agree in several readers. That each image is another patient is UltraBench's word; another catalogue calls the patients unknown. The record's page was not seen.",
    read=read,
)
