"""CardiacUDC: apical four-chamber videos of two hospitals; four chambers, on a few frames each or outlined on all."""

import datetime
import functools
import operator
from collections.abc import Iterator
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
)
from us43d.errors import MaskMismatch

CHAMBERS = {"left_ventricle": 1, "left_atrium": 2, "right_atrium": 3, "right_ventricle": 4}
VALUES = {**CHAMBERS, "value_5": 5, "value_6": 6}
OUTLINED = "label_all_frame"
FOLDERS = ("Site_G_20", "Site_G_29", "Site_G_100", "Site_R_52", "Site_R_73", "Site_R_126", OUTLINED)


def read(raw: RawTree, *, paper: bool = False) -> Iterator[Sample]:
    """paper: holes are filled in every mask, and frames with few labelled pixels left out."""
    tree = raw.at(*FOLDERS)
    keys = tree.glob("*/*_image.nii.gz")
    outlined = {_person(key)[1] for key in keys if key.startswith(f"{OUTLINED}/")}
    for key in keys:
        site, person, view = _person(key)
        # A person of label_all_frame may be the one of that name in any folder of the hospital R.
        place = "Site_R" if person in outlined and not site.startswith("Site_G") else site
        facts: dict[str, Any] = {
            "group": f"{place}/{person}",
            "tags": {"site": site, "subject": person.rstrip("-0123456789"), "view": view},
        }
        image, label = tree.path(key), f"{key[: -len('_image.nii.gz')]}_label.nii.gz"
        found, drop = dict[int, tuple[int, ...]](), "no labels are published for this video"
        if tree.has(label):
            drop = "no frame of this video is labelled"
            truth = tree.path(label)
            tree.use(truth)
            try:
                frames, _ = masks.nifti_pair(image, truth)
            except MaskMismatch:
                frames, drop = 0, "the labels have another shape than the video"
            every = ((n, masks.label_values(masks.nifti_frame(truth, n), truth)) for n in range(frames))
            found = {n: values for n, values in every if values}
        if not found:
            yield Sample(key=f"{key}#0000", image=image, drop=drop, **facts)
            continue
        names, remarks = _names(site, {value for values in found.values() for value in values})
        for n, values in found.items():
            labels = lazy(masks.nifti_frame, truth, n)
            known = {name: value for name, value in names.items() if value in values}
            drawn = {name: lazy(masks.turned, lazy(masks.equal, labels, value)) for name, value in known.items()}
            if paper or site == OUTLINED:
                fill = _filled if site == OUTLINED else masks.fill_holes
                drawn = {name: lazy(fill, mask) for name, mask in drawn.items()}
            strange = len(known) < len(values)
            few = paper and _labelled_part(masks.nifti_frame(truth, n), values) < 0.025
            yield Sample(
                key=f"{key}#{n:04}",
                image=lazy(masks.turned, lazy(masks.eight_bit, lazy(masks.nifti_frame, image, n))),
                masks=drawn,
                frame=n,
                drop="a label value is not described" if strange else "few labelled pixels" if few else None,
                remarks=remarks,
                **facts,
            )


def _person(key: str) -> tuple[str, str, str]:
    """(site, person, view) of <site>/<patient|normal>[-]<number>-<view>_image.nii.gz."""
    site, name = key.split("/")
    person, _, view = name[: -len("_image.nii.gz")].rpartition("-")
    return site, person or view, view


def _names(site: str, values: set[int]) -> tuple[dict[str, int], tuple[str, ...]]:
    """Label → value. Four outlines count 1, 2, 3, 4 in the order of their values, as the authors' loader has it."""
    if site != OUTLINED:
        return VALUES, ()
    ordered = dict(zip(CHAMBERS, sorted(values), strict=False)) if len(values) == len(CHAMBERS) else CHAMBERS
    if ordered == CHAMBERS:
        return CHAMBERS, ()
    return ordered, (f"label values in another code: {', '.join(map(str, ordered.values()))} for 1, 2, 3, 4",)


def _filled(outline: Any) -> Any:
    whole = masks.fill_holes(outline)
    return whole if whole.sum() > outline.sum() else Remarked(whole, ("outline not closed, kept as it is",))


def _labelled_part(labels: Any, values: tuple[int, ...]) -> float:
    filled = (masks.fill_holes(masks.equal(labels, value)) for value in values)
    return float(functools.reduce(operator.or_, filled).mean())


def read_paper(raw: RawTree) -> Iterator[Sample]:
    return read(raw, paper=True)


