"""TED: apical four-chamber views of CAMUS patients over whole heart beats, two structures on every frame. Beyond US-43d."""

from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.errors import MaskMismatch
from us43d.facts import source

VALUES = {"left_ventricle": 1, "myocardium": 2}
ENDS = {"ED": "end-diastole", "ES": "end-systole"}
#: Patients of CAMUS, in the order of TED's 1 to 97 without 19, 32 and 34 (the table ted2camus.csv, see the facts).
CAMUS = (
    2, 4, 5, 8, 10, 12, 13, 14, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 27, 28, 30, 33, 34, 35, 37, 39, 40, 42, 43, 45, 47,
    49, 52, 53, 55, 56, 57, 59, 60, 62, 65, 67, 68, 69, 70, 72, 76, 78, 79, 81, 84, 87, 88, 89, 90, 93, 96, 97, 99, 100,
    103, 104, 106, 107, 108, 109, 111, 112, 113, 114, 116, 118, 119, 120, 121, 122, 124, 125, 129, 132, 134, 135, 136, 137,
    138, 139, 140, 142, 144, 145, 146, 147, 148, 152,
)  # fmt: skip
PATIENTS = dict(zip((n for n in range(1, 98) if n not in (19, 32, 34)), CAMUS, strict=True))


def read(raw: RawTree) -> Iterator[Sample]:
    for key in raw.glob("**/patient*_4CH_sequence.mhd"):
        stem, patient = key.removesuffix(".mhd"), key.rpartition("/")[2].partition("_")[0]
        image, truth = raw.path(key), raw.path(f"{stem}_gt.mhd")
        raw.use(masks.mha_pixels(image), masks.mha_pixels(truth))
        shape, spacing = masks.mha_shape(image)
        if masks.mha_shape(truth)[0] != shape:
            raise MaskMismatch(f"{truth} has the shape {masks.mha_shape(truth)[0]}, its images {shape}.")
        lines = (line.partition(":") for line in raw.text(f"{stem.removesuffix('_sequence')}_info.cfg").splitlines())
        info = {name.strip(): value.strip() for name, colon, value in lines if colon}
        phases = {info.get(end): phase for end, phase in ENDS.items()}
        number = PATIENTS.get(int(patient.lower().removeprefix("patient")))
        for frame in range(shape[2]):
            labels = lazy(masks.label_map, lazy(masks.mha_frame, truth, frame), tuple(VALUES.values()))
            yield Sample(
                key=f"{patient}#{frame:03}",
                image=lazy(masks.eight_bit, lazy(masks.mha_frame, image, frame)),
                masks={label: lazy(masks.equal, labels, value) for label, value in VALUES.items()},
                group=f"patient{number:04}" if number else f"TED {patient}",
                frame=frame,
                spacing_mm=(spacing[0], spacing[1]),
                tags={
                    "phase": phases.get(str(frame + 1), "between"),
                    **{tag.lower(): info[tag] for tag in ("ImageQuality", "Sex", "Age", "EF") if tag in info},
                },
                remarks=()
                if number
                else ("the patient of CAMUS is unknown: the table of both does not list this one",),
            )


RECIPE = source(__name__, read)
