"""LUSS_phantom: frames of a lung training phantom; label maps with ribs, pleural line and artefacts, same file name."""

import datetime
from collections.abc import Iterator

from us43d import masks
from us43d.contract import Citation, Expect, Lazy, Licence, PaperProfile, RawTree, Recipe, Route, Sample, Split, lazy

VALUES = {"rib": 1, "pleural_line": 2, "a_line": 3, "b_line": 4, "b_line_confluence": 5}


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("train/images", "test/images")
    parts: tuple[Split, ...] = ("test", "train")
    for part in parts:
        for key in tree.glob(f"{part}/images/*.png"):
            name = key.rpartition("/")[2]
            labels = lazy(masks.label_map, lazy(masks.grey, tree.path(f"{part}/masks/{name}")), tuple(VALUES.values()))
            drawn: dict[str, Lazy] = {label: lazy(masks.equal, labels, value) for label, value in VALUES.items()}
            yield Sample(
                key=key,
                image=tree.path(key),
                masks=drawn,
                group=name.removesuffix(".png").rpartition("-F")[0],
                split=part,
            )


RECIPE = Recipe(
    name="LUSS_phantom",
    slug="luss_phantom",
    row="LUSS_phantom",
    aliases=("LUSS", "Lung ultrasound COVID phantom"),
    title="Lung ultrasound COVID phantom dataset used for training machine learning model",
    organ="lung",
    application="multi-class segmentation of ribs, pleural line and artefacts in lung ultrasound of a training phantom",
    media="image2d",
    homepage="https://doi.org/10.5518/1485",
    doi="10.5518/1485",
    citations=(
        Citation(
            title="Deep learning for real-time multi-class segmentation of artefacts in lung ultrasound",
            venue="Ultrasonics 140: 107251",
            year=2024,
            doi="10.1016/j.ultras.2024.107251",
            bibtex="""@article{howell2024luss,
  title={Deep learning for real-time multi-class segmentation of artefacts in lung ultrasound},
  author={Howell, Lewis and Ingram, Nicola and Lapham, Roger and Morrell, Adam and McLaughlan, James R.},
  journal={Ultrasonics},
  volume={140},
  pages={107251},
  year={2024},
  doi={10.1016/j.ultras.2024.107251}
}""",
        ),
    ),
    licence=Licence(
        id="CC-BY-4.0",
        evidence="As an atlas of ultrasound datasets recorded it from the repository's page in September 2026; the page itself was not seen.",
        url="https://creativecommons.org/licenses/by/4.0/",
    ),
    access="open",
    access_checked=datetime.date(2026, 11, 1),
    access_note="No login is reported; the addresses of the files were not found.",
    routes=(
        Route(
            kind="manual",
            record="1263",
            url="https://archive.researchdata.leeds.ac.uk/1263/",
            note="Take the zip whose name starts with LUS_model (about 91 MB); only it has masks. VideoClips (about 135 MB) is not needed.",
        ),
    ),
    labels={
        "rib": "rib",
        "pleural_line": "pleural_line",
        "a_line": "a_line",
        "b_line": "b_line",
        "b_line_confluence": "b_line_confluence",
    },
    group_kind="video",
    group_rule="The clip: the file name up to its last -F. There are no patients; all clips show one phantom.",
    official_split="The folders train and test (sizes not established; 564 together).",
    expect=Expect(images=564, annotated=564),
    ignore={
        "*videoclips/*": "the 297 cineloops, without masks",
        "*vidtoimage.m": "the script that cut the cineloops into frames",
        "*.h5": "trained model",
        "*.hdf5": "trained model",
        "*.keras": "trained model",
        "*.pb": "trained model",
        "*/variables/*": "trained model",
        "*.pt": "trained model",
        "*.pth": "trained model",
        "*.onnx": "trained model",
        "*.json": "description of the trained model",
        "*readme*": "text",
    },
    paper=PaperProfile(
        note="Train and test are pooled, one instance per connected component; the converter's capitals in A_line and B_line are kept.",
        labels={"a_line": "A_line", "b_line": "B_line", "b_line_confluence": "B_line_confluence"},
    ),
    known_issues=(
        "All frames show one training phantom with several ultrasound systems: little anatomical variety, and frames of one clip are near copies.",
        "The masks hold 0 to 5 and look black when opened.",
        "Another conversion calls the values pleural line, A-line, B-line, consolidation and effusion; the article lists ribs, pleural line, A-lines, B-lines and B-line confluence.",
        "The paper's converter takes file names to be unique over train and test; here the folder is part of the key.",
        "The clinical images of the article (effusion, consolidation) are not public.",
        "Where a clip has frames in both folders, its training frames are excluded from our splits.",
    ),
    sources=(
        "github CAMMA-public/UltraSam datasets/datasets/LUSS_phantom.py",
        "github zhuqh19/UltraSAM3 datasets/Lung/Scripts/convert_luss_to_coco.py",
        "github tbrokowski/ultatron data/adapters/lung/luss_phantom.py",
        "github TIanCat/open-medical-ultrasound-datasets datasets/04_lung/0403.yaml",
        "https://ouci.dntb.gov.ua/en/works/4MWA65j9 (abstract, authors)",
    ),
    confidence="High: values, 564 frames, licence as listed. Medium: tree, names with -F, 297 clips. Unknown: names of the zips and their addresses, sizes of train and test, names of the model's files.",
    read=read,
)
