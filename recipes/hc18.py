"""HC18: 999 fetal heads, each drawn as the outline of an ellipse, with pixel size and head circumference in a table."""

import datetime
from collections.abc import Iterator
from pathlib import Path

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

SIZE, CIRCUMFERENCE = "pixel size(mm)", "head circumference (mm)"


def read(raw: RawTree) -> Iterator[Sample]:
    table = raw.index(raw.one("**/training_set_pixel_size_and_HC.csv"), "filename", (SIZE, CIRCUMFERENCE))
    for found in raw.glob("**/*HC.png"):  # in training_set/, which some unpackers do not make
        if "test_set/" in found:
            continue
        name = Path(found).name
        pixel = table[name].number(SIZE)
        yield Sample(
            key=f"training_set/{name}",
            image=raw.path(found),
            masks={"fetal_head": lazy(masks.ellipse, lazy(masks.grey, raw.path(f"{found[:-4]}_Annotation.png")))},
            group=name.partition("_")[0],
            split="train",
            spacing_mm=(pixel, pixel),
            tags={"hc_mm": table[name].number(CIRCUMFERENCE)},
        )


RECIPE = Recipe(
    name="HC18",
    slug="hc18",
    row="HC",
    title="HC18: Automated measurement of fetal head circumference using 2D ultrasound images",
    organ="fetus",
    application="fetal head circumference, head segmentation",
    media="image2d",
    homepage="https://hc18.grand-challenge.org/",
    doi="10.5281/zenodo.1327317",
    citations=(
        Citation(
            title="Automated measurement of fetal head circumference using 2D ultrasound images",
            venue="PLOS ONE 13(8): e0200412",
            year=2018,
            doi="10.1371/journal.pone.0200412",
            bibtex="""@article{vandenheuvel2018hc18,
  title={Automated measurement of fetal head circumference using {2D} ultrasound images},
  author={van den Heuvel, Thomas L. A. and de Bruijn, Dagmar and de Korte, Chris L. and van Ginneken, Bram},
  journal={PLOS ONE}, volume={13}, number={8}, pages={e0200412}, year={2018}, doi={10.1371/journal.pone.0200412}
}""",
        ),
    ),
    licence=Licence(
        id="CC-BY-4.0", evidence="Three independent dataset cards state CC BY 4.0 for Zenodo record 1327317."
    ),
    access="open",
    access_checked=datetime.date(2026, 11, 1),
    routes=(
        Route(
            kind="zenodo",
            record="1327317",
            url="https://zenodo.org/records/1327317",
            files=(
                RawFile(
                    name="training_set.zip",
                    url="https://zenodo.org/records/1327317/files/training_set.zip?download=1",
                    sha256="fd20d7909df892cfbdc0850de18072dbdad4dc3bc0a57202d4cc818d4715de36",
                ),
                RawFile(
                    name="training_set_pixel_size_and_HC.csv",
                    url="https://zenodo.org/records/1327317/files/training_set_pixel_size_and_HC.csv?download=1",
                    unpack=False,
                ),
            ),
            note="Version 2; the test set (335 images, outlines withheld) is not needed.",
        ),
    ),
    labels={"fetal_head": "fetal_head"},
    group_kind="exam",
    group_rule="The number before the first underscore is one exam (806); which exams are of one woman (551) is not published.",
    official_split="training_set is all training; the challenge withholds the outlines of test_set.",
    expect=Expect(images=999, annotated=999, masks=999, groups=806),
    ignore={
        "*test_set/*": "335 images without outlines; the challenge keeps them to itself",
        "*test_set_pixel_size.csv": "pixel sizes of the images without outlines",
    },
    paper=PaperProfile(
        note="Outlines are filled by hole filling alone; where one is open at the border the thin line itself became the object, which is an error and not reproduced.",
    ),
    known_issues=(
        "The masks are outlines, one pixel wide; closed ones are filled, those that leave the picture (186_HC, 346_HC, 628_2HC, 787_HC seen, 352_2HC inferred) are completed by the fitted ellipse.",
        "The same 999 heads, resized, are the HC half of Fast-U-Net.",
        "551 women but 806 + 335 exam numbers: several numbers may be one woman, and nobody has published which.",
        "Within exams 243, 392 and 507 there are identical images.",
        "Test images 263_HC and 280_HC are nearly identical.",
        "Sizes differ (738 to 800 × 539 to 563); spacing is 0.052 to 0.326 mm per pixel.",
        "A third party's copy (github safwankdb/Automated-measurement-of-Fetal-head-circumference) has the same images, but masks it filled itself; it is not used.",
    ),
    sources=(
        "https://hc18.grand-challenge.org/Home/",
        "github constantinpape/torch-em torch_em/data/datasets/medical/hc18.py (address, sha256, licence)",
        "github TIanCat/open-medical-ultrasound-datasets datasets/02_obstetrics/0201.yaml",
        "github safwankdb/Automated-measurement-of-Fetal-head-circumference (1,334 images and table, measured)",
        "github DungeonLeiz/HCI18_Segmentation (digests of all files, table)",
        "github CAMMA-public/UltraSam datasets/datasets/HC.py",
        "36 real pairs and the whole table (measured: values 0 and 255, circumference)",
    ),
    confidence="High (real data measured). Unknown: sizes and md5 at Zenodo; whether the archive has a top folder (both are read).",
    read=read,
)
