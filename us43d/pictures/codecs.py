"""JPEG Lossless, JPEG with 12 bits, JPEG-LS and JPEG 2000 inside DICOM, decoded by imagecodecs for pydicom.

The module has the form of pydicom's decoder plugins (`pydicom.pixels.decoders.base.Decoder.add_plugin`).
"""

import struct
from typing import Any

from pydicom import uid

__all__ = ["DECODER_DEPENDENCIES", "decode", "is_available", "register"]

_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)
_JPEG = (uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1)
_2000 = (uid.JPEG2000Lossless, uid.JPEG2000, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K)
DECODER_DEPENDENCIES = dict.fromkeys((*_LS, *_JPEG, *_2000), ("numpy", "imagecodecs"))
#: Start of a JPEG 2000 stream: the first marker, and that of its size.
_STREAM = b"\xff\x4f\xff\x51"


def is_available(syntax: str) -> bool:
    """Return whether a transfer syntax is decoded here."""
    return syntax in DECODER_DEPENDENCIES


def decode(data: bytes, runner: Any) -> bytearray:
    """Decode one frame without colour conversion, which pydicom does. Raises ValueError for a frame of another size."""
    import imagecodecs

    streamed = runner.transfer_syntax in _2000
    size = _stream_size(data) if streamed else _size(data)
    wanted = runner.rows, runner.columns, runner.samples_per_pixel
    if size != wanted:  # checked before the decoder allocates the claimed memory
        claims = [f"{columns} × {rows} pixels of {samples} samples" for rows, columns, samples in (size, wanted)]
        raise ValueError(f"a frame claims {claims[0]}, the file {claims[1]}")
    if streamed:
        array = imagecodecs.jpeg2k_decode(data)  # undoes the colour transform of the stream
        if runner.photometric_interpretation in ("YBR_ICT", "YBR_RCT"):
            runner.set_option("photometric_interpretation", "RGB")
    elif runner.transfer_syntax in _LS:
        array = imagecodecs.jpegls_decode(data)
    else:
        space = {1: "GRAYSCALE", 3: "YCBCR"}.get(runner.samples_per_pixel)
        array = imagecodecs.jpeg_decode(data, colorspace=space, outcolorspace=space)
    runner.set_option("bits_allocated", 8 * array.itemsize)
    if array.ndim == 3:
        runner.set_option("planar_configuration", 0)
    return bytearray(array.tobytes())  # pydicom corrects signs in place


def _stream_size(data: bytes) -> tuple[int, int, int]:
    """Read (rows, columns, samples) from the size marker of a JPEG 2000 stream. Raises ValueError without one."""
    at = 0
    if data[4:8] == b"jP  ":  # the boxes of a JP2 file: others than that of the stream may hold anything
        while data[at + 4 : at + 8] != b"jp2c":
            length = int.from_bytes(data[at : at + 4], "big")
            if length < 8:
                raise ValueError("a JPEG 2000 stream is missing")
            at += length
        at += 8
    if data[at : at + 4] != _STREAM or len(data) < at + 42:
        raise ValueError("a JPEG 2000 header is missing")
    right, bottom, left, top = struct.unpack_from(">4I", data, at + 8)
    (samples,) = struct.unpack_from(">H", data, at + 40)
    return bottom - top, right - left, samples


def _size(data: bytes) -> tuple[int, int, int]:
    """Read (rows, columns, samples) from the header of a JPEG or JPEG-LS stream. Raises ValueError without one."""
    at = 2
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            return *struct.unpack_from(">2H", data, at + 5), data[at + 9]
        at += 1 if marker == 0xFF else 2 + length
    raise ValueError("a JPEG header is missing")


def register() -> None:
    """Register these decoders with pydicom, once."""
    from pydicom.pixels.decoders.base import get_decoder

    for syntax in DECODER_DEPENDENCIES:
        decoder = get_decoder(syntax)
        if "imagecodecs" not in decoder.available_plugins:
            decoder.add_plugin("imagecodecs", (__name__, "decode"))
