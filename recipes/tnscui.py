"""TN-SCUI 2020: thyroid nodules; PNG masks that are 0/255 in some copies and 0/1 in others."""

import datetime
from collections.abc import Iterator

from us43d import masks
from us43d.contract import Citation, Expect, Licence, PaperProfile, RawFile, RawTree, Recipe, Route, Sample, lazy

_VOC = "JPEGImages"  # the re-packaging UltraSam read; the official tree has image/ and mask/


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("mask", "SegmentationClass")  # images alone are found in the test set, too
    if tree.has("train.csv"):
        rows = tree.table("train.csv", ("ID", "CATE"))  # carriage returns only, which csv takes as line ends
        classes = {row["ID"].removesuffix(".PNG"): row["CATE"] for row in rows}
    else:
        classes = {}
    for key in tree.glob("image/*.png") or tree.glob(f"{_VOC}/*.jpg"):
        stem = key.rpartition("/")[2].rpartition(".")[0]
        mask = f"SegmentationClass/{stem}.png" if key.startswith(_VOC) else f"mask/{key.rpartition('/')[2]}"
        label = classes.get(stem)
        yield Sample(
            key=key,
            image=tree.path(key),
            masks={"thyroid_nodule": lazy(masks.nonzero, lazy(masks.grey, tree.path(mask)))},
            tags={"diagnosis": ("benign", "malignant")[int(label)]} if label in {"0", "1"} else {},
        )


RECIPE = Recipe(
    name="TNSCUI",
    slug="tnscui",
    row="TNSCUI",
    aliases=("TN-SCUI2020", "TN-SCUI", "TNSCUI2020"),
    title="TN-SCUI 2020: Thyroid Nodule Segmentation and Classification in Ultrasound Images (MICCAI 2020 challenge)",
    organ="thyroid",
    application="thyroid nodule segmentation and benign/malignant classification",
    media="image2d",
    homepage="https://tn-scui2020.grand-challenge.org/Home/",
    citations=(
        Citation(
            title="Thyroid Nodule Segmentation and Classification in Ultrasound Images (challenge design document)",
            venue="MICCAI 2020 challenge proposal, Zenodo",
            year=2020,
            doi="10.5281/zenodo.3715942",
            bibtex="""@misc{zhou2020tnscui,
  title={Thyroid Nodule Segmentation and Classification in Ultrasound Images},
  author={Zhou, Jianqiao and Jia, Xiaohong and Ni, Dong and Noble, Alison and Huang, Ruobing and Tan, Tao and Van, Manh The},
  year={2020}, publisher={Zenodo}, doi={10.5281/zenodo.3715942}
}""",
        ),
    ),
    licence=Licence(
        id="CUSTOM",
        name="Challenge terms (not read at the source)",
        url="https://tn-scui2020.grand-challenge.org/Source_links/",
        commercial=False,
        redistribute=False,
        evidence="The terms could not be read. A winner's README reports that the organisers forbid passing the data on; a participant's file says CC BY-NC-SA. Taken as non-commercial, no redistribution.",
    ),
    access="agreement",
    access_checked=datetime.date(2026, 11, 1),
    access_note="Registration and the organisers' approval in the browser; whether the links still work could not be tested.",
    routes=(
        Route(
            kind="grand_challenge",
            record="tn-scui2020",
            url="https://tn-scui2020.grand-challenge.org/Source_links/",
            files=(RawFile(name="TNSCUI2020_train.zip"),),
            note="The training set, as a folder or archive holding image/, mask/ and train.csv; the archive's published name is not known.",
        ),
    ),
    labels={"thyroid_nodule": "thyroid_nodule"},
    group_kind="image",
    group_rule="3,644 images of 3,644 patients are stated, so every image is a patient.",
    expect=Expect(images=3644, annotated=3644, tags={"diagnosis=benign": 1641, "diagnosis=malignant": 2003}),
    ignore={"*tnscui2020_testset/*": "the challenge's test images have no public masks"},
    paper=PaperProfile(
        note="The converter reads a VOC-style re-packaging and keeps only pixels of value 1; official masks of 0/255 would give it nothing, an error that is not reproduced."
    ),
    known_issues=(
        "Masks are 0/255 in the release seen by three participants, 0/1 by an organiser's text: anything above 0 is nodule.",
        "train.csv ends its lines with carriage returns only.",
        "Overlap with TN3K or DDTI is not known.",
    ),
    sources=(
        "github CAMMA-public/UltraSam datasets/datasets/TNSCUI.py",
        "github JunMa11/TNSCUI2020 (README, example cases opened)",
        "github MXHsj/TNSCUI2020_challenge (train.csv: 3,644 rows, 1,641 benign, 2,003 malignant)",
        "github openmedlab/Awesome-Medical-Dataset resources/TN-SCUI2020.md",
        "https://zenodo.org/records/3715942",
    ),
    confidence="Medium: structure high; access and licence low. Unknown: present state of registration, sizes, exact terms.",
    read=read,
)
