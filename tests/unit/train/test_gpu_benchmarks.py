"""The page of benchmarks that `make gpu` writes: every script runs, here at a tiny size on a CPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

GPU = Path(__file__).parents[3] / "benchmarks" / "gpu.py"


def run(page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(GPU), "--write", str(page), *options]
    return subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("names", "rows"),
    [
        (["attention", "decoder", "loader"], ["| one_hot |", "| eager |", "| tiny | 2 |"]),
        pytest.param(
            ["train_step", "train_step_compiled", "encoder"], ["| transformers sdpa |"] * 2, marks=pytest.mark.slow
        ),
        pytest.param(
            ["encoder_one", "batches", "batches_compiled"], ["| us43d |", "| us43d | 2 |"], marks=pytest.mark.slow
        ),
    ],
)
def test_every_section_runs(names: list[str], rows: list[str], tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed; it comes with us43d[dev]")
    page = tmp_path / "page.md"
    done = run(page, "--device", "cpu", "--only", *names)
    assert done.returncode == 0, done.stdout + done.stderr
    text = page.read_text()
    assert text.count("\n## ") == len(names)
    assert "no row says anything about a GPU" in text
    for row in rows:
        assert text.count(row) >= rows.count(row), f"{row} in\n{text}"


def test_a_section_that_fails_stands_in_the_page(tmp_path: Path) -> None:
    done = run(tmp_path / "page.md", "--device", "cpu", "--only", "decoder", "--minutes", "0.001")
    assert done.returncode == 1
    assert "Failed: decoder." in done.stderr
    assert "took more than 0.001 minutes" in (tmp_path / "page.md").read_text()


def test_without_a_gpu_nothing_is_measured(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    done = run(tmp_path / "page.md")
    assert done.returncode == 1
    assert "no GPU" in done.stderr
    assert not (tmp_path / "page.md").exists()
