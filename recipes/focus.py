"""FOCUS: 300 four-chamber views of fetal hearts; one mask file for the heart, one for the thorax. Beyond US-43d."""

import datetime
from collections.abc import Iterator

from us43d import masks
from us43d.contract import Citation, Expect, Licence, PaperProfile, RawFile, RawTree, Recipe, Route, Sample, Split, lazy

PARTS: dict[str, Split] = {"testing": "test", "training": "train", "validation": "val"}


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("training/images", "validation/images", "testing/images")
    for part, split in PARTS.items():
        for key in tree.glob(f"{part}/images/*.png"):
            stem = key.rpartition("/")[2].removesuffix(".png")
            drawn = {label: tree.path(f"{part}/annfiles_mask/{stem}-{label}.png") for label in ("cardiac", "thorax")}
            yield Sample(
                key=key,  # numbers begin anew in every folder
                image=tree.path(key),
                masks={label: lazy(masks.binary, path) for label, path in drawn.items()},
                split=split,
            )


RECIPE = Recipe(
    name="FOCUS",
    slug="focus",
    row=None,
    title="FOCUS: Four-chamber Ultrasound Image Dataset for Fetal Cardiac Biometric Measurement",
    organ="fetus",
    application="segmentation of heart and thorax in the fetal four-chamber view",
    media="image2d",
    homepage="https://github.com/szuboy/FOCUS-dataset",
    doi="10.5281/zenodo.14597550",
    citations=(
        Citation(
            title="FOCUS: Four-chamber Ultrasound Image Dataset for Fetal Cardiac Biometric Measurement",
            venue="Zenodo",
            year=2025,
            doi="10.5281/zenodo.14597550",
            bibtex="""@misc{focus2025,
  title={{FOCUS}: Four-chamber Ultrasound Image Dataset for Fetal Cardiac Biometric Measurement},
  howpublished={Zenodo},
  year={2025},
  doi={10.5281/zenodo.14597550}
}""",
        ),
    ),
    licence=Licence(
        id="CC-BY-4.0",
        evidence="As third parties list the Zenodo record; the code's repository is MIT. The record itself was not seen.",
        url="https://creativecommons.org/licenses/by/4.0/",
    ),
    access="open",
    access_checked=datetime.date(2026, 11, 1),
    routes=(
        Route(
            kind="zenodo",
            record="14597550",
            url="https://zenodo.org/records/14597550",
            files=(
                RawFile(name="FOCUS-dataset.zip", url="https://zenodo.org/records/14597550/files/FOCUS-dataset.zip"),
            ),
            note="About 50 MB. The file's name is a third party's word; the record's API has it, with an MD5.",
        ),
    ),
    labels={"cardiac": "fetal_heart", "thorax": "fetal_thorax"},
    group_kind="image",
    group_rule="217 patients without ids in the names; every image is its own group, and twins found by the audit are joined.",
    official_split="The folders training, validation and testing (sizes not established).",
    expect=Expect(images=300, annotated=300, masks=600),
    ignore={
        "*annfiles_ellipse/*.txt": "the same outlines as ellipses",
        "*annfiles_rectangle/*.txt": "rotated boxes of the ellipses",
        "*readme*": "text",
        "*license*": "terms",
    },
    paper=PaperProfile(note="Not in the published collection: there is no conversion to follow."),
    known_issues=(
        "The images were taken from FETAL_PLANES_DB, which has no masks.",
        "Numbers begin anew in every split folder; the folder is part of the key.",
        "300 images of 217 patients: some patients have several, and whether the official split keeps them together was not established.",
        "The masks are ellipses.",
    ),
    sources=(
        "github szuboy/FOCUS-dataset README.md",
        "github tbrokowski/ultatron data/adapters/maternal_fetal/focus.py (tree, mask values)",
    ),
    confidence="High: tree, names, counts of images and patients. Medium: licence, name of the archive. Unknown: authors for the citation, sizes of the splits. Year of the record as third parties give it.",
    read=read,
)
