"""DDTI: thyroid nodules, in the processed form (637 PNG pairs) or the original one (JPEG with contours in XML)."""

import datetime
import json
from collections.abc import Iterator
from xml.etree import ElementTree

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
    lazy,
)
from us43d.errors import UnreadableFile


def read(raw: RawTree) -> Iterator[Sample]:
    if raw.glob("**/1_or_data/image/*.png"):
        yield from _processed(raw.at("1_or_data"), "1_or_data/image", "1_or_data/mask", "1_or_data/category.csv")
    else:
        yield from _original(raw)


def read_paper(raw: RawTree) -> Iterator[Sample]:
    """The 256 × 256 crops the published conversion used."""
    stage = "2_preprocessed_data/stage1"
    yield from _processed(raw.at(stage), f"{stage}/p_image", f"{stage}/p_mask", "2_preprocessed_data/train.csv")


def _processed(tree: RawTree, images: str, labels: str, table: str) -> Iterator[Sample]:
    classes = {row["ID"]: row["CATE"] for row in tree.table(table, ("ID", "CATE"))} if tree.has(table) else {}
    for key in tree.glob(f"{images}/*.png"):
        name = key.rpartition("/")[2]
        mask = lazy(masks.binary, tree.path(f"{labels}/{name}"))
        kind = {"0": "benign", "1": "malignant"}.get(classes.get(name, ""))
        tags = {"diagnosis": kind} if kind else {}
        yield Sample(key=key, image=tree.path(key), masks={"thyroid_nodule": mask}, tags=tags)


def _original(raw: RawTree) -> Iterator[Sample]:
    for path in raw.glob("**/*_*.jpg"):
        folder, _, key = path.rpartition("/")
        case, _, number = key.removesuffix(".jpg").partition("_")
        contours = _contours(raw, f"{folder}/{case}.xml".removeprefix("/")).get(number, ())
        yield Sample(
            key=key,
            image=raw.path(path),
            masks={"thyroid_nodule": tuple(Polygon(points) for points in contours)},
            group=f"case {case}",
            drop=None if contours else "no contour is published for this image",
        )


def _contours(tree: RawTree, key: str) -> dict[str, list[tuple[tuple[float, float], ...]]]:
    """Image number → the freehand contours of a case's XML file."""
    found: dict[str, list[tuple[tuple[float, float], ...]]] = {}
    try:
        for mark in ElementTree.fromstring(tree.read(key)).iter("mark"):
            for shape in json.loads(mark.findtext("svg") or "[]"):
                points = tuple((float(point["x"]), float(point["y"])) for point in shape["points"])
                found.setdefault((mark.findtext("image") or "").strip(), []).append(points)
    except (ElementTree.ParseError, ValueError, KeyError, TypeError) as error:
        raise UnreadableFile(f"{key} in {tree.root} is no DDTI case: {error}.") from error
    return found


