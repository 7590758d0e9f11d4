"""ACOUSLIC: six blind sweeps over each of 300 pregnancies in one stack; the fetal abdomen where it is in view."""

import datetime
from collections.abc import Iterator

from us43d import masks
from us43d.contract import Citation, Expect, Licence, PaperProfile, RawFile, RawTree, Recipe, Route, Sample, lazy
from us43d.errors import MaskMismatch

VALUES = {"abdomen_optimal": 1, "abdomen_suboptimal": 2}
SWEEP = 140  # frames; sweeps 1 to 3 are transverse, 4 to 6 sagittal


def read(raw: RawTree) -> Iterator[Sample]:
    images, truths = raw.at("stacked_fetal_ultrasound"), raw.at("stacked_fetal_abdomen")
    subjects = raw.index(raw.one("**/fetal_abdominal_circumferences_per_sweep.csv"), "uuid", ("subject_id",))
    for key in images.glob("stacked_fetal_ultrasound/*.mha"):
        name = key.partition("/")[2]
        uuid = name[: -len(".mha")]
        image, truth = images.path(key), truths.path(f"stacked_fetal_abdomen/{name}")
        raw.use(truth)
        shape, spacing = masks.mha_shape(image)
        if masks.mha_shape(truth)[0] != shape:
            raise MaskMismatch(f"{truth} has the shape {masks.mha_shape(truth)[0]}, its images {shape}.")
        subject = subjects[uuid]["subject_id"] if uuid in subjects else ""
        subject = "" if subject.lower() == "nan" else subject
        group = f"subject {subject}" if subject else uuid
        remarks = () if subject else ("no subject is listed for this case, which stands for itself",)
        frames = shape[2] if len(shape) == 3 else 1
        labelled = False
        for n in range(frames):
            if not (values := masks.label_values(masks.mha_frame(truth, n), truth)):
                continue
            labelled, labels, sweep = True, lazy(masks.mha_frame, truth, n), n // SWEEP + 1
            drawn = {label: value for label, value in VALUES.items() if value in values}
            both = ("optimal and suboptimal in one frame",) if len(drawn) > 1 else ()
            yield Sample(
                key=f"{key}#{n:04}",
                image=lazy(masks.eight_bit, lazy(masks.mha_frame, image, n)),
                masks={label: lazy(masks.equal, labels, value) for label, value in drawn.items()},
                group=group,
                frame=n,
                spacing_mm=(spacing[0], spacing[1]),
                tags={"sweep": sweep, "direction": "transverse" if sweep <= 3 else "sagittal"}
                | {"plane": next(iter(drawn), "").removeprefix("abdomen_")},
                drop=None if len(drawn) == len(values) else "a label value is not described",
                remarks=remarks + both,
            )
        if not labelled:
            drop = "no frame of this case is labelled"
            yield Sample(key=f"{key}#0000", image=image, group=group, drop=drop, remarks=remarks)


RECIPE = Recipe(
    name="ACOUSLIC",
    slug="acouslic",
    row="ACOUSLIC",
    aliases=("ACOUSLIC-AI", "acouslic-ai-train-set"),
    title="ACOUSLIC-AI: Abdominal Circumference Operator-agnostic UltraSound measurement in Low-Income Countries, training and development set",
    organ="fetus",
    application="fetal abdomen segmentation in blind-sweep obstetric ultrasound (abdominal circumference)",
    media="volume3d",
    homepage="https://zenodo.org/records/12697994",
    doi="10.5281/zenodo.12697994",
    citations=(
        Citation(
            title="ACOUSLIC-AI challenge report: Fetal abdominal circumference measurement on blind-sweep ultrasound data from low-income countries",
            venue="Medical Image Analysis",
            year=2025,
            doi="10.1016/j.media.2025.103640",
            bibtex=r"""@article{sappia2025acouslic,
  title={ACOUSLIC-AI challenge report: Fetal abdominal circumference measurement on blind-sweep ultrasound data from low-income countries},
  author={Sappia, M. Sof{\'i}a and others},
  journal={Medical Image Analysis},
  year={2025},
  doi={10.1016/j.media.2025.103640}
}""",
        ),
    ),
    licence=Licence(
        id="CC-BY-NC-SA-4.0",
        evidence="Two independent catalogues state it for the Zenodo record; the record's own page was not seen.",
        url="https://creativecommons.org/licenses/by-nc-sa/4.0/",
    ),
    access="open",
    access_checked=datetime.date(2026, 11, 1),
    access_note="Very large: about 38 GB by one source, 2.5 GB by another (unresolved); the pixels of the images alone are about 105 GB. The link in the US-43d table is the challenge's page; the data are on Zenodo.",
    routes=(
        Route(
            kind="zenodo",
            record="12697994",
            url="https://zenodo.org/records/12697994",
            files=(
                RawFile(
                    name="acouslic-ai-train-set.zip",
                    url="https://zenodo.org/records/12697994/files/acouslic-ai-train-set.zip?download=1",
                ),
            ),
            note="Version 1.1 of July 2024. Size and md5 come from the record.",
        ),
        Route(
            kind="zenodo",
            record="11005384",
            url="https://zenodo.org/records/11005384",
            files=(
                RawFile(
                    name="acouslic-ai-train-set.zip",
                    url="https://zenodo.org/records/11005384/files/acouslic-ai-train-set.zip",
                    sha256="187602dd243a3a872502b57b8ea56e28c67a9ded547e6b816b00c6d41f8b8767",
                ),
            ),
            note="Version 1.0, whose circumferences are twice too large; its masks are believed to be the same. The digest is the one torch-em's module carries.",
        ),
    ),
    labels={"abdomen_optimal": "fetal_abdomen", "abdomen_suboptimal": "fetal_abdomen"},
    group_kind="patient",
    group_rule="Column subject_id of the table of circumferences, looked up by the file's uuid: a subject may have several. Without a row the uuid.",
    expect=Expect(annotated=6620),
    paper=PaperProfile(
        note="Optimal and suboptimal planes are one class, abdomen. It split by frame, so that cases crossed.",
        labels=dict.fromkeys(VALUES, "abdomen"),
    ),
    known_issues=(
        "Of about 252,000 frames (300 cases of 6 sweeps of 140) only those with a label are samples; the others show no abdomen, or none that was drawn. A case without any has one dropped row.",
        "6,620 annotated frames is OpenUS's count of the same selection.",
        "Neighbouring frames are nearly identical: draw from them sparingly.",
        "The third axis of a stack is time; its spacing means nothing.",
        "A frame carries value 1 (optimal plane) or 2 (suboptimal); one with both keeps both, and a remark.",
        "Circumferences are not carried over: version 1.0's are twice too large, and the files do not say which version they are.",
        "Trees differ: masks/ beside images/ or inside it, with or without a top folder; both folders are searched for.",
        "10 validation and 282 (by another source 290) test cases are not public.",
        "The paper's DOI also appears as 10.1016/j.media.2025.103608; the one given is the more careful catalogue's.",
    ),
    sources=(
        "github CAMMA-public/UltraSam datasets/datasets/ACOUSLIC.py",
        "github constantinpape/torch-em torch_em/data/datasets/medical/acouslic_ai.py",
        "github TIanCat/open-medical-ultrasound-datasets datasets/02_obstetrics/0207.yaml",
        "github openmedlab/Awesome-Medical-Dataset resources/ACOUSLIC.md",
        "github DIAGNijmegen/ACOUSLIC-AI-baseline README.md and documentation",
    ),
    confidence="High, from code and catalogues of others. Unknown: size and md5 of version 1.1, number of subjects, whether the stacks are compressed (both are read).",
    read=read,
)
