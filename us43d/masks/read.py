"""Reading images and volumes into arrays.

Arrays are (rows, columns) or (rows, columns, 3) RGB. A file that cannot be read raises UnreadableFile with its path.
"""

import gzip
import math
import stat
import struct
import tokenize
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import cv2
import numpy as np
from kornia_rs.io import decode_image_png_u8
from numpy.typing import NDArray

from us43d import limits, tiff
from us43d.errors import MaskMismatch, UnreadableFile

__all__ = [
    "Header",
    "Upright",
    "check_complete",
    "common_channel",
    "grey",
    "header",
    "image",
    "image_size",
    "lossy",
    "nifti_axes",
    "nifti_frame",
    "nifti_gap",
    "nifti_pair",
    "nifti_shape",
    "nifti_upright",
    "npy_frame",
    "npy_shape",
    "picture",
    "png_chunks",
    "rgb",
]

#: Starts of PNM files whose pixels are text.
_TEXTS = (b"P1", b"P2", b"P3")
#: Highest number of a filter of PNG.
_FILTERS = 4
#: Scans of a progressive JPEG. Writers make about ten; each costs a pass over the whole image.
_MAX_SCANS = 100

cv2.setNumThreads(1)  # parallelism is by process


class Header(NamedTuple):
    """What a PNG or JPEG says of itself before decoding."""

    kind: str
    width: int
    height: int
    bits: int
    channels: int
    plain: bool  # no palette, no alpha, not interlaced by orientation: decoders agree on its pixels


