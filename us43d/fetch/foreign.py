"""RAR and 7z, through maintained libraries; compressed RAR needs a program, as its method is not free."""

import lzma
import shutil
import stat
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

from us43d.errors import ArchiveError
from us43d.fetch.parts import Parts
from us43d.fetch.place import CHUNK, Sink

__all__ = ["unpack_7z", "unpack_rar"]

_EXTRA = "pip install 'us43d[archives]'"
_ASK = "ask its owners for the password, unpack it, and use --from FOLDER"
_BY_HAND = "unpack it with 7-Zip, and use --from FOLDER"
_OTHER = "put unrar, or a 7zz that reads RAR, on the PATH; or unpack it by hand, and use --from FOLDER"
#: What py7zr raises where a damaged header leads it astray.
_CONFUSED = (
    EOFError, ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError, struct.error,
)  # fmt: skip
_PROGRAM = "sudo apt install unar (or put unrar, or a 7zz that reads RAR, on the PATH)"
#: Program → arguments that write every file of an archive to stdout, one after the other, in the archive's order.
_TO_STDOUT = {
    "unrar": ("p", "-inul", "-p-", "--"),
    "unar": ("-quiet", "-no-recursion", "-output-directory", "-"),
    "7zz": ("x", "-so", "-bd", "-p", "--"),
    "7z": ("x", "-so", "-bd", "-p", "--"),
}


# ----------------------------------------------------------------------------------------------------------------- RAR


def unpack_rar(files: Sequence[Path], sink: Sink) -> None:
    """Unpack RAR 3 to 5, `files[0]` being the first volume. Stored files are read directly. Raises ArchiveError.

    One program writes all files to a pipe, which is cut by the sizes the headers give; it never writes to the disk.
    """
    try:
        import rarfile
    except ImportError:
        raise sink.refuse("it is a RAR archive", next=_EXTRA) from None
    ended, count = False, 0

    def header(member: Any) -> None:
        nonlocal ended, count
        ended = member.type == rarfile.RAR_BLOCK_ENDARC
        count += member.type == rarfile.RAR_BLOCK_FILE
        if count > sink.limits.members:
            raise sink.refuse(f"it has more than the {sink.limits.members:,} members that are unpacked")

    try:
        archive = rarfile.RarFile(str(files[0]), info_callback=header, errors="strict")
    except rarfile.NeedFirstVolume as error:
        raise sink.refuse("it is not the first part of the archive, and that is missing") from error
    except rarfile.Error as error:
        raise sink.damaged(f"it is truncated or damaged ({error})") from error
    except FileNotFoundError as error:
        raise sink.refuse(f"a further part of it is missing ({error})") from error
    with archive:
        members = archive.infolist()
        if archive.needs_password():
            secret = next((entry.filename for entry in members if entry.needs_password()), None)
            raise sink.refuse("it is encrypted", secret, next=_ASK)
        if not ended:
            raise sink.damaged("its end mark is missing; it is truncated", members[-1].filename if members else None)
        names: set[str] = set()
        for entry in members:
            if entry.filename in names and not entry.is_dir():  # the library would find the last of them for each
                raise sink.refuse("the archive holds it twice", entry.filename)
            names.add(entry.filename)
            if entry.is_symlink() or entry.file_redir is not None:
                raise sink.refuse("it is a link, and no links are unpacked from RAR", entry.filename)
            if not entry.is_dir() and not entry.is_file():
                raise sink.refuse("it is a device or another special file", entry.filename)
        contents = [entry for entry in members if entry.is_file()]
        try:
            if all(_stored(entry) for entry in contents):
                for entry in contents:
                    with archive.open(entry) as source:
                        _rar_member(entry, source, sink)
            elif contents:
                with _piped(files, sink) as pipe:
                    for entry in contents:
                        _rar_member(entry, pipe, sink)
        except rarfile.Error as error:
            raise sink.damaged(f"it is truncated or damaged ({error})") from error
        for entry in members:
            if entry.is_dir():
                sink.folder(entry.filename)


def _stored(member: Any) -> bool:
    return bool(member.compress_type == 0x30)


