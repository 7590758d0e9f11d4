"""Thyroid US Cineclip: 192 clips of thyroid nodules, every frame a row of one HDF5 file of 36 GB."""

import datetime
from collections.abc import Iterable, Iterator

from us43d import masks
from us43d.contract import (
    Citation,
    Expect,
    Licence,
    PaperProfile,
    RawFile,
    RawTree,
    Recipe,
    Route,
    Sample,
    lazy,
)  # fmt: skip
from us43d.errors import UnreadableFile
from us43d.rawtree import Row

TAGS = ("sex", "location", "ti-rads_level", "histopath_diagnosis")


def read(raw: RawTree) -> Iterator[Sample]:
    clips = raw.index(raw.one("**/metadata.csv"), "annot_id", ("age", *TAGS))
    group = groups(clips.values())
    path = raw.path(raw.one("**/dataset.hdf5"))
    shape, mask_shape = masks.hdf5_shape(path, "image"), masks.hdf5_shape(path, "mask")
    ids, frames = masks.hdf5_text(path, "annot_id"), masks.hdf5_text(path, "frame_num")
    if shape != mask_shape or not len(ids) == len(frames) == shape[0]:
        raise UnreadableFile(
            f"{path} has {shape} for image, {mask_shape} for mask, {len(ids)} annot_id and {len(frames)} frame_num: "
            "its rows do not belong together."
        )
    for row, (clip, frame) in enumerate(zip(ids, frames, strict=True)):
        if not frame.isdecimal():
            raise UnreadableFile(f"{path}: frame_num of row {row} is {frame!r}, not a number.")
        facts = clips[clip]
        yield Sample(
            key=f"dataset.hdf5#{row:05}",
            image=lazy(masks.hdf5_row, path, "image", row),
            masks={"thyroid_nodule": lazy(masks.fill_holes, lazy(masks.hdf5_row, path, "mask", row))},
            group=group[clip],
            frame=int(frame) - 1,
            tags={"clip": clip, "age": facts.number("age"), **{name: facts[name] for name in TAGS}},
        )


def groups(clips: Iterable[Row]) -> dict[str, str]:
    """Clip → the first of its group: clips that follow one another by number and have one age and sex."""
    found: dict[str, str] = {}
    before = first = None
    for row in sorted(clips, key=number):
        person = (row.number("age"), row["sex"])
        if person != before:
            before, first = person, row["annot_id"]
        found[row["annot_id"]] = str(first)
    return found


def number(row: Row) -> int:
    if not (digits := row["annot_id"].removesuffix("_")).isdecimal():
        raise UnreadableFile(f"{row.where}: annot_id is {row['annot_id']!r}, not a number and an underscore.")
    return int(digits)


