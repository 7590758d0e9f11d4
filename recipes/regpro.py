"""regPro: transrectal volumes of 73 prostates; the gland and five landmarks of each in four-dimensional masks."""

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from us43d.errors import MaskMismatch, UnreadableFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

STRUCTURES = ("prostate", "landmark_1", "landmark_2", "landmark_3", "landmark_4", "landmark_5")
PARTS: dict[str, Split] = {"train": "train", "val": "val"}


def read(raw: RawTree, *, merged: bool = False) -> Iterator[Sample]:
    """merged: every structure has the one label the paper gives it."""
    for path in raw.glob("**/us_images/*.nii.gz"):
        above, _, name = path.rpartition("us_images/")
        part = above.rstrip("/").rpartition("/")[2].lower()
        image, truth = raw.path(path), raw.path(f"{above}us_labels/{name}")
        raw.use(truth)
        shape, (volume, spacing) = _shape(image), masks.nifti_upright(truth)
        if volume.ndim != 4 or volume.shape[3] != len(STRUCTURES):
            raise UnreadableFile(f"{truth} has the shape {volume.shape}, not that of {len(STRUCTURES)} structures.")
        if volume.shape[:3] != shape:
            raise MaskMismatch(f"{truth} has the shape {volume.shape[:3]} upright, its image {shape}.")
        key, case = f"{part}/us_images/{name}", name.partition(".")[0]
        shown: Any = (volume > 0).any(axis=(1, 2))
        for n in map(int, shown.any(axis=1).nonzero()[0]):
            drawn = {label: lazy(_mask, truth, n, index) for index, label in enumerate(STRUCTURES) if shown[n, index]}
            yield Sample(
                key=f"{key}#{n:03}",
                image=lazy(_picture, image, n),
                masks={"unknow1": tuple(drawn.values())} if merged else drawn,
                group=case,
                split=PARTS.get(part),
                frame=n,
                spacing_mm=spacing[1:],
            )
        if not shown.any():
            yield Sample(
                key=f"{key}#000", image=image, group=case, split=PARTS.get(part), drop="no structure is labelled"
            )


def _shape(path: Path) -> tuple[int, ...]:
    """Of an image upright; a fourth axis of length 1 is tolerated."""
    shape = masks.nifti_upright(path).array.shape
    if len(shape) not in (3, 4) or shape[3:] not in ((), (1,)):
        raise UnreadableFile(f"{path} has the shape {shape}, not that of a volume.")
    return shape[:3]


def _sagittal(plane: "NDArray[Any]") -> "NDArray[Any]":
    """(front, head) → (rows, columns) with the head above and the front to the left."""
    return masks.turned(plane.T)


def _mask(path: Path, n: int, structure: int) -> "NDArray[Any]":
    return _sagittal(masks.above(masks.nifti_upright(path).array[n, :, :, structure], 0))


def _picture(path: Path, n: int) -> "NDArray[Any] | Remarked":
    """Slice n; intensities that are no grey values of eight bits are scaled from the volume's range."""
    volume = masks.nifti_upright(path).array
    low, high = float(volume.min()), float(volume.max())
    plane = _sagittal(volume.reshape(volume.shape[:3])[n])
    if volume.dtype == "uint8" or (low >= 0 and 1 < high <= 255):
        return masks.eight_bit(plane)
    if not high - low < float("inf"):
        raise UnreadableFile(f"{path} has intensities that are no finite numbers.")
    scaled = (plane - low) * (255 / (high - low) if high > low else 0)
    return Remarked(scaled.round().astype("uint8"), (f"intensities scaled to 0–255: from {low:g} to {high:g}",))


def read_merged(raw: RawTree) -> Iterator[Sample]:
    return read(raw, merged=True)


