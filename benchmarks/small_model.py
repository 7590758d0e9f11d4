"""Train the model that ships, from a folder of images under CC BY 4.0 (train.json, val.json, images/).

    python benchmarks/small_model.py FOLDER RUNS [--ship us43d/weights/small]

The stages (STAGES) run one after the other, each in a folder of RUNS and from the weights of the stage before; a stage
that was interrupted resumes. Sources, groups and splits of the images are kept: `us43d.source`, `group`, and the file
an image is listed in.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from us43d.coco import own
from us43d.harmonize.corpus import SPLITS, Corpus

#: Name of the run, preset, and the settings that differ from it. First all parts learn, then the second look alone with
#: tighter boxes; the same again with rotated images; then with nearly exact boxes and as many draws of each source;
#: then both once more, with more points and clicks; then the second look for long, from the mean of AVERAGED, first
#: with strong augmentation, then with weak one and every image drawn as often; then encoder and decoder, with points
#: above all and images of rare sizes drawn more often; then the second look's network for boxes alone, from random
#: numbers (RENEWED); at last encoder and decoder once more, with twice as many names.
#: In the weights that ship, the second look of the first seven stages worked at half of the crop's resolution: the
#: eighth took over its layers from the second level down, began those above from random numbers, saw the first mask of
#: boxes, too, and was ended early: the ninth began from its 5,400th step. Until then one network served all prompts.
STAGES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("1-all", "small", {}),
    ("2-look", "small-look", {}),
    ("3-all", "small", {"steps": 2700, "warm_up": 108, "turn": 15, "learning_rate": 9e-4, "box_jitter": 0.02,
                        "validate_every": 450}),
    ("4-look", "small-look", {"steps": 3300, "warm_up": 110, "turn": 15, "learning_rate": 9e-4, "box_jitter": 0.004,
                              "validate_every": 550}),
    ("5-look", "small-look", {"steps": 2400, "warm_up": 80, "turn": 15, "learning_rate": 6e-4, "box_jitter": 0.002,
                              "balance": "source", "validate_every": 600}),
    ("6-all", "small", {"steps": 2700, "warm_up": 108, "turn": 25, "quality": 0.4, "contrast": 0.15,
                        "learning_rate": 9e-4, "box_share": 0.4, "box_jitter": 0.02, "clicks": 6,
                        "validate_every": 450}),
    ("7-look", "small-look", {"steps": 4200, "warm_up": 80, "turn": 15, "learning_rate": 7e-4, "box_jitter": 0.002,
                              "box_share": 0.6, "clicks": 6, "balance": "source", "validate_every": 600}),
    ("8-look", "small-look", {"steps": 7500, "warm_up": 100, "turn": 15, "learning_rate": 1.2e-3, "box_jitter": 0.004,
                              "box_share": 0.6, "clicks": 6, "balance": "source", "validate_every": 600}),
    ("9-look", "small-look", {"steps": 4000, "warm_up": 100, "turn": 10, "zoom": 0.15, "quality": 0.15,
                              "learning_rate": 1.2e-3, "box_jitter": 0.01, "box_share": 0.6, "clicks": 6,
                              "validate_every": 600}),
    ("10-decoder", "small", {"steps": 2700, "warm_up": 100, "turn": 20, "quality": 0.35, "contrast": 0.15,
                             "learning_rate": 1e-3, "box_share": 0.3, "box_jitter": 0.02, "clicks": 6,
                             "size_repeats": 4, "freeze": ("second_look",), "validate_every": 450}),
    ("11-boxes", "small-look", {"seed": 1, "steps": 6000, "warm_up": 100, "turn": 10, "zoom": 0.1, "quality": 0.1,
                                "learning_rate": 2e-3, "box_share": 1.0, "extra_points": 0.0, "clicks": 0,
                                "instances": 1, "repeats": 1, "batch": 8, "micro_batch": 8, "validate_every": 1000,
                                "freeze": ("image_encoder", "prompt_encoder", "mask_decoder", "second_look.others")}),
    ("12-decoder", "small", {"seed": 2, "steps": 2700, "warm_up": 100, "turn": 20, "quality": 0.35, "contrast": 0.15,
                             "learning_rate": 8e-4, "box_share": 0.25, "box_jitter": 0.02, "clicks": 6,
                             "structure_prompts": 2, "size_repeats": 4, "freeze": ("second_look",),
                             "validate_every": 450}),
)  # fmt: skip

#: The eighth stage starts from the mean of these stages' weights: on the validation patients stage 7 alone is better
#: from a point or a name and worse after corrective clicks than stage 5; their mean keeps the better half of each.
AVERAGED = ("5-look", "7-look")

#: The stage whose network for boxes alone starts from random numbers.
RENEWED = "11-boxes"

#: The licences of the sources, as their records state them.
CC_BY = {
    "id": "CC-BY-4.0",
    "title": "Creative Commons Attribution 4.0",
    "url": "https://creativecommons.org/licenses/by/4.0/",
}


def corpus(folder: Path, out: Path) -> Corpus:
    """The corpus of train.json and val.json in `folder`, written to `out`."""
    parts = {split: json.loads((folder / f"{split}.json").read_text("utf-8")) for split in ("train", "val")}
    merged = parts["train"] | {key: parts["train"][key] + parts["val"][key] for key in ("images", "annotations")}
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "real.json")
        file.write_text(json.dumps(merged))
        own.read(file, out, folder / "images")
    images = np.load(out / "images.npy")
    names = sorted({image["us43d"]["source"] for image in merged["images"]})
    images["source"] = [names.index(image["us43d"]["source"]) for image in merged["images"]]
    count = len(parts["train"]["images"])
    images["split"][:count], images["split"][count:] = SPLITS.index("train"), SPLITS.index("val")
    np.save(out / "images.npy", images)
    facts = json.loads((out / "corpus.json").read_text("utf-8"))
    only = facts["sources"][0]
    yes = dict.fromkeys(("commercial", "redistribute", "derivatives", "attribution"), True) | {"share_alike": False}
    organs = {name: "fetus" if name == "HC18" else "breast" for name in names}
    facts["sources"] = [
        only | {"name": name, "slug": "own", "organ": organs[name], "licence": CC_BY | {"evidence": ""} | yes}
        for name in names
    ]
    facts["images"] = {name: int((images["split"] == n).sum()) for n, name in enumerate(SPLITS)}
    (out / "corpus.json").write_text(json.dumps(facts, indent=1, sort_keys=True), "utf-8")
    return Corpus.open(out, folder / "images")


#: Credit of the sources, which CC BY 4.0 asks for.
CREDITS = """\
| source | images with annotations | credit (CC BY 4.0) |
|---|--:|---|
| BUS-BRA | 1,416 | Gómez-Flores, Gregorio-Calas, Pereira, Medical Physics 2024; Zenodo record 8231412 |
| HC18 | 849 | van den Heuvel, de Bruijn, de Korte, van Ginneken, PLoS ONE 2018; Zenodo record 1327317 |
| BUS-UCLM | 579 (349 without a lesion) | Vallez, Bueno, Deniz, Rienda, Pastor, Sci Data 2025; Mendeley 7fvgj4jsp7 |
| BrEaST | 217 (4 normal) | Pawłowska, Ćwierz-Pieńkowska, Domalik et al., Sci Data 2024; TCIA Breast-Lesions-USG |

