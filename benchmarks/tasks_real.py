"""Train the tasks beside promptable segmentation on real images and print their figures on validation patients.

    python benchmarks/tasks_real.py FOLDER RUNS [NAME…]

FOLDER is that of `small_model.py`: train.json, val.json and images/. NAME is one of RUN (all in their order without a
name), or hog or hog-box: scikit-learn on features of the whole image, or of the box with its margin.

A run that was interrupted resumes; one that needs the weights of another trains that one first.
"""

import argparse
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from small_model import corpus

from us43d.bench.models import BoxUNet
from us43d.evaluate import protocols
from us43d.evaluate.classification import with_intervals
from us43d.evaluate.metrics import bootstrap
from us43d.harmonize.corpus import Corpus
from us43d.model import prompts, weights
from us43d.model.config import PRESETS as MODELS
from us43d.model.predictor import Predictor
from us43d.train.config import PRESETS, read
from us43d.train.loop import train
from us43d.train.tasks import classify, images
from us43d.train.tasks.evaluation import evaluate

#: Sources with a diagnosis.
BREAST = ("BUS-BRA", "BUS-UCLM", "BrEaST")
SMALL = MODELS["small"].model_dump()
COMMON: dict[str, Any] = {
    "batch": 8, "micro_batch": 8, "schedule": "cosine", "milestones": (), "decay": 0.02, "precision": "float32",
    "workers": 0, "save_every": 100, "log_every": 50, "ema": 0.99, "contrast": 0.12,
}  # fmt: skip
CLASSIFY = COMMON | {"sources": BREAST, "class_weights": True, "zoom": 0.2, "weight_decay": 1e-3}
SMALL_CLASSES = CLASSIFY | {
    "model": SMALL, "pool": "levels", "steps": 700, "warm_up": 30, "learning_rate": 5e-4, "encoder_rate": 0.2,
    "validate_every": 350}  # fmt: skip
UNET = {"network": "unet", "model": SMALL | {"image_size": 128}}
#: Name → preset, run whose weights it starts from, settings.
RUN: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "instances": ("instances", weights.SHIPPED, COMMON | {
        "model": SMALL, "batch": 6, "micro_batch": 6, "steps": 1500, "warm_up": 60, "learning_rate": 1e-3,
        "scale": (0.6, 1.6), "validate_every": 500,
        "head": {"width": 64, "queries": 8, "pixel_layers": 2, "query_layers": 3, "heads": 4, "feedforward": 256,
                 "points": 2048}}),
    "unet-pixels": ("semantic", None, COMMON | UNET | {
        "steps": 800, "warm_up": 30, "learning_rate": 2e-3, "zoom": 0.3, "validate_every": 400}),
    "unet-classes": ("classify", None, CLASSIFY | UNET | {
        "steps": 1200, "warm_up": 50, "learning_rate": 1e-3, "validate_every": 400}),
    "unet-classes-from-pixels": ("classify", "unet-pixels", CLASSIFY | UNET | {
        "steps": 1200, "warm_up": 50, "learning_rate": 1e-3, "validate_every": 400}),
    "small-classes": ("classify", weights.SHIPPED, SMALL_CLASSES),
    "small-classes-frozen": ("classify", weights.SHIPPED, SMALL_CLASSES | {"frozen": True, "learning_rate": 2e-3}),
    "small-classes-box": ("classify-prompt", weights.SHIPPED, SMALL_CLASSES | {
        "context": 0.4, "steps": 500, "validate_every": 250}),
    "small-classes-box-frozen": ("classify-prompt", weights.SHIPPED, SMALL_CLASSES | {
        "frozen": True, "learning_rate": 1e-3}),
    "box-unet": ("box-unet", None, {"steps": 6000, "box_jitter": 0.02, "validate_every": 1500}),
}  # fmt: skip


def weights_of(name: str | None, opened: Corpus, runs: Path) -> Path | None:
    """The weights of a run, trained if they are not there."""
    if name is None or name == weights.SHIPPED:
        return weights.shipped() if name else None
    preset, start, changes = RUN[name]
    config = read(PRESETS[preset], **changes)
    return train(config, opened, runs / name, init=weights_of(start, opened, runs), resume=True).weights


