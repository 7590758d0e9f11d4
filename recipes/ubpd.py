"""UBPD: brachial plexus images with LabelMe outlines of nerves, vessels and muscles, labelled in pinyin."""

import datetime
import json
import math
import re
from collections.abc import Iterator

from us43d import masks
from us43d.contract import (
    Citation,
    Expect,
    Fix,
    Lazy,
    Licence,
    PaperProfile,
    RawFile,
    RawTree,
    Recipe,
    Route,
    Sample,
    lazy,
)  # fmt: skip
from us43d.errors import UnreadableFile

#: In the copy on GitHub and in the owners' tree.
IMAGE = re.compile(r"(?:.*/)?(?:images|JPEGImages)/((\d+)(?:_\d+)+)\.jpg", re.IGNORECASE)

#: More than any image here has.
MAX_PIXELS = 1 << 24


def read(raw: RawTree) -> Iterator[Sample]:
    labels = raw.at("json_train")
    images = {match[1]: (key, match[2]) for key in raw if (match := IMAGE.fullmatch(key))}
    for stem, (key, patient) in sorted(images.items()):
        yield Sample(
            key=f"images/{stem}.jpg",  # in both trees
            image=raw.path(key),
            masks=outlines(labels, f"json_train/{stem}.json"),
            group=str(int(patient)),
        )


def outlines(tree: RawTree, key: str) -> dict[str, list[Lazy]]:
    """Label → its filled polygons in a LabelMe file, most of which are UTF-8, some GBK.

    They are as large as the file says of its image, so that an image of another size is an error.
    """
    found: dict[str, list[Lazy]] = {}
    try:
        content = json.loads(tree.text(key, ("utf-8-sig", "gbk")))
        size = (int(content["imageHeight"]), int(content["imageWidth"]))
        if not 0 < size[0] * size[1] <= MAX_PIXELS:
            raise ValueError(f"its image has {size[1]} × {size[0]} pixels")
        for shape in content["shapes"]:
            if (kind := shape.get("shape_type") or "polygon") != "polygon":
                raise ValueError(f"a shape is a {kind}, not a polygon")
            points = tuple((float(x), float(y)) for x, y in shape["points"])
            if len(points) < 3 or not all(map(math.isfinite, sum(points, ()))):
                raise ValueError(f"a polygon has the points {points}")
            found.setdefault(str(shape["label"]), []).append(lazy(masks.fill_polygon, points, size))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableFile(f"{tree.path(key)} is no LabelMe file of polygons: {error}.") from error
    if unknown := set(found) - set(RECIPE.labels):
        raise UnreadableFile(f"{tree.path(key)} has the labels {unknown}, which nobody has explained.")
    return found


