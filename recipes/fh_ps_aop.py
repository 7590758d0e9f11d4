"""FH-PS-AOP: fetal head and pubic symphysis in 4,000 frames of transperineal video; MetaImages, labels beside them."""

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from us43d import masks
from us43d.contract import (
    Citation,
    Expect,
    Lazy,
    Licence,
    PaperProfile,
    RawFile,
    RawTree,
    Recipe,
    Remarked,
    Route,
    Sample,
    lazy,
)  # fmt: skip

VALUES = {"pubic_symphysis": 1, "fetal_head": 2}
ARCHIVE = "Pubic Symphysis-Fetal Head Segmentation and Angle of Progression.zip"


def read(raw: RawTree, *, in_view: bool = False) -> Iterator[Sample]:
    """in_view: clear what lies outside the field of view, as estimated by the published conversion."""
    tree = raw.at("image_mha")
    for key in tree.glob("image_mha/*.mha"):
        picture = lazy(plane, tree.path(key))
        labels = lazy(masks.mha_frame, tree.path(key.replace("image_mha/", "label_mha/", 1)), 0)
        labels = lazy(masks.label_map, labels, tuple(VALUES.values()))
        drawn: dict[str, Lazy] = {label: lazy(masks.equal, labels, value) for label, value in VALUES.items()}
        view = lazy(field_of_view, picture)
        yield Sample(
            key=key,
            image=picture,
            masks={label: lazy(both, view, mask) for label, mask in drawn.items()} if in_view else drawn,
            group="all",
        )


def plane(path: Path) -> Any:
    """The grey image that the file holds three times, channel first."""
    shape, _ = masks.mha_shape(path)
    first, *others = (masks.mha_frame(path, n) for n in range(shape[2] if len(shape) == 3 else 1))
    same = all((other == first).all() for other in others)
    return first if same else Remarked(first, ("the three planes of the image differ: the first is read",))


def field_of_view(picture: Any) -> Any:
    """The convex hull of the largest lit region, less what hangs on it by under 12 pixels."""
    import cv2
    import numpy as np

    lit = masks.opened(masks.largest(picture), 12).astype(np.uint8)
    points = cv2.findNonZero(lit)
    return (lit if points is None else cv2.fillConvexPoly(lit, cv2.convexHull(points), 1)) != 0


def both(view: Any, mask: Any) -> Any:
    return view & mask if view.shape == mask.shape else mask  # of another size: an error where the image is known


def read_in_view(raw: RawTree) -> Iterator[Sample]:
    return read(raw, in_view=True)