RECIPE = Recipe(
    name="regPro",
    slug="regpro",
    row="regPro",
    aliases=("muRegPro", "mu-RegPro"),
    title="MR to Ultrasound Registration for Prostate Challenge (mu-RegPro) dataset",
    organ="prostate",
    application="transrectal ultrasound volumes with prostate gland and landmark labels (paired with MR)",
    media="volume3d",
    homepage="https://muregpro.github.io/",
    doi="10.5281/zenodo.8004388",
    citations=(
        Citation(
            title="MR to Ultrasound Registration for Prostate Challenge - Dataset",
            venue="Zenodo",
            year=2023,
            doi="10.5281/zenodo.8004388",
            bibtex="""@misc{muregpro2023dataset,
  title={{MR} to Ultrasound Registration for Prostate Challenge - Dataset},
  author={Baum, Zachary M. C. and Saeed, Shaheer U. and Min, Zhe and Hu, Yipeng and Barratt, Dean C.},
  year={2023},
  publisher={Zenodo},
  doi={10.5281/zenodo.8004388}
}""",
        ),
        Citation(
            title="The SmartTarget Biopsy Trial",
            venue="European Urology",
            year=2019,
            doi="10.1016/j.eururo.2018.08.007",
            bibtex="""@article{hamid2019smarttarget,
  title={The {SmartTarget} Biopsy Trial},
  author={Hamid, Sami and others},
  journal={European Urology},
  year={2019},
  doi={10.1016/j.eururo.2018.08.007}
}""",
        ),
    ),
    licence=Licence(
        id="CC-BY-NC-SA-4.0",
        evidence="The challenge's policy page, which adds: for research only, because of the ethics approval; those unsure are asked not to pass the data on.",
        url="https://creativecommons.org/licenses/by-nc-sa/4.0/",
    ),
    access="open",
    access_checked=datetime.date(2026, 11, 1),
    access_note="The challenge page cites the concept DOI 10.5281/zenodo.7870104, which leads to the newest version; 8004388 is the version with the validation data.",
    routes=(
        Route(
            kind="zenodo",
            record="8004388",
            url="https://zenodo.org/records/8004388",
            files=(
                RawFile(name="train.zip", url="https://zenodo.org/records/8004388/files/train.zip"),
                RawFile(name="val.zip", url="https://zenodo.org/records/8004388/files/val.zip"),
            ),
            note="Sizes and md5 come from the record. The record as one archive holds both files.",
        ),
    ),
    labels={
        "prostate": "prostate",
        "landmark_1": "prostate_landmark",
        "landmark_2": "prostate_landmark",
        "landmark_3": "prostate_landmark",
        "landmark_4": "prostate_landmark",
        "landmark_5": "prostate_landmark",
        "unknow1": "prostate_landmark",
    },
    group_kind="patient",
    group_rule="The case number: one case per patient.",
    official_split="Folders train (65 cases) and val (8); 35 test cases were never published.",
    expect=Expect(groups=73),
    ignore={
        "*mr_images/*": "the paired MR volumes",
        "*mr_labels/*": "labels of the MR volumes",
        "*train.zip": "unpacked beside",
        "*val.zip": "unpacked beside",
    },
    nested=("*train.zip", "*val.zip"),
    paper=PaperProfile(
        note="Every structure that is not empty is a mask of the one class unknow1, gland and landmarks alike and overlapping; no split. It slices in the stored order without asking the header. Its test for the letters mr on the whole path, temporary folder included, is not repeated.",
        read=read_merged,
    ),
    known_issues=(
        "Slices are sagittal (across the patient's left-right axis) with the head above and the front to the left, by the orientation in the header. For a volume stored to the right, front and head this is the published conversion's slicing along x and half turn. Volumes are reconstructed from rotated parasagittal frames: no slice is a native frame, and which plane was acquired was not checked.",
        "UltraSAM3 slices along the last axis instead, without turning, and keeps the gland alone.",
        "Only slices with a structure are samples. A downstream table counts 4,706 slices, by a rule that was not read.",
        "The last axis of a mask is the structure: the gland (the official score's) and five landmarks, which differ by patient (lesion, zone border, cyst, calcification, urethra …) and may be empty. They overlap and stay apart.",
        "Whether a mask is 1 or 255 inside was not established: anything above 0 counts. The type of the images was not either: values of 0 to 255 stay, others are scaled from the volume's range with a remark.",
        "Gland masks were edited by hand from an automatic contour.",
        "The label unknow1 occurs in the paper profile alone.",
    ),
    sources=(
        "github muregpro/muregpro.github.io data.md, policies.md, assessment.md, index.md",
        "github muregpro/Baseline-Networks data_generator.py, evaluation.py",
        "github CAMMA-public/UltraSam datasets/datasets/regPro.py",
        "github zhuqh19/UltraSAM3 datasets/Prostate/Scripts/convert_regpro_to_coco.py",
        "github tbrokowski/ultatron data/adapters/prostate/muregpro.py",
        "github mock1ngbrd/salient-region-matching (case names of val)",
        "https://zenodo.org/records/7844908, github Yusufii9/USF-MAE README.md",
    ),
    confidence="High: sizes of the parts, shapes, spacing, licence, six structures with the gland first, folders. Medium: record and names of the archives. Inferred: case numbers of train. From memory: authors of the record. Unknown: orientation in the headers, types.",
    read=read,
)
