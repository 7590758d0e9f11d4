"""ACOUSLIC: six blind sweeps over each of 300 pregnancies in one stack; the fetal abdomen where it is in view."""

from collections.abc import Collection, Iterator
from statistics import median

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.facts import source
from us43d.rawtree import Row

VALUES = {"abdomen_optimal": 1, "abdomen_suboptimal": 2}
SWEEP = 140  # frames; sweeps 1 to 3 are transverse, 4 to 6 sagittal
CIRCUMFERENCES = tuple(f"sweep_{n}_ac_mm" for n in range(1, 7))
MOST_MM = 370  # a median above it tells version 1.0, whose circumferences are twice too large


def read(raw: RawTree) -> Iterator[Sample]:
    images, truths = raw.at("stacked_fetal_ultrasound"), raw.at("stacked_fetal_abdomen")
    subjects = raw.index(
        raw.one("**/fetal_abdominal_circumferences_per_sweep.csv"), "uuid", ("subject_id", *CIRCUMFERENCES)
    )
    measured = circumferences(subjects.values())
    for key in images.glob("stacked_fetal_ultrasound/*.mha"):
        with images.reading(key):
            name = key.partition("/")[2]
            uuid = name[: -len(".mha")]
            image, truth = images.path(key), truths.path(f"stacked_fetal_abdomen/{name}")
            raw.use(truth)
            shape, spacing = masks.mha_pair(image, truth)
            subject = subjects[uuid].identifier("subject_id") if uuid in subjects else ""
            subject = "" if subject.lower() == "nan" else subject
            group = f"subject {subject}" if subject else uuid
            remarks = () if subject else ("no subject is listed for this case, which stands for itself",)
            frames = shape[2] if len(shape) == 3 else 1
            labelled = False
            for n in range(frames):
                if not (values := masks.label_values(masks.mha_frame(truth, n), truth)):
                    continue
                labelled, labels, sweep = True, lazy(masks.mha_frame, truth, n), n // SWEEP + 1
                present = {label: value for label, value in VALUES.items() if value in values}
                both = ("optimal and suboptimal in one frame",) if len(present) > 1 else ()
                yield Sample(
                    key=f"{key}#{n:04}",
                    image=lazy(masks.eight_bit, lazy(masks.mha_frame, image, n)),
                    masks={label: lazy(masks.equal, labels, value) for label, value in present.items()},
                    group=group,
                    frame=n,
                    spacing_mm=(spacing[0], spacing[1]),
                    tags={"sweep": sweep, "direction": "transverse" if sweep <= 3 else "sagittal"}
                    | {"plane": next(iter(present), "").removeprefix("abdomen_")}
                    | ({"ac_mm": ac} if (ac := measured.get((uuid, sweep))) else {}),
                    drop=None if len(present) == len(values) else "a label value is not described",
                    remarks=remarks + both,
                )
            if not labelled:
                drop = "no frame of this case is labelled"
                yield Sample(key=f"{key}#0000", image=image, group=group, drop=drop, remarks=remarks)


def circumferences(rows: Collection[Row]) -> dict[tuple[str, int], float]:
    """Return (uuid, sweep) → circumference of the abdomen in mm; empty for the table of version 1.0."""
    values = {
        (row["uuid"], sweep): row.number(column)
        for row in rows
        for sweep, column in enumerate(CIRCUMFERENCES, start=1)
        if row[column].lower() not in ("", "nan")
    }
    return values if not values or median(values.values()) <= MOST_MM else {}


RECIPE = source(__name__, read)