def _rar_member(member: Any, source: IO[bytes], sink: Sink) -> None:
    import rarfile

    left, crc = member.file_size, 0
    blake = rarfile.Blake2SP() if member.CRC is None and member.blake2sp_hash is not None else None
    with sink.file(member.filename, member.file_size) as write:
        while left and (block := source.read(min(left, CHUNK))):
            write(block)
            left -= len(block)
            crc = zlib.crc32(block, crc)
            if blake is not None:
                blake.update(block)
    wrong = crc != member.CRC if blake is None else blake.digest() != member.blake2sp_hash
    if wrong:
        raise sink.damaged("its checksum is wrong", member.filename)
    sink.advance(member.compress_size)


@contextmanager
def _piped(files: Sequence[Path], sink: Sink) -> Iterator[IO[bytes]]:
    """Open the bytes of all files of the archive, one after the other, from a program's stdout."""
    program = next(filter(None, map(shutil.which, _TO_STDOUT)), None)
    if program is None:
        raise sink.refuse("it is a compressed RAR, which needs a program of its own", next=_PROGRAM)
    command = [program, *_TO_STDOUT[Path(program).name], str(files[0].absolute())]
    with tempfile.TemporaryFile() as stderr:
        run = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr)
        assert run.stdout is not None

        try:
            yield run.stdout
            rest = run.stdout.read(1)
        except ArchiveError as error:
            with suppress(subprocess.TimeoutExpired):  # it waits for us to read on: the fault is not its own
                run.wait(1)
            if run.returncode:
                stderr.seek(0)
                lines = stderr.read(4096).decode("utf-8", "replace").split("\n")
                why = next((line.strip() for line in reversed(lines) if line.strip()), f"exit code {run.returncode}")
                raise sink.refuse(f"{Path(program).name} fails ({why})", next=_OTHER) from error
            raise
        finally:
            run.kill()
            run.stdout.close()
            run.wait()
        if rest:
            raise sink.damaged("it unpacks to more than its headers announce")


# ------------------------------------------------------------------------------------------------------------------ 7z


def unpack_7z(files: Sequence[Path], sink: Sink) -> None:
    """Unpack 7z, decompressing once from begin to end. Raises ArchiveError."""
    try:
        import py7zr
        import py7zr.exceptions as wrong
    except ImportError:
        raise sink.refuse("it is a 7z archive", next=_EXTRA) from None

    class Writer(py7zr.Py7zIO):
        """One file; py7zr opens and closes them one after the other."""

        def __init__(self, name: str) -> None:
            self._write = current.enter_context(sink.file(name, sizes[name]))
            self._count = 0

        def write(self, s: bytes | bytearray) -> int:
            self._write(s)
            self._count += len(s)
            return len(s)

        def close(self) -> None:
            current.pop_all().close()

        def read(self, size: int | None = None) -> bytes:
            return b""

        def seek(self, offset: int, whence: int = 0) -> int:
            return 0

        def flush(self) -> None:
            pass

        def size(self) -> int:
            return self._count

    class Factory(py7zr.WriterFactory):
        def create(self, filename: str) -> Writer:
            return Writer(filename)

    sizes: dict[str, int] = {}
    member: str | None = None
    with Parts(files, sink.advance) as raw, ExitStack() as current:
        try:
            with py7zr.SevenZipFile(cast(IO[bytes], raw), "r") as archive:
                if archive.needs_password():
                    raise wrong.PasswordRequired("")
                members = getattr(archive, "files", ())
                if len(members) > sink.limits.members:
                    raise sink.too_many(len(members))
                for entry in members:
                    member = entry.filename
                    sink.check(member)
                    if entry.is_symlink or entry.is_junction:
                        raise sink.refuse("it is a link, and no links are unpacked from 7z", member)
                    if entry.st_fmt not in (None, 0, stat.S_IFREG, stat.S_IFDIR):
                        raise sink.refuse("it is a device or another special file", member)
                    name = Path(member).as_posix()
                    if entry.is_directory:
                        sink.folder(member)
                    elif name in sizes:
                        raise sink.refuse("the archive holds it twice", member)
                    else:
                        sizes[name] = entry.uncompressed
                member = None
                archive.extractall(factory=Factory())  # into the factory, which alone opens files
        except wrong.PasswordRequired as error:
            raise sink.refuse("it is encrypted", next=_ASK) from error
        except wrong.UnsupportedCompressionMethodError as error:
            raise sink.refuse("it is compressed by a method that py7zr does not read", next=_BY_HAND) from error
        except (wrong.ArchiveError, wrong.AbsolutePathError, lzma.LZMAError, zlib.error, *_CONFUSED) as error:
            raise sink.damaged(f"it is truncated or damaged ({type(error).__name__}: {error})", member) from error
