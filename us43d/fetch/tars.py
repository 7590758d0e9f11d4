"""Tar, plain or compressed by gzip, bzip2, xz, lzma or Zstandard, read as a stream."""

import bz2
import gzip
import importlib
import io
import lzma
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, BinaryIO, Self, cast

from us43d.fetch.parts import opened
from us43d.fetch.place import CHUNK, Sink, decoded

__all__ = ["COMPRESSED", "unpack"]

#: First bytes → compression.
COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x5d\x00\x00": "lzma",
    b"\x28\xb5\x2f\xfd": "zstd",
}
#: A header's extension (long name, pax records) is read into memory whole.
_LONGEST_EXTENSION = 1 << 20
_EXTENSIONS = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip


class _Info(tarfile.TarInfo):
    """A header; notes that the archive's end mark was met, and refuses extensions nobody needs."""

    @classmethod
    def frombuf(cls, buf: "bytes | bytearray", encoding: str, errors: str) -> Self:
        info = super().frombuf(buf, encoding, errors)
        if info.type in _EXTENSIONS and info.size > _LONGEST_EXTENSION:
            raise _TooLong
        return info

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # a public name that typeshed does not have
            tarfile_.met_end = True  # type: ignore[attr-defined]
            raise


class _TooLong(Exception):
    pass


def unpack(files: Sequence[Path], sink: Sink) -> None:
    """Unpack a tar that lies in these files. Raises ArchiveError."""
    member: str | None = None
    with opened(files, sink.advance) as raw:
        stream = _plain(raw, sink)
        try:
            tar = tarfile.open(  # noqa: SIM115  (closing reads nothing)
                fileobj=cast(IO[bytes], stream),
                mode="r|",
                bufsize=CHUNK,
                tarinfo=_Info,
                encoding="utf-8",
                errors="surrogateescape",
            )
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]
                member = _text(info.name)
                _one(tar, info, member, sink)
            if not getattr(tar, "met_end", False):
                raise sink.damaged("its end mark is missing; it is truncated or damaged", member)
            while block := stream.read(CHUNK):  # the checksum of the compression stands at its end
                sink.spend(len(block))
        except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError, RecursionError) as error:
            raise sink.damaged(_reason(error), member) from error
        except _TooLong:
            raise sink.refuse("a header has an extension of more than a megabyte", member) from None
        except OSError as error:
            if error.errno is not None:  # the disk's, not the decompressor's
                raise
            raise sink.damaged(_reason(error), member) from error


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "its headers are nested without end"
    return f"it is truncated or damaged ({str(error).rstrip('.') or type(error).__name__})"


def _plain(raw: io.BufferedReader, sink: Sink) -> BinaryIO:
    """The stream without its compression."""
    head = raw.peek(8)[:8]
    kind = next((name for magic, name in COMPRESSED.items() if head.startswith(magic)), None)
    if kind == "gzip":
        return cast(BinaryIO, gzip.GzipFile(fileobj=raw))
    if kind == "bzip2":
        return cast(BinaryIO, bz2.BZ2File(raw))
    if kind in ("xz", "lzma"):
        return cast(BinaryIO, lzma.LZMAFile(raw))
    if kind == "zstd":
        for name in ("compression.zstd", "backports.zstd"):  # Python 3.14, and what py7zr brings before it
            try:
                return cast(BinaryIO, importlib.import_module(name).ZstdFile(raw))
            except ImportError:
                continue
        raise sink.refuse("it is compressed by Zstandard", next="pip install 'us43d[archives]'")
    return raw


def _text(name: str) -> str:
    """A name with the bytes that were no UTF-8 decoded by guess."""
    return decoded(name.encode("utf-8", "surrogateescape"))


def _one(tar: tarfile.TarFile, info: tarfile.TarInfo, member: str, sink: Sink) -> None:
    if info.isdir():
        sink.folder(member)
    elif info.issym():
        sink.link(member, _text(info.linkname))
    elif info.islnk():
        sink.hard_link(member, _text(info.linkname))
    elif info.isreg():
        source = tar.extractfile(info)
        assert source is not None
        with sink.file(member, info.size) as write:
            while block := source.read(CHUNK):
                write(block)
    else:
        raise sink.refuse("it is a device or another thing that is no file", member)
