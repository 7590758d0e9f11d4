"""FALLMUD: leg muscles from two centres; aponeuroses and fascicles in files of their own, some of them turned."""

import datetime
import re
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
)  # fmt: skip
from us43d.errors import RawDataError

LABELS = ("aponeurosis", "fascicle")
#: Numbers in a block of frames that stay in one split; a choice of this project, as no patients are published.
BLOCK = 50
FILE = re.compile(r"(NeilCronin|RyanCunningham)/(images|aponeurosis_masks|fascicle_masks)/(.*)\.(?:tiff?|jpe?g)", re.I)


def read(raw: RawTree, *, threshold: int = 127, both: bool = False) -> Iterator[Sample]:
    """threshold: pixels of the masks above it are inside. both: leave out images that lack one of the two masks."""
    tree = raw.at("RyanCunningham", "NeilCronin")
    files: dict[tuple[str, str], dict[str, str]] = {}
    for key in tree:
        if match := FILE.fullmatch(key):
            kind = match[2].lower().removesuffix("_masks")
            found = files.setdefault((match[1], match[3]), {})
            if kind in found:
                raise RawDataError(f"{tree.path(found[kind])} and {tree.path(key)} are one thing twice.")
            found[kind] = key
    for (centre, stem), found in sorted(files.items()):
        if "images" not in found:
            continue  # its masks are found to be unread, and the build says so
        image = tree.path(found["images"])
        drawn = {
            label: lazy(masks.above, lazy(masks.grey, tree.path(found[label])), threshold)
            for label in LABELS
            if label in found
        }
        if "aponeurosis" in drawn:
            drawn["aponeurosis"] = lazy(upright, drawn["aponeurosis"], lazy(masks.grey, image), centre)
        missing = tuple(f"no {label} mask is published for this image" for label in LABELS if label not in drawn)
        drop = missing[0] if missing and both else None
        if len(missing) == len(LABELS):
            drop = "no mask is published for this image"
        number = re.search(r"\d+", stem)
        yield Sample(
            key=found["images"],
            image=image,
            masks=drawn,
            group=f"{centre} {int(number[0]) // BLOCK * BLOCK:05}" if number else centre,
            tags={"centre": centre},
            remarks=() if drop else missing,
            drop=drop,
        )


def upright(mask: Any, image: Any, centre: str) -> Any:
    """The mask as its image lies. Those of RyanCunningham are stored turned by 90 degrees and are turned clockwise.

    A shape that differs from the image's tells; a square does not, so there the centre does, and the rule is checked:
    aponeuroses are bright.
    """
    import numpy as np

    clockwise = np.rot90(mask, -1)
    if mask.shape != image.shape:
        if clockwise.shape != image.shape:
            return mask  # of another size, which is an error
        return Remarked(clockwise, ("mask turned by 90 degrees, as its shape shows",))
    if centre != "RyanCunningham" or image.shape[0] != image.shape[1] or not mask.any():
        return mask
    if image[clockwise].mean() < image[mask].mean():
        return Remarked(clockwise, ("square mask turned by 90 degrees, though unturned it lies on brighter pixels",))
    return Remarked(clockwise, ("square mask turned by 90 degrees, as are the others of its folder",))


def read_paper(raw: RawTree) -> Iterator[Sample]:
    return read(raw, threshold=99, both=True)


RECIPE = Recipe(
    name="FALLMUD",
    slug="fallmud",
    row="FALLMUD",
    title="FALLMUD: FAscicle Lower Leg Muscle Ultrasound Dataset",
    organ="muscle",
    application="aponeurosis and fascicle segmentation in images of lower leg muscles",
    media="image2d",
    homepage="https://kalisteo.cea.fr/index.php/fallmud/",
    citations=(
        Citation(
            title="AW-Net: Automatic Muscle Structure Analysis on B-mode Ultrasound Images for Injury Prevention",
            venue="ACM Conference on Bioinformatics, Computational Biology, and Health Informatics (ACM-BCB)",
            year=2021,
            doi="10.1145/3459930.3469531",
            bibtex=r"""@inproceedings{michard2021awnet,
  title={AW-Net: Automatic Muscle Structure Analysis on B-mode Ultrasound Images for Injury Prevention},
  author={Michard, Hugo and Luvison, Bertrand and Pham, Quoc-Cuong and Morales-Artacho, Antonio J. and Guilhem, Ga{\"e}l},
  booktitle={Proceedings of the 12th ACM Conference on Bioinformatics, Computational Biology, and Health Informatics},
  year={2021},
  doi={10.1145/3459930.3469531}
}""",
        ),
    ),
    licence=Licence(
        id="CC-BY-NC-4.0",
        evidence="Second hand: a catalogue of muscle ultrasound records it for its entry FALLMUD_2017 (the Cunningham part). The Cronin images with their original masks are in a GitHub repository under Apache 2.0. The owners' page was not read.",
        url="https://kalisteo.cea.fr/index.php/fallmud/",
    ),
    access="open",
    access_checked=datetime.date(2026, 11, 1),
    access_note="The address of the archive could not be established: the page has a download section. Whether a form comes first is unknown.",
    routes=(
        Route(
            kind="manual",
            url="https://kalisteo.cea.fr/index.php/fallmud/",
            files=(RawFile(name="FALLMUD.zip"),),
            note="The link of the US-43d table has a stray # at its end.",
        ),
    ),
    labels={"aponeurosis": "aponeurosis", "fascicle": "muscle_fascicle"},
    group_kind="cluster",
    group_rule="Blocks of 50 consecutive file numbers within a centre: frames are taken from videos (of 8 volunteers in RyanCunningham), and no list of subjects is published.",
    expect=Expect(images=812),
    paper=PaperProfile(
        note="Only images that have both masks; masks are cut at 100; fascicles are erased, although the category exists.",
        labels={"fascicle": None},
        read=read_paper,
    ),
    known_issues=(
        "The published conversion erases the fascicles (the line that would set them is commented out); here they are kept.",
        "Aponeurosis masks of RyanCunningham are stored turned by 90 degrees. UltraSAM3 resizes them instead, which is wrong.",
        "Fascicles are thin lines: extrapolated over the whole muscle in RyanCunningham, visible fragments in NeilCronin.",
        "Masks are JPEG files (the fascicles of NeilCronin TIFF) and are cut at half range.",
        "Frames of one video look much alike; blocks of consecutive numbers keep most of them together, not all.",
        "Two lists count 813 images, one 812; 309 + 504 for the two centres is inferred.",
        "The GitHub repository njcronin/DL_Track has the Cronin images with other masks; US30K and a copy on Hugging Face have all four parts resized to 256 × 256. Neither is read.",
        "A public adapter gives FALLMUD the DOI of STMUS_NDA, which is wrong.",
    ),
    sources=(
        "github CAMMA-public/UltraSam datasets/datasets/FALLMUD.py",
        "github zhuqh19/UltraSAM3 datasets/Muscle/Scripts/convert_fallmud_to_coco.py",
        "github njcronin/DL_Track (tree, LICENSE, eight files)",
        "public code (layout; licence, volunteers, device; 813 and 812 images)",
        "https://ar5iv.labs.arxiv.org/html/2009.04790, https://www.mdpi.com/2313-433X/4/2/29",
    ),
    confidence="High for tree, endings, thresholds, turned masks and the fascicles of the conversion. Second hand: licence, counts, volunteers. From memory: DOI. Not established: address and digest of the archive, counts per centre, whether any turned mask is square.",
    read=read,
)
