"""US nerve Segmentation: 5,635 frames of 47 necks; an empty mask says that no nerve is in view."""

import datetime
import re
from collections.abc import Iterator

from us43d import masks
from us43d.contract import Citation, Expect, Licence, PaperProfile, RawFile, RawTree, Recipe, Route, Sample, lazy

#: train/<subject>_<image>.tif; names in test/ have no subject.
NAME = re.compile(r"(?:.*/)?((\d+)_\d+)\.tif", re.IGNORECASE)


def read(raw: RawTree) -> Iterator[Sample]:
    for found in raw.glob("**/[0-9]*.tif"):
        if match := NAME.fullmatch(found):
            mask = f"{found[:-4]}_mask{found[-4:]}"
            yield Sample(
                key=f"train/{match[1]}.tif",
                image=raw.path(found),
                masks={"cervical_nerves": lazy(masks.binary, raw.path(mask))},
                group=match[2],
                split="train",
            )


RECIPE = Recipe(
    name="US-nerve",
    slug="us_nerve",
    row="US nerve Segmentation",
    aliases=("Ultrasound Nerve Segmentation", "ultrasound-nerve-segmentation"),
    title="Ultrasound Nerve Segmentation (Kaggle competition 2016): identify nerve structures in ultrasound images of the neck",
    organ="nerve",
    application="brachial plexus segmentation in ultrasound of the neck",
    media="image2d",
    homepage="https://www.kaggle.com/competitions/ultrasound-nerve-segmentation",
    citations=(
        Citation(
            title="Ultrasound Nerve Segmentation (Kaggle competition)",
            venue="Kaggle",
            year=2016,
            bibtex="""@misc{kaggle2016nerve,
  title={Ultrasound Nerve Segmentation},
  author={Montoya, Anna and {Hasnin} and kaggle446 and shirzad and Cukierski, Will and yffud},
  year={2016},
  howpublished={Kaggle competition},
  url={https://kaggle.com/competitions/ultrasound-nerve-segmentation}
}""",
        ),
    ),
    licence=Licence(
        id="CUSTOM",
        name="Kaggle competition rules",
        url="https://www.kaggle.com/c/ultrasound-nerve-segmentation/rules",
        evidence="The rules are accepted in the browser before the download; their text was not read, so what they allow is unknown. A copy on Hugging Face calls itself Apache-2.0, which is doubtful.",
    ),
    access="login",
    access_checked=datetime.date(2026, 11, 1),
    access_note="Needs a Kaggle token, and the rules accepted once on the page of the competition; without that the answer is 403.",
    routes=(
        Route(
            kind="kaggle_competition",
            record="ultrasound-nerve-segmentation",
            url="https://www.kaggle.com/c/ultrasound-nerve-segmentation/data",
            files=(RawFile(name="ultrasound-nerve-segmentation.zip"),),
            note="One bundle today; in 2016 train.zip and test.zip (about 1 GB each), and such archives inside the bundle are unpacked too.",
        ),
        Route(
            kind="github",
            record="yihui-he/Ultrasound-Nerve-Segmentation-train_data",
            url="https://github.com/yihui-he/Ultrasound-Nerve-Segmentation-train_data",
            mirror=True,
            note="The training files, about 1.13 GB; a third party's copy, permission unknown.",
        ),
        Route(
            kind="http",
            url="https://huggingface.co/datasets/skylightzc/ultrasound-nerve-segmentation",
            files=(
                RawFile(
                    name="ultrasound-nerve-segmentation.zip",
                    url="https://huggingface.co/datasets/skylightzc/ultrasound-nerve-segmentation/resolve/main/ultrasound-nerve-segmentation.zip",
                ),
            ),
            mirror=True,
            note="A third party's copy; whether it equals the original was not checked.",
        ),
        Route(
            kind="http",
            url="https://huggingface.co/datasets/us-segmentator/us-segmentation-dataset",
            files=(
                RawFile(
                    name="UNS.zip",
                    url="https://huggingface.co/datasets/us-segmentator/us-segmentation-dataset/resolve/main/zips/Nerve/UNS.zip",
                ),
            ),
            mirror=True,
            note="A third party's copy; whether it equals the original was not checked.",
        ),
    ),
    labels={"cervical_nerves": "brachial_plexus"},
    group_kind="patient",
    group_rule="The number before the underscore of a training file is the subject (47).",
    official_split="train/ is all training; the masks of test/ were never released.",
    expect=Expect(images=5635, annotated=2323, masks=2323, groups=47),
    ignore={
        "*test/*.tif": "5,508 test images, whose masks were never released",
        "*train_masks.csv": "the same masks as run lengths",
        "*sample_submission.csv": "a form for the competition",
        "*train.zip": "unpacked beside",
        "*test.zip": "unpacked beside",
        "*.csv.zip": "unpacked beside",
    },
    nested=("*train.zip", "*test.zip", "*.csv.zip"),
    paper=PaperProfile(
        note="Images without a nerve are kept; the threshold of 150 instead of 127 makes no difference on masks of 0 and 255. One COCO file per subject, whose image ids restart at 0."
    ),
    known_issues=(
        "58.8 % of the masks are empty: no nerve is in view, and the image is a negative.",
        "Many almost identical frames of one subject contradict each other, one empty and one with a nerve: a public analysis found 72 of 346 close pairs of subject 6 to do so.",
        "Frames were shuffled out of videos, so neighbours in number are not neighbours in time; only subjects can be split.",
        "Test images are said to be of other subjects; no ids are published for them.",
        "Some copies keep train.zip inside the bundle.",
        "train_masks.csv holds the same masks, 1-based and column by column: 5,635 rows, 2,323 not empty, each one component without holes of 2,684 to 17,439 pixels.",
    ),
    sources=(
        "github CAMMA-public/UltraSam datasets/datasets/Ultrasound_Nerve_Segmentation.py",
        "github ooleksyuk/kaggle-ultrasound-nerve-segmentation (train_masks.csv, 2,246,614 bytes, md5 4e0041c5777e73286f2522b9b0118310, measured)",
        "github julienr/kaggle_uns (notebook on pairs that contradict each other)",
        "https://www.kaggle.com/competitions/ultrasound-nerve-segmentation",
        "public code: listings of yihui-he, skylightzc, us-segmentator",
    ),
    confidence="High for reading: names, subjects and masks were measured on a public copy of train_masks.csv. Low for the licence. From memory: the authors in the BibTeX. Unknown: the rules' text, size and digest of the bundle.",
    read=read,
)