def header(data: bytes, path: Path) -> Header | None:
    """Return the header of a PNG or JPEG, None for any other format.

    Raises UnreadableFile if it is cut or too large.
    """
    head = None
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        head = _png_header(data, path)
    elif data[:3] == b"\xff\xd8\xff":
        head = _jpeg_header(data, path)
    if head:
        limits.check_size(path, head.width, head.height, head.channels, max(1, head.bits // 8))
    return head


def _png_header(data: bytes, path: Path) -> Header:
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise UnreadableFile(f"{path} is a PNG without its header (the file has {len(data):,} bytes).")
    width, height, bits, colour = struct.unpack(">IIBB", data[16:26])
    channels = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}.get(colour, 0)
    extra = png_chunks(data) & {b"tRNS", b"eXIf"}
    return Header("png", width, height, bits, channels, colour in (0, 2) and bits == 8 and not extra)


def png_chunks(data: bytes) -> set[bytes]:
    """Return the names of a PNG's chunks; a damaged or truncated file gives those before the damage."""
    names, at = set(), 8
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        names.add(name)
        at += 12 + size
    return names


def lossy(data: bytes) -> str:
    """Return "JPEG" or "lossy WebP" for an image whose pixels are not those that were saved; "" for others."""
    if data[:3] == b"\xff\xd8\xff":
        return "JPEG"
    at = 12 if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else len(data)
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        if name == b"VP8 ":
            return "lossy WebP"
        at += 8 + size + size % 2
    return ""


def check_complete(data: bytes, path: Path, head: Header) -> None:
    """Compare the checksums of a PNG, and look for the end of a JPEG, without decoding. Raises UnreadableFile."""
    if head.kind == "jpeg":
        if data.rfind(b"\xff\xd9") <= data.rfind(b"\xff\xda"):  # equal: neither
            raise UnreadableFile(f"{path} is a truncated JPEG ({len(data):,} bytes).")
        return
    at, name = 8, b""
    while name != b"IEND":
        size, name = struct.unpack_from(">I4s", data.ljust(at + 8, b"\0"), at)
        end = at + 8 + size
        if end + 4 > len(data):
            raise UnreadableFile(f"{path} is a truncated PNG ({len(data):,} bytes).")
        if zlib.crc32(data[at + 4 : end]).to_bytes(4, "big") != data[end : end + 4]:
            raise UnreadableFile(f"{path} is a damaged PNG: the checksum of {name!r} differs.")
        at = end + 4


def _check_png(data: bytes, path: Path, head: Header) -> None:
    """Look for the damage that libpng writes lines about to stderr, besides the error.

    Of PNG that is plain, the pixels are inflated as well: they come here only if the fast decoder has failed.

    Raises:
        UnreadableFile: The checksum of a critical chunk differs, or the pixels cannot be inflated.
    """
    at, pixels = 8, []
    while at + 12 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        end = at + 8 + size
        checked = name[:1].isupper() and end + 4 <= len(data)
        if checked and zlib.crc32(data[at + 4 : end]).to_bytes(4, "big") != data[end : end + 4]:
            raise UnreadableFile(f"{path} is a damaged PNG: the checksum of {name!r} differs.")
        pixels += [data[at + 8 : end]] if name == b"IDAT" and head.plain else []
        at = end + 4
    if not pixels:
        return
    row = 1 + head.width * head.channels
    try:
        rows = zlib.decompressobj().decompress(b"".join(pixels), row * head.height)
    except zlib.error as error:
        raise UnreadableFile(f"{path} is a damaged PNG: {error}.") from error
    interlaced = data[28]
    if not interlaced and (len(rows) < row * head.height or max(rows[::row]) > _FILTERS):
        raise UnreadableFile(f"{path} is not a readable PNG: its rows are cut short, or filtered in an unknown way.")


def _jpeg_header(data: bytes, path: Path) -> Header:
    at, turned = 2, False
    while at + 9 < len(data):
        if data[at] != 0xFF:
            break
        marker, size = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == 0xF7:
            raise UnreadableFile(f"{path} is a JPEG-LS image, which is not read here. Save it as PNG or TIFF.")
        if marker == 0xE1 and data[at + 4 : at + 8] == b"Exif":
            turned = _exif_turns(data[at + 10 : at + 2 + size])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            bits, height, width, channels = struct.unpack(">BHHB", data[at + 4 : at + 10])
            if data.count(b"\xff\xda") > _MAX_SCANS:
                raise UnreadableFile(f"{path} is a JPEG of more than {_MAX_SCANS} scans.")
            if bits != 8:
                raise UnreadableFile(f"{path} is a JPEG of {bits} bits, where 8 are read. Save it as PNG or TIFF.")
            return Header("jpeg", width, height, bits, channels, bits == 8 and channels in (1, 3) and not turned)
        at += 2 + size
    raise UnreadableFile(f"{path} is a JPEG without a frame header (the file has {len(data):,} bytes).")


def _exif_turns(tiff: bytes) -> bool:
    """Return whether an Exif block asks viewers to rotate the image (tag 0x0112 other than 1)."""
    order = "<" if tiff[:2] == b"II" else ">"
    try:
        (first,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, first)
        for n in range(count):
            tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, first + 2 + 12 * n)
            if tag == 0x0112:
                return bool(value != 1)
    except struct.error:
        return False
    return False


def picture(data: bytes, path: Path, head: Header | None) -> NDArray[Any]:
    """The decoded pixels of a file with this header: (h, w) grey or (h, w, 3) RGB; an alpha channel is dropped."""
    if (array := _fast_png(data, head)) is not None:
        return array
    array = decode(data, path)
    return np.ascontiguousarray(array[:, :, 2::-1]) if array.ndim == 3 else array


def _fast_png(data: bytes, head: Header | None) -> NDArray[np.uint8] | None:
    """A plain 8-bit PNG by the decoder that is several times faster; None where OpenCV is to decide what it is."""
    if head is None or head.kind != "png" or not head.plain:
        return None
    try:
        mode = "mono" if head.channels == 1 else "rgb"
        array: NDArray[np.uint8] = decode_image_png_u8(data, (head.height, head.width), mode)
    except Exception:  # noqa: BLE001 - it raises nothing narrower; OpenCV then says whether the file is damaged
        return None
    return array[:, :, 0] if head.channels == 1 else array


