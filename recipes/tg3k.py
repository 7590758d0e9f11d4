"""TG3K: thyroid glands; 3,585 frames of 16 videos, JPEG images with JPEG masks of the same name."""

import datetime
import json
from collections.abc import Iterator
from itertools import groupby

from us43d import masks
from us43d.contract import Citation, Expect, Licence, PaperProfile, RawFile, RawTree, Recipe, Route, Sample, lazy
from us43d.errors import UnreadableFile


def read(raw: RawTree, *, cut_at_150: bool = False) -> Iterator[Sample]:
    tree = raw.at("tg3k/thyroid-image")
    keys = tree.glob("tg3k/thyroid-image/*.jpg")
    lists = "tg3k/tg3k-trainval.json"
    validation = _numbers(tree, lists, "val") if tree.has(lists) else set()
    # Frames of one video follow each other and share their size; neighbouring videos of one size merge, which is safe.
    for run, (_, frames) in enumerate(groupby(keys, key=lambda key: masks.image_size(tree.path(key)))):
        for key in frames:
            name = key.rpartition("/")[2]
            mask = tree.path(f"tg3k/thyroid-mask/{name}")
            drawn = lazy(masks.above, lazy(masks.grey, mask), 149) if cut_at_150 else lazy(masks.binary, mask)
            yield Sample(
                key=key,
                image=tree.path(key),
                masks={"thyroid_gland": drawn},
                group=f"run{run:02}",
                tags={"official_val": int(name.removesuffix(".jpg")) in validation},
            )


def read_at_150(raw: RawTree) -> Iterator[Sample]:
    return read(raw, cut_at_150=True)


def _numbers(tree: RawTree, key: str, part: str) -> set[int]:
    try:
        return {int(number) for number in json.loads(tree.text(key))[part]}
    except (ValueError, KeyError, TypeError) as error:
        raise UnreadableFile(f"{key} in {tree.root} is no split file: {error!r}.") from error


RECIPE = Recipe(
    name="TG3K",
    slug="tg3k",
    row="TG3K",
    aliases=("Thyroid Gland 3 Thousand",),
    title="TG3K: Thyroid Gland 3 Thousand",
    organ="thyroid",
    application="thyroid gland segmentation",
    media="image2d",
    homepage="https://github.com/haifangong/TRFE-Net-for-thyroid-nodule-segmentation",
    citations=(
        Citation(
            title="Thyroid region prior guided attention for ultrasound segmentation of thyroid nodules",
            venue="Computers in Biology and Medicine 155: 106389",
            year=2023,
            doi="10.1016/j.compbiomed.2022.106389",
            bibtex="""@article{gong2023thyroid,
  title={Thyroid region prior guided attention for ultrasound segmentation of thyroid nodules},
  author={Gong, Haifan and Chen, Jiaxin and Chen, Guanqi and Li, Haofeng and Chen, Fei and Li, Guanbin},
  journal={Computers in Biology and Medicine}, volume={155}, pages={106389}, year={2023},
  doi={10.1016/j.compbiomed.2022.106389}
}""",
        ),
        Citation(
            title="Comparison of thyroid segmentation techniques for 3D ultrasound (the volumes the frames come from)",
            venue="SPIE Medical Imaging: Image Processing",
            year=2017,
            bibtex="""@inproceedings{wunderling2017comparison,
  title={Comparison of thyroid segmentation techniques for {3D} ultrasound},
  author={Wunderling, T. and Golla, B. and Poudel, P. and Arens, C. and Friebe, M. and Hansen, C.},
  booktitle={SPIE Medical Imaging: Image Processing}, year={2017}
}""",
        ),
    ),
    licence=Licence(
        id="UNSTATED",
        evidence="No licence for the images was found; the repository's MIT licence covers code; the terms of the OpenCAS volumes behind them were not established.",
    ),
    access="open",
    access_checked=datetime.date(2026, 11, 1),
    access_note="One archive holds TN3K, TG3K and DDTI; it needs Google Drive's large-file confirmation.",
    routes=(
        Route(
            kind="gdrive",
            record="1reHyY5eTZ5uePXMVMzFOq5j3eFOSp50F",
            url="https://drive.google.com/uc?id=1reHyY5eTZ5uePXMVMzFOq5j3eFOSp50F",
            files=(
                RawFile(
                    name="Thyroid Dataset.zip",
                    sha256="0ba1770076dab01b1f8fd661a227d80982168bc433de61c80fd266427b20cf60",
                ),
            ),
            note="sha256 from torch-em; the same archive as TN3K and DDTI.",
        ),
    ),
    labels={"thyroid_gland": "thyroid_gland"},
    group_kind="video",
    group_rule="A maximal run of consecutive numbers with one frame size, as frames of a video follow each other; 16 source videos, of which neighbours of equal size merge.",
    expect=Expect(images=3585, annotated=3585),
    ignore={
        "*tn3k/*": "the same archive's TN3K, a source of its own",
        "*ddti dataset/*": "the same archive's DDTI, a source of its own",
    },
    paper=PaperProfile(
        note="The masks are cut at 150 instead of 128 and split at random, frames of one video on both sides; the split is not repeated.",
        read=read_at_150,
    ),
    known_issues=(
        "A copy on Hugging Face (us-segmentator/us-segmentation-dataset) is a third party's, its equality not checked; it is not used.",
        "Neighbouring frames are nearly identical, and the published validation list is the tail of the numbering, so a video may lie on both sides: it is kept as the tag official_val and not used.",
        "3,585 files in the archive, 3,583 in the README.",
        "The run rule comes from one third-party script and was not checked on the files.",
    ),
    sources=(
        "github haifangong/TRFE-Net-for-thyroid-nodule-segmentation README",
        "github CAMMA-public/UltraSam datasets/datasets/TG3K.py",
        "torch-em tg3k module (address and sha256)",
        "github openmedlab/Awesome-Medical-Dataset resources/TG3K.md @ 95b06d93",
    ),
    confidence="High for access, medium for grouping. Inferred: origin in the OpenCAS volumes. Unknown: licence, exact split sizes.",
    read=read,
)
