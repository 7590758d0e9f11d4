"""Unity as published: images in folders by hash, labels as strings of coordinates, curves off, blurred, missing, in lists."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from us43d.specimen import Drawn, Truth, speckle, write_image

SHAPE = (120, 140)


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    samples: dict[str, Drawn] = {}
    listed: dict[str, dict[str, Any]] = {"train": {}, "tune": {}}
    for n in range(14 * scale):
        clip, subset = f"01-{n // 2:04x}{'ab' * 14}", "tune" if n // 2 % 4 == 3 else "train"
        name = f"{clip}-{n % 2:04}.png"
        # A box of whole pixels: what its outline encloses is known without a rule for filling.
        left, top, right, bottom = (int(v) for v in (*rng.integers(10, 50, 2), *rng.integers(70, 110, 2)))
        cavity = np.zeros(SHAPE, bool)
        cavity[top : bottom + 1, left : right + 1] = True
        # Up one side, over the apex, down the other; the side of the valve stays open.
        xs, ys = [left, left, right, right], [bottom, top, top, bottom]
        form = ("curve", "list", "curve", "off", "curve", "blurred", "none")[n % 7]
        curve = {"type": form if form in ("off", "blurred") else "curve"} | {
            axis: " ".join(f"{value:.1f}" for value in values) for axis, values in (("x", xs), ("y", ys))
        }
        if form == "off":
            curve |= {"x": "", "y": ""}
        labels: dict[str, Any] = {"lv-apex": {"type": "point", "x": "60.0", "y": "20.0"}}
        if form != "none":
            labels["curve-lv-endo"] = [curve] if form == "list" else curve
        seen = form in ("curve", "list")
        write_image(root / f"png-cache/01/{clip[3:5]}/{clip[5:7]}/{name}", speckle(SHAPE, [cavity], rng))
        listed[subset][name] = {"labels": labels}
        split = "val" if subset == "tune" else "train"
        samples[name] = Drawn({"left_ventricle": [cavity]} if seen else {}, group=clip, split=split, dropped=not seen)
    (root / "labels").mkdir()
    for subset, content in (*listed.items(), ("all", listed["train"] | listed["tune"])):
        (root / f"labels/labels-{subset}.json").write_text(json.dumps(content))
    return Truth(samples)
