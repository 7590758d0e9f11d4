"""Train the model that ships, from a folder of images under CC BY 4.0 (train.json, val.json, images/).

    python benchmarks/small_model.py FOLDER RUN [--preset small] [--minutes 60]

The images' own sources, groups and splits are kept: `us43d.source`, `group`, and the file an image stands in.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from us43d.coco import own
from us43d.harmonize.corpus import SPLITS, Corpus

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


def main() -> None:
    """Train; the run's folder holds log, checkpoints and weights."""
    import torch

    from us43d.train.config import PRESETS, read
    from us43d.train.loop import train

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = PRESETS[options.preset]
    if options.steps:
        config = config.shortened(options.steps)
    config = read(
        config, **{name: json.loads(value) for name, _, value in (pair.partition("=") for pair in options.set)}
    )
    opened = corpus(options.folder, options.run.parent / "corpus")
    result = train(
        config, opened, options.run, resume=True, report=lambda record: print(json.dumps(record), flush=True)
    )
    print(result.weights)


if __name__ == "__main__":
    main()