def decode(data: bytes, path: Path, flags: int = cv2.IMREAD_UNCHANGED) -> NDArray[Any]:
    """Decode an image: (h, w) or (h, w, channels) in OpenCV's BGR order.

    The size that the file claims is checked first, whatever its name says it is.
    """
    head = header(data, path)
    if head is None and tiff.is_tiff(data):
        return _as_opencv(tiff.image(data, path), path, flags)
    if head is None:
        limits.claimed_size(data, path)
        if data[:2] in _TEXTS:
            data += b"\n"  # OpenCV reads no number that the end of the file ends
    elif head.kind == "png":
        _check_png(data, path, head)
    try:
        array = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION) if data else None
    except cv2.error as error:
        raise UnreadableFile(f"{path} cannot be decoded: {error.err}.") from error
    if array is None:
        kind = head.kind.upper() if head else "image"
        raise UnreadableFile(f"{path} is not a readable {kind} ({len(data):,} bytes, beginning {data[:8]!r}).")
    return array


def _as_opencv(array: NDArray[Any], path: Path, flags: int) -> NDArray[Any]:
    """Return a grey or RGB image in the form in which OpenCV decodes it with these flags."""
    if flags != cv2.IMREAD_UNCHANGED:
        if array.dtype == np.uint16:
            array = (array >> 8).astype(np.uint8)
        if array.dtype != np.uint8:
            raise UnreadableFile(f"{path} has pixels of the type {array.dtype}, where 8 or 16 bits are read.")
        if flags == cv2.IMREAD_GRAYSCALE:
            return cv2.cvtColor(array, cv2.COLOR_RGB2GRAY) if array.ndim == 3 else array
        if array.ndim == 2:
            return cv2.cvtColor(array, cv2.COLOR_GRAY2BGR)
    return np.ascontiguousarray(array[:, :, ::-1]) if array.ndim == 3 else array


def content(path: Path) -> bytes:
    """Return the bytes of a file. Raises UnreadableFile, also for a pipe or a device, which may have no end."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableFile(f"{path} is not a regular file.")
        return path.read_bytes()
    except OSError as error:
        raise UnreadableFile(f"{path} cannot be read: {error.strerror}.") from error


def image(path: Path) -> NDArray[Any]:
    """Read an image as stored: (h, w) grey or (h, w, 3) RGB, uint8 or uint16; an alpha channel is dropped."""
    data = content(path)
    return picture(data, path, header(data, path))


def image_size(path: Path) -> tuple[int, int]:
    """Return (width, height) from a PNG's or JPEG's header, without decoding it."""
    head = header(content(path), path)
    if head is None:
        raise UnreadableFile(f"{path} is neither PNG nor JPEG.")
    return head.width, head.height


def rgb(path: Path) -> NDArray[np.uint8]:
    """Return (h, w, 3) RGB uint8, whatever the file's mode."""
    return np.ascontiguousarray(decode(content(path), path, cv2.IMREAD_COLOR)[:, :, ::-1]).astype(np.uint8)


def grey(path: Path) -> NDArray[np.uint8]:
    """Return (h, w) uint8. Colour is turned to luma; a 1-bit file gives 0 and 255."""
    data = content(path)
    array = _fast_png(data, header(data, path))
    single = array if array is None or array.ndim == 2 else common_channel(array)
    return decode(data, path, cv2.IMREAD_GRAYSCALE).astype(np.uint8, copy=False) if single is None else single


def common_channel(array: NDArray[Any]) -> NDArray[Any] | None:
    """Return the channel (h, w) that all three of (h, w, 3) are equal to; None if they differ."""
    if array.dtype == np.uint8:  # far cheaper than comparing strided channels, strip by strip within the cache
        single = np.empty(array.shape[:2], np.uint8)
        for at in range(0, len(array), 64):
            strip = array[at : at + 64]
            first = cv2.extractChannel(strip, 0, single[at : at + 64])
            if cv2.norm(cv2.cvtColor(first, cv2.COLOR_GRAY2RGB), strip, cv2.NORM_INF) != 0:
                return None
        return single
    first = array[:, :, 0]
    same = np.array_equal(first, array[:, :, 1]) and np.array_equal(first, array[:, :, 2])
    return np.ascontiguousarray(first) if same else None


#: What nibabel raises for a file that is cut, damaged or something else.
_NOT_NIFTI = (OSError, EOFError, ValueError, OverflowError, MemoryError, zlib.error)


