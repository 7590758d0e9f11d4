"""Fixtures every test may use."""

from pathlib import Path

import pytest


@pytest.fixture
def shared() -> Path:
    """The folder of real files beside the checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here: the real files are kept beside the checkout, not in it")
    return folder
