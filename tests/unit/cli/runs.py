"""The command line, run in this process."""

import importlib

import torch
from typer.testing import CliRunner


def run(*words: object) -> tuple[int, str, str]:
    """Run us43d; returns exit code, stdout and stderr."""
    torch.set_num_threads(1)
    app = importlib.import_module("us43d.cli.app").app
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert "Traceback" not in result.output
    return result.exit_code, result.stdout, result.stderr