The images were reduced to 512 pixels and saved as JPEG before training."""


def mean(folders: Sequence[Path], out: Path) -> None:
    """Write the mean of weights of one architecture, with the last one's record, to the folder `out`."""
    import torch

    from us43d.model import weights

    every = [weights.load(folder) for folder in folders]
    model = every[-1].model()
    model.load_state_dict({name: torch.stack([one.state[name] for one in every]).mean(0) for name in every[-1].state})
    weights.save(model, out, every[-1].meta)


def renewed(folder: Path, seed: int, out: Path) -> None:
    """Write weights whose network for boxes alone has random numbers, with their record, to the folder `out`."""
    from us43d.model import weights
    from us43d.model.network import UltraSam

    loaded = weights.load(folder)
    model, random = loaded.model(), UltraSam.random(loaded.config, seed)
    assert model.second_look is not None
    assert random.second_look is not None
    model.second_look.boxes.load_state_dict(random.second_look.boxes.state_dict())
    weights.save(model, out, loaded.meta)


def ship(runs: Sequence[Path], opened: Corpus, out: Path) -> None:
    """Write the last stage's weights in float16, with card, credits, configuration and log.

    Args:
        runs: The finished stages, in their order.
        opened: What they were trained on.
        out: The folder to write.
    """
    import torch

    from us43d.model import weights
    from us43d.train.config import PRESETS
    from us43d.train.journal import group_hash
    from us43d.train.validate import held_out, summary, validate

    log = [json.loads(line) for run in runs for line in (run / "log.jsonl").read_text("utf-8").splitlines()]
    stages = [record["config"] for record in log if record["kind"] == "run" and record["step"] == 0]
    seconds, before = 0.0, 0
    for record in log:
        seconds += record.get("seconds_per_step", 0) * (record["step"] - before)
        if record["kind"] in ("run", "step"):
            before = record["step"]
    minutes = seconds / 60
    loaded = weights.load(runs[-1] / "weights")
    images = opened.images["source"][opened.annotations["image"]]
    drawn = np.bincount(opened.annotations["category"])
    learnt = {n for n in range(len(drawn)) if drawn[n] >= 20}  # as us43d.train.loop counts
    trained = np.flatnonzero(opened.images["split"] == SPLITS.index("train")).tolist()
    # In the file of all sources a group may carry the source's name in front, unlike in the source's own manifest.
    names = [opened.sources[opened.images["source"][row]]["name"] for row in trained]
    groups = {
        group_hash(name, opened.group(row).removeprefix(f"{name}/")) for name, row in zip(names, trained, strict=True)
    }
    meta = loaded.meta | {
        "seen": {"sources": loaded.meta["seen"]["sources"], "groups": sorted(groups), "images": [], "complete": True},
        "run": weights.SHIPPED,
        "structures": {str(one["id"]): one["name"] for one in opened.categories if one["id"] in learnt},
        "command": "make model REAL=FOLDER",
        "presets": [stage["name"] for stage in stages],
        "init": None,
        "annotations": {source["name"]: int((images == n).sum()) for n, source in enumerate(opened.sources)},
    }
    weights.save(loaded.model(), out, meta, half=True)
    images_held = held_out(opened, PRESETS["small"].model_copy(update={"instances": 20}))
    table = validate(weights.load(out).model().eval(), opened, images_held, torch.device("cpu"), "float32")
    validation = summary(table, opened)
    rows = "\n".join(
        f"| {name} | {part['instances']} | "
        + " | ".join(f"{part[f'{way}_dice']:.3f}" for way in ("box", "point", "ellipse"))
        + " |"
        for name, part in validation["sources"].items()
    )
    steps = ", ".join(f"{stage['name']} {stage['steps']:,} steps" for stage in stages)
    named = ", ".join(name.replace("_", " ") for name in meta["structures"].values())
    millions = sum(value.numel() for value in loaded.state.values()) / 1e6
    card = f"""# {weights.SHIPPED}

Promptable segmentation of ultrasound images: a box, points inside and outside, a mask, corrective clicks, or the
name of a structure ({named}). A convolutional encoder, SAM's decoder, a second look at a crop; {millions:.2f} million
parameters, float16. For research; not a medical device.

## Trained on

{CREDITS}

Patients of the sources' test splits were never seen. Licence of these weights: CC BY 4.0, with the credits above. The
sources allow commercial use.

## Held-out patients (validation split; the choice of settings saw them)

| source | instances | box Dice | point Dice | ellipse of the box |
|---|--:|--:|--:|--:|
{rows}

The test patients of these sources, and sources never trained on, were not part of this evaluation.

## Limits

Breast lesions and fetal heads are all it has seen. Other structures can be segmented from a box or points; thin oblique
ones (muscle fascicles, needles) poorly. A name works only for the structures listed above.

## How it was made

`{meta["command"]}`: {len(stages)} stages ({steps}), together
{minutes:.0f} minutes of one core of an AMD EPYC (Zen 4). The eighth started from the mean of the weights after
the stages {" and ".join(AVERAGED)}; the network for boxes alone began from random numbers in
{RENEWED}. Configurations and corpus digest are in log.jsonl.
"""
    (out / "README.md").write_text(card, "utf-8")
    for record in log:  # what each start had seen: part of the record of the weights, and long
        (record.get("init") or {}).pop("seen", None)
    lines = [json.dumps(record) for record in log if record["kind"] != "step" or record["step"] % 100 == 0]
    (out / "log.jsonl").write_text("\n".join(lines) + "\n", "utf-8")


def main() -> None:
    """Train; every stage's folder holds log, checkpoints and weights."""
    import torch

    from us43d.train.config import PRESETS, read
    from us43d.train.loop import train

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--steps", type=int, help="of every stage, for a trial")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ship", type=Path, metavar="FOLDER", help="write the last weights here, in float16")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    opened = corpus(options.folder, options.runs / "corpus")
    weights: Path | None = None
    for name, preset, changes in STAGES:
        config = read(PRESETS[preset], **changes)
        if options.steps:
            config = config.shortened(options.steps)
        if name == RENEWED and weights:
            renewed(weights, config.seed, options.runs / "renewed")
            weights = options.runs / "renewed"
        result = train(
            config, opened, options.runs / name, init=weights, resume=True,
            report=lambda record: print(json.dumps(record), flush=True),
        )  # fmt: skip
        weights = result.weights
        print(weights)
        if name == AVERAGED[-1]:
            weights = options.runs / "mean"
            mean([options.runs / one / "weights" for one in AVERAGED], weights)
    if options.ship:
        ship([options.runs / name for name, _, _ in STAGES], opened, options.ship)


if __name__ == "__main__":
    main()
