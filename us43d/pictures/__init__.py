"""Any image a person brings, through one loader: `us43d.pictures.open(path)` gives frames, pixel spacing and remarks.

    media.py    Media and Frame; which file is of which kind; what a folder holds
    levels.py   the one rule by which grey values of more than 8 bits become 8
    still.py    PNG, JPEG, BMP, GIF, WebP, PNM, TIFF
    dicom.py    DICOM, with the codecs of codecs.py
    volume.py   NIfTI, MetaImage, NRRD
    video.py    AVI, MP4, WebM …
    limits.py   how large an image may be, for masks too

The names are loaded when first used, because `us43d.masks` stands on the limits alone.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from us43d.pictures.media import Frame, Input, Media, listing
    from us43d.pictures.media import open_media as open  # noqa: A004

__all__ = ["Frame", "Input", "Media", "listing", "open"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from us43d.pictures import media

        return getattr(media, "open_media" if name == "open" else name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
