"""TED: apical four-chamber views of CAMUS patients over whole heart beats, two structures on every frame. Beyond US-43d."""

from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.facts import source

VALUES = {"left_ventricle": 1, "myocardium": 2}
ENDS = {"ED": "end-diastole", "ES": "end-systole"}


def read(raw: RawTree) -> Iterator[Sample]:
    for key in raw.glob("**/patient*_4CH_sequence.mhd"):
        stem, patient = key.removesuffix(".mhd"), key.rpartition("/")[2].partition("_")[0]
        with raw.reading(patient):
            image, truth = raw.path(key), raw.path(f"{stem}_gt.mhd")
            raw.use(masks.mha_pixels(image), masks.mha_pixels(truth))
            shape, spacing = masks.mha_pair(image, truth)
            lines = (
                line.partition(":") for line in raw.text(f"{stem.removesuffix('_sequence')}_info.cfg").splitlines()
            )
            info = {name.strip(): value.strip() for name, colon, value in lines if colon}
            phases = {info.get(end): phase for end, phase in ENDS.items()}
            for frame in range(shape[2]):
                yield Sample(
                    key=f"{patient}#{frame:03}",
                    image=lazy(masks.eight_bit, lazy(masks.mha_frame, image, frame)),
                    masks=masks.by_value(lazy(masks.mha_frame, truth, frame), VALUES),
                    group=patient,
                    frame=frame,
                    spacing_mm=(spacing[0], spacing[1]),
                    tags={
                        "phase": phases.get(str(frame + 1), "between"),
                        **{tag.lower(): info[tag] for tag in ("ImageQuality", "Sex", "Age", "EF") if tag in info},
                    },
                )


RECIPE = source(__name__, read)
