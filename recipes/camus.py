"""CAMUS: apical views of 500 hearts from end-diastole to end-systole, three structures drawn on every frame."""

import datetime
from collections.abc import Iterator
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
    Route,
    Sample,
    Split,
    lazy,
)  # fmt: skip
from us43d.errors import MaskMismatch

VALUES = {"left_ventricle": 1, "myocardium": 2, "left_atrium": 3}
PARTS: dict[str, Split] = {"training": "train", "validation": "val", "testing": "test"}


def read(raw: RawTree, *, in_sector: bool = False) -> Iterator[Sample]:
    """in_sector: clear mask pixels where the image is exactly black."""
    tree = raw.at("database_nifti")
    split = {
        patient: part
        for name, part in PARTS.items()
        for found in raw.glob(f"**/subgroup_{name}.txt")
        for patient in raw.text(found).split()
    }
    for key in tree.glob("database_nifti/patient*/patient*_?CH_half_sequence.nii.gz"):
        folder, name = key.rsplit("/", 1)
        patient, view = name.split("_")[:2]
        image, truth = tree.path(key), tree.path(key.replace("_half_sequence", "_half_sequence_gt"))
        shape, spacing = masks.nifti_shape(image)
        if masks.nifti_shape(truth)[0] != shape:
            raise MaskMismatch(f"{truth} has the shape {masks.nifti_shape(truth)[0]}, its images {shape}.")
        info = described(tree.text(f"{folder}/Info_{view}.cfg"))
        for frame in range(shape[2]):
            picture, labels = lazy(masks.nifti_frame, image, frame), lazy(masks.nifti_frame, truth, frame)
            phase = {info.get("ED"): "end-diastole", info.get("ES"): "end-systole"}.get(str(frame + 1), "between")
            drawn: dict[str, Lazy] = {label: lazy(masks.equal, labels, value) for label, value in VALUES.items()}
            yield Sample(
                key=f"{key}#{frame:03}",
                image=picture,
                masks={label: lazy(lit, picture, mask) for label, mask in drawn.items()} if in_sector else drawn,
                group=patient,
                split=split.get(patient),
                frame=frame,
                spacing_mm=(spacing[0], spacing[1]),
                tags={
                    "view": view,
                    "phase": phase,
                    **{tag.lower(): info[tag] for tag in ("ImageQuality", "Sex", "Age", "EF") if tag in info},
                },
            )


