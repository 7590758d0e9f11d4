"""CCAUI as published: two folders with spaces in their names, frames of cine loops named by time of acquisition."""

from pathlib import Path

import numpy as np

from us43d.specimen import Drawn, Truth, ring, speckle, write_image

# Acquisition → the first of its visit (times as in a published sample; the last two are invented to fill a day).
_ACQUISITIONS = {
    "202201121748100022VAS": "202201121748100022VAS",
    "202201121806070027VAS": "202201121806070027VAS",
    "202201121808450029VAS": "202201121806070027VAS",
    "202201121815070032VAS": "202201121815070032VAS",
    "202201121819140033VAS": "202201121815070032VAS",
    "202201121826590036VAS": "202201121826590036VAS",
    "202201121834300037VAS": "202201121834300037VAS",
    "202201121837530038VAS": "202201121834300037VAS",
    "202202071359200056VAS": "202202071359200056VAS",
    "202202071430000057VAS": "202202071430000057VAS",
}


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    top = root / "Common Carotid Artery Ultrasound Images"
    samples = {}
    for acquisition, visit in _ACQUISITIONS.items():
        centre = (float(rng.uniform(50, 130)), float(rng.uniform(60, 120)))
        for n in range(2 * scale):
            axes = (float(rng.uniform(30, 60)), float(rng.uniform(25, 45)))
            artery, _ = ring((187, 177), centre, axes, float(rng.uniform(0, 40)))
            picture = speckle((187, 177), [artery], rng)
            colour = np.stack([picture, picture, np.minimum(picture, 250)], axis=2)  # not exactly grey
            name = f"{acquisition}_slice_{1069 + 11 * n}.png"
            write_image(top / "US images" / name, colour)
            write_image(top / "Expert mask images" / name, artery.astype(np.uint8) * 255)
            samples[f"US images/{name}"] = Drawn({"carotid_artery": [artery]}, group=visit)
    return Truth(samples)
