"""BUSI: 780 breast images in three folders; one mask file per lesion, black ones for normal images."""

import datetime
import re
from collections.abc import Iterator

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

MASK = re.compile(r"(.*)_mask(_\d+)?\.png", re.IGNORECASE)


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("Dataset_BUSI_with_GT")
    images, masks_of = [], dict[str, list[str]]()
    for key in tree.glob("Dataset_BUSI_with_GT/*/*.png"):
        if match := MASK.fullmatch(key):
            masks_of.setdefault(match[1], []).append(key)
        else:
            images.append(key)
    for key in images:
        stem, label = key[:-4], key.split("/")[1]
        files = masks_of.get(stem) or [f"{stem}_mask.png"]  # which is missing, and the error says so
        yield Sample(
            key=key,
            image=tree.path(key),
            masks={label: [lazy(masks.binary, tree.path(file)) for file in files]},
            tags={"label": label},
        )


RECIPE = Recipe(
    name="BUSI",
    slug="busi",
    row="BUSI",
    aliases=("Dataset_BUSI", "Dataset_BUSI_with_GT"),
    title="Dataset of breast ultrasound images (Dataset_BUSI_with_GT)",
    organ="breast",
    application="breast lesion segmentation (benign / malignant) with normal images",
    media="image2d",
    homepage="https://scholar.cu.edu.eg/?q=afahmy/pages/dataset",
    citations=(
        Citation(
            title="Dataset of breast ultrasound images",
            venue="Data in Brief 28: 104863",
            year=2020,
            doi="10.1016/j.dib.2019.104863",
            bibtex="""@article{aldhabyani2020dataset,
  title={Dataset of breast ultrasound images},
  author={Al-Dhabyani, Walid and Gomaa, Mohammed and Khaled, Hussien and Fahmy, Aly},
  journal={Data in Brief},
  volume={28},
  pages={104863},
  year={2020},
  doi={10.1016/j.dib.2019.104863}
}""",
        ),
    ),
    licence=Licence(
        id="UNSTATED",
        evidence="The owners state none for the data; the article is CC BY 4.0. The Kaggle copy says CC0 1.0 without a claim to the original rights, catalogues list it as unknown.",
        url="https://doi.org/10.1016/j.dib.2019.104863",
    ),
    access="open",
    access_checked=datetime.date(2026, 11, 1),
    access_note="The owners' server is slow, and its TLS certificate does not verify; fetch it in a browser, or take the Kaggle copy.",
    routes=(
        Route(
            kind="http",
            url="https://scholar.cu.edu.eg/?q=afahmy/pages/dataset",
            files=(
                RawFile(
                    name="Dataset_BUSI.zip",
                    url="https://scholar.cu.edu.eg/Dataset_BUSI.zip",
                    sha256="b2ce09f6063a31a73f628b6a6ee1245187cbaec225e93e563735691d68654de7",
                ),
            ),
            note="The digest is the one torch-em's module carries.",
        ),
        Route(
            kind="kaggle",
            record="aryashah2k/breast-ultrasound-images-dataset",
            url="https://www.kaggle.com/datasets/aryashah2k/breast-ultrasound-images-dataset",
            files=(
                RawFile(
                    name="breast-ultrasound-images-dataset.zip",
                    sha256="7fffc86a517934da55021f66641d81383058d26a30adb0ffab3780ca7e52d57d",
                ),
            ),
            mirror=True,
            note="Version 1 of 2021-03-14, the same tree; the digest is as one project recorded it.",
        ),
    ),
    labels={"benign": "breast_lesion", "malignant": "breast_lesion", "normal": "breast_lesion"},
    diagnoses={"benign": "benign", "malignant": "malignant"},
    group_kind="image",
    group_rule="No patients are published (600 women, 780 images); 150 groups of near-duplicates are pulled together by the list of twins.",
    expect=Expect(
        images=780,
        annotated=647,
        masks=665,
        tags={"label=benign": 437, "label=malignant": 210, "label=normal": 133},
    ),
    paper=PaperProfile(
        note="Benign and malignant are one class; normal images are left out. Its threshold of 150 instead of 127 makes no difference on masks of 0 and 255.",
        skip_empty=True,
        labels=dict.fromkeys(("benign", "malignant", "normal"), "breast_nodule"),
    ),
    known_issues=(
        "343 of the 780 images are in 150 groups of near-duplicates, most of them re-crops of one frame with and without callipers.",
        "The same frame is filed as benign and malignant in b42 b131 m51, b85 b164 m52, b333 m77 m78, b399 m93, b406 m94, b433 b435 m145, and with a lesion and as normal in b269 n1 and b437 n34 (b, m, n: folder).",
        "A letter to the journal (10.1016/j.dib.2023.109247) reports duplicates, axilla images counted as breast and burnt-in marks.",
        "17 images have more than one mask; benign (195) has three. Conversions that read *_mask.png alone lose the others.",
        "The article's table of classes contradicts the files; 437, 210 and 133 is what the archive holds.",
        "Copies on Hugging Face (Angelou0516/BUSI, MedOtter/BUSI, SamIndia/BUSI) merge the masks of an image into one and are not used; other copies on Kaggle were not compared.",
        "A mask of a normal image is black; were one not, its region would be kept without a diagnosis.",
    ),
    sources=(
        "github CAMMA-public/UltraSam datasets/datasets/BUSI.py",
        "github constantinpape/torch-em torch_em/data/datasets/medical/busi.py (address, sha256)",
        "github TongxinWang0405/BMI702_project (780 images, duplicates)",
        "github openmedlab/Awesome-Medical-Dataset resources/BUSI.md",
        "github TIanCat/open-medical-ultrasound-datasets datasets/00_breast/0005.yaml",
        "https://pmc.ncbi.nlm.nih.gov/articles/PMC10293973 (opening only)",
    ),
    confidence="High. From memory: 798 mask files, of which 665 are not those of normal images. Not checked: modes of the mask files. Unsettled: the licence.",
    read=read,
)
