"""PSFHS: pubic symphysis and fetal head in 1,358 intrapartum images; MetaImages, labels beside them. Beyond US-43d."""

import datetime
from collections.abc import Iterator
from typing import Any

from us43d import masks
from us43d.contract import Citation, Expect, Lazy, Licence, PaperProfile, RawFile, RawTree, Recipe, Route, Sample, lazy

VALUES = {"pubic_symphysis": 1, "fetal_head": 2}


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("image_mha")
    for key in tree.glob("image_mha/*.mha"):
        name = key.rpartition("/")[2]
        labels = lazy(masks.mha_frame, tree.path(f"label_mha/{name}"), 0)
        labels = lazy(masks.label_map, labels, tuple(VALUES.values()))
        drawn: dict[str, Lazy] = {label: lazy(masks.equal, labels, value) for label, value in VALUES.items()}
        path = tree.path(key)
        planes = (lazy(masks.eight_bit, lazy(masks.mha_frame, path, plane)) for plane in range(3))
        yield Sample(key=key, image=lazy(coloured, *planes), masks=drawn)


def coloured(*planes: Any) -> Any:
    """Planes stored one after the other as channels; equal ones become grey when the image is written."""
    import numpy as np

    return np.stack(planes, axis=2)


RECIPE = Recipe(
    name="PSFHS",
    slug="psfhs",
    row=None,
    aliases=("PSFH",),
    title="PSFHS: Intrapartum ultrasound image dataset for AI-based segmentation of pubic symphysis and fetal head",
    organ="fetus",
    application="pubic symphysis and fetal head in intrapartum transperineal ultrasound",
    media="image2d",
    homepage="https://zenodo.org/records/10969427",
    doi="10.5281/zenodo.10969427",
    citations=(
        Citation(
            title="PSFHS: Intrapartum ultrasound image dataset for AI-based segmentation of pubic symphysis and fetal head",
            venue="Scientific Data 11: 436",
            year=2024,
            doi="10.1038/s41597-024-03266-4",
            bibtex="""@article{chen2024psfhs,
  title={{PSFHS}: Intrapartum ultrasound image dataset for {AI}-based segmentation of pubic symphysis and fetal head},
  author={Chen, Gaowen and Bai, Jieyun and Ou, Zhanhong and Lu, Yaosheng and Wang, Huijin},
  journal={Scientific Data},
  volume={11},
  number={1},
  pages={436},
  year={2024},
  doi={10.1038/s41597-024-03266-4}
}""",
        ),
    ),
    licence=Licence(
        id="CC-BY-4.0",
        evidence="As a list of ultrasound datasets gives it for the Zenodo record; the record itself was not seen.",
        url="https://creativecommons.org/licenses/by/4.0/",
    ),
    access="open",
    access_checked=datetime.date(2026, 11, 1),
    routes=(
        Route(
            kind="zenodo",
            record="10969427",
            url="https://zenodo.org/records/10969427",
            files=(
                RawFile(
                    name="PSFHS.zip",
                    url="https://zenodo.org/records/10969427/files/PSFHS.zip",
                    sha256="3f4a8126c84640e4d1b8a4e296d0dfd599cea6529b64b9ee00e5489bfd17ea95",
                ),
            ),
            note="The digest is the one torch-em's module carries.",
        ),
    ),
    labels={"pubic_symphysis": "pubic_symphysis", "fetal_head": "fetal_head"},
    group_kind="image",
    group_rule="1,124 women without ids in the names; every image is its own group, and twins found by the audit are joined.",
    expect=Expect(images=1358, annotated=1358),
    paper=PaperProfile(note="Not in the published collection: there is no conversion to follow."),
    known_issues=(
        "It may share images with FH-PS-AOP (US-43d) and JNU-IFM; in a corpus with either, equal pixels are found as twins.",
        "1,358 images of 1,124 women: some women have several, so a split by image can leak.",
        "File names are serial numbers that do not begin at 1.",
    ),
    sources=(
        "github constantinpape/torch-em torch_em/data/datasets/medical/psfhs.py (address, sha256, tree)",
        "https://www.nature.com/articles/s41597-024-03266-4",
        "github TIanCat/open-medical-ultrasound-datasets datasets/02_obstetrics/0208.yaml",
    ),
    confidence="High: address, digest, tree, values. Inferred: that the three planes are stored one after the other, as in FH-PS-AOP. Medium: licence. From memory: first names of the authors.",
    read=read,
)
