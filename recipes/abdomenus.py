"""AbdomenUS: abdominal organs in ray-cast simulations from CT (AUS) and in real scans (RUS), masks coloured by organ."""

import datetime
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
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
    Split,
    lazy,
)  # fmt: skip

COLOURS = {
    "liver": (100, 0, 100),
    "kidney": (255, 255, 0),
    "pancreas": (0, 0, 255),
    "vessels": (255, 0, 0),
    "adrenals": (0, 255, 255),
    "gallbladder": (0, 255, 0),
    "bones": (255, 255, 255),
    "spleen": (255, 0, 255),
}
#: Outside the field of view, and tissue of no organ (AUS only).
NOTHING = ((0, 0, 0), (10, 10, 10))
PARTS: dict[str, Split] = {"train": "train", "validation": "val", "val": "val", "test": "test"}


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("AUS", "RUS")
    stems = {key.rpartition(".")[0]: key for key in tree.glob("[AR]US/annotations/*/*.png")}
    images = [key for ending in ("png", "jpg", "jpeg") for key in tree.glob(f"[AR]US/images/*/*.{ending}")]
    for key in sorted(images):
        source, _, part, name = key.split("/")
        stem = name.rpartition(".")[0]
        mask = stems.get(f"{source}/annotations/{part}/{stem}")
        painted = lazy(coloured, tree.path(mask)) if mask else None
        simulated = source.upper() == "AUS"
        yield Sample(
            key=key,
            image=tree.path(key),
            masks={label: lazy(masks.colour, painted, value, 0) for label, value in COLOURS.items()} if painted else {},
            group=f"AUS/{volume(stem)}" if simulated else "RUS",
            split=PARTS.get(part.lower()),
            tags={"origin": "simulated" if simulated else "real"},
            drop=None if mask else "no mask is published for this image",
        )


def volume(stem: str) -> str:
    """The CT volume of a simulated image: "ct20" of "ct20-29"."""
    stem = stem.removeprefix("resized_")
    return stem.rpartition("-")[0] or stem


def coloured(path: Path) -> Any:
    """A mask's RGB picture, without alpha."""
    picture = masks.rgb(path)
    strange = ~masks.colour(picture, NOTHING[0], 0)
    for known in (*NOTHING[1:], *COLOURS.values()):
        strange &= ~masks.colour(picture, known, 0)
    found = int(strange.sum())
    return Remarked(picture, (f"colours outside the code: {found} pixels, of no structure",)) if found else picture


def read_real(raw: RawTree) -> Iterator[Sample]:
    for sample in read(raw):
        simulated = sample.tags["origin"] == "simulated"
        yield replace(sample, drop="simulated (left out by the paper profile)") if simulated else sample


RECIPE = Recipe(
    name="AbdomenUS",
    slug="abdomenus",
    row="AbdomenUS",
    aliases=("ussimandsegm", "US simulation & segmentation"),
    title="US simulation & segmentation (abdominal ultrasound, real and ray-cast simulated)",
    organ="abdomen",
    application="multi-organ abdominal segmentation (liver, kidney, pancreas, vessels, adrenals, gallbladder, bones, spleen)",
    media="image2d",
    homepage="https://www.kaggle.com/datasets/ignaciorlando/ussimandsegm",
    citations=(
        Citation(
            title="Improving realism in patient-specific abdominal ultrasound simulation using CycleGANs",
            venue="International Journal of Computer Assisted Radiology and Surgery 15(2): 183-192",
            year=2020,
            doi="10.1007/s11548-019-02046-5",
            bibtex=r"""@article{vitale2020improving,
  title={Improving realism in patient-specific abdominal ultrasound simulation using CycleGANs},
  author={Vitale, Santiago and Orlando, Jos{\'e} Ignacio and Iarussi, Emmanuel and Larrabide, Ignacio},
  journal={International Journal of Computer Assisted Radiology and Surgery},
  volume={15},
  number={2},
  pages={183--192},
  year={2020},
  doi={10.1007/s11548-019-02046-5}
}""",
        ),
    ),
    licence=Licence(
        id="UNSTATED",
        evidence="The licence field of the Kaggle page was not seen; MedSegBench records only a public release after a Kaggle Open Data Research Grant. The simulated part derives from CT volumes of VISCERAL Anatomy3 and 3D-IRCADb, which carry terms of their own.",
        url="https://www.kaggle.com/datasets/ignaciorlando/ussimandsegm",
    ),
    access="login",
    access_checked=datetime.date(2026, 11, 1),
    access_note="The API's address is often served without a token for public data; count on needing one.",
    routes=(
        Route(
            kind="kaggle",
            record="ignaciorlando/ussimandsegm",
            url="https://www.kaggle.com/datasets/ignaciorlando/ussimandsegm",
            files=(
                RawFile(
                    name="ussimandsegm.zip",
                    url="https://www.kaggle.com/api/v1/datasets/download/ignaciorlando/ussimandsegm",
                ),
            ),
        ),
    ),
    labels={
        "liver": "liver",
        "kidney": "kidney",
        "pancreas": "pancreas",
        "vessels": "abdominal_vessel",
        "adrenals": "adrenal_gland",
        "gallbladder": "gallbladder",
        "bones": "bone",
        "spleen": "spleen",
    },
    group_kind="volume",
    group_rule="Simulated: the CT volume, which is the name up to its last '-'. Real: 11 volunteers without ids in the names, so all real images are one group.",
    official_split="The folders train/ and test/ as released; all annotated real images are in test/.",
    expect=Expect(images=1543, tags={"origin=real": 617, "origin=simulated": 926}),
    paper=PaperProfile(
        note="Real images only (about 61 with masks); simulations are left out as generated and of bad quality. The published labels have kidney and adrenals, and pancreas and vessels, exchanged, as masks were read as BGR; here they are right.",
        read=read_real,
    ),
    known_issues=(
        "Simulated and real images are told apart by the tag origin, the first part of the key, and the group.",
        "617 is the number of real images, not of annotated ones: about 61 have masks, all in RUS/test; the others are dropped with that reason.",
        "987 images with masks (926 simulated, 61 real) is computed from counts of others, and a mask may hold no organ: it is not enforced.",
        "Names in AUS and RUS collide; keys hold source and part.",
        "One CT volume gives many simulated slices.",
        "Some masks have a constant alpha channel, which is dropped; the colours (10, 10, 10) and (0, 0, 0) are tissue of no organ and outside the field of view.",
        "A later description speaks of train, validation and test folders; all readers seen use train and test, and a validation folder is read too.",
        "MedSegBench (Zenodo 13358372) has the simulated part resized to at most 512 × 512, 569, 64 and 293 images; it does not stand for this source.",
    ),
    sources=(
        "github CAMMA-public/UltraSam datasets/datasets/AbdomenUS.py",
        "github zhuqh19/UltraSAM3 datasets/Abdomen/Scripts/convert_abdomen_us_to_coco.py",
        "public code (torch-em us_sim_and_seg module: tree, colours, alpha channel, 11 subjects, device)",
        "public code (MedSegBench info.py: counts)",
        "public code (split and file-name notes)",
        "public code (README: 694 annotated images)",
        "https://repositorio.utdt.edu/items/56dec84c-cb8f-41e4-8159-c707b3b34f46/full (617 real images)",
    ),
    confidence="High for reading: tree, colours and pairing were read in code. Computed, not counted on disk: 1,543 = 617 real + 926 simulated (633 train, 293 test), 987 = 926 + 61 with masks, where 61 = 694 − 633. Low for the licence. Unknown: size, digest, ids of the real subjects.",
    read=read,
)
