"""MicroSeg: micro-ultrasound volumes of 75 prostates; MUP in the US-43d table is the same archive and reads it here."""

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from us43d import masks
from us43d.contract import (
    Citation,
    Expect,
    Lazy,
    Licence,
    PaperProfile,
    RawFile,
    RawTree,
    Recipe,
    Route,
    Sample,
    lazy,
)  # fmt: skip


class Slice(NamedTuple):
    """One slice of a volume; picture and mask as stored, upside down."""

    key: str
    image: Path
    frames: int
    frame: int
    picture: Lazy
    mask: Lazy
    spacing: tuple[float, float] | None


def read(raw: RawTree) -> Iterator[Sample]:
    for each in slices(raw):
        yield sample(each, lazy(masks.turned, each.picture), lazy(masks.turned, each.mask))


def slices(raw: RawTree) -> Iterator[Slice]:
    tree = raw.at("train/micro_ultrasound_scans", "test/micro_ultrasound_scans")
    for part in ("test", "train"):
        for key in tree.glob(f"{part}/micro_ultrasound_scans/microUS_{part}_*.nii.gz"):
            number = key.removesuffix(".nii.gz").rpartition("_")[2]
            image = tree.path(key)
            truth = tree.path(f"{part}/expert_annotations/expert_annotation_{part}_{number}.nii.gz")
            frames, spacing = masks.nifti_pair(image, truth)
            for frame in range(frames):
                picture = lazy(masks.eight_bit, lazy(masks.nifti_frame, image, frame))
                mask = lazy(masks.nonzero, lazy(masks.nifti_frame, truth, frame))
                yield Slice(key, image, frames, frame, picture, mask, spacing)


def sample(each: Slice, picture: Lazy, mask: Lazy) -> Sample:
    part, number = each.key.removesuffix(".nii.gz").split("_")[-2:]
    return Sample(
        key=f"{each.key}#{each.frame:03}",
        image=picture,
        masks={"prostate": mask},
        group=f"{part}_{number}",  # numbers begin at 01 in both parts
        split="test" if part == "test" else "train",
        frame=each.frame,
        spacing_mm=each.spacing,
    )


def read_lit(raw: RawTree) -> Iterator[Sample]:
    """The mask cleared where the picture is exactly black."""
    for each in slices(raw):
        lit = lazy(_both, each.mask, lazy(masks.nonzero, each.picture))
        yield sample(each, lazy(masks.turned, each.picture), lazy(masks.turned, lit))


def _both(one: Any, other: Any) -> Any:
    return one & other


RECIPE = Recipe(
    name="MicroSeg",
    slug="microseg",
    row="MicroSeg",
    aliases=("MicroSegNet", "Micro_Ultrasound_Prostate_Segmentation_Dataset"),
    title="Micro-Ultrasound Prostate Segmentation Dataset",
    organ="prostate",
    application="prostate segmentation in 29 MHz micro-ultrasound",
    media="volume3d",
    homepage="https://zenodo.org/records/10475293",
    doi="10.5281/zenodo.10475293",
    citations=(
        Citation(
            title="MicroSegNet: A deep learning approach for prostate segmentation on micro-ultrasound images",
            venue="Computerized Medical Imaging and Graphics: 102326",
            year=2024,
            doi="10.1016/j.compmedimag.2024.102326",
            bibtex="""@article{jiang2024microsegnet,
  title={MicroSegNet: A deep learning approach for prostate segmentation on micro-ultrasound images},
  author={Jiang, Hongxu and Imran, Muhammad and Muralidharan, Preethika and Patel, Anjali and Pensa, Jake and Liang, Muxuan and Benidir, Tarik and Grajo, Joseph R and Joseph, Jason P and Terry, Russell and others},
  journal={Computerized Medical Imaging and Graphics},
  pages={102326},
  year={2024},
  publisher={Elsevier}
}""",
        ),
    ),
    licence=Licence(
        id="UNSTATED",
        evidence="Not established: the text of the record's page that was read has no licence line, and MIT in the MicroSegNet repository is for its code. The record itself (metadata.license at https://zenodo.org/api/records/10475293) says it.",
        url="https://zenodo.org/records/10475293",
    ),
    access="open",
    access_checked=datetime.date(2026, 11, 1),
    routes=(
        Route(
            kind="zenodo",
            record="10475293",
            url="https://zenodo.org/records/10475293",
            files=(
                RawFile(
                    name="Micro_Ultrasound_Prostate_Segmentation_Dataset.zip",
                    url="https://zenodo.org/records/10475293/files/Micro_Ultrasound_Prostate_Segmentation_Dataset.zip",
                    sha256="031645dc30948314e379d0a0a7d54bad1cd4e1f3f918b77455d69810aa05dce3",
                ),
            ),
            note="One file for MicroSeg and MUP; the digest is the one torch-em's module carries.",
        ),
    ),
    labels={"prostate": "prostate"},
    group_kind="patient",
    group_rule="Part and number of the file name, such as train_01; numbers begin at 01 in both parts, so never the number alone.",
    official_split="The folders train (55 patients) and test (20 patients).",
    expect=Expect(groups=75),
    ignore={
        "*non_expert_annotations/*": "outlines of other annotators; the experts' are read",
        "*master_student_annotations/*": "outlines of other annotators; the experts' are read",
        "*medical_student_annotations/*": "outlines of other annotators; the experts' are read",
        "*clinician_annotations/*": "outlines of other annotators; the experts' are read",
    },
    nested=("*micro_ultrasound_prostate_segmentation_dataset.zip",),
    paper=PaperProfile(
        note="Slices without prostate are left out, the mask is cleared where the image is exactly black, and official splits are pooled. The converter's keys by number alone lose 20 of the 75 patients; that is not repeated.",
        skip_empty=True,
        read=read_lit,
    ),
    known_issues=(
        "MicroSeg and MUP in the US-43d table are one Zenodo record and one archive, converted twice (UltraSam issue 5). Build one of them; a corpus of both keeps a patient's slices of both in one split, as the list of twins says that one is a copy.",
        "The volumes are stored upside down; slices are turned by 180 degrees, as the converter of MicroSeg does. That of MUP flips rows only, which mirrors left and right; which is right anatomically was not checked.",
        "OpenUS reports 1,931 images, probably the slices with prostate of the 55 patients that survive the converter's keys.",
        "Slices without prostate are kept as negatives.",
        "Zenodo's download-all archive wraps the zip in another one.",
    ),
    sources=(
        "github CAMMA-public/UltraSam datasets/datasets/MicroSeg.py and MUP.py",
        "github zhuqh19/UltraSAM3 datasets/Prostate/Scripts/convert_microseg_to_coco.py",
        "github constantinpape/torch-em torch_em/data/datasets/medical/micro_usp.py (address, sha256)",
        "github mirthAI/MicroSegNet (README, data/preprocessing.py)",
        "https://github.com/CAMMA-public/UltraSam/issues/5",
    ),
    confidence="High: record, archive, digest, tree, 55 and 20 patients, identity with MUP. Medium: orientation (not checked on pixels). Unknown: licence, numbers of slices, type of the voxels (values lie in 0–254).",
    read=read,
)
