"""Dataset B (UDIAT): 163 breast lesions of 163 women; image and mask of one name, the class in an Excel workbook."""

import datetime
from collections.abc import Iterator

from us43d import masks
from us43d.contract import Citation, Expect, Licence, PaperProfile, RawFile, RawTree, Recipe, Route, Sample, lazy


def read(raw: RawTree, *, cut_at_150: bool = False) -> Iterator[Sample]:
    tree = raw.at("original")
    table = raw.glob("**/datasetb.xlsx")
    rows = raw.sheet(table[0], ("Image", "Type")) if table else []
    kinds = {row.whole("Image"): row["Type"].lower() for row in rows}
    for key in tree.glob("original/*.png"):
        name = key.rpartition("/")[2]
        stem = name.removesuffix(".png")
        kind = kinds.get(int(stem)) if stem.isdigit() else None
        mask = tree.path(f"GT/{name}")
        drawn = lazy(masks.above, lazy(masks.grey, mask), 149) if cut_at_150 else lazy(masks.binary, mask)
        yield Sample(
            key=key,
            image=tree.path(key),
            masks={"breast_lesion": drawn},
            group=stem,
            tags={"diagnosis": kind} if kind else {},
        )


def read_at_150(raw: RawTree) -> Iterator[Sample]:
    return read(raw, cut_at_150=True)


RECIPE = Recipe(
    name="BUS-Dataset-B",
    slug="bus_dataset_b",
    row="BUS (Dataset B)",
    aliases=("Dataset B", "UDIAT", "BUS", "Yap2018", "DatasetB"),
    title="Breast Ultrasound Dataset B (UDIAT)",
    organ="breast",
    application="breast lesion segmentation (benign / malignant)",
    media="image2d",
    homepage="https://helward.mmu.ac.uk/STAFF/M.Yap/dataset.php",
    citations=(
        Citation(
            title="Automated Breast Ultrasound Lesions Detection Using Convolutional Neural Networks",
            venue="IEEE Journal of Biomedical and Health Informatics",
            year=2018,
            doi="10.1109/JBHI.2017.2731873",
            bibtex="""@article{yap2018automated,
  title={Automated Breast Ultrasound Lesions Detection Using Convolutional Neural Networks},
  author={Yap, Moi Hoon and Pons, Gerard and Mart{\\'\\i}, Joan and Ganau, Sergi and Sent{\\'\\i}s, Melcior and Zwiggelaar, Reyer and Davison, Adrian K. and Mart{\\'\\i}, Robert},
  journal={IEEE Journal of Biomedical and Health Informatics}, volume={22}, number={4}, pages={1218--1226}, year={2018},
  doi={10.1109/JBHI.2017.2731873}
}""",
        ),
    ),
    licence=Licence(
        id="CUSTOM",
        name="Signed research-use agreement of the authors (text not read)",
        url="https://helward.mmu.ac.uk/STAFF/M.Yap/dataset.php",
        commercial=False,
        redistribute=False,
        evidence="A catalogue lists institutional address, submitted agreement and manual approval; that redistribution is forbidden is inferred.",
    ),
    access="request",
    access_checked=datetime.date(2026, 11, 1),
    access_note="Fill in the agreement and mail it; the archive arrives by mail. The address of the page could not be reached from where the facts were gathered.",
    routes=(
        Route(
            kind="manual",
            url="https://helward.mmu.ac.uk/STAFF/M.Yap/dataset.php",
            files=(RawFile(name="BUS.zip"),),
            note="An archive or folder holding original/, GT/ and DatasetB.xlsx; BUS.zip is what the UltraSam authors called theirs.",
        ),
    ),
    labels={"breast_lesion": "breast_lesion"},
    group_kind="patient",
    group_rule="Each image is from a different woman, so the file name is the patient.",
    expect=Expect(images=163, annotated=163, masks=163, groups=163),
    paper=PaperProfile(
        note="Masks are cut at 150; the workbook, which it does not read, gives the tag here as well.",
        labels={"breast_lesion": "breast_nodule"},
        read=read_at_150,
    ),
    known_issues=(
        "Sources disagree on the classes: 110 benign and 53 malignant in the paper, 109 and 54 in a counted copy; the workbook decides, and neither is enforced.",
        "Masks are expected to have grey edges, as other readers cut them at 127 or 150; they are cut at half range.",
        "Often mistaken for BUSI. BUS-UC, BUS-UCLM, BUSC, BUSIS and BUSI are different data.",
        "A copy lies in the history of the STU-Hospital repository against the owners' terms: it is not used.",
    ),
    sources=(
        "github CAMMA-public/UltraSam datasets/datasets/BUS.py",
        "github zhuqh19/UltraSAM3 datasets/Breast/Scripts/convert_bus_dataset_b_to_coco.py",
        "github openmedlab/Awesome-Medical-Dataset resources/Breast_Ultrasound_DatasetB.md",
        "github TIanCat/open-medical-ultrasound-datasets datasets/00_breast/0001.yaml",
    ),
    confidence="Medium-high: layout high, licence text low. Unknown: archive name as sent, digest, channels, whether numbers run 1..163.",
    read=read,
)
