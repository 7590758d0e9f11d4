"""Loader for images of any format: `us43d.pictures.open(path)` gives frames, pixel spacing and remarks.

media.py    Media and Frame; kinds of files; listing of folders
levels.py   conversion of grey values of more than 8 bits to 8
still.py    PNG, JPEG, BMP, GIF, WebP, PNM, TIFF
dicom.py    DICOM, with the codecs of codecs.py
volume.py   NIfTI, MetaImage, NRRD
video.py    AVI, MP4, WebM …
"""

from us43d.pictures.media import Frame, Input, Media, is_dicom, listing
from us43d.pictures.media import open_media as open  # noqa: A004

__all__ = ["Frame", "Input", "Media", "is_dicom", "listing", "open"]
