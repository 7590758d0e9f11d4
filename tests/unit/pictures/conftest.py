"""Two images that the tests of this folder write in all forms."""

import numpy as np
import pytest

from us43d.specimen import blob, speckle

from .files import SHAPE


@pytest.fixture(scope="session")
def grey() -> np.ndarray:
    """A speckle image whose values run from 0 to 255."""
    rng = np.random.default_rng(0)
    image = speckle(SHAPE, [blob(SHAPE, rng)], rng).astype(float)
    return np.rint((image - image.min()) * 255 / np.ptp(image)).astype(np.uint8)


@pytest.fixture(scope="session")
def colour(grey: np.ndarray) -> np.ndarray:
    return np.stack([grey, grey // 2, 255 - grey], -1)
