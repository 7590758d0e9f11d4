"""MMOTU-2D: 1,469 images of ovaries; the one colour of the mask says what is outlined, from simple cyst to tumour."""

import datetime
from collections.abc import Iterator
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
    "chocolate_cyst": (64, 0, 0),
    "serous_cystadenoma": (0, 64, 0),
    "teratoma": (0, 0, 64),
    "theca_cell_tumour": (64, 0, 64),
    "simple_cyst": (64, 64, 0),
    "normal_ovary": (64, 64, 64),
    "mucinous_cystadenoma": (0, 128, 0),
    "high_grade_serous": (0, 0, 128),
}
NEAREST = 31  # the colours are 64 apart


def uncoloured(painted: Any) -> Any:
    """What is painted in none of the eight colours: the masks of the figshare deposit may be black and white."""
    rest = painted.any(axis=2)
    for colour in COLOURS.values():
        rest &= ~masks.colour(painted, colour, NEAREST)
    return Remarked(rest, ("unclassified: the mask's colour does not say what is outlined",)) if rest.any() else rest


def sample(tree: RawTree, key: str, image: str, mask: str, split: Split | None) -> Sample:
    painted = lazy(masks.rgb, tree.path(mask))
    labels = {label: lazy(masks.colour, painted, colour, NEAREST) for label, colour in COLOURS.items()}
    return Sample(
        key=key, image=tree.path(image), masks={**labels, "unclassified": lazy(uncoloured, painted)}, split=split
    )


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("OTU_2d")
    split: dict[str, Split] = {}
    for name, part in (("train", "train"), ("val", "test")):
        for found in tree.glob(f"OTU_2d/{name}.txt"):
            split |= dict.fromkeys(tree.text(found).split(), part)  # type: ignore[arg-type]
    for found in tree.glob("OTU_2d/images/*.JPG"):
        folder, number = found.split("/")[0], Path(found).stem
        mask = f"{folder}/annotations/{number}.PNG"
        yield sample(tree, f"OTU_2d/images/{number}.JPG", found, mask, split.get(number))
    # The figshare deposit has other folders, and the split in their names.
    for found in tree.glob("OTU_2d/test/image/*.JPG"):
        folder = found.split("/")[0]
        yield sample(tree, found, found, f"{folder}/test/label/black_write/{Path(found).stem}.PNG", "test")
    for found in tree.glob("OTU_2d/train/train_image/*.JPG"):
        folder = found.split("/")[0]
        yield sample(tree, found, found, f"{folder}/train/train_label/label/{Path(found).stem}.PNG", "train")


