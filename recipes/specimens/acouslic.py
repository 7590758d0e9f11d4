"""ACOUSLIC as published: stacks of six sweeps as MetaImages, compressed or not, masks beside, a table of subjects."""

import uuid
from pathlib import Path
from typing import Any

import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_stack

SHAPE = (56, 74)  # 562 × 744 as published, a tenth
FRAMES = 840


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    top = root / "acouslic-ai-train-set"
    table = ["uuid,subject_id," + ",".join(f"sweep_{n}_ac_mm" for n in range(1, 7))]
    samples = {}
    blank = speckle(SHAPE, [], rng)
    for case in range(6):
        name = str(uuid.UUID(bytes=rng.bytes(16), version=4))
        key = f"stacked_fetal_ultrasound/{name}.mha"
        frames = FRAMES * scale
        images, labels = np.full((frames, *SHAPE), blank), np.zeros((frames, *SHAPE), np.uint8)
        group = name if case == 4 else f"subject {case // 2}"  # two cases of each subject; one case is not listed
        if case != 4:
            table.append(f"{name},{case // 2},251.5,,,,,nan" if case % 2 else f"{name},{case // 2},,,,263.25,,")
        for t, value in {} if case == 5 else {100 + case: 2, 101 + case: 1, 430: 2, 700 + case: 1}.items():
            mask = blob(SHAPE, rng, 0.3)
            images[t], labels[t][mask] = speckle(SHAPE, [mask], rng), value
            kind = {1: "optimal", 2: "suboptimal"}[value]
            masks = {f"abdomen_{kind}": [mask]}
            if case == 2 and t == 430:  # not as described: both values in one frame
                corner = np.zeros(SHAPE, bool)
                corner[1:4, 1:4] = ~mask[1:4, 1:4]
                labels[t][corner] = 1
                masks, kind = masks | {"abdomen_optimal": [corner]}, "optimal"
            sweep = t // 140 + 1
            tags: dict[str, Any] = {"sweep": sweep, "direction": "transverse" if sweep <= 3 else "sagittal"}
            tags |= {"plane": kind}
            if case != 4 and sweep == (1 if case % 2 else 4):
                tags["ac_mm"] = 251.5 if case % 2 else 263.25
            samples[f"{key}#{t:04}"] = Drawn(masks, group=group, tags=tags)
        if case == 5:
            samples[f"{key}#0000"] = Drawn(group=group, dropped=True)
        write_stack(top / "images" / key, images, (0.28, 0.28, 0.28), compress=case % 2 == 0)
        truth = top / f"masks/stacked_fetal_abdomen/{name}.mha"
        write_stack(truth, labels, (0.28, 0.28, 0.28), compress=case != 1)
    (top / "circumferences").mkdir()
    text = "\n".join(table) + "\n"
    (top / "circumferences/fetal_abdominal_circumferences_per_sweep.csv").write_text(text)
    return Truth(samples)