RECIPE = Recipe(
    name="UBPD",
    slug="ubpd",
    row="UPBD",
    aliases=("Ultrasound Brachial Plexus Dataset",),
    title="UBPD: Ultrasound Brachial Plexus Dataset",
    organ="nerve",
    application="multi-structure segmentation of brachial plexus images (nerve, artery, vein, muscle)",
    media="image2d",
    homepage="https://ubpd.worldwidetracing.com:9443/",
    citations=(
        Citation(
            title="Multiple Instance Segmentation in Brachial Plexus Ultrasound Image Using BPMSegNet",
            venue="arXiv 2012.12012",
            year=2020,
            bibtex="""@article{ding2020multiple,
  title={Multiple Instance Segmentation in Brachial Plexus Ultrasound Image Using {BPMSegNet}},
  author={Ding, Yi and Yang, Qiqi and Wu, Guozheng and Zhang, Jian and Qin, Zhiguang},
  journal={arXiv preprint arXiv:2012.12012},
  year={2020}
}""",
        ),
    ),
    licence=Licence(
        id="UNSTATED",
        evidence="No licence text was found: the owners' site could not be read, and the copy on GitHub has none.",
    ),
    access="unknown",
    access_checked=datetime.date(2026, 11, 1),
    access_note="Unknown: whether the owners' site (port 9443) still answers, and whether it asks for registration. The copy on GitHub is a third party's; that it may be passed on is not shown.",
    routes=(
        Route(kind="manual", url="https://ubpd.worldwidetracing.com:9443/", note="The owners' page."),
        Route(
            kind="github",
            record="Dylanyves/UBPD@2a3ec1ca9a545865c17c27ca8e5ba2f3de03b5f6",
            url="https://github.com/Dylanyves/UBPD",
            files=(
                RawFile(
                    name="UBPD-2a3ec1ca9a545865c17c27ca8e5ba2f3de03b5f6.zip",
                    url="https://codeload.github.com/Dylanyves/UBPD/zip/2a3ec1ca9a545865c17c27ca8e5ba2f3de03b5f6",
                    generated=True,
                ),
            ),
            mirror=True,
            note="All 955 pairs inside a code repository, about 185 MB.",
        ),
    ),
    labels={
        "dongmai": "artery",
        "jingmai": "vein",
        "jirouzuzhi": "muscle",
        "shenjing": "brachial_plexus",
        "zhifang": "fat",
        "jizhu": "spine",
    },
    group_kind="patient",
    group_rule="The number before the first underscore of the file name (88 of them; that it is the patient is inferred).",
    expect=Expect(images=955, annotated=953, groups=88),
    ignore={
        "*.py": "code of the repository on GitHub",
        "*.ipynb": "code of the repository on GitHub",
        "*wandb/*": "training logs of the repository on GitHub",
        "*output.png": "picture of the repository on GitHub",
        "*readme*": "text of the repository on GitHub",
        "*.gitignore": "settings of the repository on GitHub",
        "*.placeholder": "settings of the repository on GitHub",
        "*requirements*.txt": "settings of the repository on GitHub",
    },
    fixes=(
        Fix(
            key="images/100_110.jpg",
            reason="its outlines were drawn on image 100_101 (imagePath and the embedded image say so)",
            drop=True,
        ),
        Fix(
            key="images/7_4.jpg",
            reason="its outlines were drawn on a picture quite unlike it (the embedded one); the same image is 7_5",
            drop=True,
        ),
    ),
    paper=PaperProfile(
        note="Names in English; every polygon is an annotation, or several where the image cuts it. The converter's supercategories of muscle (nerve) and spine (fat) look like slips and are not repeated. All 955 images are used there.",
        labels={
            "dongmai": "artery",
            "jingmai": "vein",
            "jirouzuzhi": "muscle",
            "shenjing": "nerve",
            "zhifang": "fat",
            "jizhu": "spine",
        },
    ),
    known_issues=(
        "The US-43d table writes UPBD.",
        "100_110 carries the outlines of 100_101; 7_4 those of a picture unlike it. Both are left out by fixes.",
        "Nine pairs of images inside patients are identical; a list of twins keeps them together.",
        "Outlines of structures overlap and stay separate; one leaves the image by a pixel (4_141) and is clipped.",
        "imagePath is not used: 36 files name another image. 32 files are GBK text, the others UTF-8.",
        "Images are read by content, not by their ending: a TIFF named .jpg is rewritten as PNG.",
        "Spine is outlined in 16 images, fat in one.",
        "4,393 polygons were counted: nerve 2,045, muscle 1,171, artery 587, vein 573, spine 16, fat 1.",
        "The folder's name, json_train, suggests a test part that was not released.",
    ),
    sources=(
        "github Dylanyves/UBPD @ 2a3ec1ca (all 955 pairs measured)",
        "github CAMMA-public/UltraSam datasets/datasets/UBPD.py",
        "github zhuqh19/UltraSAM3 datasets/Nerve/Scripts/convert_upbd_to_coco.py",
        "arXiv 2012.12012 (abstract), arXiv 2602.00763 (machines)",
    ),
    confidence="High for content, measured on the GitHub copy; that it equals the owners' release is inferred from count and labels. Low for access and licence.",
    read=read,
)
