"""Loader for images of any format: `us43d.pictures.open(path)` gives frames, pixel spacing and remarks.

listing.py  kinds of files; the files of a folder
media.py    Media and Frame
levels.py   conversion of grey values of more than 8 bits to 8
still.py    PNG, JPEG, BMP, GIF, WebP, PNM, TIFF
dicom.py    DICOM, with the codecs of codecs.py
volume.py   NIfTI, MetaImage, NRRD
video.py    AVI, MP4, WebM …
outputs.py  what `predict` writes beside them
"""

from us43d.pictures.listing import Input, is_dicom, listing
from us43d.pictures.media import Frame, Media
from us43d.pictures.media import open_media as open  # noqa: A004

__all__ = ["Frame", "Input", "Media", "is_dicom", "listing", "open"]
