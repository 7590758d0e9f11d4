"""BrEaST: breast lesions of 256 patients; further areas in masks of their own, classes in an Excel workbook."""

import datetime
from collections.abc import Iterator

from us43d import masks
from us43d.contract import Citation, Expect, Licence, PaperProfile, RawFile, RawTree, Recipe, Route, Sample, lazy

_FOLDER = "BrEaST-Lesions_USG-images_and_masks"
_TABLE = "**/breast-lesions-usg-clinical-data*.xlsx"


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at(_FOLDER)
    found = raw.glob(_TABLE)
    rows = raw.sheet(found[0], ("Image_filename", "Classification", "BIRADS", "Pixel_size")) if found else []
    cases = {row["Image_filename"]: row for row in rows}
    for key in (key for key in tree.glob(f"{_FOLDER}/case*.png") if "_" not in key.rpartition("/")[2]):
        stem = key.removesuffix(".png")
        row = cases.get(key.rpartition("/")[2])
        side = row.number("Pixel_size") * 10 if row and row["Pixel_size"] else None  # the table has centimetres
        yield Sample(
            key=key,
            image=tree.path(key),
            masks={
                label: tuple(lazy(masks.nonzero, lazy(masks.grey, tree.path(mask))) for mask in tree.glob(pattern))
                for label, pattern in (("tumor", f"{stem}_tumor*.png"), ("other", f"{stem}_other*.png"))
            },
            group=stem.rpartition("/")[2],
            spacing_mm=(side, side) if side else None,
            tags={"diagnosis": row["Classification"].lower(), "birads": row["BIRADS"]} if row else {},
        )


_FILES = "https://www.cancerimagingarchive.net/wp-content/uploads"

RECIPE = Recipe(
    name="BrEaST",
    slug="breast_lesions_usg",
    row="BrEaST",
    aliases=("BrEaST-Lesions-USG", "breast-lesions-usg"),
    title="A Curated Benchmark Dataset for Ultrasound Based Breast Lesion Analysis (Breast-Lesions-USG)",
    organ="breast",
    application="breast lesion segmentation and classification (benign / malignant), with normal cases",
    media="image2d",
    homepage="https://www.cancerimagingarchive.net/collection/breast-lesions-usg/",
    doi="10.7937/9WKK-Q141",
    citations=(
        Citation(
            title="Curated benchmark dataset for ultrasound based breast lesion analysis",
            venue="Scientific Data",
            year=2024,
            doi="10.1038/s41597-024-02984-z",
            bibtex="""@article{pawlowska2024curated,
  title={Curated benchmark dataset for ultrasound based breast lesion analysis},
  author={Paw{\\l}owska, Anna and {\\'C}wierz-Pie{\\'n}kowska, Anna and Domalik, Agnieszka and Jagu{\\'s}, Dominika and Kasprzak, Piotr and Matkowski, Rafa{\\l} and Fura, {\\L}ukasz and Nowicki, Andrzej and {\\.Z}o{\\l}ek, Norbert},
  journal={Scientific Data}, volume={11}, pages={148}, year={2024}, doi={10.1038/s41597-024-02984-z}
}""",
        ),
    ),
    licence=Licence(
        id="CC-BY-4.0",
        evidence="Paper abstract and a licence audit; TCIA's data usage policy applies, and both data and paper are to be cited.",
    ),
    access="open",
    access_checked=datetime.date(2026, 11, 1),
    access_note="Plain download; one script speaks of a usage policy to click on the page.",
    routes=(
        Route(
            kind="tcia",
            record="breast-lesions-usg",
            url="https://www.cancerimagingarchive.net/collection/breast-lesions-usg/",
            files=(
                RawFile(
                    name="BrEaST-Lesions_USG-images_and_masks-Dec-15-2023.zip",
                    url=f"{_FILES}/BrEaST-Lesions_USG-images_and_masks-Dec-15-2023.zip",
                ),
                RawFile(
                    name="BrEaST-Lesions-USG-clinical-data-Dec-15-2023.xlsx",
                    url=f"{_FILES}/BrEaST-Lesions-USG-clinical-data-Dec-15-2023.xlsx",
                    unpack=False,
                ),
            ),
        ),
    ),
    labels={"tumor": "breast_lesion", "other": "breast_other_lesion"},
    group_kind="patient",
    group_rule="The case number; 256 images of 256 patients.",
    expect=Expect(
        images=256,
        annotated=252,
        groups=256,
        tags={"diagnosis=benign": 154, "diagnosis=malignant": 98, "diagnosis=normal": 4},
    ),
    paper=PaperProfile(
        note="Only images with a mask are kept; the further areas are called cyst, though the release says other abnormal areas.",
        skip_empty=True,
        labels={"tumor": "breast_nodule", "other": "cyst"},
    ),
    known_issues=(
        "Four normal cases have no tumour: 45, 61, 209, 213.",
        "Masks named otherN are further lesions or other abnormal areas, not only cysts.",
        "Images may carry an alpha channel, which is dropped.",
        "266 is the published number of lesions, not a count of mask files.",
    ),
    sources=(
        "github CAMMA-public/UltraSam datasets/datasets/BrEaST.py",
        "github zhuqh19/UltraSAM3 datasets/Breast/Scripts/convert_BrEast_to_coco.py",
        "https://www.cancerimagingarchive.net/?p=41277 (collection page: 256 subjects, 266 lesions, updated 2024-01-08)",
        "https://www.nature.com/articles/s41597-024-02984-z",
    ),
    confidence="High: addresses in four independent scripts, names, columns, licence, counts read. Unknown: sizes, digests.",
    read=read,
)
