"""ASUS: vertebral surfaces in sagittal spine sweeps of eight volunteers; float16 arrays stored upside down."""

import datetime
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from us43d import masks
from us43d.contract import Citation, Expect, Licence, PaperProfile, RawFile, RawTree, Recipe, Route, Sample, lazy
from us43d.errors import UnreadableFile

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _upright(frame: "NDArray[Any]") -> "NDArray[Any]":
    """(128, 128, 1) → (128, 128), turned by 180 degrees: the frames are stored so."""
    turned: NDArray[Any] = frame[::-1, ::-1, 0]
    return turned


def _grey(frame: "NDArray[Any]") -> "NDArray[Any]":
    """0..1 → 0..255, to the nearest integer."""
    grey: NDArray[Any] = (frame.astype("float32").clip(0, 1) * 255).round().astype("uint8")
    return grey


def read(raw: RawTree) -> Iterator[Sample]:
    for key in sorted(raw.glob("**/q*_ultrasound.npy"), key=lambda key: key.rpartition("/")[2].lower()):
        folder, _, name = key.rpartition("/")
        volunteer = name.partition("_")[0]
        mask = next((k for k in raw.glob(f"**/{volunteer}_segmentation.npy") if k.rpartition("/")[0] == folder), None)
        images, labels = raw.path(key), raw.path(mask or f"{folder}/{volunteer}_segmentation.npy")
        if (shape := masks.npy_shape(images)) != masks.npy_shape(labels) or len(shape) != 4 or shape[3] != 1:
            raise UnreadableFile(f"{images} and {labels} are not arrays of one shape (frames, rows, columns, 1).")
        for n in range(shape[0]):
            yield Sample(
                key=f"{volunteer.lower()}/{n:04}",
                image=lazy(_grey, lazy(_upright, lazy(masks.npy_frame, images, n))),
                masks={"spine": lazy(masks.nonzero, lazy(_upright, lazy(masks.npy_frame, labels, n)))},
                group=volunteer.lower(),
                frame=n,
            )


# File ids of the laboratory's Girder server, from SlicerIGT/aigt, QueensSagittal.csv.
_GIRDER = {
    "q000": ("5da9e5c0d9e6a3be02d012b4", "5da9e5c8d9e6a3be02d012cc"),
    "q001": ("5da9e5c7d9e6a3be02d012c6", "5da9e5ccd9e6a3be02d012de"),
    "q002": ("5da9e5c2d9e6a3be02d012b7", "5da9e5c9d9e6a3be02d012cf"),
    "q003": ("5da9e5c3d9e6a3be02d012ba", "5da9e5cad9e6a3be02d012d2"),
    "q004": ("5da9e5c8d9e6a3be02d012c9", "5da9e5cdd9e6a3be02d012e1"),
    "q005": ("5da9e5c5d9e6a3be02d012c0", "5da9e5cbd9e6a3be02d012d8"),
    "q006": ("5da9e5c6d9e6a3be02d012c3", "5da9e5cbd9e6a3be02d012db"),
    "q007": ("5da9e5c4d9e6a3be02d012bd", "5da9e5cad9e6a3be02d012d5"),
}

RECIPE = Recipe(
    name="ASUS",
    slug="asus",
    row="ASUS",
    aliases=("Automatic Spine Ultrasound Segmentation", "QueensSagittal"),
    title="Automatic spine ultrasound segmentation: sagittal spine scans of eight healthy adult volunteers (Queen's University, Perk Lab)",
    organ="spine",
    application="vertebral bone surface segmentation in tracked ultrasound (scoliosis)",
    media="npy",
    homepage="https://github.com/SlicerIGT/aigt",
    citations=(
        Citation(
            title="Automatic spine ultrasound segmentation for scoliosis visualization and measurement",
            venue="IEEE Transactions on Biomedical Engineering",
            year=2020,
            doi="10.1109/TBME.2020.2980540",
            bibtex="""@article{ungi2020automatic,
  title={Automatic spine ultrasound segmentation for scoliosis visualization and measurement},
  author={Ungi, Tamas and Greer, Hastings and Sunderland, Kyle R. and Wu, Victoria and Baum, Zachary M. C. and Schlenger, Christopher and Oetgen, Matthew and Cleary, Kevin and Aylward, Stephen and Fichtinger, Gabor},
  journal={IEEE Transactions on Biomedical Engineering}, volume={67}, number={11}, pages={3234--3241}, year={2020},
  doi={10.1109/TBME.2020.2980540}
}""",
        ),
    ),
    licence=Licence(
        id="UNSTATED", evidence="No data licence found; the aigt repository is BSD-3-Clause, which covers code only."
    ),
    access="open",
    access_checked=datetime.date(2026, 11, 1),
    access_note="Two scripts read the Girder files without a key, a later notebook authenticates: anonymous access may have ended. The OneDrive link is of a kind that often stops working for scripts.",
    routes=(
        Route(
            kind="girder",
            record="https://pocus.cs.queensu.ca/api/v1",
            url="https://pocus.cs.queensu.ca",
            files=tuple(
                RawFile(
                    name=f"{volunteer}_{part}.npy",
                    url=f"https://pocus.cs.queensu.ca/api/v1/file/{item}/download",
                    unpack=False,
                )
                for volunteer, ids in _GIRDER.items()
                for part, item in zip(("ultrasound", "segmentation"), ids, strict=True)
            ),
        ),
        Route(
            kind="onedrive",
            record="7230D4DEC6058018!91725",
            url="https://onedrive.live.com/?authkey=%21AMIrL6S1cSjlo1I&id=7230D4DEC6058018%2191725&cid=7230D4DEC6058018",
            files=(RawFile(name="DataArrays.zip"),),
            note="A personal share; that its DataArrays.zip equals the Girder files is inferred from names and frame counts.",
        ),
    ),
    labels={"spine": "vertebral_surface"},
    group_kind="patient",
    group_rule="The file prefix q000..q007 is one volunteer.",
    expect=Expect(images=3290, annotated=2865, groups=8),
    nested=("*.zip", "*/*.zip"),
    paper=PaperProfile(
        note="Frames with an empty mask are left out; the converter cuts grey values to whole numbers, here they are rounded in both profiles.",
        skip_empty=True,
    ),
    known_issues=(
        "128 × 128 pixels by construction; the original aspect ratio is lost.",
        "Frames are stored turned by 180 degrees; image and mask are turned back.",
        "Neighbouring frames of a sweep are nearly identical.",
    ),
    sources=(
        "github CAMMA-public/UltraSam datasets/datasets/ASUS.py",
        "github SlicerIGT/aigt @ e1ec8b6a: QueensSagittal.csv and notebooks (names, ids, frame counts, dtype, shape)",
        "https://pmc.ncbi.nlm.nih.gov/articles/PMC7654705/",
    ),
    confidence="High for the reader, low for access and licence. Unknown: sizes, digests, whether either host answers today.",
    read=read,
)
