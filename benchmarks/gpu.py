"""Every benchmark that a GPU is for, one after the other, into one page. `make gpu` runs tests/gpu first, then this.

    python benchmarks/gpu.py --write gpu.md                                # a whole run, on the first GPU
    python benchmarks/gpu.py --write gpu.md --only attention train_step    # some of it
    python benchmarks/gpu.py --write cpu.md --device cpu                   # whether the scripts run: the tiny model

Each section is a process of its own, so that one that fails takes nothing with it. Its table is written as soon as it
is printed, with its command. A failed section is in the page with its error, and the exit code is 1.
"""

import argparse
import datetime
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch

HERE = Path(__file__).parent


class Section(NamedTuple):
    """One table. on_gpu: its command, the most telling first. tiny: the same of a size that a CPU does in seconds."""

    title: str
    on_gpu: str
    tiny: str


SECTIONS = {
    "attention": Section(
        "Backends of the attention",
        "attention.py --batch 8",
        "attention.py --model tiny --rounds 1 --without flex",
    ),
    "train_step": Section(
        "Training step",
        "train_step.py --batch 8",
        "train_step.py --threads 1 --model tiny --batch 1 --rounds 1 --without eager",
    ),
    "train_step_compiled": Section(
        "Training step, our encoder compiled",
        "train_step.py --batch 8 --compile --without eager",
        "train_step.py --threads 1 --model tiny --batch 1 --rounds 1 --without sdpa eager",
    ),
    "encoder": Section(
        "Image encoder",
        "encoder.py --batch 8 --compile",
        "encoder.py --threads 1 --model tiny --rounds 1 --without eager",
    ),
    "encoder_one": Section(
        "Image encoder, one image",
        "encoder.py --batch 1 --rounds 15 --compile",
        "encoder.py --threads 1 --model tiny --rounds 1 --without sdpa eager",
    ),
    "batches": Section(
        "Training step, batch 1 to what fits",
        "train_step.py --sweep 64 --rounds 3 --without eager",
        "train_step.py --threads 1 --model tiny --sweep 2 --rounds 1 --without sdpa eager",
    ),
    "batches_compiled": Section(
        "Training step, batch 1 to what fits, our encoder compiled",
        "train_step.py --sweep 64 --rounds 3 --compile --without sdpa eager",
        "train_step.py --threads 1 --model tiny --sweep 1 --rounds 1 --without sdpa eager",
    ),
    "decoder": Section(
        "Mask decoder, compiled and as a CUDA graph",
        "decoder.py",
        "decoder.py --model tiny --rounds 1 --no-compile",
    ),
    "loader": Section(
        "Loading, of all cores",
        "loader.py --preset ultrasam-vitb --processes 1 4 8 16",
        "loader.py --made 4 --images 4 --preset tiny --processes 1 2",
    ),
}


def run(section: Section, device: str, minutes: float) -> tuple[str, bool]:
    """Run one section. Returns its part of the page, and whether it succeeded."""
    script, *arguments = (section.on_gpu if device != "cpu" else section.tiny).split()
    if script != "loader.py":
        arguments += ["--device", device]
    shown = " ".join(["python", f"benchmarks/{script}", *arguments])
    start_time = time.perf_counter()
    paths = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    try:
        done = subprocess.run(
            [sys.executable, str(HERE / script), *arguments],
            capture_output=True, text=True, timeout=60 * minutes, env=os.environ | {"PYTHONPATH": paths},
        )  # fmt: skip
        output, failure = done.stdout, done.stderr.strip() if done.returncode else ""
    except subprocess.TimeoutExpired as error:
        output = error.stdout.decode() if isinstance(error.stdout, bytes) else error.stdout or ""
        failure = f"It took more than {minutes:g} minutes and was ended."
    seconds = time.perf_counter() - start_time
    lines = [f"## {section.title}", "", f"`{shown}`, {seconds:.0f} s:", "", output.strip(), ""]
    if failure:
        lines += ["**This section failed; its output above is incomplete.**", "", "```", failure[-3000:], "```", ""]
    return "\n".join(lines), not failure


def place(device: str) -> str:
    """The machine, for the head of the page."""
    if device == "cpu":
        return "CPU. **The tiny sizes of a trial run, nothing compiled: no row says anything about a GPU or ViT-B.**"
    properties = torch.cuda.get_device_properties(device)
    memory = properties.total_memory / 2**30
    return f"{properties.name}, {memory:.0f} GiB, CUDA {torch.version.cuda}, {os.cpu_count()} processor cores."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, required=True, help="the page")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--minutes", type=float, default=9, help="the most that a section may take")
    options = parser.parse_args()
    if options.device != "cpu" and not torch.cuda.is_available():
        sys.exit("PyTorch finds no GPU. Next: python benchmarks/gpu.py --device cpu --write cpu.md")
    head = [
        "# Benchmarks of one run",
        "",
        f"{place(options.device)} {datetime.date.today()}, PyTorch {torch.__version__}, "
        f"Python {platform.python_version()}.",
        "",
    ]
    options.write.write_text("\n".join(head) + "\n")
    failed = []
    for name in options.only:
        text, good = run(SECTIONS[name], options.device, options.minutes)
        print(text, flush=True)
        with options.write.open("a") as page:
            page.write(text + "\n")
        if not good:
            failed.append(name)
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}. The others are in {options.write}.")
    print(f"All {len(options.only)} sections are in {options.write}.")


if __name__ == "__main__":
    main()
