"""MMOTU-3D: 170 contrast-enhanced pictures of ovarian tumours; two-dimensional in spite of the name."""

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
    Route,
    Sample,
    Split,
    lazy,
)  # fmt: skip
from us43d.errors import UnreadableFile


def painted(picture: Any) -> Any:
    """(h, w, 3): what is not black."""
    return picture.any(axis=2)


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("OTU_3d", "OTU_CEUS")
    pictures = tree.glob("OTU_3d/images/*.JPG")
    lists: dict[Split, str] = {"train": "train.txt", "test": "val.txt"} if pictures else {}
    split = {number: part for part, name in lists.items() for number in tree.text(tree.one(f"OTU_3d/{name}")).split()}
    for found in pictures:
        folder, number = found.split("/")[0], Path(found).stem
        if number not in split:
            raise UnreadableFile(f"{folder}/train.txt and val.txt in {tree.root} do not list {found}.")
        coloured, binary = (f"{folder}/annotations/{number}{ending}.PNG" for ending in ("", "_binary"))
        if tree.has(binary):
            mask = lazy(masks.binary, tree.path(binary))
            tree.use(*(tree.path(key) for key in (coloured,) if tree.has(key)))  # the same region, painted
        else:
            mask = lazy(painted, lazy(masks.rgb, tree.path(coloured)))
        key = f"OTU_3d/images/{number}.JPG"
        yield Sample(key=key, image=tree.path(found), masks={"ovarian_lesion": mask}, split=split[number])
    # The figshare deposit has other folders and no lists.
    for found in tree.glob("OTU_CEUS/image/*.JPG"):
        mask = lazy(painted, lazy(masks.rgb, tree.path(f"{found.split('/')[0]}/label/{Path(found).stem}.PNG")))
        yield Sample(key=found, image=tree.path(found), masks={"ovarian_lesion": mask})


RECIPE = Recipe(
    name="MMOTU-3D",
    slug="mmotu_3d",
    row="MMOTU-3D",
    aliases=("OTU_3d", "OTU_CEUS"),
    title="MMOTU: A Multi-Modality Ovarian Tumor Ultrasound Image Dataset, OTU_CEUS subset (folder OTU_3d)",
    organ="ovary",
    application="ovarian tumour segmentation in contrast-enhanced ultrasound",
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
    access_note="Only the authors' Drive folder has train.txt and val.txt.",
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
            note="Both subsets in other folders, this one as dataset/OTU_CEUS without the split; the digest is the one torch-em's module carries.",
        ),
    ),
    labels={"ovarian_lesion": "ovarian_lesion"},
    group_kind="image",
    group_rule="No patients are published: every image is its own group.",
    official_split="train.txt (70) and val.txt (100, used as the test set).",
    expect=Expect(images=170, annotated=170),
    ignore={
        "*otu_2d/*": "the grey-scale subset: source MMOTU-2D",
        "*otu_3d/*_cls.txt": "class lists: the classes of this subset are not settled",
        "*readme*": "text",
    },
    paper=PaperProfile(
        note="One class, called lesion; any pixel that is not black in the coloured mask. No split.",
        labels={"ovarian_lesion": "lesion"},
    ),
    known_issues=(
        "Not three-dimensional: OTU_3d is the repository's folder name for contrast-enhanced ultrasound (OTU_CEUS).",
        "Numbers start again at 1: N.JPG here is not N.JPG of MMOTU-2D.",
        "The same hospital as MMOTU-2D and probably some of the same patients; no list of patients exists.",
        "The number of classes is given as 2 in one copy of the authors' table and as 8 in another: the colours of the masks are not used.",
        "Whether the mask of every image is one region was not published; 170 masks are images, not regions.",
    ),
    sources=(
        "github cv516Buaa/MMOTU_DS2Net README, configs/_base_/datasets/mmotu_adapseg.py, mmseg/datasets/mmotu_forAdap.py",
        "github CAMMA-public/UltraSam datasets/datasets/MMOTU_3d.py",
        "github zhuqh19/UltraSAM3 datasets/Ovarian/Scripts/convert_otu_to_coco.py",
        "github constantinpape/torch-em (mmotu module)",
        "github SonBH0410/OTU-2D-Dataset README (70 and 100)",
    ),
    confidence="Medium: names and encodings from three readers, no file of this subset was seen; that its masks are coded like those of MMOTU-2D is inferred. Unknown: licence, patients, values of the figshare masks.",
    read=read,
)
