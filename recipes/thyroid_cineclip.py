"""Thyroid US Cineclip: 192 clips of thyroid nodules, every frame a row of one HDF5 file of 36 GB."""

from collections.abc import Iterable, Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.errors import UnreadableFile
from us43d.facts import source
from us43d.rawtree import Row

CRITERIA = tuple(f"ti-rads_{name}" for name in ("composition", "echogenicity", "shape", "margin", "echogenicfoci"))
TAGS = ("sex", "location", *CRITERIA, "ti-rads_level", "histopath_diagnosis")


def read(raw: RawTree) -> Iterator[Sample]:
    clips = raw.index(raw.one("**/metadata.csv"), "annot_id", ("age", *TAGS))
    group = groups(clips.values())
    path = raw.path(raw.one("**/dataset.hdf5"))
    shape, mask_shape = masks.hdf5_shape(path, "image"), masks.hdf5_shape(path, "mask")
    ids, frames = masks.hdf5_text(path, "annot_id"), masks.hdf5_text(path, "frame_num")
    if shape != mask_shape or not len(ids) == len(frames) == shape[0]:
        raise UnreadableFile(
            f"{path} has {shape} for image, {mask_shape} for mask, {len(ids)} annot_id and {len(frames)} frame_num: "
            "its rows do not belong together."
        )
    for row, (clip, frame) in enumerate(zip(ids, frames, strict=True)):
        with raw.reading(f"dataset.hdf5#{row:05}"):
            if not frame.isdecimal():
                raise UnreadableFile(f"{path}: frame_num of row {row} is {frame!r}, not a number.")
            facts = clips[clip]
            yield Sample(
                key=f"dataset.hdf5#{row:05}",
                image=lazy(masks.hdf5_row, path, "image", row),
                masks={"thyroid_nodule": lazy(masks.fill_holes, lazy(masks.hdf5_row, path, "mask", row))},
                group=group[clip],
                frame=int(frame) - 1,
                tags={"clip": clip, "age": facts.number("age"), **{name: facts[name] for name in TAGS}},
            )


def groups(clips: Iterable[Row]) -> dict[str, str]:
    """Return clip → the first of its group: clips that follow one another by number and have one age and sex."""
    patients: dict[str, str] = {}
    before = first = None
    for row in sorted(clips, key=number):
        person = (row.number("age"), row["sex"])
        if person != before:
            before, first = person, row["annot_id"]
        patients[row["annot_id"]] = str(first)
    return patients


def number(row: Row) -> int:
    if not (digits := row["annot_id"].removesuffix("_")).isdecimal():
        raise UnreadableFile(f"{row.where}: annot_id is {row['annot_id']!r}, not a number and an underscore.")
    return int(digits)


RECIPE = source(__name__, read)
