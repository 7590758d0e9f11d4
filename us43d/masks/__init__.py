"""Reading what the sources hold, and turning it into masks.

The functions are loaded when first named, so that a recipe can be imported without numpy or OpenCV.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from us43d.masks.convert import above, binary, colour, ellipse, equal, fill_holes, nonzero
    from us43d.masks.read import grey, image, nifti_frame, nifti_shape, rgb, video_frame

_HOME = {
    **dict.fromkeys(("above", "binary", "colour", "ellipse", "equal", "fill_holes", "nonzero"), "convert"),
    **dict.fromkeys(("grey", "image", "nifti_frame", "nifti_shape", "rgb", "video_frame"), "read"),
}
__all__ = ["above", "binary", "colour", "ellipse", "equal", "fill_holes", "grey", "image", "nifti_frame",
           "nifti_shape", "nonzero", "rgb", "video_frame"]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
