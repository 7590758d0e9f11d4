"""BUS-BRA: 1,875 breast images of 1,064 patients, one 1-bit lesion mask each, tables with case, pathology and folds."""

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from us43d import masks
from us43d.contract import (
    Citation,
    Expect,
    Licence,
    PaperProfile,
    RawFile,
    RawTree,
    Recipe,
    Remarked,
    Route,
    Sample,
    lazy,
)  # fmt: skip


def measured(mask: Any, width: int, height: int) -> Any:
    """The mask, with a remark where its size is not the one in the table."""
    if mask.shape == (height, width):
        return mask
    return Remarked(
        mask, (f"size differs from the table: {width} × {height} there, {mask.shape[1]} × {mask.shape[0]} here",)
    )


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("BUSBRA")
    columns = ("Case", "Histology", "Pathology", "BIRADS", "Device", "Width", "Height", "Side")
    cases = tree.index("BUSBRA/bus_data.csv", "ID", columns)
    folds = tree.index("BUSBRA/5-fold-cv.csv", "ID", ("kFold",))
    for key in tree.glob("BUSBRA/Images/bus_*.png"):
        name = Path(key).stem
        case, fold = cases[name], folds[name].whole("kFold")
        mask = lazy(masks.binary, tree.path(f"BUSBRA/Masks/mask_{name.removeprefix('bus_')}.png"))
        yield Sample(
            key=key,
            image=tree.path(key),
            masks={case["Pathology"]: lazy(measured, mask, case.whole("Width"), case.whole("Height"))},
            group=case["Case"],
            split="test" if fold == 1 else None,
            tags={
                "pathology": case["Pathology"],
                "histology": case["Histology"],
                "birads": case["BIRADS"],
                "device": case["Device"],
                "side": case["Side"],
                "fold": fold,
            },
        )


RECIPE = Recipe(
    name="BUS-BRA",
    slug="busbra",
    row="BUS-BRA",
    aliases=("BUSBRA",),
    title="BUS-BRA: A Breast Ultrasound Dataset for Assessing Computer-aided Diagnosis Systems",
    organ="breast",
    application="breast lesion segmentation and classification (benign / malignant, BI-RADS)",
    media="image2d",
    homepage="https://zenodo.org/records/8231412",
    doi="10.5281/zenodo.8231412",
    citations=(
        Citation(
            title="BUS-BRA: A Breast Ultrasound Dataset for Assessing Computer-aided Diagnosis Systems",
            venue="Medical Physics 51(4): 3110-3123",
            year=2024,
            doi="10.1002/mp.16812",
            bibtex=r"""@article{gomezflores2024busbra,
  title={{BUS-BRA}: A Breast Ultrasound Dataset for Assessing Computer-aided Diagnosis Systems},
  author={G{\'o}mez-Flores, Wilfrido and Gregorio-Calas, Maria Julia and Coelho de Albuquerque Pereira, Wagner},
  journal={Medical Physics}, volume={51}, number={4}, pages={3110--3123}, year={2024}, doi={10.1002/mp.16812}
}""",
        ),
    ),
    licence=Licence(
        id="CC-BY-4.0",
        evidence="Zenodo record 8231412; LICENSE.txt in the archive allows use, copying, changing and passing on with its notice and the paper cited. The GPL text of the GitHub repository is for the Matlab code only.",
    ),
    access="open",
    access_checked=datetime.date(2026, 11, 1),
    routes=(
        Route(
            kind="zenodo",
            record="8231412",
            url="https://zenodo.org/records/8231412",
            files=(
                RawFile(
                    name="BUSBRA.zip",
                    url="https://zenodo.org/records/8231412/files/BUSBRA.zip?download=1",
                    sha256="ba3e6ed19cc37c682d8d39e25435bbf8a555a12cb7e641b5f2117685c95580ff",
                ),
            ),
            note="The digest is the one torch-em's module carries.",
        ),
        Route(
            kind="kaggle",
            record="orvile/bus-bra-a-breast-ultrasound-dataset",
            url="https://www.kaggle.com/datasets/orvile/bus-bra-a-breast-ultrasound-dataset",
            mirror=True,
            note="A third party's copy; whether it equals the original was not verified.",
        ),
    ),
    labels={"benign": "breast_lesion", "malignant": "breast_lesion"},
    diagnoses={"benign": "benign", "malignant": "malignant"},
    group_kind="patient",
    group_rule="Column Case of bus_data.csv; a patient often has two images (-l and -r).",
    official_split="Column kFold of 5-fold-cv.csv; the published UltraSam test set is kFold 1 (376 images).",
    expect=Expect(
        images=1875,
        annotated=1875,
        masks=1875,
        groups=1064,
        tags={
            "pathology=benign": 1268,
            "pathology=malignant": 607,
            "fold=1": 376,
            "fold=2": 385,
            "fold=3": 366,
            "fold=4": 365,
            "fold=5": 383,
        },
    ),
    ignore={
        "*busbra/10-fold-cv.csv": "a second partition; the five folds are the ones in use",
        "*busbra/license.txt": "terms of the data",
    },
    paper=PaperProfile(
        note="The same images and masks; label names as published. Were a file missing in the table, the converter would give it label and fold of the one before it, which is an error and not reproduced.",
        labels={"benign": "breast_nodule_benign", "malignant": "breast_nodule_malignant"},
    ),
    known_issues=(
        "Fold sizes: images 376, 385, 366, 365, 383; patients 212, 213, 213, 214, 212; no patient is in two folds.",
        "By image 1,268 benign and 607 malignant; by patient 722 and 342.",
        "bus_0856-l, bus_0857-r, bus_0912-l and bus_0990-l are lower than the table's Height says; image and mask agree.",
        "Keep fold 1 out of any training that is to be compared with UltraSam.",
        "A conversion that splits by image leaks patients.",
    ),
    sources=(
        "github CAMMA-public/UltraSam datasets/datasets/BUS-BRA.py",
        "github wgomezf/BUS-BRA README.md, root.png, BUSBRA-Codes.zip",
        "github constantinpape/torch-em (address, sha256)",
        "github zhuqh19/UltraSAM3 datasets/Breast/Scripts/convert_bus_bra_to_coco.py",
        "Abstract of 10.1002/mp.16812",
        "124 real images with masks and all tables (measured: 1-bit masks, grey images, sizes)",
    ),
    confidence="High. Unknown: size of the archive; what NaN in valid_k means beyond the authors' Matlab code.",
    read=read,
)