@lru_cache(maxsize=8)
def _nifti(path: Path) -> Any:
    """Return a NIfTI file kept open: frames asked for in order are read and inflated once."""
    import nibabel
    from nibabel.wrapstruct import WrapStructError

    damaged = nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError, WrapStructError
    try:
        image = nibabel.nifti1.Nifti1Image.from_filename(path, keep_file_open=True)
        shape, dtype, stored = image.shape, image.get_data_dtype(), cast(Any, image.dataobj)
        needed = int(stored.offset) + math.prod(map(int, shape)) * dtype.itemsize
        status = path.stat()
    except (*_NOT_NIFTI, *damaged) as error:
        raise UnreadableFile(f"{path} is not a readable NIfTI file: {error}.") from error
    if dtype.kind not in "biuf" or len(shape) < 2:
        raise UnreadableFile(f"{path} holds values of the type {dtype} in the shape {shape}, not grey images.")
    scaled = (stored.slope, stored.inter) != (1, 0)
    limits.check_size(path, int(shape[0]), int(shape[1]), itemsize=8 if scaled else dtype.itemsize)
    limits.check_bytes(path, needed, limits.MAX_VOLUME)
    if (length := _unpacked(path, status.st_size, status.st_mtime_ns)) < needed:
        raise UnreadableFile(f"{path} is cut short: it has {length:,} of the {needed:,} bytes that its header says.")
    return image


@lru_cache(maxsize=4096)
def _unpacked(path: Path, size: int, mtime_ns: int) -> int:
    """Return the length of a file without its gzip compression, read to its end once so that its checksum counts.

    Raises UnreadableFile if it is damaged, or above the limit for volumes.
    """
    length = 0
    try:
        with path.open("rb") as plain:
            if plain.read(2) != b"\x1f\x8b":
                return size
        with gzip.open(path) as file:
            while block := file.read(1 << 20):
                length += len(block)
                limits.check_bytes(path, length, limits.MAX_VOLUME + (1 << 20))
    except _NOT_NIFTI as error:
        raise UnreadableFile(f"{path} is a damaged gzip file: {error}.") from error
    return length


def _voxels(path: Path, *index: Any) -> NDArray[Any]:
    try:
        block = np.asanyarray(_nifti(path).dataobj[index])
    except _NOT_NIFTI as error:
        _nifti.cache_clear()  # the open file stands somewhere behind the damage
        raise UnreadableFile(f"{path} is not a readable NIfTI file: {error}.") from error
    return np.ascontiguousarray(block, block.dtype.newbyteorder("="))