RECIPE = Recipe(
    name="MMOTU-2D",
    slug="mmotu_2d",
    row="MMOTU-2D",
    aliases=("MMOTU", "OTU_2d"),
    title="MMOTU: A Multi-Modality Ovarian Tumor Ultrasound Image Dataset, OTU_2d subset",
    organ="ovary",
    application="ovarian tumour segmentation and eight-class typing",
    media="image2d",
    homepage="https://github.com/cv516Buaa/MMOTU_DS2Net",
    doi="10.6084/m9.figshare.25058690",
    citations=(
        Citation(
            title="A Multi-Modality Ovarian Tumor Ultrasound Image Dataset for Unsupervised Cross-Domain Semantic Segmentation",
            venue="arXiv 2207.06799; Pattern Recognition",
            year=2022,
            doi="10.48550/arXiv.2207.06799",
            bibtex="""@article{DBLP:journals/corr/abs-2207-06799,
  author={Qi Zhao and Shuchang Lyu and Wenpei Bai and Linghan Cai and Binghao Liu and Meijing Wu and Xiubo Sang and Min Yang and Lijiang Chen},
  title={A Multi-Modality Ovarian Tumor Ultrasound Image Dataset for Unsupervised Cross-Domain Semantic Segmentation},
  journal={CoRR},
  volume={abs/2207.06799},
  year={2022}
}""",
        ),
    ),
    licence=Licence(
        id="UNSTATED",
        evidence="The authors' repository states none for the data (its Apache-2.0 file is for mmsegmentation's code). The figshare deposit 25058690 says CC BY 4.0; who deposited it was not established.",
        url="https://doi.org/10.6084/m9.figshare.25058690.v2",
    ),
    access="open",
    access_checked=datetime.date(2026, 11, 1),
    access_note="Only the authors' Drive folder has train.txt and val.txt; only it is known to have coloured masks.",
    routes=(
        Route(
            kind="gdrive",
            record="1c5n0fVKrM9-SZE1kacTXPt1pt844iAs1",
            url="https://drive.google.com/drive/folders/1c5n0fVKrM9-SZE1kacTXPt1pt844iAs1",
            note="The authors' folder; holds OTU_2d and OTU_3d, as archives or loose files (not established).",
        ),
        Route(
            kind="figshare",
            record="25058690",
            url="https://doi.org/10.6084/m9.figshare.25058690.v2",
            files=(
                RawFile(
                    name="dataset.zip",
                    url="https://ndownloader.figshare.com/files/44222642",
                    sha256="5343647807cf34b507b66acd752dd94de265c6d1a7fde9cf8aa441a7283cde3e",
                ),
            ),
            mirror=True,
            note="Both subsets in other folders; the digest is the one torch-em's module carries.",
        ),
        Route(
            kind="github",
            record="SonBH0410/OTU-2D-Dataset@1ece1950792ed58b4ae77f40891ff58aa55da075",
            url="https://github.com/SonBH0410/OTU-2D-Dataset",
            files=(
                RawFile(
                    name="OTU-2D-Dataset-1ece1950792ed58b4ae77f40891ff58aa55da075.zip",
                    url="https://codeload.github.com/SonBH0410/OTU-2D-Dataset/zip/1ece1950792ed58b4ae77f40891ff58aa55da075",
                    generated=True,
                ),
            ),
            mirror=True,
            note="A third party's copy of OTU_2d without the lists; ten of ten images compared are pixel-identical to UltraSam's.",
        ),
    ),
    labels={
        "chocolate_cyst": "ovarian_lesion",
        "serous_cystadenoma": "ovarian_lesion",
        "teratoma": "ovarian_lesion",
        "theca_cell_tumour": "ovarian_lesion",
        "simple_cyst": "ovarian_lesion",
        "normal_ovary": "ovary",
        "mucinous_cystadenoma": "ovarian_lesion",
        "high_grade_serous": "ovarian_lesion",
        "unclassified": "ovarian_lesion",
    },
    diagnoses={
        "chocolate_cyst": "chocolate cyst",
        "serous_cystadenoma": "serous cystadenoma",
        "teratoma": "teratoma",
        "theca_cell_tumour": "theca cell tumour",
        "simple_cyst": "simple cyst",
        "normal_ovary": "normal",
        "mucinous_cystadenoma": "mucinous cystadenoma",
        "high_grade_serous": "high-grade serous carcinoma",
    },
    group_kind="image",
    group_rule="No patients are published (asked in issue 7 of the repository, unanswered); near-identical frames, nearly all within four numbers of each other, are pulled together by the list of twins.",
    official_split="train.txt (1,000) and val.txt (469, used as the test set). It leaks: 18 of the 469 have a near-twin in train.",
    expect=Expect(images=1469, annotated=1469, masks=1469),
    ignore={
        "*otu_2d/annotations/*_binary.png": "the same foreground as the coloured mask, without the class",
        "*otu_2d/*_cls.txt": "the same classes as the colours (compared for all images)",
        "*otu_2d/8_layers/*": "the mirror's copy of the images by class",
        "*otu_2d_annotation.json": "the mirror's own conversion",
        "*readme*": "text",
        "*otu_3d/*": "the contrast-enhanced subset: source MMOTU-3D",
        "*otu_ceus/*": "the contrast-enhanced subset: source MMOTU-3D",
    },
    paper=PaperProfile(
        note="Names as published, thera_cell_tumor included. The published test file was once filtered to annotations of at least 95 % of the largest area in their image; that filter belongs to the evaluation.",
        labels={"theca_cell_tumour": "thera_cell_tumor"},
    ),
    known_issues=(
        "daothanhphuc/MMOTU on GitHub has the same images in class folders, with files derived from them; it is not read.",
        "Callipers, letters, body marks and 216 colour Doppler images are burnt in.",
        "1,489 connected components: 1,450 images with one, 18 with two, one with three.",
        "At 64 × 64, 42 pairs correlate above 0.99, 21 of them between the official train and validation lists.",
        "By class: 336 chocolate cyst, 219 serous, 336 teratoma, 88 theca cell, 66 simple, 267 normal, 104 mucinous, 53 high-grade.",
        "Masks in black and white (a user of the figshare tree found them so) do not tell normal ovaries from lesions: they are labelled unclassified, counted as lesions, and remarked.",
    ),
    sources=(
        "github cv516Buaa/MMOTU_DS2Net README, configs/_base_/datasets/mmotu.py, issues 5 and 7",
        "github SonBH0410/OTU-2D-Dataset (all images and 4,407 masks measured)",
        "github adamtupper/ultrabench process/mmotu.py, data/splits/mmotu",
        "github CAMMA-public/UltraSam datasets/datasets/MMOTU_2d.py, filter_anno.py, sample_dataset",
        "github constantinpape/torch-em (figshare address, sha256, folders)",
        "34 real images with their masks (measured: RGB JPEG, one exact colour per mask)",
    ),
    confidence="High for what was measured. Unknown: form of the Drive folder, licence of the Drive data, patients, the figshare masks' colours and numbers.",
    read=read,
)
