"""Fast-U-Net: fetal abdomens (AC), and once more the heads of HC18 (HC), each half in its own RAR archives."""

import datetime
from collections.abc import Iterator
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
from us43d.errors import UnreadableFile

#: Half → label, and what a mask's name has behind its image's.
HALVES = {"AC": ("fetal_abdomen", ""), "HC": ("fetal_head", "_Annotation")}
PARTS: tuple[Split, ...] = ("train", "val")


def read(raw: RawTree, *, as_paper: bool = False) -> Iterator[Sample]:
    """as_paper: count pure white only, and open it with a square of 12 pixels."""
    tree = raw.at(*HALVES)
    for half, (label, behind) in HALVES.items():
        images, drawn, split = dict[str, str](), dict[str, str](), dict[str, Split]()
        for key in tree.glob(f"{half}/**/*.png"):
            folder, _, name = key.rpartition("/")
            is_mask = "mask" in folder.lower() or name.endswith("_Annotation.png")
            (drawn if is_mask else images)[name[:-4]] = key
        for part in PARTS if images else ():
            lines = tree.text(tree.one(f"{half}/*{part}.txt")).splitlines()
            split |= {line.split()[0].rpartition("/")[2]: part for line in lines if line.strip()}
        for name, key in sorted(images.items()):
            if f"{name}.png" not in split:
                raise UnreadableFile(
                    f"{key} is in neither train.txt nor val.txt of {tree.prefix}{half} in {tree.root}."
                )
            mask = tree.path(drawn.get(name + behind, f"{half}/mask/{name}{behind}.png"))  # or missing, and so named
            white = lazy(masks.equal, lazy(masks.grey, mask), 255)
            cut = lazy(masks.binary, mask)
            yield Sample(
                key=f"{half}/{name}.png",
                image=tree.path(key),
                masks={label: lazy(masks.opened, white, 12) if as_paper else lazy(filled, cut) if behind else cut},
                group=f"{half}:{name.partition('_')[0] if half == 'HC' else name}",
                split=split[f"{name}.png"],
                tags={"set": half},
            )


def filled(mask: Any) -> Any:
    """A head as drawn; should it be a mere outline, as in HC18, the region within."""
    if not mask.any() or masks.opened(mask, 12).any():
        return mask
    region = masks.ellipse(mask)
    return Remarked(region.array, ("the head is drawn as an outline: filled", *region.remarks))


def read_as_paper(raw: RawTree) -> Iterator[Sample]:
    return read(raw, as_paper=True)


_COMMIT = "5123c8e12fb9d847cc04eae2c69d6e9508731205"


def _file(half: str, name: str, size: int | None = None, md5: str | None = None, sha256: str | None = None) -> RawFile:
    return RawFile(
        name=name if name.endswith(".rar") else f"{half}_{name}",  # both halves have a train.txt
        url=f"https://raw.githubusercontent.com/vahidashkani/Fast-U-Net/{_COMMIT}/Dataset/{half}/{name}",
        size=size,
        md5=md5,
        sha256=sha256,
        unpack=name.endswith(".rar"),
        into=f"Dataset/{half}",
    )


