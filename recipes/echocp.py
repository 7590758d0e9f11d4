"""EchoCP: contrast echocardiograms of 30 patients at rest and in the Valsalva manoeuvre; chambers on some frames."""

import datetime
from collections.abc import Iterator

from us43d import masks
from us43d.contract import Citation, Expect, Licence, PaperProfile, RawFile, RawTree, Recipe, Route, Sample, lazy
from us43d.errors import MaskMismatch

CHAMBERS = {"left_ventricle": 1, "left_atrium": 2, "right_atrium": 3, "right_ventricle": 4}
ACTIONS = {"r": "rest", "v": "valsalva"}


def read(raw: RawTree, *, merged: bool = False) -> Iterator[Sample]:
    """merged: all values are one label."""
    levels = _levels(raw)
    tree = raw.at("EchoCP_dataset")
    for key in tree.glob("EchoCP_dataset/*_?_image.nii.gz"):
        patient, action = key.rpartition("/")[2].split("_")[:2]
        image, truth = tree.path(key), tree.path(f"{key[: -len('_image.nii.gz')]}_label.nii.gz")
        level = levels.get((patient, action.lower()), {})
        tags = {"action": ACTIONS.get(action.lower(), action), **level}
        remarks = () if level else ("the table of diagnoses has no row for this video, or is not there",)
        tree.use(truth)
        frames, drop = 0, "no frame of this video is labelled"
        try:
            frames, _ = masks.nifti_pair(image, truth)
        except MaskMismatch:
            drop = "the labels have another shape than the video"
        labelled = False
        for n in range(frames):
            if not (values := masks.label_values(masks.nifti_frame(truth, n), truth)):
                continue
            labelled, labels = True, lazy(masks.nifti_frame, truth, n)
            drawn = {name: lazy(masks.equal, labels, value) for name, value in CHAMBERS.items() if value in values}
            if merged:
                drawn = {"chamber": lazy(masks.nonzero, labels)}
            yield Sample(
                key=f"{key}#{n:04}",
                image=lazy(masks.turned, lazy(masks.eight_bit, lazy(masks.nifti_frame, image, n))),
                masks={name: lazy(masks.turned, mask) for name, mask in drawn.items()},
                group=patient,
                frame=n,
                tags=tags,
                drop=None if set(values) <= set(CHAMBERS.values()) else "a label value is not described",
                remarks=remarks,
            )
        if not labelled:
            yield Sample(key=f"{key}#0000", image=image, group=patient, tags=tags, drop=drop, remarks=remarks)


def _levels(raw: RawTree) -> dict[tuple[str, str], dict[str, str]]:
    """(patient, r or v) → tag with the level of the shunt; the letter o stands for 0. Empty without the table."""
    return {
        (f"{row.whole('Idx'):03}", row["Action"][:1].lower()): {"pfo_level": row["PFO level"].lower().replace("o", "0")}
        for table in raw.glob("**/echoCP_diagnosis_label.xlsx")
        for row in raw.sheet(table, ("Idx", "Action", "PFO level"))
    }


def read_merged(raw: RawTree) -> Iterator[Sample]:
    return read(raw, merged=True)


