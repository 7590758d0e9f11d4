"""How long `us43d list` takes, beside Python alone and Python with the two packages every command needs.

    python benchmarks/startup.py [--rounds 15]
    taskset -c 1 python benchmarks/startup.py --predict --rounds 5    # a prediction by us43d-small, from a cold start

Every command is a new process. Other work on the machine disturbs its processor seconds less than its seconds. Peak
memory is the largest resident set.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LEAST = "python -c 'import pydantic, typer'"
COMMANDS = {
    "us43d list": ["-m", "us43d", "list"],
    "us43d info BUSI": ["-m", "us43d", "info", "BUSI"],
    LEAST: ["-c", "import pydantic, typer"],
    "python -c pass": ["-c", "pass"],
}
TORCH = "python -c 'import torch'"
PREDICT = {
    "us43d predict scan.png --box 40,30,180,150": ["-m", "us43d", "predict", "scan.png", "--box", "40,30,180,150"],
    TORCH: ["-c", "import torch"],
}


def run(command: list[str], folder: Path) -> tuple[float, float, float]:
    """Run Python in a folder with a home in it; returns seconds, processor seconds and peak memory in MB."""
    environment = {**os.environ, "US43D_HOME": str(folder / "home")}
    with (folder / "output").open("w+b") as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *command], stdout=output, stderr=output, cwd=folder, env=environment
        )
        _, status, usage = os.wait4(process.pid, 0)
        taken = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            raise SystemExit(f"{command} failed: {output.read().decode()}")
    return taken, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--predict", action="store_true")
    options = parser.parse_args()
    commands, reference = (PREDICT, TORCH) if options.predict else (COMMANDS, LEAST)
    runs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if options.predict:
            import cv2
            import numpy as np

            cv2.imwrite(str(folder / "scan.png"), np.random.default_rng(0).integers(0, 255, (606, 856), np.uint8))
        for _ in range(options.rounds):
            for name, command in commands.items():
                runs[name].append(run(command, folder))
    least = statistics.median(row[0] for row in runs[reference])
    print(f"| command | median of {options.rounds} | fastest | ratio to `{reference}` | processor time | peak memory |")
    print("|---|---|---|---|---|---|")
    for name, rows in runs.items():
        middle, processor, memory = (statistics.median(column) for column in zip(*rows, strict=True))
        fastest = min(row[0] for row in rows)
        print(
            f"| `{name}` | {middle:.3f} s | {fastest:.3f} s | {middle / least:.2f} | {processor:.3f} s "
            f"| {memory:.0f} MB |"
        )
    print(f"\nload average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
