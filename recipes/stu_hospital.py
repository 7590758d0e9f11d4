"""STU-Hospital: 42 breast lesions, 128 × 128, one grey-edged mask each, mostly of another size."""

import datetime
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


def read(raw: RawTree, *, solid: bool = False) -> Iterator[Sample]:
    """solid: count pure white only, not the grey edge above half range."""
    tree = raw.at("Hospital")
    for key in tree.glob("Hospital/Test_Image_*.png"):
        number = key.removesuffix(".png").rpartition("_")[2]
        mask = tree.path(f"Hospital/mask_{number}.png")
        drawn = lazy(masks.equal, lazy(masks.grey, mask), 255) if solid else lazy(masks.binary, mask)
        yield Sample(key=key, image=tree.path(key), masks={"breast_lesion": drawn}, fit="nearest")


def read_solid(raw: RawTree) -> Iterator[Sample]:
    return read(raw, solid=True)


RECIPE = Recipe(
    name="STU-Hospital",
    slug="stu_hospital",
    row="STU-Hospital",
    aliases=("STU",),
    title="STU-Hospital breast ultrasound images (Imaging Department, First Affiliated Hospital of Shantou University)",
    organ="breast",
    application="breast lesion segmentation",
    media="image2d",
    homepage="https://github.com/xbhlk/STU-Hospital",
    citations=(
        Citation(
            title="An RDAU-NET model for lesion segmentation in breast ultrasound images",
            venue="PLoS ONE 14(8): e0221535",
            year=2019,
            doi="10.1371/journal.pone.0221535",
            bibtex="""@article{zhuang2019rdau,
  title={An {RDAU-NET} model for lesion segmentation in breast ultrasound images},
  author={Zhuang, Zhemin and Li, Nan and Joseph Raj, Alex Noel and Mahesh, Vijayalakshmi G. V. and Qiu, Shunmin},
  journal={PLoS ONE}, volume={14}, number={8}, pages={e0221535}, year={2019}, doi={10.1371/journal.pone.0221535}
}""",
        ),
    ),
    licence=Licence(id="UNSTATED", evidence="The repository has neither LICENSE nor README (read at ba4a898)."),
    access="open",
    access_checked=datetime.date(2026, 11, 1),
    access_note="Only the pinned commit: an older one holds a copy of Dataset B, which its owners give out by agreement only.",
    routes=(
        Route(
            kind="github",
            record="xbhlk/STU-Hospital@ba4a898d6c42fdfb5aa2b122742fd4cf6195349b",
            url="https://github.com/xbhlk/STU-Hospital",
            files=(
                RawFile(
                    name="STU-Hospital-ba4a898d6c42fdfb5aa2b122742fd4cf6195349b.zip",
                    url="https://codeload.github.com/xbhlk/STU-Hospital/zip/ba4a898d6c42fdfb5aa2b122742fd4cf6195349b",
                    generated=True,
                ),
            ),
        ),
    ),
    labels={"breast_lesion": "breast_lesion"},
    group_kind="image",
    group_rule="No patient is published; every image is its own group.",
    expect=Expect(images=42, annotated=42, masks=42),
    paper=PaperProfile(
        note="Only pixels of exactly 255 count, so that masks are a little smaller, and every lesion is called a benign tumour, for which there is no basis. The converter also takes the few pixels of value 1 for lesion; those specks are not repeated.",
        labels={"breast_lesion": "benign_tumour"},
        read=read_solid,
    ),
    known_issues=(
        "36 of 42 masks are larger than their 128 × 128 image (up to 512); they are resized to it by nearest neighbour.",
        "41 of 42 masks have grey edges; they are cut at half range.",
        "Images were reduced to 128 × 128 by the authors.",
    ),
    sources=(
        "github xbhlk/STU-Hospital @ ba4a898 (all 84 files measured)",
        "github CAMMA-public/UltraSam datasets/datasets/STU-Hospital.py",
        "PLoS ONE e0221535",
    ),
    confidence="High (measured on the real data). Unknown: licence, patients, diagnosis per image.",
    read=read,
)
