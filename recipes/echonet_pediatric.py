"""EchoNet-Pediatric: apical and short-axis videos of children; the left ventricle outlined on up to two frames each."""

import datetime
from collections.abc import Iterator
from typing import Any, Literal

from us43d import masks
from us43d.contract import (
    Citation,
    Expect,
    Licence,
    PaperProfile,
    Polygon,
    RawFile,
    RawTree,
    Recipe,
    Route,
    Sample,
    Split,
    lazy,
)

VIEWS = ("A4C", "PSAX")
MISSING = ("No Systolic", "No Diastolic")
FOLDS: dict[int, Split] = {0: "test", 1: "val"}
TAGS = ("Sex", "Age", "Weight", "Height")
#: Video → traced frame as the table numbers it, or the phase that is missing → outline, in the order of the table.
Outlines = dict[str, dict[int | str, tuple[tuple[float, float], ...]]]


def read(raw: RawTree, rule: Literal["inside", "touch"] = "inside") -> Iterator[Sample]:
    """rule: how outlines are filled: as scikit-image does (the owners' code), or with the outline painted."""
    tree = raw.at(*VIEWS)
    listed = {view: tree.index(f"{view}/FileList.csv", "FileName", ("EF", *TAGS, "Split")) for view in VIEWS}
    traced = {view: _outlines(tree, view) for view in VIEWS}
    numbers = {n for found in traced.values() for frames in found.values() for n in frames if not isinstance(n, str)}
    first = 0 if 0 in numbers else 1
    for view in VIEWS:
        folder = f"{view}/Videos/"
        other = listed[VIEWS[1 - VIEWS.index(view)]]
        inside = {key.removeprefix(folder) for key in tree.glob(f"{folder}*.avi")}
        shared = sorted((inside - set(listed[view])) & set(other))
        tree.use(*(tree.path(folder + name) for name in shared))  # the folder of both views, unpacked twice
        for name in sorted(inside.difference(shared) | set(listed[view]) | set(traced[view])):
            key, path, row = folder + name, tree.path(folder + name), listed[view].get(name)
            tree.use(path)
            group = name.partition("-")[0]
            if row is None:
                yield Sample(key=f"{key}#0000", image=path, group=group, drop="the video is not in FileList.csv")
                continue
            fold = row.whole("Split")
            facts: dict[str, Any] = {"group": group, "split": FOLDS.get(fold, "train")}
            tags: dict[str, Any] = {"view": view, "fold": fold}
            tags |= {"ef": row.number("EF")} if row["EF"] else {}
            tags |= {tag.lower(): row[tag] for tag in TAGS if row[tag]}
            frames = traced[view].get(name, {})
            found = {n: points for n, points in frames.items() if not isinstance(n, str)}
            if not found:
                untraced = "no frame of this video is traced"
                yield Sample(key=f"{key}#0000", image=path, tags=tags, drop=untraced, **facts)
                continue
            length = masks.video_length(path)
            for n, points in found.items():
                index, drop, remarks = n - first, None, [f"frames of the table count from {first}"]
                if index == length:
                    index, remarks = length - 1, [*remarks, "frame one beyond the last: the last is taken"]
                elif not 0 <= index < length:
                    drop = "the video has no frame of that number"
                if len(points) < 3:
                    drop = "a tracing of fewer than three points"
                yield Sample(
                    key=f"{key}#{n:04}",
                    image=lazy(masks.video_frame, path, index),
                    masks={"left_ventricle": Polygon(points, rule)},
                    frame=index,
                    tags={**tags, "phase": "end-systole" if next(iter(frames)) == n else "end-diastole"},
                    drop=drop,
                    remarks=tuple(remarks),
                    **facts,
                )


def _outlines(tree: RawTree, view: str) -> Outlines:
    """Rows of one (video, frame) in the table's order are its outline; a missing phase is one row without points."""
    found: dict[str, dict[int | str, list[tuple[float, float]]]] = {}
    for row in tree.rows(f"{view}/VolumeTracings.csv", ("FileName", "X", "Y", "Frame")):
        frames = found.setdefault(row["FileName"], {})
        if row["Frame"] in MISSING:
            frames[row["Frame"]] = []
        else:
            frames.setdefault(row.whole("Frame"), []).append((row.number("X"), row.number("Y")))
    return {name: {n: tuple(points) for n, points in frames.items()} for name, frames in found.items()}


def read_touched(raw: RawTree) -> Iterator[Sample]:
    return read(raw, "touch")


