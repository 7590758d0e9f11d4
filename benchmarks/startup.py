"""How long `us43d list` takes, beside Python alone and Python with the two packages every command needs.

python benchmarks/startup.py [--rounds 15]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

COMMANDS = {
    "us43d list": ["-m", "us43d", "list"],
    "us43d info BUSI": ["-m", "us43d", "info", "BUSI"],
    "python -c 'import pydantic, typer'": ["-c", "import pydantic, typer"],
    "python -c pass": ["-c", "pass"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "US43D_HOME": home}
        for _ in range(rounds):
            for name, command in COMMANDS.items():
                began = time.perf_counter()
                subprocess.run([sys.executable, *command], check=True, capture_output=True, env=environment)
                seconds[name].append(time.perf_counter() - began)
    least = statistics.median(seconds["python -c 'import pydantic, typer'"])
    print(f"| command | median of {rounds} | fastest | ratio to the two imports |\n|---|---|---|---|")
    for name, taken in seconds.items():
        middle = statistics.median(taken)
        print(f"| `{name}` | {middle:.3f} s | {min(taken):.3f} s | {middle / least:.2f} |")
    print(f"\nload average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
