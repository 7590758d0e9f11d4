"""Train one task from every start of UltraSam's comparison and print the scores beside each other.

    python benchmarks/starts.py HOME CORPUS RUNS [--task classify] [--steps N] [--set KEY=VALUE …]

Starts: random weights, a ViT of ImageNet, SAM, MedSAM, UltraSam and us43d-small. Those whose weights are in
HOME/weights are trained, the others are listed as missing. us43d-small has an architecture of its own; the others share
ViT-B. A run that was interrupted resumes. Scores are those of the last validation.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from us43d.model.weights import SHIPPED
from us43d.train import journal

STARTS = ("random", "imagenet_vit_b", "sam_vit_b", "medsam", "ultrasam", SHIPPED)


def there(home: Path, name: str) -> bool:
    """Whether a start needs no download."""
    return name in ("random", SHIPPED) or any(
        (home / "weights" / f"{name}{end}").exists() for end in ("", ".pth", ".safetensors")
    )


def trained(options: argparse.Namespace, name: str) -> Path:
    """Train from a start with `us43d train`; return the run."""
    run = options.runs / f"{options.task}-{name}"
    values = [f"model={'small' if name == SHIPPED else options.model}", *options.set]
    command = [sys.executable, "-m", "us43d", "train", "--task", options.task, "--run", str(run.resolve()), "--resume",
               "--home", str(options.home), "--corpus", options.corpus]  # fmt: skip
    command += [word for value in values for word in ("--set", value)]
    command += ["--steps", str(options.steps)] if options.steps else []
    subprocess.run(command + ([] if name == "random" else ["--init", name]), check=True)
    return Path(run)


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path)
    parser.add_argument("corpus", help="release of the corpus in HOME")
    parser.add_argument("runs", type=Path)
    parser.add_argument("--task", default="classify", choices=("classify", "classify-prompt", "semantic", "instances"))
    parser.add_argument("--model", default="ultrasam", help="architecture of every start but us43d-small")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    scores: dict[str, str] = {}
    for name in STARTS:
        if not there(options.home, name):
            scores[name] = f"missing: us43d weights get {name}"
            continue
        log = journal.read(trained(options, name) / "log.jsonl")
        last = [record for record in log if record["kind"] == "validation"][-1]
        scores[name] = ", ".join(f"{key} {value:.3f}" for key, value in last.items() if isinstance(value, float))
    for name, score in scores.items():
        print(f"{name:16} {score}")


if __name__ == "__main__":
    main()
