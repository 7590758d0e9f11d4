"""kidneyUS: 534 images of kidneys, each drawn by two sonographers: the capsule, and three regions within it."""

import datetime
import json
import re
from collections.abc import Iterator

from us43d import masks
from us43d.contract import (
    Citation,
    Expect,
    Fix,
    Lazy,
    Licence,
    PaperProfile,
    RawFile,
    RawTree,
    Recipe,
    Route,
    Sample,
    lazy,
)  # fmt: skip
from us43d.errors import UnreadableFile, listed
from us43d.rawtree import Row

REGIONS = {"central_echo_complex": 1, "medulla": 2, "cortex": 3}
#: Sonographer → what stands before the labels of the masks.
READERS = {1: "", 2: "sonographer_2_"}
TABLE = "labels/reviewed_labels_1.csv"
NAME = re.compile(r"(?:.*/)?((\d+)_(IM-[^/]+)_anon\.png)", re.IGNORECASE)


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("labels/reviewed_masks_1")
    described = {row["filename"]: row for row in tree.rows(TABLE, ("filename", "file_attributes"))}
    spacing = spacings(raw)
    images = {
        match[1]: (key, int(match[2]), match[3])
        for key in raw
        if not key.startswith(f"{tree.prefix}labels/") and (match := NAME.fullmatch(key))
    }
    # A copy of an image has another number before the same rest of the name; the original's is the smallest.
    patient: dict[str, int] = {}
    for _, number, rest in images.values():
        patient[rest] = min(number, patient.get(rest, number))
    if missing := sorted(set(images) - set(described)):
        raise UnreadableFile(f"{tree.path(TABLE)} has no row of {listed(missing)}.")
    for name, (key, number, rest) in sorted(images.items()):
        drawn: dict[str, Lazy] = {}
        for reader, prefix in READERS.items():
            capsule, regions = (
                lazy(masks.grey, tree.path(f"labels/reviewed_masks_{reader}/{kind}/{name}"))
                for kind in ("capsule", "regions")
            )
            drawn[f"{prefix}capsule"] = lazy(masks.nonzero, capsule)
            known = lazy(masks.label_map, regions, tuple(REGIONS.values()))
            drawn |= {f"{prefix}{label}": lazy(masks.equal, known, value) for label, value in REGIONS.items()}
        yield Sample(
            key=name,
            image=raw.path(key),
            masks=drawn,
            group=str(patient[rest]),
            spacing_mm=spacing.get(rest),
            tags=tags(described[name]),
            remarks=(f"copy: of an image numbered {patient[rest]}",) if number != patient[rest] else (),
        )


def tags(row: Row) -> dict[str, str | bool]:
    """What the first sonographer said of the image."""
    try:
        said = json.loads(row["file_attributes"])
        known = {name.lower(): str(said[name]) for name in ("Quality", "View") if said.get(name)}
        return {**known, "transplant": "transplant" in str(said.get("Comments", "")).lower()}
    except (ValueError, TypeError, AttributeError) as error:
        raise UnreadableFile(f"{row.where}: file_attributes is {row['file_attributes']!r}: {error}.") from error


def spacings(raw: RawTree) -> dict[str, tuple[float, float]]:
    """Name without its number → (x, y) in mm, from the table of transducers, whose cm per pixel are 1 where unknown."""
    found = {}
    for row in raw.sheet(raw.one("**/OpenKidneyUltrasoundDataSet_TransducerInfo.xlsx"), ("Filename",)):
        # The headings begin like this; whether they go on, with a unit, was not seen.
        columns = [name for axis in "XY" for name in row if name.startswith(f"Physical Delta {axis}")]
        if len(columns) != 2:
            raise UnreadableFile(f"{row.where}: there is no column Physical Delta X and Y, but {listed(row)}.")
        x, y = (row.number(name) if row[name] else 1 for name in columns)
        if x != 1 and y != 1:
            found[row["Filename"].partition("_")[2]] = (10 * x, 10 * y)
    return found


