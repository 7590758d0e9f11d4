"""STMUS_NDA: cross-sections of three limb muscles, healthy and not; the same images lie in the archive once more, split."""

from collections import defaultdict
from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, Split, lazy
from us43d.facts import source

MUSCLES = {"BB": "biceps_brachii", "GM": "gastrocnemius_medialis", "TA": "tibialis_anterior"}
PARTS: tuple[Split, ...] = ("train", "val", "test")


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at(*MUSCLES)
    images = [key for muscle in MUSCLES for key in tree.glob(f"{muscle}/{{Healthy,Pathological}}/Images/*.png")]
    folders, parts = defaultdict[str, int](int), defaultdict[str, set[Split]](set)
    for key in images:
        folders[key.rpartition("/")[2]] += 1
    for subset in PARTS:
        for key in tree.glob(f"Segmentation_models/data/MuscleCNN/{subset}/*.png"):
            parts[key.rpartition("/")[2]].add(subset)
            tree.use(tree.path(key))  # for its name
    for key in images:
        muscle, condition, _, name = key.split("/")
        official = parts[name] if folders[name] == 1 else set()
        unclear = bool(parts[name]) and len(official) != 1
        remarks: tuple[str, ...] = ()
        if unclear:
            remarks = ("official split unclear: the file name is not unique",)
        elif not official:
            remarks = ("official split unknown: no folder of MuscleCNN has the image",)
        yield Sample(
            key=key,
            image=tree.path(key),
            masks={MUSCLES[muscle]: lazy(masks.binary, tree.path(f"{muscle}/{condition}/Masks/{name}"))},
            split=None if unclear or not official else next(iter(official)),
            tags={"muscle": muscle, "condition": condition.lower()},
            remarks=remarks,
        )


RECIPE = source(__name__, read)