def against_small(place: Path, opened: Corpus) -> None:
    """Print Dice from exact boxes of a box-unet, us43d-small and the ellipse, with paired differences by patient."""
    small = Predictor.from_weights(weights.shipped())
    rows = protocols.evaluate({"box-unet": BoxUNet(place), weights.SHIPPED: small}, opened, split="val",
                              prompts=("box",), clicks=(0,)).rows  # fmt: skip
    for source, part in rows.groupby("source", observed=True):
        dice = part.pivot_table(index=["group", "annotation"], columns="weights", values="dice", observed=True)
        groups = dice.index.get_level_values("group").to_numpy()
        print(f"{source}: {len(dice)} instances of {len(set(groups))} groups; {dice.mean().round(4).to_dict()}")
        for other in ("box-unet", protocols.BASELINE):
            found = bootstrap((dice[weights.SHIPPED] - dice[other]).to_numpy(), groups, rounds=2000)
            print(f"  {weights.SHIPPED} − {other}: {found}")


def hog(opened: Corpus, boxed: bool) -> None:
    """Print the scores of a logistic regression on gradients, grey values and their histogram, by scikit-learn."""
    from skimage.feature import hog as gradients
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    config = read(PRESETS["classify-prompt" if boxed else "classify"], sources=BREAST)
    sets = []
    for split in ("train", "val"):
        items = classify.items(opened, images.chosen(opened, config, (split,)), config)
        features = []
        for item in items:
            pixels = opened.picture(item.image)
            grey = pixels if pixels.ndim == 2 else pixels.mean(2).astype(np.uint8)
            height, width = grey.shape
            x0, y0, x1, y1 = prompts.box_of(opened.mask(item.annotation)) if boxed else (0, 0, width, height)
            wide, high, margin = x1 - x0, y1 - y0, 0.25 if boxed else 0
            left, right = (round(np.clip(x, 0, width)) for x in (x0 - margin * wide, x1 + margin * wide))
            top, bottom = (round(np.clip(y, 0, height)) for y in (y0 - margin * high, y1 + margin * high))
            shown = grey[top:bottom, left:right]
            square = cv2.resize(shown, (128, 128), interpolation=cv2.INTER_AREA)
            small = cv2.resize(square, (16, 16), interpolation=cv2.INTER_AREA).ravel() / 255
            counts = np.histogram(shown, 32, (0, 256), density=True)[0]
            size = [wide / width, high / height, wide / high]
            features.append(np.concatenate([gradients(square, pixels_per_cell=(16, 16)), small, counts, size]))
        names = np.array([opened.sources[opened.images["source"][item.image]]["name"] for item in items])
        groups = np.array([opened.images["group"][item.image] for item in items])
        sets.append((np.array(features), np.array([item.label for item in items]), names, groups))
    (known, labels, _, _), (unseen, truth, names, groups) = sets
    regression = LogisticRegression(C=0.001 if boxed else 0.003, class_weight="balanced", max_iter=3000)
    model = make_pipeline(StandardScaler(), regression).fit(known, labels)
    chances = model.predict_proba(unseen)
    numbers = np.searchsorted(model.classes_, truth)
    for kept in (BREAST, BREAST[:1]):
        rows = np.isin(names, kept)
        found = with_intervals(numbers[rows], chances[rows], groups[rows])
        print(f"\nscikit-learn, {'box' if boxed else 'whole image'}: {rows.sum()} items of {', '.join(kept)}")
        for name, value in found.items():
            print(f"{name}: {value['mean']:.3f} ({value['low']:.3f}–{value['high']:.3f})")


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(RUN))
    options = parser.parse_args()
    if unknown := set(options.names) - {*RUN, "hog", "hog-box"}:
        parser.error(f"unknown runs {sorted(unknown)}: use {', '.join(RUN)}, hog, hog-box")
    torch.set_num_threads(1)
    opened = corpus(options.folder, options.runs / "corpus")
    for name in options.names or RUN:
        if name.startswith("hog"):
            hog(opened, name == "hog-box")
            continue
        place = weights_of(name, opened, options.runs)
        assert place is not None
        if name == "box-unet":
            against_small(place, opened)
            continue
        for sources in (BREAST, BREAST[:1]) if "classes" in name else ((),):
            found = evaluate(place, opened, split="val", sources=sources)
            print(f"\n{name}: {found.described()}")
            for head, heads, rows in found.tables:
                print(head, heads, *rows, sep="\n")


if __name__ == "__main__":
    main()
