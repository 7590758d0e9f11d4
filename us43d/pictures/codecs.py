"""JPEG Lossless, JPEG with 12 bits and JPEG-LS inside DICOM, decoded by imagecodecs for pydicom.

The form of the module is that of pydicom's decoder plugins (`pydicom.pixels.decoders.base.Decoder.add_plugin`).
"""

from typing import Any

from pydicom import uid

__all__ = ["DECODER_DEPENDENCIES", "decode", "is_available", "register"]

_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)
_JPEG = (uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1)
DECODER_DEPENDENCIES = dict.fromkeys((*_LS, *_JPEG), ("numpy", "imagecodecs"))


def is_available(syntax: str) -> bool:
    """Return whether a transfer syntax is decoded here."""
    return syntax in DECODER_DEPENDENCIES


def decode(data: bytes, runner: Any) -> bytes:
    """Decode one frame, colours as stored: pydicom converts them."""
    import imagecodecs

    if runner.transfer_syntax in _LS:
        array = imagecodecs.jpegls_decode(data)
    else:
        space = {1: "GRAYSCALE", 3: "YCBCR"}.get(runner.samples_per_pixel)
        array = imagecodecs.jpeg_decode(data, colorspace=space, outcolorspace=space)
    runner.set_option("bits_allocated", 8 * array.itemsize)
    if array.ndim == 3:
        runner.set_option("planar_configuration", 0)
    return bytes(array.tobytes())


def register() -> None:
    """Make these decoders known to pydicom, once."""
    from pydicom.pixels.decoders.base import get_decoder

    for syntax in DECODER_DEPENDENCIES:
        decoder = get_decoder(syntax)
        if "imagecodecs" not in decoder.available_plugins:
            decoder.add_plugin("imagecodecs", (__name__, "decode"))
