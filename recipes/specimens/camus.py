"""CAMUS as published: per patient and view a gzipped NIfTI sequence with its truth, ED and ES frames apart, an Info file."""

from pathlib import Path

import numpy as np

from us43d.specimen import Drawn, Truth, blob, label_map, speckle, ventricle, write_volume

PARTS = ("training", "training", "training", "testing", "training", "validation")


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    top = root / "CAMUS_public"
    lists: dict[str, list[str]] = {subset: [] for subset in PARTS}
    samples = {}
    for p in range(1, 13):
        patient, subset = f"patient{p:04}", PARTS[p % len(PARTS)]
        lists[subset].append(patient)
        folder = top / "database_nifti" / patient
        folder.mkdir(parents=True)
        for view in ("2CH", "4CH"):
            frames = 2 * scale
            shape, spacing, ef = (96 + p, 80 + p), 0.3 + 0.01 * p, 34 + 3 * p
            apex, angle = (shape[1] * rng.uniform(0.42, 0.58), 12 + rng.uniform(-2, 2)), rng.uniform(-10, 10)
            size = rng.uniform(48, 52), rng.uniform(28, 34)
            atrium = blob(shape, rng, 0.26, (0.2, 0.62, 0.8, 1))
            volume = np.zeros((shape[1], shape[0], frames), np.uint8)  # x, y, time
            truth = np.zeros_like(volume)
            for t in range(frames):
                ejected = ef / 100 * t / (frames - 1)
                cavity = ventricle(shape, apex, size, angle, ejected)
                wall = ventricle(shape, (apex[0], apex[1] - 6), (size[0] + 5, size[1] + 14), angle, ejected) & ~cavity
                masks = {"left_ventricle": cavity, "myocardium": wall, "left_atrium": atrium & ~cavity & ~wall}
                volume[..., t] = speckle(shape, list(masks.values()), rng).T
                truth[..., t] = label_map(shape, dict(enumerate(masks.values(), start=1))).T
                key = f"database_nifti/{patient}/{patient}_{view}_half_sequence.nii.gz#{t:03}"
                samples[key] = Drawn(
                    {label: [mask] for label, mask in masks.items()},
                    group=patient,
                    split={"training": "train", "validation": "val", "testing": "test"}[subset],
                    tags={"view": view, "sex": "F" if p % 2 else "M", "ef": str(ef)},
                )
            for name, first, last in (("ED", 0, 1), ("ES", frames - 1, frames), ("half_sequence", 0, frames)):
                for ending, array in (("", volume), ("_gt", truth)):
                    one = array[..., first] if last - first == 1 else array[..., first:last]
                    file = folder / f"{patient}_{view}_{name}{ending}.nii.gz"
                    write_volume(file, one, (-spacing, -spacing, 1))
            (folder / f"Info_{view}.cfg").write_text(
                f"ED: 1\nES: {frames}\nNbFrame: {frames}\nSex: {'F' if p % 2 else 'M'}\nAge: {50 + p}\n"
                f"ImageQuality: Good\nEF: {ef}\nFrameRate: 48.5\n"
            )
    (top / "database_split").mkdir()
    for subset, patients in lists.items():
        (top / f"database_split/subgroup_{subset}.txt").write_text("\n".join(patients) + "\n")
    for name in ("LICENSE_TERMS.md", "information.txt"):
        (top / "database_split" / name).write_text("Terms and remarks.\n")
    return Truth(samples)
