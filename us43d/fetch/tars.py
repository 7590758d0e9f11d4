"""Tar, plain or compressed by gzip, bzip2, xz, lzma or Zstandard, read as a stream."""

import bz2
import importlib
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, BinaryIO, Protocol, Self, cast

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
#: What a header may make the decompressor reserve.
_MOST_MEMORY = 1 << 30
_EXTENSIONS = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip


class _Info(tarfile.TarInfo):
    """A header; notes that the archive's end mark was met, and refuses unneeded extensions."""

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
    """Return the stream without its compression."""
    head = raw.peek(8)[:8]
    kind = next((name for magic, name in COMPRESSED.items() if head.startswith(magic)), None)
    if kind in _DECOMPRESSORS:
        begin, magic = _DECOMPRESSORS[kind]
        return io.BufferedReader(_Members(raw, sink, begin, magic), CHUNK)
    if kind == "zstd":
        for name in ("compression.zstd", "backports.zstd"):  # Python 3.14, and what py7zr brings before it
            try:
                return cast(BinaryIO, importlib.import_module(name).ZstdFile(raw))
            except ImportError:
                continue
        raise sink.refuse("it is compressed by Zstandard", next="pip install 'us43d[archives]'")
    return raw


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Inflate:
    """zlib's decompressor for one gzip member, its checksum verified, with the methods of bz2's and lzma's."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not self._zlib.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)


class _Members(io.RawIOBase):
    """What a compressed file of one or more members holds. Bytes behind the last are passed over, with a remark."""

    def __init__(self, raw: io.BufferedReader, sink: Sink, begin: Callable[[], _Decompressor], magic: bytes) -> None:
        self._raw, self._sink, self._begin, self._magic = raw, sink, begin, magic
        self._decompressor, self._ended = begin(), False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        while not self._ended:
            data = b""
            if self._decompressor.eof:
                data = self._decompressor.unused_data + self._raw.read(len(self._magic))
                if not data.startswith(self._magic):
                    self._pass_over(len(data))
                    break
                self._decompressor = self._begin()
            elif self._decompressor.needs_input and not (data := self._raw.read(CHUNK >> 4)):
                raise EOFError("the compressed data end early")
            if block := self._decompressor.decompress(data, len(buffer)):
                buffer[: len(block)] = block
                return len(block)
        return 0

    def _pass_over(self, count: int) -> None:
        self._ended = True
        while block := self._raw.read(CHUNK):
            count += len(block)
        if count:
            self._sink.remark(f"{count:,} bytes after its end were ignored")


#: Compression → its decompressor, and the bytes with which a further member begins.
_DECOMPRESSORS: dict[str | None, tuple[Callable[[], _Decompressor], bytes]] = {
    "gzip": (_Inflate, b"\x1f\x8b"),
    "bzip2": (bz2.BZ2Decompressor, b"BZh"),
    "xz": (lambda: lzma.LZMADecompressor(memlimit=_MOST_MEMORY), b"\xfd7zXZ\x00"),
    "lzma": (lambda: lzma.LZMADecompressor(memlimit=_MOST_MEMORY), b"\x5d\x00\x00"),
}


def _text(name: str) -> str:
    """Return a name, with invalid UTF-8 decoded by guess."""
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
        raise sink.refuse("it is a device or another special file", member)
