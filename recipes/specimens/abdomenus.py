"""AbdomenUS as published: the folder repeated, simulated and real images under equal names, colours by organ, alpha."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from us43d.facts import facts
from us43d.specimen import Drawn, Truth, blob, speckle, write_image

COLOURS = facts("abdomenus").colours
SHAPE = (120, 160)


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    top = root / "abdominal_US/abdominal_US"
    samples = {}
    simulated = {
        "train": ["ct20-29.png", "ct20-30.png", "resized_ct20-31.png", "ircad17-3.jpg"],
        "test": ["ct05-1.png", "ct05-2.png"],
    }
    for subset, names in simulated.items():
        number = 40 if subset == "train" else 50
        for name in [*names, *(f"ct{number + n}-1.png" for n in range(6 * (scale - 1)))]:
            organs = _organs(rng)
            _write(top, "AUS", subset, name, organs, rng, tissue=True, alpha=name.endswith("1.png"))
            group = name.removeprefix("resized_").rpartition("-")[0]
            samples[f"AUS/images/{subset}/{name}"] = Drawn(
                {label: [mask] for label, mask in organs.items()},
                group=f"AUS/{group}",
                split=subset,
                tags={"origin": "simulated"},
            )
    for subset, name, annotated in (
        ("train", "real-1.jpg", False),
        ("train", "ct20-29.jpg", False),
        ("test", "ct05-1.jpg", True),
        ("test", "real-3.jpg", True),
        ("test", "real-4.jpg", False),
    ):
        organs = _organs(rng) if annotated else {}
        _write(top, "RUS", subset, name, organs, rng, alpha=name == "real-3.jpg")
        samples[f"RUS/images/{subset}/{name}"] = Drawn(
            {label: [mask] for label, mask in organs.items()},
            group="RUS",
            split=subset,
            tags={"origin": "real"},
            dropped=not annotated,
        )
    return Truth(samples)


def _organs(rng: np.random.Generator) -> dict[str, Any]:
    """A few organs, each in its own part of the image."""
    cells = [(x / 3, y / 3, (x + 1) / 3, (y + 1) / 3) for x in range(3) for y in range(3)]
    labels = rng.permutation(list(COLOURS))[: int(rng.integers(2, 6))]
    places = rng.permutation(len(cells))
    return {str(label): blob(SHAPE, rng, 0.3, cells[place]) for label, place in zip(labels, places, strict=False)}


def _write(
    top: Path,
    source: str,
    subset: str,
    name: str,
    organs: dict[str, Any],
    rng: np.random.Generator,
    *,
    tissue: bool = False,
    alpha: bool = False,
) -> None:
    picture = np.stack([speckle(SHAPE, list(organs.values()), rng)] * 3, axis=2)
    write_image(top / source / "images" / subset / name, picture)
    if not organs:
        return
    painted = np.full((*SHAPE, 4), 255, np.uint8)
    painted[..., :3] = 10 if tissue else 0
    painted[:8, :, :3] = 0  # outside the field of view
    for label, mask in organs.items():
        painted[mask, :3] = COLOURS[label]
    path = top / source / "annotations" / subset / f"{name.rpartition('.')[0]}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    bgra = cv2.cvtColor(painted, cv2.COLOR_RGBA2BGRA if alpha else cv2.COLOR_RGBA2BGR)
    path.write_bytes(cv2.imencode(".png", bgra)[1].tobytes())
