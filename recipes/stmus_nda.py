"""STMUS_NDA: cross-sections of three limb muscles, healthy and not; the same images lie in the archive once more, split."""

import datetime
from collections import defaultdict
from collections.abc import Iterator

from us43d import masks
from us43d.contract import Citation, Expect, Licence, PaperProfile, RawFile, RawTree, Recipe, Route, Sample, Split, lazy

MUSCLES = {"BB": "biceps_brachii", "GM": "gastrocnemius_medialis", "TA": "tibialis_anterior"}
PARTS: tuple[Split, ...] = ("train", "val", "test")


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("BB", "GM", "TA")
    images = [key for muscle in MUSCLES for key in tree.glob(f"{muscle}/*/Images/*.png")]
    folders, parts = defaultdict[str, int](int), defaultdict[str, set[Split]](set)
    for key in images:
        folders[key.rpartition("/")[2]] += 1
    for part in PARTS:
        for key in tree.glob(f"Segmentation_models/data/MuscleCNN/{part}/*.png"):
            parts[key.rpartition("/")[2]].add(part)
    for key in images:
        muscle, condition, _, name = key.split("/")
        found = parts[name] if folders[name] == 1 else set()
        unclear = bool(parts[name]) and len(found) != 1
        yield Sample(
            key=key,
            image=tree.path(key),
            masks={MUSCLES[muscle.upper()]: lazy(masks.binary, tree.path(f"{muscle}/{condition}/Masks/{name}"))},
            split=None if unclear or not found else next(iter(found)),
            tags={"muscle": muscle.upper(), "condition": condition.lower()},
            remarks=("official split unclear: the file name is not unique",) if unclear else (),
        )


RECIPE = Recipe(
    name="STMUS_NDA",
    slug="stmus_nda",
    row="STMUS_NDA",
    aliases=("STMUS", "Polito-Radboud-DeepLearningUS"),
    title='DATASET for "Deep learning segmentation of transverse musculoskeletal ultrasound images for neuromuscular disease assessment"',
    organ="muscle",
    application="cross-sectional area segmentation of limb muscles in transverse ultrasound",
    media="image2d",
    homepage="https://data.mendeley.com/datasets/3jykz7wz8d/1",
    doi="10.17632/3jykz7wz8d.1",
    citations=(
        Citation(
            title="Deep learning segmentation of transverse musculoskeletal ultrasound images for neuromuscular disease assessment",
            venue="Computers in Biology and Medicine 135: 104623",
            year=2021,
            doi="10.1016/j.compbiomed.2021.104623",
            bibtex="""@article{marzola2021deep,
  title={Deep learning segmentation of transverse musculoskeletal ultrasound images for neuromuscular disease assessment},
  author={Marzola, Francesco and van Alfen, Nens and Doorduin, Jonne and Meiburger, Kristen M.},
  journal={Computers in Biology and Medicine},
  volume={135},
  pages={104623},
  year={2021},
  doi={10.1016/j.compbiomed.2021.104623}
}""",
        ),
    ),
    licence=Licence(
        id="CC-BY-4.0",
        evidence="As torch-em states it for the Mendeley record; LICENSE.txt in the archive is said to be MIT, for the code. The readme asks to cite the article.",
        url="https://creativecommons.org/licenses/by/4.0/",
    ),
    access="open",
    access_checked=datetime.date(2026, 11, 1),
    routes=(
        Route(
            kind="mendeley",
            record="3jykz7wz8d/1",
            url="https://data.mendeley.com/datasets/3jykz7wz8d/1",
            files=(
                RawFile(
                    name="DATASET_10.1016j.compbiomed.2021.104623.zip",
                    url="https://data.mendeley.com/public-files/datasets/3jykz7wz8d/files/b1601a22-98a5-41ce-9fbb-54dd21834b55/file_downloaded",
                    sha256="81dbec46e9f3035831f97aa828735cd6ba04171a72902a9416e7847e75148a11",
                ),
            ),
            note="The page's 'download all' wraps this zip in another one, which is read as well. The digest is the one torch-em's module carries.",
        ),
    ),
    labels={muscle: muscle for muscle in MUSCLES.values()},
    group_kind="image",
    group_rule="1,283 subjects, but how the ID of characteristics.xlsx belongs to file names was not established; every image is its own group, and twins found by the audit are joined.",
    official_split="The folders train, val and test of Segmentation_models/data/MuscleCNN hold the images again under the same names; a name that is not unique has no official split.",
    expect=Expect(images=3917, annotated=3917, masks=3917),
    ignore={
        "*segmentation_models/*": "the same images in their official split (the names are read), and models",
        "*results/*": "outputs of networks, predicted masks among them",
        "*matlab/*": "programs",
        "*characteristics.xlsx": "age, length, weight and sex by an ID that no file name is known to hold",
        "*subjects_mean_gray_level_zscore.*": "mean grey levels by subject",
        "*license.txt": "terms of the code",
        "*readme.txt": "text",
    },
    nested=("*dataset_10.1016j.compbiomed.2021.104623.zip",),
    paper=PaperProfile(
        note="Official splits are pooled and images with an empty mask left out. The converter's one class transverse_musculoskeletal is kept as three muscles, which are three structures of the taxonomy; its keys by file name alone, which mix folders where names repeat, are not repeated.",
        skip_empty=True,
    ),
    known_issues=(
        "Only BB, GM and TA are read: Segmentation_models repeats the images, Results holds predicted masks.",
        "Whether file names are unique over muscles and conditions was not established; muscle and condition are part of the key.",
        "Subjects are not identified, so no split beyond the official one is free of leakage; UltraSAM3 splits images at random.",
        "UltraSAM3 makes six classes, muscles times conditions; here the condition is a tag.",
        "The copies in MuscleCNN are 480 × 512; the size of the images in BB, GM and TA was not established.",
    ),
    sources=(
        "github CAMMA-public/UltraSam datasets/datasets/STMUS_NDA.py",
        "github zhuqh19/UltraSAM3 datasets/Muscle/Scripts/convert_stmus_nda_to_coco.py",
        "torch-em module muscle_us (address, sha256, licence)",
        "https://data.mendeley.com/datasets/3jykz7wz8d/1",
    ),
    confidence="High: address, digest, tree, counts of images and subjects. Inferred: that MuscleCNN covers all images, that there are as many masks as images. Unknown: file names, subjects, archive size.",
    read=read,
)
