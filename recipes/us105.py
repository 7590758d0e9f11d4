"""105US: liver metastases; numbered images, and one rater's outline of the tumour named by the same number.

The module is called us105 because a Python module cannot begin with a digit.
"""

import datetime
import re
from collections.abc import Iterator

from us43d import masks
from us43d.contract import Citation, Expect, Licence, PaperProfile, RawFile, RawTree, Recipe, Route, Sample, lazy
from us43d.errors import MissingRawFile

#: "001.png" is an image, "001 G man.png" its outline, in whatever folders.
NAME = re.compile(r"(\d+)([ _].+)?\.png", re.IGNORECASE)


def read(raw: RawTree, *, solid: bool = False) -> Iterator[Sample]:
    """solid: count pure white only, not the grey edge above half range."""
    images, outlines = dict[int, str](), dict[int, str]()
    for found in raw.glob("**/*.png"):
        if match := NAME.fullmatch(found.rpartition("/")[2]):
            (outlines if match[2] else images)[int(match[1])] = found
    for number, found in sorted(images.items()):
        if number not in outlines:
            raise MissingRawFile(f"{found} in {raw.root} has no mask: '{number:03} G man.png' is missing.")
        mask = raw.path(outlines[number])
        yield Sample(
            key=f"105 US Images/{number:03}.png",
            image=raw.path(found),
            masks={"tumor": lazy(masks.equal, lazy(masks.grey, mask), 255) if solid else lazy(masks.binary, mask)},
            fit="nearest",
        )


def read_solid(raw: RawTree) -> Iterator[Sample]:
    return read(raw, solid=True)


RECIPE = Recipe(
    name="105US",
    slug="us105",
    row="105US",
    aliases=("105us", "100 2D US Images and Tumor Segmentation Masks"),
    title="100 2D US Images and Tumor Segmentation Masks",
    organ="liver",
    application="liver metastasis (tumour) segmentation in 2D B-mode",
    media="image2d",
    homepage="https://www.researchgate.net/publication/329586355_100_2D_US_Images_and_Tumor_Segmentation_Masks",
    citations=(
        Citation(
            title="Algorithm guided outlining of 105 pancreatic cancer liver metastases in Ultrasound",
            venue="Scientific Reports 7",
            year=2017,
            doi="10.1038/s41598-017-12925-z",
            bibtex="""@article{hann2017algorithm,
  title={Algorithm guided outlining of 105 pancreatic cancer liver metastases in Ultrasound},
  author={Hann, Alexander and Bettac, Lucas and Haenle, Mark M. and Graeter, Tilmann and Berger, Andreas W. and Dreyhaupt, Jens and Schmalstieg, Dieter and Zoller, Wolfram G. and Egger, Jan},
  journal={Scientific Reports},
  volume={7},
  year={2017},
  doi={10.1038/s41598-017-12925-z}
}""",
        ),
    ),
    licence=Licence(
        id="UNSTATED",
        evidence="No statement was found for the ResearchGate upload; that the 2017 article is open access does not license the images. Treat as all rights reserved until a person has read the page.",
    ),
    access="login",
    access_checked=datetime.date(2026, 11, 1),
    access_note="ResearchGate serves files to a browser only, usually after a login. Whether the page gives one archive or the two separately is not established; the outer zip, the two zips and unpacked folders are all read.",
    routes=(
        Route(
            kind="manual",
            record="researchgate publication 329586355",
            url="https://www.researchgate.net/publication/329586355_100_2D_US_Images_and_Tumor_Segmentation_Masks",
            files=(RawFile(name="105USImages.zip"), RawFile(name="105USMasks.zip")),
            note="No second public copy was found.",
        ),
    ),
    labels={"tumor": "liver_lesion"},
    group_kind="image",
    group_rule="No patient is published, and several images may show one patient; every image is its own group, and twins found by the audit are joined.",
    expect=Expect(images=105, annotated=105),
    ignore={"*105usimages.zip": "unpacked beside", "*105usmasks.zip": "unpacked beside"},
    nested=("*105usimages.zip", "*105usmasks.zip"),
    paper=PaperProfile(
        note="Only pixels of exactly 255 count, so that masks lose their anti-aliased rim; images whose mask is then empty are left out.",
        skip_empty=True,
        read=read_solid,
    ),
    known_issues=(
        "The title says 100 images, the archive holds 105.",
        "Masks are anti-aliased; half range is the edge of the outline.",
        "Several public tables list it under breast; it is liver.",
        "A mask of another size than its image is resized to it; whether there is one is not known (the published converter has that step commented out).",
    ),
    sources=(
        "github CAMMA-public/UltraSam datasets/datasets/105US.py",
        "github zhuqh19/UltraSAM3 datasets/Liver/Scripts/convert_105us_tumor_to_coco.py",
        "public code (105US to SAM2 converter: folder names, nested archives)",
        "https://www.nature.com/articles/s41598-017-12925-z",
        "https://arxiv.org/abs/1710.02984",
    ),
    confidence="Medium for reading: names, folders, masks and the count of 105 agree in independent readers. Low for access and licence: the page could not be read. Inferred: that the images are those of the 2017 article. Unknown: uploader, sizes, patients, image dimensions.",
    read=read,
)
