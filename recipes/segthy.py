"""Segthy: tracked neck sweeps of volunteers; label volumes with thyroid and, per side, carotid artery and jugular vein."""

import datetime
import re
from collections.abc import Iterator
from typing import Any

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
    Remarked,
    Route,
    Sample,
    lazy,
)  # fmt: skip

#: The vessels have one number per side; which is left is contradictory, so the side is not kept.
VALUES = {"thyroid": (1,), "carotid": (2, 4), "jugular": (3, 5)}
NAME = re.compile(r".*/(\d{3})_P(\d+)_(\d+)_(left|right)_US\.nii", re.IGNORECASE)


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("US_thyroid_label")
    for key in tree.glob("US/*_US.nii"):
        if (match := NAME.fullmatch(key)) is None:
            continue  # and the build says that the file was not read
        volunteer, physician, repeat, side = match.groups()
        image, truth = tree.path(key), tree.path(f"US_thyroid_label/{key[3:-7]}.nii")
        frames, spacing = masks.nifti_pair(image, truth)
        for frame in range(frames):
            labels = lazy(logged, lazy(masks.turned, lazy(masks.nifti_frame, truth, frame)))
            drawn: dict[str, Lazy] = {label: lazy(masks.equal, labels, *values) for label, values in VALUES.items()}
            yield Sample(
                key=f"{key}#{frame:04}",
                image=lazy(masks.turned, lazy(masks.eight_bit, lazy(masks.nifti_frame, image, frame))),
                masks=drawn,
                group=volunteer,
                frame=frame,
                spacing_mm=spacing,
                tags={"physician": int(physician), "repeat": int(repeat), "side": side.lower()},
            )


def logged(labels: Any) -> Any:
    """The label map, with a remark on the values it holds: sources disagree on which occur."""
    import numpy as np

    values = [int(value) for value in np.unique(masks.label_map(labels, (1, 2, 3, 4, 5))) if value]
    return Remarked(labels, tuple(f"label value {value} occurs" for value in values))


RECIPE = Recipe(
    name="Segthy",
    slug="segthy",
    row="Segthy",
    aliases=("SegThy Open-Access Dataset",),
    title="SegThy Open-Access Dataset for Thyroid and Neck Segmentation",
    organ="thyroid",
    application="thyroid and neck vessel segmentation in tracked 3D ultrasound sweeps",
    media="volume3d",
    homepage="https://www.cs.cit.tum.de/camp/publications/segthy-dataset/",
    citations=(
        Citation(
            title="Tracked 3D ultrasound and deep neural network-based thyroid segmentation reduce interobserver variability in thyroid volumetry",
            venue="PLoS ONE 17(7): e0268550",
            year=2022,
            doi="10.1371/journal.pone.0268550",
            bibtex=r"""@article{kronke2022tracked,
  title={Tracked {3D} ultrasound and deep neural network-based thyroid segmentation reduce interobserver variability in thyroid volumetry},
  author={Kr{\"o}nke, Markus and Eilers, Christine and others},
  journal={PLoS ONE},
  volume={17},
  number={7},
  pages={e0268550},
  year={2022},
  doi={10.1371/journal.pone.0268550}
}""",
        ),
    ),
    licence=Licence(
        id="UNSTATED",
        evidence="No terms were found for the owners' download; a third party's copy (MedOtter/SegThy) is tagged CC BY 4.0, which is not the owners' word.",
        url="https://www.cs.cit.tum.de/camp/publications/segthy-dataset/",
    ),
    access="open",
    access_checked=datetime.date(2026, 11, 1),
    access_note="About 18.6 GB, of which only US_volunteer_dataset/ground_truth_data has labels. MRI_data.zip beside it is not needed.",
    routes=(
        Route(
            kind="http",
            url="https://www.cs.cit.tum.de/camp/publications/segthy-dataset/",
            files=(
                RawFile(
                    name="US_data.zip",
                    url="https://www.campar.in.tum.de/public_datasets/2022_plosone_eilers/US_data.zip",
                    sha256="52c59ef4db08adfa0e6ea562c7fe747c612f2064e01f907a78b170b02fb459bb",
                ),
            ),
            note="The digest is the one torch-em's module carries.",
        ),
        Route(
            kind="manual",
            record="a6530eb901e8c1c127166d1bebeffb0129f5bf9f",
            url="https://academictorrents.com/details/a6530eb901e8c1c127166d1bebeffb0129f5bf9f",
            files=(
                RawFile(name="US_data.zip", sha256="52c59ef4db08adfa0e6ea562c7fe747c612f2064e01f907a78b170b02fb459bb"),
            ),
            mirror=True,
            note="A torrent of US_data.zip (18.58 GB) by its name and size.",
        ),
    ),
    labels={"thyroid": "thyroid_gland", "carotid": "common_carotid_artery", "jugular": "internal_jugular_vein"},
    group_kind="patient",
    group_rule="The first three digits of the file name: the volunteer, with both lobes and all repeats.",
    expect=Expect(),
    ignore={
        "*us_volunteer_dataset/[!g]*": "scans of the volunteers without labels",
        "*ground_truth_data/[!u]*": "scans without labels",
    },
    paper=PaperProfile(
        note="Slices without annotation are left out. The converter's category list lacks the values 4 and 5, so that the vessels of one side vanish; that is not repeated.",
        skip_empty=True,
    ),
    known_issues=(
        "Sources disagree on the labels of the ultrasound volumes: 0 and 1 only, or 0 to 5 with carotid 2 and 4, jugular 3 and 5. All are read, and remarks say which occur.",
        "Which of 2 and 3 or 4 and 5 is left is contradictory; the side of the vessels is not kept.",
        "Slices are turned by 180 degrees, so that the skin is on top.",
        "Grey values are taken to be 0–255, as the paper's converter does; others are cut off, with a remark.",
        "Neighbouring slices are almost equal, and a volunteer has up to two lobes in several scans: a split by volume, as UltraSAM3's, leaks.",
        "The paper's converter files all three structures under the supercategory artefact.",
        "28 volunteers were scanned (3 physicians, 3 scans each); 16 of them with two lobes each seem to be labelled (inferred), so no count is enforced.",
    ),
    sources=(
        "github CAMMA-public/UltraSam datasets/datasets/segthy.py, utils.py",
        "github zhuqh19/UltraSAM3 datasets/Thyroid/Scripts/convert_segthy_to_coco.py",
        "github constantinpape/torch-em torch_em/data/datasets/medical/segthy.py (addresses, sha256, label legend)",
        "https://www.cs.cit.tum.de/camp/publications/segthy-dataset/",
        "arXiv 2108.10118 (abstract)",
    ),
    confidence="High: download, digest, names. Medium: labels. Inferred: 32 labelled volumes. Unknown: licence, whether values 4 and 5 occur, numbers of slices, names of the folders without labels.",
    read=read,
)