RECIPE = Recipe(
    name="kidneyUS",
    slug="kidneyus",
    row="kidneyUS",
    aliases=("Open Kidney", "Open Kidney Ultrasound Data Set"),
    title="The Open Kidney Ultrasound Data Set",
    organ="kidney",
    application="segmentation of the capsule and the regions of native and transplanted kidneys",
    media="image2d",
    homepage="https://rsingla.ca/kidneyUS/",
    citations=(
        Citation(
            title="The Open Kidney Ultrasound Data Set",
            venue="ASMUS 2023 (MICCAI workshop), LNCS; arXiv 2206.06657",
            year=2023,
            doi="10.1007/978-3-031-44521-7_15",
            bibtex="""@inproceedings{singla2023openkidney,
  title={The Open Kidney Ultrasound Data Set},
  author={Singla, Rohit and Ringstrom, Cailin and Hu, Grace and Lessoway, Victoria and Reid, Janice and Nguan, Christopher and Rohling, Robert},
  booktitle={Simplifying Medical Ultrasound (ASMUS)},
  year={2023},
  doi={10.1007/978-3-031-44521-7_15},
  note={arXiv:2206.06657}
}""",
        ),
    ),
    licence=Licence(
        id="CUSTOM",
        name="CC BY-NC-SA, version not stated",
        url="https://github.com/rsingla92/kidneyUS#license",
        evidence="README: CC BY-NC-SA for data and code, without a version and without a LICENSE file. Images come only after registration and a check by a person, so they are not to be passed on.",
        commercial=False,
        redistribute=False,
        derivatives=True,
        share_alike=True,
        attribution=True,
    ),
    access="request",
    access_checked=datetime.date(2026, 11, 1),
    access_note="Fill in the form; a person checks it and sends a OneDrive link to the images. The masks are open on GitHub. That the form still works was not checked.",
    routes=(
        Route(
            kind="manual",
            url="https://ubc.ca1.qualtrics.com/jfe/form/SV_1TfBnLm1wwZ9srk",
            files=(
                RawFile(name="kidneyUS_images_14_june_2022.zip"),
                RawFile(
                    name="kidneyUS-becfa9a897df8a4735105a9969432608a206402e.zip",
                    url="https://codeload.github.com/rsingla92/kidneyUS/zip/becfa9a897df8a4735105a9969432608a206402e",
                    generated=True,
                ),
            ),
            note="Images by request, masks from the repository. A later delivery of the images is a folder kidneyUS_images_25_june_2025. sha256 of the tables in the repository: reviewed_labels_1.csv 81ada086a1ad38e865c8d99629385c4f3b3849ba2425cbf07516ada15b991251, reviewed_labels_2.csv 7682645a6ff25333bc378be0e420977d6999e4813b76771467364fef7c1088e8.",
        ),
    ),
    labels={
        f"{prefix}{label}": structure
        for prefix in READERS.values()
        for label, structure in {
            "capsule": "kidney",
            "central_echo_complex": "renal_sinus",
            "medulla": "renal_medulla",
            "cortex": "renal_cortex",
        }.items()
    },
    group_kind="patient",
    group_rule="The number before the first underscore, of a copy that of its original: names that are equal after it are one image, the smallest number is the original's.",
    expect=Expect(images=534, annotated=486, groups=501),
    ignore={
        "*reviewed_labels_2.csv": "the second sonographer's outlines, which the masks hold",
        "*kidneyus_images_*.csv": "the repository's tables again, in the later delivery",
        "*.docx": "guidelines for the sonographers",
        "*.pdf": "datasheet",
        "*labels/images/*": "pictures that an older state of the repository has; the images come by request",
        "*/src/*": "the owners' code",
        "*.md": "text of the repository",
        "*labels/readme_labels": "text of the repository",
        "*kidneyuslogo.png": "picture of the README",
        "*.gitignore": "settings of the repository",
        "*requirements*.txt": "settings of the repository",
    },
    fixes=(
        Fix(
            key="169_IM-0885-0035_anon.png",
            reason="the first sonographer's capsule is a stray rectangle and its mask one pixel; the second left it empty",
            drop=True,
        ),
    ),
    paper=PaperProfile(
        note="The first sonographer's capsule alone, called kidney; images without one are left out (487 stay, 486 without the stray pixel). Copies are kept.",
        skip_empty=True,
        labels={
            f"{prefix}{label}": None if prefix or label != "capsule" else "kidney"
            for prefix in READERS.values()
            for label in ("capsule", *REGIONS)
        },
    ),
    known_issues=(
        "Two sonographers drew every image. Labels of the second begin with sonographer_2_ and stand for the same structures, so that each is annotated twice; leave them out where one truth is wanted. Their capsules agree with a Dice of 0.946 on average, 0.41 at worst (486 pairs).",
        "20 files repeat ten images under other numbers, with other tracings (a check within readers); the number of a copy is also that of another patient. They are grouped with their originals and kept.",
        "169_IM-0885-0035: a stray rectangle; left out by a fix.",
        "Of 514 different images 469 have a capsule; the others are of poor quality or show a liver.",
        "The README says one image per patient; 13 numbers have two.",
        "Regions are painted in the order central echo complex, medulla, cortex, later over earlier; overlapping outlines of one class leave holes, as OpenCV's even-odd rule does.",
        "20_IM-0861-0005 has two capsules of the second sonographer.",
        "The series part of the name, IM-nnnn, is not unique to a patient.",
        "Images were not seen: grey ones in one or three channels, some with coloured marks, are expected.",
    ),
    sources=(
        "github rsingla92/kidneyUS @ becfa9a8 (README, tables, workbook, guidelines, datasheet, create_masks.py; all 2,136 masks measured)",
        "github CAMMA-public/UltraSam datasets/datasets/kidneyUS.py",
        "github zhuqh19/UltraSAM3 datasets/Kidney/Scripts/convert_kidneyus_to_coco.py",
        "github adamtupper/ultrabench src/ultrabench/process/open_kidney.py",
        "github TIanCat/open-medical-ultrasound-datasets datasets/09_kidney/0901.yaml",
    ),
    confidence="High for masks, tables, counts and copies, measured on the real files. Computed: 501 numbers of originals; 486 annotated images is a lower bound (the first sonographer's). Not seen: images; the exact headings of the workbook's spacing. Unchecked: the form, the licence's version.",
    read=read,
)
