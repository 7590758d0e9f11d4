"""S1: breast tumours; labels grey-coded 127 benign, 255 malignant; numbers restart in every folder."""

import datetime
from collections.abc import Iterator

from us43d import masks
from us43d.contract import Citation, Expect, Licence, PaperProfile, RawFile, RawTree, Recipe, Route, Sample, lazy

_FOLDERS = (
    ("test", "Data/TestingDataSet/Test-Expanded-BreastTumourImages", "Data/TestingDataSet/Test-Expanded-3-channel-Labels"),
    ("train", "Data/TrainingDataSet/BreastTumourImages", "Data/TrainingDataSet/Expanded-3-channel-Labels"),
)  # fmt: skip


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("Data/TrainingDataSet")
    for split, images, labels in _FOLDERS:
        for key in tree.glob(f"{images}/*.jpg"):
            grey = lazy(masks.grey, tree.path(f"{labels}/{key.rpartition('/')[2].removesuffix('.jpg')}.png"))
            yield Sample(
                key=key,
                image=tree.path(key),
                # 127 and 255 as published; the bands are those a reader found after sampling files
                masks={"benign": lazy(masks.between, grey, 64, 190), "malignant": lazy(masks.above, grey, 190)},
                split="test" if split == "test" else "train",
            )


RECIPE = Recipe(
    name="S1",
    slug="s1",
    row="S1",
    aliases=("S1 Dataset", "pone.0253202"),
    title="S1 Dataset: supporting data of 'Segmentation and recognition of breast ultrasound images based on an expanded U-Net'",
    organ="breast",
    application="breast tumour segmentation with benign/malignant label",
    media="image2d",
    homepage="https://journals.plos.org/plosone/article?id=10.1371/journal.pone.0253202",
    doi="10.1371/journal.pone.0253202.s001",
    citations=(
        Citation(
            title="Segmentation and recognition of breast ultrasound images based on an expanded U-Net",
            venue="PLoS ONE 16(6): e0253202",
            year=2021,
            doi="10.1371/journal.pone.0253202",
            bibtex="""@article{guo2021segmentation,
  title={Segmentation and recognition of breast ultrasound images based on an expanded {U-Net}},
  author={Guo, Y. and Duan, X. and Wang, C. and Guo, H.},
  journal={PLoS ONE}, volume={16}, number={6}, pages={e0253202}, year={2021}, doi={10.1371/journal.pone.0253202}
}""",
        ),
    ),
    licence=Licence(
        id="CC-BY-4.0",
        evidence="Inferred: PLoS ONE publishes articles and their supporting files under CC BY 4.0; no licence file is known inside the archive.",
    ),
    access="open",
    access_checked=datetime.date(2026, 11, 1),
    access_note="The addresses follow the publishers' rules and were not tested; PMC may answer scripts with a browser check.",
    routes=(
        Route(
            kind="http",
            record="10.1371/journal.pone.0253202.s001",
            url="https://journals.plos.org/plosone/article?id=10.1371/journal.pone.0253202",
            files=(
                RawFile(
                    name="pone.0253202.s001.zip",
                    url="https://journals.plos.org/plosone/article/file?type=supplementary&id=10.1371/journal.pone.0253202.s001",
                ),
            ),
        ),
        Route(
            kind="http",
            record="PMC8205136",
            url="https://pmc.ncbi.nlm.nih.gov/articles/PMC8205136/",
            files=(
                RawFile(
                    name="pone.0253202.s001.zip",
                    url="https://pmc.ncbi.nlm.nih.gov/articles/instance/8205136/bin/pone.0253202.s001.zip",
                ),
            ),
        ),
        Route(
            kind="http",
            record="PMC8205136",
            url="https://europepmc.org/article/PMC/PMC8205136",
            files=(
                RawFile(
                    name="PMC8205136.zip",
                    url="https://www.ebi.ac.uk/europepmc/webservices/rest/PMC8205136/supplementaryFiles",
                    generated=True,
                ),
            ),
            note="All supporting files of the article in one zip, with this one's inside.",
        ),
    ),
    labels={"benign": "breast_lesion", "malignant": "breast_lesion"},
    diagnoses={"benign": "benign", "malignant": "malignant"},
    group_kind="image",
    group_rule="No patient is published; every image is its own group, and twins found by the audit are joined.",
    official_split="The folders: TestingDataSet (the Test-Expanded pair) is the test set.",
    expect=Expect(),
    ignore={
        "*code/*": "the authors' program",
        "*segmentation_results/*": "outputs of the authors' networks, which look like masks",
        "*general-1-channel-labels/*": "the same tumours without their class",
        "*test-general-1-*": "a second test folder; whether it shows the same patients is not known",
    },
    nested=("*pone.0253202.s001.zip",),
    paper=PaperProfile(
        note="The converter files all folders in one table by number, so that images of one folder meet masks of another; that error is not reproduced. Its labels are benign_tumour and malignant_tumour.",
        labels={"benign": "benign_tumour", "malignant": "malignant_tumour"},
    ),
    known_issues=(
        "Numbers restart in every folder: pairs are made inside each folder.",
        "Counts differ between readers: 201 images (quoted for US-43d) and 192 elsewhere; neither is enforced.",
        "Training ids from 178 on are said to be malignant by a third project; not used.",
    ),
    sources=(
        "github CAMMA-public/UltraSam datasets/datasets/S1.py",
        "github zhuqh19/UltraSAM3 datasets/Breast/Scripts/convert_s1_to_coco.py",
        "github tbrokowski/ultatron data/adapters/breast/s1_adapter.py",
        "PMC8205136 (article identity)",
    ),
    confidence="Medium: layout high, addresses medium. Inferred: addresses, licence, extension. Unknown: size, digest, number of files, patients.",
    read=read,
)
