"""FASS: fetal abdomens, four structures as arrays in pickled .npy files, which are read without running them."""

import datetime
import re
from collections.abc import Iterator

from us43d import masks
from us43d.contract import (
    Citation,
    Expect,
    Licence,
    PaperProfile,
    RawFile,
    RawTree,
    Recipe,
    Route,
    Sample,
    lazy,
)  # fmt: skip
from us43d.errors import RawDataError

STRUCTURES = ("artery", "liver", "stomach", "vein")
NAME = re.compile(r"IMAGES/(P(\d+)_.*)\.png", re.IGNORECASE)


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("IMAGES")
    arrays = raw.at("ARRAY_FORMAT")
    for key in tree.glob("IMAGES/*.png"):
        if (match := NAME.fullmatch(key)) is None:
            raise RawDataError(f"{tree.path(key)} is not named P<patient>_IMG<number>.png.")
        array = arrays.path(f"ARRAY_FORMAT/{match[1]}.npy")
        yield Sample(
            key=key,
            image=tree.path(key),
            masks={
                name: lazy(masks.nonzero, lazy(masks.pickled_array, array, "structures", name)) for name in STRUCTURES
            },
            group=str(int(match[2])),
        )


RECIPE = Recipe(
    name="FASS",
    slug="fass",
    row="FASS",
    aliases=("Fetal Abdominal Structures Segmentation",),
    title="Fetal Abdominal Structures Segmentation Dataset Using Ultrasonic Images",
    organ="fetus",
    application="segmentation of abdominal aorta, intrahepatic umbilical vein, stomach and liver in images of the fetal abdominal circumference",
    media="npy",
    homepage="https://data.mendeley.com/datasets/4gcpm9dsc3/1",
    doi="10.17632/4gcpm9dsc3.1",
    citations=(
        Citation(
            title="Fetal Abdominal Structures Segmentation Dataset Using Ultrasonic Images",
            venue="Mendeley Data, V1",
            year=2023,
            doi="10.17632/4gcpm9dsc3.1",
            bibtex=r"""@misc{dacorreggio2023fetal,
  title={Fetal Abdominal Structures Segmentation Dataset Using Ultrasonic Images},
  author={Da Correggio, Karine Souza and Noya Galluzzo, Roberto and Santos, Lu{\'\i}s Ot{\'a}vio and Soares Muylaert Barroso, Felipe and Zimmermann Loureiro Chaves, Thiago and Casimiro Onofre, Alexandre Sherlley and von Wangenheim, Aldo},
  year={2023},
  publisher={Mendeley Data},
  version={V1},
  doi={10.17632/4gcpm9dsc3.1}
}""",
        ),
    ),
    licence=Licence(id="CC-BY-4.0", evidence="As torch-em's module gives it; the record's page was not read."),
    access="open",
    access_checked=datetime.date(2026, 11, 1),
    routes=(
        Route(
            kind="mendeley",
            record="4gcpm9dsc3/1",
            url="https://data.mendeley.com/datasets/4gcpm9dsc3/1",
            files=(
                RawFile(
                    name="Fetal Abdominal Structures Segmentation Dataset Using Ultrasonic Images.zip",
                    url="https://data.mendeley.com/public-files/datasets/4gcpm9dsc3/files/89e74076-ff57-4e81-9634-4fc29c6128ff/file_downloaded",
                    sha256="bde4ab58689bdbc59fa8c0222d41a9fbe1edf16dab40ac95346b6c2f2a7d22ee",
                ),
            ),
            note="About 1.06 GB: the inner archive itself. The digest is the one torch-em's module carries.",
        ),
        Route(
            kind="mendeley",
            record="4gcpm9dsc3/1",
            url="https://data.mendeley.com/datasets/4gcpm9dsc3/1",
            files=(
                RawFile(
                    name="4gcpm9dsc3-1.zip",
                    url="https://prod-dcd-datasets-cache-zipfiles.s3.eu-west-1.amazonaws.com/4gcpm9dsc3-1.zip",
                ),
            ),
            note="The whole record: the inner archive in a folder of the same name.",
        ),
        Route(
            kind="kaggle",
            record="orvile/fetal-abdominal-structures-segmentation-dataset",
            url="https://www.kaggle.com/datasets/orvile/fetal-abdominal-structures-segmentation-dataset",
            mirror=True,
            note="A third party's copy, not compared with the original.",
        ),
    ),
    labels={
        "artery": "fetal_abdominal_aorta",
        "liver": "fetal_liver",
        "stomach": "fetal_stomach",
        "vein": "fetal_umbilical_vein",
    },
    group_kind="patient",
    group_rule="The digits between P and _ in the file name, as a number (they are padded irregularly).",
    expect=Expect(images=1588),
    nested=("*.zip",),
    paper=PaperProfile(note="The same masks under the same names; images without a visible structure are kept."),
    known_issues=(
        "The .npy files are pickles, which can run code when opened with NumPy's allow_pickle; here only arrays of numbers and containers are admitted, and a file that names anything else is refused.",
        "Artery is the abdominal aorta, vein the intrahepatic umbilical vein.",
        "Masks of different structures overlap on a few pixels; they stay separate.",
        "About 1,555 images are in colour with burnt-in marks, about 33 (of P01, P03, P04, P0149, P0162 to P0166) have one channel.",
        "About 9 images per woman; the record names 169 pregnancies, which were not counted again from the file names.",
        "The whole record is a zip inside a zip.",
    ),
    sources=(
        "github CAMMA-public/UltraSam datasets/datasets/FASS.py",
        "github zhuqh19/UltraSAM3 datasets/Fetal/Scripts/convert_fass_to_coco.py",
        "github constantinpape/torch-em fass module (address, sha256, licence)",
        "github tbrokowski/ultatron data/adapters/maternal_fetal/fetal_abdominal_structures.py (names, shapes, grey files)",
        "github Yusufii9/USF-MAE README.md",
    ),
    confidence="High for address, digest, tree, dictionary, sizes and counts. From memory: authors and year. Not established: whether the inner archive holds a third folder; the Mendeley page was not read.",
    read=read,
)