RECIPE = Recipe(
    name="EchoCP",
    slug="echocp",
    row="EchoCP",
    aliases=("EchoCP_dataset",),
    title="EchoCP: An Echocardiography Dataset in Contrast Transthoracic Echocardiography for Patent Foramen Ovale Diagnosis",
    organ="heart",
    application="four-chamber segmentation in contrast transthoracic echocardiography (and PFO grading)",
    media="video",
    homepage="https://www.kaggle.com/datasets/xiaoweixumedicalai/echocp",
    citations=(
        Citation(
            title="EchoCP: An Echocardiography Dataset in Contrast Transthoracic Echocardiography for Patent Foramen Ovale Diagnosis",
            venue="MICCAI",
            year=2021,
            doi="10.48550/arXiv.2105.08267",
            bibtex="""@inproceedings{wang2021echocp,
  title={EchoCP: An Echocardiography Dataset in Contrast Transthoracic Echocardiography for Patent Foramen Ovale Diagnosis},
  author={Wang, Tianchen and Li, Zhihe and Huang, Meiping and Zhuang, Jian and Bi, Shanshan and Zhang, Jiawei and Shi, Yiyu and Fei, Hongwen and Xu, Xiaowei},
  booktitle={Medical Image Computing and Computer Assisted Intervention (MICCAI)},
  year={2021},
  note={arXiv:2105.08267}
}""",
        ),
    ),
    licence=Licence(
        id="Apache-2.0",
        evidence="Apache 2.0 by a catalogue's reading of the Kaggle listing, which was not read itself; statements on the sister set CardiacUDC contradict each other, so look when downloading.",
        url="https://www.kaggle.com/datasets/xiaoweixumedicalai/echocp",
    ),
    access="login",
    access_checked=datetime.date(2026, 11, 1),
    access_note="Kaggle's archive holds a spanned zip whose last part is called .change2zip: as .zip beside its .zNN parts it opens with 7-Zip (7z, 7zz). Joining with `zip -s 0` was reported to corrupt it. How many parts there are was not established (at least .z01).",
    routes=(
        Route(
            kind="kaggle",
            record="xiaoweixumedicalai/echocp",
            url="https://www.kaggle.com/datasets/xiaoweixumedicalai/echocp",
            files=(RawFile(name="echocp.zip"),),
            note="Holds EchoCP_dataset.change2zip, EchoCP_dataset.z01 and following, and echoCP_diagnosis_label.xlsx. Very large; sizes and digests are not known.",
        ),
    ),
    labels={
        "left_ventricle": "left_ventricle",
        "left_atrium": "left_atrium",
        "right_atrium": "right_atrium",
        "right_ventricle": "right_ventricle",
        "chamber": "heart_structure_unspecified",
    },
    group_kind="patient",
    group_rule="The first token of the file name (001 to 030): rest and Valsalva videos are of one person.",
    expect=Expect(groups=30),
    ignore={
        "*echocp_dataset.change2zip*": "last part of the spanned zip, unpacked beside",
        "*echocp_dataset.z[0-9][0-9]": "part of the spanned zip, unpacked beside",
    },
    nested=("*echocp_dataset.change2zip", "*echocp_dataset.change2zip.zip"),
    paper=PaperProfile(
        note="All values are one label, chamber, so that touching chambers become one object.", read=read_merged
    ),
    known_issues=(
        "Which value is which chamber is not documented. Read as in CardiacUDC of the same group (left ventricle, left atrium, right atrium, right ventricle), which a benchmark that mixes both supports; UltraSAM3 takes 2 for the right ventricle and 3 for the left atrium without evidence. On a frame turned as here the ventricles lie towards the apex.",
        "Only labelled frames are samples; all others of a video (more than a thousand) hold no label. How many are labelled was not published.",
        "Frames are stored upside down and are turned by 180 degrees, as the published conversion does; another reader's turn exchanges left and right against that.",
        "The label chamber occurs in the paper profile alone.",
        "The letter o in the table of diagnoses stands for level 0.",
        "The order of authors differs between arXiv and the README, whose own citation names another paper.",
        "The spacing in the headers is not carried over: whether it is real was not established.",
        "CardiacUDC is from the same hospital; overlap is not documented.",
    ),
    sources=(
        "github CAMMA-public/UltraSam datasets/datasets/echoCP2.py",
        "github zhuqh19/UltraSAM3 datasets/Cardiac/Scripts/convert_echocp_to_coco.py, check_nii_labels.py",
        "github XiaoweiXu/EchoCP-An-Echocardiography-Dataset-in-Contrast-Transthoracic-Echocardiography-for-PFO-diagnosis README.md",
        "github TIanCat/open-medical-ultrasound-datasets datasets/03_cardiac/0303.yaml",
        "https://ar5iv.labs.arxiv.org/html/2105.08267 (abstract)",
    ),
    confidence="Medium to high. Read: names, tree, unpacking, values 0 to 4, patients. Inferred: order of the chambers, exact names of the parts. Second hand: the licence. Unknown: sizes, digests, number of labelled frames, mirroring.",
    read=read,
)