def described(text: str) -> dict[str, str]:
    """The "key: value" lines of an Info file."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {name.strip(): value.strip() for name, colon, value in pairs if colon}


def lit(picture: Any, mask: Any) -> Any:
    return mask & (picture != 0)


def read_in_sector(raw: RawTree) -> Iterator[Sample]:
    return read(raw, in_sector=True)


RECIPE = Recipe(
    name="CAMUS",
    slug="camus",
    row="CAMUS",
    title="CAMUS: Cardiac Acquisitions for Multi-structure Ultrasound Segmentation",
    organ="heart",
    application="left ventricle, myocardium and left atrium segmentation in 2D echocardiography",
    media="volume3d",
    homepage="https://www.creatis.insa-lyon.fr/Challenge/camus/index.html",
    citations=(
        Citation(
            title="Deep Learning for Segmentation Using an Open Large-Scale Dataset in 2D Echocardiography",
            venue="IEEE Transactions on Medical Imaging 38(9): 2198-2210",
            year=2019,
            doi="10.1109/TMI.2019.2900516",
            bibtex=r"""@article{leclerc2019deep,
  title={Deep Learning for Segmentation Using an Open Large-Scale Dataset in 2D Echocardiography},
  author={Leclerc, Sarah and Smistad, Erik and Pedrosa, Jo{\~a}o and {\O}stvik, Andreas and Cervenansky, Frederic and Espinosa, Florian and Espeland, Torvald and Berg, Erik Andreas Rye and Jodoin, Pierre-Marc and Grenier, Thomas and Lartizien, Carole and D'hooge, Jan and Lovstakken, Lasse and Bernard, Olivier},
  journal={IEEE Transactions on Medical Imaging},
  volume={38},
  number={9},
  pages={2198--2210},
  year={2019},
  doi={10.1109/TMI.2019.2900516}
}""",
        ),
    ),
    licence=Licence(
        id="CC-BY-NC-SA-4.0",
        evidence="LICENSE_TERMS.md beside the split lists, which adds: strictly non-commercial scientific research, and the 2019 paper must be cited.",
    ),
    access="open",
    access_checked=datetime.date(2026, 11, 1),
    access_note="The address in the US-43d table has a stray 'g' at its end.",
    routes=(
        Route(
            kind="girder",
            record="collection/6373703d73e9f0047faa1bc8",
            url="https://humanheart-project.creatis.insa-lyon.fr/database/#collection/6373703d73e9f0047faa1bc8",
            files=(
                RawFile(
                    name="CAMUS_public.zip",
                    url="https://humanheart-project.creatis.insa-lyon.fr/database/api/v1/collection/6373703d73e9f0047faa1bc8/download",
                    generated=True,
                ),
            ),
            note="About 3.83 GB, zipped by the server on the fly.",
        ),
        Route(
            kind="girder",
            record="folder/63fde55f73e9f004868fb7ac",
            url="https://humanheart-project.creatis.insa-lyon.fr/database/#folder/63fde55f73e9f004868fb7ac",
            files=(
                RawFile(
                    name="CAMUS.zip",
                    url="https://humanheart-project.creatis.insa-lyon.fr/database/api/v1/folder/63fde55f73e9f004868fb7ac/download",
                    generated=True,
                ),
                RawFile(
                    name="database_split.zip",
                    url="https://humanheart-project.creatis.insa-lyon.fr/database/api/v1/folder/66e27d12961576b1bad4e4e1/download",
                    generated=True,
                ),
            ),
            note="The NIfTI folder and the lists of the official split, each by itself.",
        ),
    ),
    labels={
        "left_ventricle": "left_ventricle",
        "myocardium": "left_ventricular_myocardium",
        "left_atrium": "left_atrium",
    },
    group_kind="patient",
    group_rule="The folder patientNNNN: both views and all frames of a patient.",
    official_split="database_split/subgroup_training, _validation and _testing.txt: 400, 50 and 50 patients.",
    expect=Expect(groups=500),
    ignore={
        "*_ed.nii.gz": "one frame of half_sequence, the end-diastolic one",
        "*_ed_gt.nii.gz": "one frame of half_sequence_gt, the end-diastolic one",
        "*_es.nii.gz": "one frame of half_sequence, the end-systolic one",
        "*_es_gt.nii.gz": "one frame of half_sequence_gt, the end-systolic one",
        "*license_terms.md": "terms of the data",
        "*information.txt": "text on the split",
    },
    paper=PaperProfile(
        note="Mask pixels on exactly black image pixels are cleared. The names are the converter's: its epicardium is the myocardium, its atrium_wall the cavity of the left atrium.",
        labels={"left_ventricle": "endocardium", "myocardium": "epicardium", "left_atrium": "atrium_wall"},
        read=read_in_sector,
    ),
    known_issues=(
        "ED and ES files repeat frames of half_sequence; only the sequences are read.",
        "Some mask pixels lie outside the ultrasound sector; they are kept as drawn. Clearing where the image is black, as the paper profile does, also pierces black blood.",
        "The server zips on the fly, so digests of the archive differ with every download.",
        "patient0033 and patient0068 are reported to be one recording; both are in the training part.",
        "Masks and split were corrected after publication; figures can differ a little from the paper's.",
        "Copies from before 2022 are MetaImages of 450 patients in training/patientNNNN and are not read.",
        "The number of annotated frames (about 19 in each of 1,000 sequences) was not read anywhere.",
    ),
    sources=(
        "github CAMMA-public/UltraSam datasets/datasets/CAMUS.py, utils.py",
        "github constantinpape/torch-em torch_em/data/datasets/medical/camus.py",
        "github adamtupper/ultrabench download/camus.py, process/camus.py",
        "github salemsaurus/camus-segmentation-pytorch database_split/* (terms, lists)",
        "https://huggingface.co/datasets/MedOtter/CAMUS",
    ),
    confidence="High for addresses, tree, labels, licence and lists. Inferred: the top folder of the collection's archive (it is searched for). Unknown: number of frames.",
    read=read,
)