RECIPE = Recipe(
    name="DDTI",
    slug="ddti",
    row="DDTI",
    aliases=("Digital Database of Thyroid Ultrasound Images",),
    title="Digital Database of Thyroid Ultrasound Images (An open access thyroid ultrasound image database)",
    organ="thyroid",
    application="thyroid nodule segmentation",
    media="image2d",
    homepage="https://cimalab.unal.edu.co/projects/detail/20/",
    citations=(
        Citation(
            title="An open access thyroid ultrasound image database",
            venue="10th International Symposium on Medical Information Processing and Analysis (SPIE 9287)",
            year=2015,
            doi="10.1117/12.2073532",
            bibtex="""@inproceedings{pedraza2015open,
  title={An open access thyroid ultrasound image database},
  author={Pedraza, Lina and Vargas, Carlos and Narv{\\'a}ez, Fabi{\\'a}n and Dur{\\'a}n, Oscar and Mu{\\~n}oz, Emma and Romero, Eduardo},
  booktitle={10th International Symposium on Medical Information Processing and Analysis}, volume={9287}, pages={92870W},
  year={2015}, organization={SPIE}, doi={10.1117/12.2073532}
}""",
        ),
    ),
    licence=Licence(
        id="UNSTATED",
        evidence="Described as open access; no licence was found at the source, in the TRFE-Net bundle (its MIT licence covers code) or in catalogues.",
    ),
    access="open",
    access_checked=datetime.date(2026, 11, 1),
    access_note="Google Drive asks for a confirmation of large files; the Kaggle copies may want a login.",
    routes=(
        Route(
            kind="gdrive",
            record="1wwlsEhwfSyvQsJBRjeDLhUjqZh8eaH2R",
            url="https://drive.google.com/uc?id=1wwlsEhwfSyvQsJBRjeDLhUjqZh8eaH2R",
            files=(RawFile(name="DDTI.zip"),),
            note="The processed form, as published by its makers (WAMAWAMA/TNSCUI2020-Seg-Rank1st).",
        ),
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
            note="TRFE-Net's bundle with TN3K and TG3K, DDTI.zip nested inside; sha256 from torch-em's tg3k module.",
        ),
        Route(
            kind="kaggle",
            record="srivarshachivukula/ddti-dataset",
            url="https://www.kaggle.com/datasets/srivarshachivukula/ddti-dataset",
            files=(RawFile(name="ddti-dataset.zip"),),
            mirror=True,
            note="Used by torch-em; 637 PNG pairs.",
        ),
        Route(
            kind="kaggle",
            record="dasmehdixtr/ddti-thyroid-ultrasound-images",
            url="https://www.kaggle.com/datasets/dasmehdixtr/ddti-thyroid-ultrasound-images",
            files=(RawFile(name="ddti-thyroid-ultrasound-images.zip"),),
            mirror=True,
            note="The original form with XML contours, the only one with case numbers. It has fewer images than the counts enforced, which are the processed form's: build it with --partial.",
        ),
    ),
    labels={"thyroid_nodule": "thyroid_nodule"},
    group_kind="image",
    group_rule="Original form: the case number. Processed form: no case is published, every image is its own group, and twins found by the audit are joined; frames with two views were cut apart, so one patient may give several.",
    expect=Expect(images=637, annotated=637, masks=637),
    ignore={
        "*tn3k/*": "the same archive's TN3K, a source of its own",
        "*tg3k/*": "the same archive's TG3K, a source of its own",
        "*ddti.zip": "unpacked beside",
        "*1_or_data/*": "the full pictures, when the paper's crops are read",
        "*2_preprocessed_data/*": "crops of the same pictures (stage1 256 × 256, stage2 around the nodule)",
        "*.xml": "cases without an image of their own",
    },
    nested=("*ddti.zip",),
    paper=PaperProfile(
        note="The converter reads stage1: black borders cropped, then 256 × 256 with the aspect ratio lost.",
        read=read_paper,
    ),
    known_issues=(
        "Counts differ by what is counted: 389 cases in the paper, 480 images in the later public version, 637 in the processed release, where frames with two views were cut apart.",
        "The counts enforced (637) are those of the processed form; a tree of the original form needs --partial.",
        "Burnt-in text and calipers in many images.",
        "TRFE-Net uses all of DDTI as an external test set.",
    ),
    sources=(
        "github CAMMA-public/UltraSam datasets/datasets/DDTI.py",
        "github zhuqh19/UltraSAM3 datasets/Thyroid/Scripts/convert_ddti_to_coco.py",
        "github haifangong/TRFE-Net-for-thyroid-nodule-segmentation README.md, dataloaders/ddti.py",
        "github WAMAWAMA/TNSCUI2020-Seg-Rank1st README.md, download_DDTI.py, step1_preprocessing.m",
        "github openmedlab/Awesome-Medical-Dataset resources/DDTI.md",
    ),
    confidence="High for reading, low for patient grouping and licence. The tags of the XML form's contours are from memory.",
    read=read,
)
