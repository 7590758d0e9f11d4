"""BUID (QAMEBI): breast lesions; BMP image and TIFF mask side by side, names with blanks, numbers restart per class."""

import datetime
from collections.abc import Iterator

from us43d import masks
from us43d.contract import Citation, Expect, Licence, PaperProfile, RawFile, RawTree, Recipe, Route, Sample, lazy


def read(raw: RawTree, *, cut_at_150: bool = False) -> Iterator[Sample]:
    tree = raw.at("Benign", "Malignant")
    for key in tree.glob("*/* image.bmp"):
        mask = tree.path(f"{key[: -len('Image.bmp')]}Mask.tif")
        kind = key.partition("/")[0].lower()
        drawn = lazy(masks.above, lazy(masks.grey, mask), 149) if cut_at_150 else lazy(masks.binary, mask)
        yield Sample(key=key, image=tree.path(key), masks={kind: drawn}, tags={"diagnosis": kind})


def read_at_150(raw: RawTree) -> Iterator[Sample]:
    return read(raw, cut_at_150=True)


_FILES = "https://qamebi.com/wp-content/uploads/2022/11"

RECIPE = Recipe(
    name="BUID",
    slug="buid",
    row="BUID",
    aliases=("QAMEBI", "BLUI", "Breast Ultrasound Image Database"),
    title="Breast Ultrasound Image Database (QAMEBI, also called BLUI)",
    organ="breast",
    application="breast lesion segmentation and classification",
    media="image2d",
    homepage="https://qamebi.com/breast-ultrasound-images-database/",
    citations=(
        Citation(
            title="An open-access breast lesion ultrasound image database: Applicable in artificial intelligence studies",
            venue="Computers in Biology and Medicine",
            year=2023,
            doi="10.1016/j.compbiomed.2022.106438",
            bibtex="""@article{abbasian2023open,
  title={An open-access breast lesion ultrasound image database: Applicable in artificial intelligence studies},
  author={Abbasian Ardakani, Ali and Mohammadi, Afshin and Mirza-Aghazadeh-Attari, Mohammad and Acharya, U. Rajendra},
  journal={Computers in Biology and Medicine}, volume={152}, pages={106438}, year={2023},
  doi={10.1016/j.compbiomed.2022.106438}
}""",
        ),
    ),
    licence=Licence(
        id="UNSTATED",
        evidence="Two independent catalogues find no formal licence; research use with citation is the common reading.",
        url="https://qamebi.com/breast-ultrasound-images-database/",
    ),
    access="open",
    access_checked=datetime.date(2026, 11, 1),
    access_note="Direct uploads of a small WordPress site; one project did not find them stable. The landing page is the fallback.",
    routes=(
        Route(
            kind="http",
            url="https://qamebi.com/breast-ultrasound-images-database/",
            files=(
                RawFile(name="Benign.zip", url=f"{_FILES}/Benign.zip"),
                RawFile(name="Malignant.zip", url=f"{_FILES}/Malignant.zip"),
            ),
        ),
    ),
    labels={"benign": "breast_lesion", "malignant": "breast_lesion"},
    diagnoses={"benign": "benign", "malignant": "malignant"},
    group_kind="image",
    group_rule="No patient is published; class and number name a lesion with one image each.",
    expect=Expect(images=232, annotated=232, tags={"diagnosis=benign": 109, "diagnosis=malignant": 123}),
    ignore={"*lesion.bmp": "the image with the lesion cut out or overlaid"},
    paper=PaperProfile(
        note="Benign and malignant are merged into breast_nodule; masks are cut at 150.",
        labels={"benign": "breast_nodule", "malignant": "breast_nodule"},
        read=read_at_150,
    ),
    known_issues=(
        "Numbers restart per class: the key holds both.",
        "A later catalogue counts 236 objects in the 232 images.",
        "The name BUID is also used for other sets; these data are called BLUI and QAMEBI elsewhere.",
        "'Histologically proven' includes fine-needle aspiration, according to one catalogue.",
    ),
    sources=(
        "github CAMMA-public/UltraSam datasets/datasets/BUID.py",
        "github zhuqh19/UltraSAM3 datasets/Breast/Scripts/convert_buid_to_coco.py",
        "https://qamebi.com/?p=1075 (abstract page)",
        "github TIanCat/open-medical-ultrasound-datasets datasets/00_breast/0007.yaml",
    ),
    confidence="High for the reader, medium for download, low for licence. Unknown: whether the addresses answer today, sizes, digests.",
    read=read,
)
