"""BUS_UC: breast tumours from ultrasoundcases.info; the class is the folder, and All/ repeats both."""

import datetime
from collections.abc import Iterator

from us43d import masks
from us43d.contract import Citation, Expect, Licence, PaperProfile, RawFile, RawTree, Recipe, Route, Sample, lazy


def read(raw: RawTree, *, solid: bool = False) -> Iterator[Sample]:
    """solid: count pure white only, not the grey above half range."""
    tree = raw.at("Benign/images")
    for folder in ("Benign", "Malignant"):
        for key in tree.glob(f"{folder}/images/*.png"):
            mask = tree.path(f"{folder}/masks/{key.rpartition('/')[2]}")
            drawn = lazy(masks.equal, lazy(masks.grey, mask), 255) if solid else lazy(masks.binary, mask)
            yield Sample(
                key=key,
                image=tree.path(key),
                masks={folder.lower(): drawn},
                fit="nearest",  # 0319.png: mask and image differ by one pixel
                tags={"diagnosis": folder.lower()},
            )


def read_solid(raw: RawTree) -> Iterator[Sample]:
    return read(raw, solid=True)


RECIPE = Recipe(
    name="BUS_UC",
    slug="bus_uc",
    row="BUS_UC",
    aliases=("BUS-UC", "Breast Ultrasound Cases"),
    title="BUS_UC breast ultrasound dataset (images from ultrasoundcases.info with radiologist masks)",
    organ="breast",
    application="breast tumour segmentation and classification",
    media="image2d",
    homepage="https://data.mendeley.com/datasets/3ksd7w7jkx/1",
    doi="10.17632/3ksd7w7jkx.1",
    citations=(
        Citation(
            title="Memory-efficient transformer network with feature fusion for breast tumor segmentation and classification task",
            venue="Engineering Applications of Artificial Intelligence",
            year=2024,
            doi="10.1016/j.engappai.2023.107292",
            bibtex="""@article{iqbal2024memory,
  title={Memory-efficient transformer network with feature fusion for breast tumor segmentation and classification task},
  author={Iqbal, Ahmed and Sharif, Muhammad},
  journal={Engineering Applications of Artificial Intelligence}, volume={127}, pages={107292}, year={2024},
  doi={10.1016/j.engappai.2023.107292}
}""",
        ),
    ),
    licence=Licence(
        id="CC-BY-4.0",
        evidence="Read by a catalogue on the Mendeley page. The images come from ultrasoundcases.info; whether that site's terms allow relicensing is not known, so the pictures are better not passed on.",
        redistribute=False,
    ),
    access="open",
    access_checked=datetime.date(2026, 11, 1),
    access_note="Mendeley's routes are reported unreliable for scripts; the Kaggle copy is a third party's, its equality not verified.",
    routes=(
        Route(
            kind="mendeley",
            record="3ksd7w7jkx/1",
            url="https://data.mendeley.com/datasets/3ksd7w7jkx/1",
            files=(
                RawFile(
                    name="3ksd7w7jkx-1.zip",
                    url="https://prod-dcd-datasets-cache-zipfiles.s3.eu-west-1.amazonaws.com/3ksd7w7jkx-1.zip",
                    generated=True,
                ),
            ),
        ),
        Route(
            kind="kaggle",
            record="orvile/bus-uc-breast-ultrasound",
            url="https://www.kaggle.com/datasets/orvile/bus-uc-breast-ultrasound",
            files=(RawFile(name="bus-uc-breast-ultrasound.zip"),),
            mirror=True,
        ),
    ),
    labels={"benign": "breast_lesion", "malignant": "breast_lesion"},
    diagnoses={"benign": "benign", "malignant": "malignant"},
    group_kind="image",
    group_rule="No case is published, though the site shows several images of one lesion: every image is its own group, and twins found by the audit are joined.",
    # 811 mask files; the published conversion has 810 images with annotation, and one mask may be empty.
    expect=Expect(images=811, annotated=810, masks=810, tags={"diagnosis=benign": 358, "diagnosis=malignant": 453}),
    ignore={"*all/images/*": "the union of Benign and Malignant", "*all/masks/*": "the union of Benign and Malignant"},
    paper=PaperProfile(
        note="Only pixels of exactly 255 count, and images whose mask is then empty are left out. The converter keys by file name alone, so that a name in both classes would lose an image; that is not repeated.",
        skip_empty=True,
        labels={"benign": "breast_benign", "malignant": "breast_malignant"},
        read=read_solid,
    ),
    known_issues=(
        "Several images of one lesion are not identified as such: image-level splits leak.",
        "The mask of 0319.png differs from its image by one pixel in size (seen in a mirror) and is resized by nearest neighbour.",
        "811 images have a mask file, the published conversion has 810 with annotation: a mask without pure white or a name in both classes would explain it, so one more or less is not enforced.",
        "UC means Ultrasound Cases, not University of Chile as one converter has it.",
        "Overlap with other collections from ultrasoundcases.info is possible; none of those is in US-43d.",
    ),
    sources=(
        "github CAMMA-public/UltraSam datasets/datasets/BUS_UC.py",
        "github zhuqh19/UltraSAM3 datasets/Breast/Scripts/convert_bus_uc_to_coco.py",
        "github TIanCat/open-medical-ultrasound-datasets datasets/00_breast/0011.yaml (licence, counts, 0319.png)",
    ),
    confidence="High for reader and licence, medium for download. Inferred: nesting of the archive, cause of 810 against 811. Unknown: sizes, digests.",
    read=read,
)
