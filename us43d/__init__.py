"""us43d: get US-43d, 43 public ultrasound segmentation datasets, and train UltraSam on it.

>>> import us43d
>>> for sample in us43d.load("BUSI", split="train"):  # doctest: +SKIP
...     sample.image, sample.masks, sample.meta
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "load"]

# Lets a checkout find its sibling folders (recipes, cli, manifests); no effect once installed elsewhere.
_root = Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file() and (_root / "recipes").is_dir():
    __path__.append(str(_root))

if TYPE_CHECKING:
    from us43d.loading import load


def __getattr__(name: str) -> Any:
    if name == "load":  # late, so that `import us43d` stays free of numpy
        from us43d.loading import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})  # what an editor completes
