"""Fixtures for several rooms."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from us43d import registry
from us43d.harmonize.build import build
from us43d.paths import Home


@pytest.fixture(scope="session")
def built() -> Callable[..., tuple[Home, list[Path]]]:
    """A function (folder, *slugs) that builds specimens in folder/home, and returns the home and the builds.

    A raw tree that is in folder/slug already is built as it is. Options are those of `build`; by default, `partial`.
    """

    def in_folder(folder: Path, *slugs: str, **how: Any) -> tuple[Home, list[Path]]:
        home, paths = Home(folder / "home"), []
        for slug in slugs:
            raw = folder / slug
            if not raw.is_dir():
                raw.mkdir()
                registry.specimen(slug)(raw, np.random.default_rng(0))
            paths.append(build(registry.recipe(slug), raw, home, **(how or {"partial": True})).path)
        return home, paths

    return in_folder
