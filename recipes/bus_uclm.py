"""BUS-UCLM: 683 breast images of 38 patients; the colour of the mask says benign (green) or malignant (red)."""

import datetime
from collections.abc import Iterator
from pathlib import Path

from us43d import masks
from us43d.contract import (
    Citation,
    Expect,
    Fix,
    Licence,
    PaperProfile,
    RawFile,
    RawTree,
    Recipe,
    Route,
    Sample,
    lazy,
)  # fmt: skip

GREEN, RED = (0, 255, 0), (255, 0, 0)
TEST = {"COPE", "ANFO", "ELCO", "CRCI", "FLKA"}
CROPPED = "The picture is a part cut out of the frame that its mask was drawn on, so resizing the mask to it misplaces the lesion"


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("BUS-UCLM")
    table = tree.index("BUS-UCLM/INFO.csv", "Image", ("Label", "Doppler", "Marks", "Combined"), sep=";")
    for key in tree.glob("BUS-UCLM/images/*.png"):
        name = Path(key).name
        row, patient = table[name], name.partition("_")[0]
        painted = lazy(masks.rgb, tree.path(f"BUS-UCLM/masks/{name}"))
        yield Sample(
            key=key,
            image=tree.path(key),
            masks={"benign": lazy(masks.colour, painted, GREEN), "malignant": lazy(masks.colour, painted, RED)},
            group=patient,
            split="test" if patient in TEST else None,
            tags={
                "label": row["Label"],
                **{column.lower(): row[column][:1].lower() == "y" for column in ("Doppler", "Marks", "Combined")},
            },
            fit="nearest",
        )


RECIPE = Recipe(
    name="BUS-UCLM",
    slug="bus_uclm",
    row="BUS_UCML",
    aliases=("UCLM",),
    title="BUS-UCLM: Breast ultrasound lesion segmentation dataset",
    organ="breast",
    application="breast lesion segmentation (benign / malignant) with normal images",
    media="image2d",
    homepage="https://data.mendeley.com/datasets/7fvgj4jsp7/3",
    doi="10.17632/7fvgj4jsp7.3",
    citations=(
        Citation(
            title="BUS-UCLM: Breast ultrasound lesion segmentation dataset",
            venue="Scientific Data 12(1): 242",
            year=2025,
            doi="10.1038/s41597-025-04562-3",
            bibtex="""@article{vallez2025bus,
  title={{BUS-UCLM}: Breast ultrasound lesion segmentation dataset},
  author={Vallez, Noelia and Bueno, Gloria and Deniz, Oscar and Rienda, Miguel Angel and Pastor, Carlos},
  journal={Scientific Data}, volume={12}, number={1}, pages={242}, year={2025}, doi={10.1038/s41597-025-04562-3}
}""",
        ),
    ),
    licence=Licence(
        id="CC-BY-4.0",
        evidence="Version 3 of the Mendeley record and the README of the authors' repository. Version 1, which the US-43d table links, was CC BY-NC 3.0; LICENSE.md of the repository has the text of CC BY-NC 4.0.",
    ),
    access="open",
    access_checked=datetime.date(2026, 11, 1),
    access_note="Mendeley often refuses scripts. Version 3 only: version 1 has a non-commercial licence.",
    routes=(
        Route(
            kind="mendeley",
            record="7fvgj4jsp7/3",
            url="https://data.mendeley.com/datasets/7fvgj4jsp7/3",
            files=(
                RawFile(
                    name="7fvgj4jsp7-3.zip",
                    url="https://data.mendeley.com/public-api/zip/7fvgj4jsp7/download/3",
                    generated=True,
                ),
            ),
        ),
        Route(
            kind="kaggle",
            record="orvile/bus-uclm-breast-ultrasound-dataset",
            url="https://www.kaggle.com/datasets/orvile/bus-uclm-breast-ultrasound-dataset",
            files=(RawFile(name="bus-uclm-breast-ultrasound-dataset.zip"),),
            mirror=True,
            note="A third party's copy that torch-em takes for the same data; labelled CC BY-NC-SA 4.0 there.",
        ),
    ),
    labels={"benign": "breast_lesion", "malignant": "breast_lesion"},
    diagnoses={"benign": "benign", "malignant": "malignant"},
    group_kind="patient",
    group_rule="The four letters before '_' in the file name (38 patients).",
    official_split="prepare_partitions.py of the authors: patients COPE, ANFO, ELCO, CRCI and FLKA are the test set.",
    expect=Expect(
        images=683,
        annotated=260,  # 264 as published, less the four that the fixes leave out
        groups=38,
        tags={"label=Normal": 419, "label=Benign": 174, "label=Malignant": 90},
    ),
    fixes=(
        Fix(
            key="BUS-UCLM/images/HESN_002.png",
            reason=f"{CROPPED} (seen: at full size, moved by 33, 43, it fits).",
            drop=True,
        ),
        *(
            Fix(key=f"BUS-UCLM/images/HESN_00{n}.png", reason=f"{CROPPED} (inferred from HESN_002).", drop=True)
            for n in (3, 4, 5)
        ),
    ),
    paper=PaperProfile(
        note="Version 1 of the record, exact colours, images without lesion left out, no use of the authors' split.",
        skip_empty=True,
        labels={"benign": "benign_breast_lesion", "malignant": "malignant_breast_lesion"},
    ),
    known_issues=(
        "The US-43d table spells it BUS_UCML.",
        "264 images have a lesion; 260 are left with the fixes on.",
        "The 13 images of patient HESN have other sizes than their 856 × 606 masks, and an alpha channel. They are parts cut out of the full frame; where on the frame is not published, so the four with a lesion are left out and the nine without are kept. With fixes off their masks are resized by nearest neighbour.",
        "Many frames of a patient are nearly identical: split by patient only.",
        "Column Doppler has one 'Y' among 'Yes' and 'No'.",
        "What changed between versions 1, 2 and 3 is not documented in what was read.",
    ),
    sources=(
        "github noeliavallez/BUS-UCLM-Dataset README.md, LICENSE.md, prepare_partitions.py, extract_coco_annotations.py",
        "github CAMMA-public/UltraSam datasets/datasets/BUS_UCLM.py",
        "github TIanCat/open-medical-ultrasound-datasets datasets/00_breast/0012.yaml (licence per version)",
        "https://huggingface.co/datasets/MedOtter/BUS-UCLM",
        "https://www.nature.com/articles/s41597-025-04562-3",
        "39 real images with masks and the whole table (measured: exact colours, sizes, label counts)",
    ),
    confidence="High. Inferred: that HESN_003 to 005 are cut out as HESN_002 is. Unknown: digests, sizes of the archives.",
    read=read,
)