RECIPE = Recipe(
    name="EchoNet-Pediatric",
    slug="echonet_pediatric",
    row="EchoNet-Pediatric",
    aliases=("EchoNet-Peds", "pediatric_echo_avi", "echonetpediatric"),
    title="EchoNet-Pediatric (EchoNet-Peds): a large pediatric echocardiography video data resource",
    organ="heart",
    application="left ventricle segmentation in children (apical four-chamber and parasternal short-axis videos)",
    media="video",
    homepage="https://echonet.github.io/pediatric/",
    citations=(
        Citation(
            title="Video-Based Deep Learning for Automated Assessment of Left Ventricular Ejection Fraction in Pediatric Patients",
            venue="Journal of the American Society of Echocardiography 36(5): 482-489",
            year=2023,
            doi="10.1016/j.echo.2023.01.015",
            bibtex="""@article{reddy2023video,
  title={Video-Based Deep Learning for Automated Assessment of Left Ventricular Ejection Fraction in Pediatric Patients},
  author={Reddy, Charitha D. and Lopez, Leo and Ouyang, David and Zou, James Y. and He, Bryan},
  journal={Journal of the American Society of Echocardiography},
  volume={36},
  number={5},
  pages={482--489},
  year={2023},
  doi={10.1016/j.echo.2023.01.015}
}""",
        ),
    ),
    licence=Licence(
        id="CUSTOM",
        name="Stanford University School of Medicine EchoNet-Pediatric Dataset Research Use Agreement",
        url="https://echonet.github.io/pediatric/index.html#access",
        evidence="The agreement on the project page, with the clauses of EchoNet-Dynamic's: research use; no passing on, not even of the link, as every user registers; no derivative works, re-identification or clinical use.",
        commercial=False,
        redistribute=False,
        derivatives=False,
    ),
    access="agreement",
    access_checked=datetime.date(2026, 11, 1),
    access_note="Register, join Stanford AIMI, sign the agreement, download with your own credentials. The project page still links to the Azure portal; AIMI has moved its datasets to stanford.redivis.com (confirmed for EchoNet-Dynamic), and this one's address there was not established.",
    routes=(
        Route(
            kind="stanford_aimi",
            record="a84b6be6-0d33-41f9-8996-86e5df53b005",
            url="https://stanfordaimi.azurewebsites.net/datasets/a84b6be6-0d33-41f9-8996-86e5df53b005",
            files=(RawFile(name="echonetpediatric.zip"),),
            note="The older portal's number. Give the tool the folder or archive you downloaded; one or two folders called pediatric_echo_avi above A4C and PSAX make no difference.",
        ),
    ),
    labels={"left_ventricle": "left_ventricle"},
    group_kind="patient",
    group_rule="The file name up to its first hyphen: all visits and both views of a child.",
    official_split="Column Split, ten folds by patient: as in the authors' cross-validation with k = 0, fold 0 is test, fold 1 validation. The fold is a tag of every sample.",
    expect=Expect(),
    paper=PaperProfile(
        note="The outline itself is painted. The converter takes every frame number less one; whether that is right is decided by the tables here (see the known issues). It ignores the folds and takes every video for a patient.",
        read=read_touched,
    ),
    known_issues=(
        "Frame numbers: the authors' code uses them as they are (from 0), the published conversion subtracts 1. Decided here by both tables together: if any number is 0 they count from 0, otherwise from 1; a remark on every sample says which. A number equal to the video's length, which the authors report to occur, is taken for the last frame. Keys carry the table's number.",
        "A missing phase is a row whose Frame is No Systolic or No Diastolic; it is no sample. A video with neither phase has one dropped row.",
        "Systole comes first in the tables, then diastole; the phase is told by that order.",
        "Counts disagree: the project page says 3,176 apical and 4,424 short-axis videos, and 7,643 together; two users counted 3,284 and 4,526 files. None is enforced.",
        "In the authors' pipeline both views shared one folder of videos: a video that only the other view lists is passed over, one that none lists has a dropped row.",
        "A few frames carried the outlines of both views and were marked invalid by the authors.",
        "The authors turned the apical videos upright before export; they are read as stored.",
        "Other conversions take the file's whole name for the patient, so that one child leaks between parts; others use folds 0-7 and 8-9, or 0-6, 7 and 8-9.",
        "The project page's text on pairs of coordinates is EchoNet-Dynamic's and does not fit these tables.",
    ),
    sources=(
        "github CAMMA-public/UltraSam datasets/datasets/EchoNet-Pediatric.py",
        "github zhuqh19/UltraSAM3 datasets/Cardiac/Scripts/convert_echonet_pediatric_to_coco.py",
        "github echonet/pediatric docs/index.html",
        "github bryanhe/dynamic branch pediatric: scripts/process_pediatric.py, scripts/cross_validate_pediatric.py, echonet/datasets/echo.py",
    ),
    confidence="High for reading (authors' code, columns, folds, agreement), medium for access. Unknown: the Redivis address, name and size of the archive, digests, number of patients.",
    read=read,
)
