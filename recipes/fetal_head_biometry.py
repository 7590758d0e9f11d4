"""Large-Scale Fetal Head Biometry: 3,832 heads; brain, CSP and lateral ventricle as painted ellipses. Beyond US-43d."""

import re
from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, lazy
from us43d.facts import source

RED, GREEN, BLUE, YELLOW = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)
DIVERSE = "Diverse Fetal Head Images"
#: Group of images → where they lie in its folder, and the colour of the cavum septi pellucidi there.
GROUPS = {
    "Trans-thalamic": ("", GREEN),
    "Trans-cerebellum": ("", GREEN),
    "Trans-ventricular": ("", GREEN),
    DIVERSE: ("Orginal_train_images_to_959_661/", YELLOW),  # spelling as published
}
PATIENT, HC18 = re.compile(r"Patient_?0*(\d+)", re.IGNORECASE), re.compile(r"(\d+)_")


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at(*GROUPS)
    for group, (folder, cavum) in GROUPS.items():
        painted = {key.rpartition("/")[2]: key for key in tree.glob(f"{group}/**/SegmentationClass/*.png")}
        for key in tree.glob(f"{group}/{folder}*.png"):
            name = key.rpartition("/")[2]
            truth = tree.path(painted.get(name, f"{group}/SegmentationClass/{name}"))
            classes = lazy(masks.colour_classes, lazy(masks.rgb, truth), (RED, cavum, BLUE))
            rule, pattern = (HC18.match(name), "HC18") if group == DIVERSE else (PATIENT.search(name), "patient")
            yield Sample(
                key=f"{group}/{name}",
                image=tree.path(key),
                masks={
                    "brain": lazy(masks.nonzero, classes),  # the other two are painted on it
                    "csp": lazy(masks.equal, classes, 2),
                    "lateral_ventricle": lazy(masks.equal, classes, 3),
                },
                group=f"{pattern} {rule[1]}" if rule else None,
                tags={"plane": group},
            )


RECIPE = source(__name__, read)