@lru_cache(maxsize=4096)
def nifti_shape(path: Path) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return (shape, spacing) of a NIfTI file from its header.

    Axes x, y, z/time; spacing in the header's unit (mm), 0 where it is unknown.
    """
    image = _nifti(path)
    return tuple(int(n) for n in image.shape), nifti_sizes(image)


def nifti_sizes(image: Any) -> tuple[float, ...]:
    """Return the sizes of a voxel of an opened NIfTI file; 0 stays 0, an unknown size, of which nibabel makes 1."""
    with image.file_map.get("header", image.file_map["image"]).get_prepare_fileobj("rb") as file:
        stored = type(image.header).from_fileobj(file, check=False)["pixdim"][1:]
    return tuple(float(size) if known else 0.0 for size, known in zip(image.header.get_zooms(), stored, strict=False))


def nifti_pair(image: Path, labels: Path) -> tuple[int, tuple[float, float] | None]:
    """Return (frames, (x, y) spacing in mm or None) of a volume, once its label map is known to have the same shape.

    Raises MaskMismatch if it has another, UnreadableFile unless both have three axes.
    """
    shape, spacing = nifti_shape(image)
    for path in (image, labels):
        if len(nifti_shape(path)[0]) != 3:
            raise UnreadableFile(f"{path} has the shape {nifti_shape(path)[0]}, not that of a volume.")
    if nifti_shape(labels)[0] != shape:
        raise MaskMismatch(f"{labels} has the shape {nifti_shape(labels)[0]}, its images {shape}.")
    known = all(0 < size < float("inf") for size in spacing[:2])
    return shape[2], (spacing[0], spacing[1]) if known else None


def nifti_axes(path: Path) -> str:
    """Return the directions of the axes as the header states them, such as RAS; "?" for one that it does not."""
    import nibabel

    try:
        return "".join(code or "?" for code in nibabel.orientations.aff2axcodes(_nifti(path).affine))
    except (ValueError, np.linalg.LinAlgError, nibabel.orientations.OrientationError):  # no numbers, or all zero
        return "???"


def nifti_gap(path: Path) -> float | None:
    """The distance in mm between the frames of a NIfTI volume (third axis); None where its header does not give it."""
    spacing = nifti_shape(path)[1]
    return spacing[2] if len(spacing) == 3 and 0 < spacing[2] < math.inf else None


def nifti_frame(path: Path, frame: int) -> NDArray[Any]:
    """Return frame `frame` of the third axis of a NIfTI file as (rows = y, columns = x), as SimpleITK has it.

    Only that frame is held in memory.
    """
    shape, _ = nifti_shape(path)
    if len(shape) < 2 or any(length != 1 for length in shape[3:]):
        raise UnreadableFile(f"{path} has the shape {shape}, not a sequence of 2D frames.")
    frames = shape[2] if len(shape) > 2 else 1
    if not 0 <= frame < frames:
        raise UnreadableFile(f"{path} has {frames} frames, no frame {frame}.")
    every = slice(None)
    return np.ascontiguousarray(_voxels(path, every, every, *(frame, *(0 for _ in shape[3:]))[: len(shape) - 2]).T)


class Upright(NamedTuple):
    """array: axes x, y, z run to the patient's right, front and head (RAS); further axes as stored. Read-only.

    spacing: sizes of a voxel along x, y, z in the header's unit (mm).
    """

    array: NDArray[Any]
    spacing: tuple[float, float, float]


@lru_cache(maxsize=4)
def nifti_upright(path: Path) -> Upright:
    """A whole NIfTI volume, small enough for memory, turned as its header says, by right angles and mirroring only."""
    import nibabel

    limits.check_bytes(path, 8 * math.prod(nifti_shape(path)[0]))
    array, orientations = _voxels(path), nibabel.orientations
    try:
        axes = orientations.io_orientation(_nifti(path).affine)
        array = orientations.apply_orientation(array, axes)
    except (ValueError, IndexError, np.linalg.LinAlgError, orientations.OrientationError) as error:
        raise UnreadableFile(f"{path} has no usable orientation: {error}.") from error
    array.setflags(write=False)
    stored = nifti_shape(path)[1]
    x, y, z = (stored[int(n)] for n in np.argsort(axes[:, 0]))
    return Upright(array, (x, y, z))


#: What NumPy raises for a header that is damaged, or made to mislead it.
NOT_NPY = (
    OSError, EOFError, ValueError, TypeError, KeyError, SyntaxError, OverflowError, MemoryError, RecursionError,
    tokenize.TokenError,
)  # fmt: skip


def _npy(path: Path) -> NDArray[Any]:
    """Return a NumPy file mapped into memory; pickled content is refused by NumPy itself."""
    try:
        array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except NOT_NPY as error:
        raise UnreadableFile(f"{path} is not a readable NumPy array: {error}.") from error
    if array.ndim < 1 or array.dtype.kind not in "biuf":
        raise UnreadableFile(f"{path} has the type {array.dtype} and the shape {array.shape}, not images.")
    return array


def npy_shape(path: Path) -> tuple[int, ...]:
    """Return the shape of a NumPy file."""
    return _npy(path).shape


def npy_frame(path: Path, index: int) -> NDArray[Any]:
    """Read element `index` of the first axis of a NumPy file, of any shape and dtype; only that part is read."""
    array = _npy(path)
    if not 0 <= index < len(array):
        raise UnreadableFile(f"{path} has {len(array)} frames, no frame {index}.")
    limits.check_bytes(path, array.nbytes // len(array))
    return np.array(array[index])