RECIPE = Recipe(
    name="Fast-U-Net",
    slug="fast_u_net",
    row="Fast-U-Net",
    title="Fast-U-Net repository data: Abdominal Circumference (AC) and Head Circumference (HC) sets",
    organ="fetus",
    application="fetal abdomen and fetal head segmentation for biometry",
    media="image2d",
    homepage="https://github.com/vahidashkani/Fast-U-Net",
    citations=(
        Citation(
            title="Fast and Accurate U-Net Model for Fetal Ultrasound Image Segmentation",
            venue="Ultrasonic Imaging",
            year=2022,
            doi="10.1177/01617346211069882",
            bibtex="""@article{ashkani2022fastunet,
  title={Fast and Accurate {U-Net} Model for Fetal Ultrasound Image Segmentation},
  author={Ashkani Chenarlogh, Vahid and Ghelich Oghli, Mostafa and Shabanzadeh, Ali and Sirjani, Nasim and Akhavan, Ardavan and Shiri, Isaac and Arabi, Hossein and Sanei Taheri, Morteza and Tarzamni, Mohammad Kazem},
  journal={Ultrasonic Imaging},
  year={2022},
  doi={10.1177/01617346211069882}
}""",
        ),
    ),
    licence=Licence(
        id="UNSTATED",
        evidence="The repository has no LICENSE file; its README only asks users of the data to cite the paper. The HC half republishes HC18, which is CC BY 4.0.",
        url="https://github.com/vahidashkani/Fast-U-Net",
    ),
    access="open",
    access_checked=datetime.date(2026, 11, 1),
    routes=(
        Route(
            kind="github",
            record=f"vahidashkani/Fast-U-Net@{_COMMIT}",
            url="https://github.com/vahidashkani/Fast-U-Net/tree/main/Dataset",
            files=(
                _file("AC", "AC_image1.rar"),
                _file("AC", "AC_image2.rar"),
                _file(
                    "AC",
                    "AC_mask.rar",
                    640311,
                    "9b1cb8b29207eb6f74895e8bfb412515",
                    "9dcc0a7f6a2cd38cff34d3f75a1d0322eff74aa9bdc35c8acb9b6d4ef7287bec",
                ),
                _file("AC", "train.txt", 19176),
                _file("AC", "val.txt", 4774),
                _file("HC", "HC_image1.rar"),
                _file("HC", "HC_image2.rar"),
                _file("HC", "HC_image3.rar"),
                _file("HC", "HC_mask.rar"),
                _file("HC", "train.txt", 56326),
                _file("HC", "val.txt", 13990),
            ),
            note='RAR4, plain git blobs: AC_image1 6372eb51f95f279c2e8e11d3285dc59bff65732c, AC_image2 f41bb46816d7ceb7c099c5a8acb1b6f7999bb32d, AC_mask fa796e10f82a9be9ffc5d183b4bf747b2effd260, HC_image1 b8a00dcfd113d5cb058d162c957638a9d28b4e52, HC_image2 9f7e356ea155e1f6ee10029155dccf7be9522b08, HC_image3 67075e25428f764534b2a4f44ac393cd344f1efd, HC_mask 7febb4e3fd0c6e459c741501c7cd04664110b9a5 (sha1 of "blob <size>\\0" and the bytes).',
        ),
        Route(
            kind="github",
            record=f"vahidashkani/Fast-U-Net@{_COMMIT}",
            url="https://github.com/vahidashkani/Fast-U-Net",
            files=(
                RawFile(
                    name=f"Fast-U-Net-{_COMMIT}.zip",
                    url=f"https://codeload.github.com/vahidashkani/Fast-U-Net/zip/{_COMMIT}",
                    generated=True,
                ),
            ),
            note="The whole repository, with the network's weights; the RAR archives in it are unpacked where they lie.",
        ),
    ),
    labels={"fetal_abdomen": "fetal_abdomen", "fetal_head": "fetal_head"},
    group_kind="exam",
    group_rule="HC: the number before the first underscore, one exam as in HC18. AC: nothing is published, every image is its own group.",
    official_split="train.txt and val.txt of each half: AC 330 and 82, HC 800 and 199. That of HC leaks: 56 of the 199 have a sibling of their exam in train.",
    expect=Expect(images=1411, annotated=1411, masks=1411, groups=1218, tags={"set=AC": 412, "set=HC": 999}),
    ignore={
        "*dataset/train.txt": "older lists, in the history of the repository",
        "*dataset/val.txt": "older lists, in the history of the repository",
        "*ac/data": "a placeholder of one byte",
        "*hc/data": "a placeholder of one byte",
        "*.rar": "unpacked beside",
        "*test_data/*": "three heads for the demonstration, in no list",
        "*fast_unet/*": "pictures of results",
        "*fast_unet.h5": "the network's weights",
        "*test.py": "the authors' code",
        "*test.txt": "the demonstration's list",
        "*readme.md": "text",
    },
    nested=("*.rar",),
    paper=PaperProfile(
        note="Only pixels of exactly 255 count, opened with a square of 12 pixels (largest component); images left without a mask are skipped. The published conversion calls heads and abdomens one class, AC_HC; here they keep their names, as no category can be two structures. Its lists are ignored.",
        skip_empty=True,
        read=read_as_paper,
    ),
    known_issues=(
        "The 999 names of the HC half are exactly those of HC18's training set: US-43d has these heads twice, at 800 × 540 in HC18 and resized here. Splits follow HC18's.",
        "The 197 numbered AC masks are not two-valued (7 to 24 % of their area lies between 0 and 255); the 215 fa_ masks are. All have one component.",
        "The paper describes a private set of heads beside HC18; only the three pictures of test_data seem to come from it.",
        "Whether HC masks are filled is inferred; outlines, should there be any, are filled, and remarked.",
        "No pixel size is published; HC18's of the same name is for 800 × 540.",
        "train.txt and val.txt name a folder resized_data that is not in the repository; their base names count.",
        "AC masks are 472 × 320, and images are expected to be; a mask of another size than its image is an error.",
    ),
    sources=(
        f"github vahidashkani/Fast-U-Net @ {_COMMIT[:8]}: README, tree, lists, AC_mask.rar unpacked, test_data",
        "github CAMMA-public/UltraSam datasets/datasets/Fast-U-Net.py",
        "github zhuqh19/UltraSAM3 datasets/Fetal/Scripts/convert_fastunet_to_coco.py",
        "github tbrokowski/ultatron data/adapters/maternal_fetal/fast_u_net.py",
        "https://m.booksci.cn/literature/39788975.htm (abstract and DOI)",
        "VAR_Ultrasound README dataset table",
    ),
    confidence="High for AC masks, lists, names and counts (real files read). The image archives and HC_mask.rar were not seen: their inner folders come from one converter, and other names are accepted. Inferred from equal names, not compared: that HC pixels are HC18's.",
    read=read,
)
