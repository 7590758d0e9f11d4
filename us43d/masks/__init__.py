"""Reading what the sources hold, and turning it into masks: `masks.grey`, `masks.equal`, ….

What the modules below list in `__all__` is found here, loaded when first named: a recipe is imported without
numpy or OpenCV.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from us43d.masks.convert import *
    from us43d.masks.hdf5 import *
    from us43d.masks.matlab import *
    from us43d.masks.metaimage import *
    from us43d.masks.nrrd import *
    from us43d.masks.pickled import *
    from us43d.masks.read import *
    from us43d.masks.videos import *

_MODULES = ("read", "convert", "metaimage", "nrrd", "matlab", "pickled", "hdf5", "videos")


def __getattr__(name: str) -> Any:
    # A module of its own is for the import system to find: training imports `rle` where h5py is not installed.
    if not name.startswith("_") and name not in (*_MODULES, "rle", "components", "stacks"):
        for module in _MODULES:
            loaded = importlib.import_module(f"{__name__}.{module}")
            if name in loaded.__all__:
                return getattr(loaded, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