RECIPE = Recipe(
    name="CardiacUDC",
    slug="cardiacudc",
    row="CardiacUDC",
    aliases=("CardiacUDA", "cardiacUDC_dataset", "GraphEcho"),
    title="CardiacUDC / CardiacUDA (GraphEcho echocardiogram video segmentation dataset)",
    organ="heart",
    application="four-chamber segmentation in apical four-chamber echocardiogram videos",
    media="video",
    homepage="https://github.com/XiaoweiXu/CardiacUDA-dataset",
    citations=(
        Citation(
            title="GraphEcho: Graph-Driven Unsupervised Domain Adaptation for Echocardiogram Video Segmentation",
            venue="ICCV: 11878-11887",
            year=2023,
            doi="10.48550/arXiv.2309.11145",
            bibtex="""@InProceedings{Yang_2023_ICCV,
  author={Yang, Jiewen and Ding, Xinpeng and Zheng, Ziyang and Xu, Xiaowei and Li, Xiaomeng},
  title={GraphEcho: Graph-Driven Unsupervised Domain Adaptation for Echocardiogram Video Segmentation},
  booktitle={Proceedings of the IEEE/CVF International Conference on Computer Vision (ICCV)},
  month={October},
  year={2023},
  pages={11878-11887}
}""",
        ),
    ),
    licence=Licence(
        id="Apache-2.0",
        evidence="Apache 2.0 is set on the Kaggle listing (and on a copy at Hugging Face); one review reports a CC BY-NC 4.0 statement as well. Treated as non-commercial until that is settled. The GitHub README only says to e-mail the authors.",
        url="https://www.kaggle.com/datasets/xiaoweixumedicalai/cardiacudc-dataset",
        commercial=False,
    ),
    access="login",
    access_checked=datetime.date(2026, 11, 1),
    access_note="Kaggle's archive holds a spanned zip whose last part is called .change2zip: as .zip beside .z01 to .z06 it opens with 7-Zip (7z, 7zz). Python's zipfile and unzip cannot read spans, and joining with `zip -s 0` was reported to corrupt it. Downloaded singly, the part may arrive as .change2zip.zip.",
    routes=(
        Route(
            kind="kaggle",
            record="xiaoweixumedicalai/cardiacudc-dataset",
            url="https://www.kaggle.com/datasets/xiaoweixumedicalai/cardiacudc-dataset",
            files=(RawFile(name="cardiacudc-dataset.zip"),),
            note="Holds cardiacUDC_dataset.change2zip and cardiacUDC_dataset.z01 to .z06. Sizes and digests are not known.",
        ),
    ),
    labels={
        "left_ventricle": "left_ventricle",
        "left_atrium": "left_atrium",
        "right_atrium": "right_atrium",
        "right_ventricle": "right_ventricle",
        "value_5": "heart_structure_unspecified",
        "value_6": "heart_structure_unspecified",
    },
    group_kind="patient",
    group_rule="Folder and name without the view: numbers start again in every folder. A name of label_all_frame is taken for the same person in every Site_R folder, as those videos may repeat.",
    expect=Expect(),
    ignore={
        "*cardiacudc_dataset.change2zip*": "last part of the spanned zip, unpacked beside",
        "*cardiacudc_dataset.z[0-9][0-9]": "part of the spanned zip, unpacked beside",
    },
    nested=("*cardiacudc_dataset.change2zip", "*cardiacudc_dataset.change2zip.zip"),
    paper=PaperProfile(
        note="Holes are filled in every mask, frames with less than 2.5 % of their pixels labelled are left out, and values 5 and 6 have names of their own. The converter reads the outlined cases in the code of the others; that is corrected.",
        labels={"right_atrium": "right_Atrium", "value_5": "epicardium", "value_6": "left_ventricle2"},
        read=read_paper,
    ),
    known_issues=(
        "Only labelled frames are samples: about five of each video in the Site folders, all in label_all_frame. A video without labels (all of Site_R_73), without a labelled frame, or with labels of another shape (one pair) has one dropped row.",
        "label_all_frame holds outlines, which are filled here, and in some cases other values; the authors' loader takes its sorted values for 1, 2, 3, 4, so do we where there are four.",
        "Values 5 and 6 occur rarely and are described nowhere: UltraSam calls them epicardium and a second left ventricle, another project counts both as right ventricle.",
        "Frames are stored upside down and are turned by 180 degrees, as the published conversion does. UltraSAM3 turns them so that left and right are exchanged against that; which is right was not established.",
        "UltraSAM3 takes the values for left ventricle, right ventricle, left atrium, right atrium; the authors' loader and a published colour figure contradict it. It also drops the site, so that different people become one.",
        "The release is a part of the paper's data: 364 videos by one review, 294 of them labelled (181 in Site_G_100 and Site_R_126, 73 in Site_G_20 and Site_R_52, 29 in Site_G_29, one unusable, about 10 outlined), of 992 videos and four views in the paper.",
        "Whether label_all_frame repeats videos of Site_R_126 or Site_R_73 is not known; equal frames are pulled together by their pixels, equal names by the group rule.",
        "Single-pixel slips of the labels exist; they are kept and flagged as specks.",
        "29,283 is a catalogue's count of all slices of the labelled videos, not of labelled frames.",
        "The spacing in the headers is not carried over: whether it is real was not established.",
        "EchoCP is from the same hospital; overlap is not documented.",
        "A copy at Hugging Face (MedOtter/CardiacUDC) holds frames in parquet files; only its listing was seen, and it is not read.",
    ),
    sources=(
        "github CAMMA-public/UltraSam datasets/datasets/CardiacUDC.py",
        "github zhuqh19/UltraSAM3 datasets/Cardiac/Scripts/convert_cardiacudc_to_coco.py, check_cardiacudc.py",
        "github xmed-lab/GraphEcho datasets/cardiac_uda.py, train_cardiac_uda.py, datasets/infos.npy",
        "github XiaoweiXu/CardiacUDA-dataset README.md",
        "github openmedlab/Awesome-Medical-Dataset resources/CardiacUDA.md",
        "github TIanCat/open-medical-ultrasound-datasets datasets/03_cardiac/0306.yaml",
        "github Yusufii9/USF-MAE README.md (part .z06)",
    ),
    confidence="Medium to high: names, unpacking, folders and the order of the labels were read in the authors' and others' code. Unknown: sizes, digests, number of patients, meaning of 5 and 6, mirroring.",
    read=read,
)