RECIPE = Recipe(
    name="FH-PS-AOP",
    slug="fh_ps_aop",
    row="FH-PS-AOP",
    aliases=("FH-PS-AOP 2023", "PS-FH-AOP"),
    title="Pubic Symphysis-Fetal Head Segmentation and Angle of Progression (MICCAI 2023 FH-PS-AOP grand challenge, public training set)",
    organ="fetus",
    application="fetal head and pubic symphysis in intrapartum transperineal ultrasound, angle of progression",
    media="image2d",
    homepage="https://ps-fh-aop-2023.grand-challenge.org/",
    doi="10.5281/zenodo.7851339",
    citations=(
        Citation(
            title="The JNU-IFM dataset for segmenting pubic symphysis-fetal head",
            venue="Data in Brief 41: 107904",
            year=2022,
            doi="10.1016/j.dib.2022.107904",
            bibtex="""@article{lu2022jnuifm,
  title={The {JNU-IFM} dataset for segmenting pubic symphysis-fetal head},
  author={Lu, Yaosheng and Zhou, Mengqiang and Zhi, Dengjiang and Zhou, Minghong and Jiang, Xiaosong and Qiu, Ruiyu and Ou, Zhanhong and Wang, Huijin and Qiu, Di and Zhong, Mei and others},
  journal={Data in Brief},
  volume={41},
  pages={107904},
  year={2022},
  doi={10.1016/j.dib.2022.107904}
}""",
        ),
        Citation(
            title="PSFHS Challenge Report: Pubic Symphysis and Fetal Head Segmentation from Intrapartum Ultrasound Images",
            venue="arXiv 2409.10980",
            year=2024,
            bibtex="""@article{bai2024psfhs,
  title={{PSFHS} Challenge Report: Pubic Symphysis and Fetal Head Segmentation from Intrapartum Ultrasound Images},
  author={Bai, Jieyun and others},
  journal={arXiv preprint arXiv:2409.10980},
  year={2024}
}""",
        ),
    ),
    licence=Licence(
        id="UNSTATED",
        evidence="Not established: no reader of the data names one, and metadata.license of Zenodo record 7851339 was not seen.",
        url="https://zenodo.org/records/7851339",
    ),
    access="open",
    access_checked=datetime.date(2026, 11, 1),
    access_note="Record 7851339 is used as open by current software (not checked live). Record 10829116, the one the US-43d table links, is reported to be on request: on 401 or 403 ask for access on its page.",
    routes=(
        Route(
            kind="zenodo",
            record="7851339",
            url="https://zenodo.org/records/7851339",
            files=(
                RawFile(
                    name=ARCHIVE,
                    url="https://zenodo.org/records/7851339/files/Pubic%20Symphysis-Fetal%20Head%20Segmentation%20and%20Angle%20of%20Progression.zip",
                    sha256="2b14d1c78e11cfb799d74951b0b985b90777c195f7a456ccd00528bf02802e21",
                ),
            ),
            note="Address and sha256 as torch-em carries them.",
        ),
        Route(
            kind="zenodo",
            record="10829116",
            url="https://zenodo.org/records/10829116",
            files=(RawFile(name=ARCHIVE),),
            note="A later deposit with an archive of the same name; whether it is byte-identical is not known.",
        ),
        Route(
            kind="zenodo",
            record="10902237",
            url="https://zenodo.org/records/10902237",
            mirror=True,
            note="Linked by the TinyUSFM project for the same 4,000 images; not looked at, may be another version.",
        ),
    ),
    labels={"pubic_symphysis": "pubic_symphysis", "fetal_head": "fetal_head"},
    group_kind="cluster",
    group_rule="Frames come from videos, but the names are serial numbers that tell neither video nor woman, so the whole set is one group and stays on one side.",
    official_split="None here: the archive is the challenge's training set; its tests (401 and 700 images) are not in it.",
    expect=Expect(images=4000, annotated=4000),
    ignore={"*.zip": "the archive of this name inside the download of a whole record, unpacked beside"},
    nested=(f"*{ARCHIVE.lower()}",),
    paper=PaperProfile(
        note="Labels outside an estimated field of view (lit pixels, largest component, opened with a square of 12, convex hull) are cleared; a comment of the converter's author says that this has a problem.",
        read=read_in_view,
    ),
    known_issues=(
        "JNU-IFM, where the frames come from, has 6,224 frames of 78 videos of 51 women; a random split of serial numbers leaks.",
        "Sets of overlapping origin: JNU-IFM (figshare 14371652) and PSFHS (Zenodo 10969427, 1,358 images of 1,124 women); neither is in US-43d.",
        "torch-em calls this archive JNU-IFM; the real JNU-IFM is PNG with mask values 7 and 8, and is refused here.",
        "One public converter has labels 1 and 2 the other way round, by assumption; five readers agree on 1 pubic symphysis, 2 fetal head.",
        "Several public tables list it under prostate; it is obstetric.",
        "The landmarks of the angle of progression are not in the archive.",
    ),
    sources=(
        "github CAMMA-public/UltraSam datasets/datasets/FH-PS-AOP.py",
        "github zhuqh19/UltraSAM3 datasets/Fetal/Scripts/convert_fh_ps_to_coco.py",
        "github constantinpape/torch-em torch_em/data/datasets/medical/jnuifm.py, psfhs.py",
        "github tbrokowski/ultatron data/adapters/maternal_fetal/fh_ps_aop.py, jnu_ifm.py, psfhs.py",
        "https://ps-fh-aop-2023.grand-challenge.org",
        "https://www.github.com/an-eve/FH-PS-AOP-2023-segmentation-challenge",
        "github Yusufii9/USF-MAE README.md",
    ),
    confidence="High: archive name, sha256, tree, encodings, 4,000 images. Medium: that record 7851339 is open today. Low: what record 10829116 holds beyond the archive of the same name. Unknown: licence. From memory: author list of the first BibTeX entry.",
    read=read,
)