RECIPE = Recipe(
    name="Thyroid-US-Cineclip",
    slug="thyroid_cineclip",
    row="Thyroid US Cineclip",
    aliases=("Thyroid Cineclip", "Thyroid Ultrasound Cine-clip", "Cineclip"),
    title="Thyroid Ultrasound Cine-clip (Stanford AIMI)",
    organ="thyroid",
    application="thyroid nodule segmentation in ultrasound cine clips",
    media="hdf5",
    homepage="https://aimi.stanford.edu/datasets/thyroid-ultrasound-cine-clip",
    doi="10.71718/7m5n-rh16",
    citations=(
        Citation(
            title="Toward Reduction in False-Positive Thyroid Nodule Biopsies with a Deep Learning-based Risk Stratification System Using US Cine-Clip Images",
            venue="Radiology: Artificial Intelligence 4(3): e210174",
            year=2022,
            doi="10.1148/ryai.210174",
            bibtex="""@article{yamashita2022toward,
  title={Toward Reduction in False-Positive Thyroid Nodule Biopsies with a Deep Learning-based Risk Stratification System Using {US} Cine-Clip Images},
  author={Yamashita, Rikiya and Kapoor, Tara and Alam, Minhaj Nur and others},
  journal={Radiology: Artificial Intelligence},
  volume={4},
  number={3},
  pages={e210174},
  year={2022},
  doi={10.1148/ryai.210174}
}""",
        ),
        Citation(
            title="Thyroid Ultrasound Cine-clip",
            doi="10.71718/7m5n-rh16",
            bibtex="""@misc{stanfordaimi_thyroid_cineclip,
  title={Thyroid Ultrasound Cine-clip},
  author={{Stanford AIMI Center}},
  doi={10.71718/7m5n-rh16}
}""",
        ),
    ),
    licence=Licence(
        id="CUSTOM",
        name="Stanford University School of Medicine Thyroid Ultrasound Cine-clip Dataset Research Use Agreement",
        url="https://stanfordaimi.azurewebsites.net/datasets/a72f2b02-7b53-4c5d-963c-d7253220bfd5",
        evidence="The agreement's text: personal, non-commercial research; nothing of the data, nor the link, may be passed on; no modified copies or derivative works; no attempt to identify persons. Converted images and masks must stay with the user, too.",
        commercial=False,
        redistribute=False,
        derivatives=False,
    ),
    access="agreement",
    access_checked=datetime.date(2026, 11, 1),
    access_note="Sign in, accept the agreement in the browser, and download with the personal, time-limited link. The azurewebsites address may move; the home page is the safer pointer.",
    routes=(
        Route(
            kind="stanford_aimi",
            record="a72f2b02-7b53-4c5d-963c-d7253220bfd5",
            url="https://stanfordaimi.azurewebsites.net/datasets/a72f2b02-7b53-4c5d-963c-d7253220bfd5",
            files=(
                RawFile(name="dataset.hdf5", size=36418794716, unpack=False),
                RawFile(
                    name="metadata.csv",
                    size=9030,
                    md5="5e7a71f7bca2e02f348035d45c2b4148",
                    sha256="a495c7db4a6ca4dd1bc84a646e9a360d79dc7728aacc5e23c50d8eb926e450ba",
                    unpack=False,
                ),
            ),
            note="There is no interface for programs: a person places both files.",
        ),
    ),
    labels={"thyroid_nodule": "thyroid_nodule"},
    group_kind="patient",
    group_rule="No patient is published. Clips sorted by the number of annot_id; consecutive ones of equal age and sex are one group: 162 groups for 167 patients, which merges a little too much and never separates neighbours.",
    expect=Expect(images=17412, groups=162),
    paper=PaperProfile(
        note="The nodule is called thyroid, and files carry neither clip nor patient. Frames without a mask are kept.",
        labels={"thyroid_nodule": "thyroid"},
    ),
    known_issues=(
        "The published conversion calls the class thyroid; the masks outline the nodule.",
        "Frames of a clip, and clips of a patient, are nearly the same picture: split by group.",
        "Rows are not sorted by clip (the first is 129_, the last 203_).",
        "Holes in masks are filled.",
        "175 benign and 17 malignant nodules; 159 rows of women, 33 of men; 108 right, 72 left, 12 isthmus.",
        "Another project treats 105 clips as views of a convex probe.",
        "A public repository carries metadata.csv against the agreement; it is not used.",
        "How many frames have an empty mask was not read anywhere.",
    ),
    sources=(
        "github CAMMA-public/UltraSam datasets/datasets/thyroidultrasoundcineclip.py",
        "github zhuqh19/UltraSAM3 datasets/Thyroid/Scripts/convert_cineclip_to_coco.py",
        "github mxochicale/thyroid_deep_learning (agreement, shapes and size of the file)",
        "github adamtupper/ultrabench",
        "https://aimi.stanford.edu dataset page",
    ),
    confidence="High for agreement, names, sizes, keys, shapes, values and columns. Computed: 162 groups from the published table. From memory: the article's number. Unknown: empty masks, exact patients, chunks of the file, what histopath_diagnosis is coded as.",
    read=read,
)
